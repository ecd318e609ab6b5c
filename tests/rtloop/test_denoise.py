"""Causal nuisance regression against least squares on everything seen, in extended precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtloop.denoise import Denoiser, NuisanceModel
from tools.bench.denoise import exact_residuals

TISSUE = ("white_matter", "csf", "global_signal")


def full_model(n_volumes: int = 300) -> NuisanceModel:
    return NuisanceModel(24, 3, TISSUE, True, n_volumes, 2.0)


def simulate(n: int, n_rois: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Motion (random walk), tissue and ROI signals at BOLD magnitude that depend on both."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((n, 6)) * [0.02, 0.02, 0.03, 3e-4, 3e-4, 3e-4]
    motion = np.cumsum(steps, axis=0) * 0.3 + steps
    tissue = 9_000.0 + 1_000.0 * np.arange(3) + np.cumsum(rng.standard_normal((n, 3)), axis=0)
    mixing = rng.standard_normal((9, n_rois))
    signals = 10_000.0 + 50.0 * rng.standard_normal((n, n_rois))
    signals += np.hstack([200 * motion, tissue - tissue[0]]) @ mixing
    return motion, tissue, signals + np.linspace(0, 80, n)[:, None]


def design(model: NuisanceModel, motion: NDArray, tissue: NDArray) -> NDArray:
    return np.array([model.row(n, motion[n], tissue[n]).copy() for n in range(len(motion))])


def residuals(denoiser: Denoiser, rows: NDArray, signals: NDArray) -> NDArray:
    return np.array([denoiser.residual(x, row) for x, row in zip(signals, rows, strict=True)])


def relative_error(found: NDArray, exact: NDArray) -> float:
    return float((np.abs(found - exact).max(axis=0) / exact.std(axis=0)).max())


# --- equal to least squares ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "n_planned"), [(60, 300), (170, 300), (300, 300), (1000, 600), (170, 100_000)]
)
def test_residuals_equal_least_squares_so_far(n: int, n_planned: int) -> None:
    motion, tissue, signals = simulate(n, 200, 0)
    model = full_model(n_planned)
    rows, denoiser = design(model, motion, tissue), Denoiser(200, model)
    for row, x in zip(rows, signals, strict=True):
        denoiser.update(row, x)
    exact = exact_residuals(rows, signals - signals[0])
    assert relative_error(residuals(denoiser, rows, signals), exact) < 1e-10
    assert denoiser.rank == model.n_regressors == 34


def test_drift_says_what_legendre_polynomials_would() -> None:
    _, _, signals = simulate(80, 5, 11)
    model = NuisanceModel(0, 8, (), False, 2_000, 1.0)
    rows, denoiser = np.array([model.row(n).copy() for n in range(80)]), Denoiser(5, model)
    for row, x in zip(rows, signals, strict=True):
        denoiser.update(row, x)
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, 80), 8)
    exact = exact_residuals(basis, signals - signals[0])
    assert relative_error(residuals(denoiser, rows, signals), exact) < 1e-10


def test_weights_and_bad_volumes() -> None:
    rng = np.random.default_rng(1)
    motion, tissue, signals = simulate(250, 20, 1)
    weights = rng.uniform(0.1, 1.0, 250)
    weights[rng.random(250) < 0.2] = 0.0
    signals[40], weights[40] = np.nan, 0.0
    model = NuisanceModel(12, 2, ("csf",), False, 250, 2.0)
    rows, denoiser = design(model, motion, tissue[:, :1]), Denoiser(20, model)
    used = [denoiser.update(*step) for step in zip(rows, signals, weights, strict=True)]
    assert used == (weights > 0).tolist()
    assert denoiser.n_volumes == sum(used)

    good, root = weights > 0, np.sqrt(weights[weights > 0, None])
    level = signals[good][0]
    exact = exact_residuals(rows[good] * root, (signals[good] - level) * root) / root
    assert relative_error(residuals(denoiser, rows[good], signals[good]), exact) < 1e-10


def test_weight_zero_is_a_spike_column() -> None:
    motion, tissue, signals = simulate(120, 5, 2)
    bad = [30, 31, 77]
    signals[bad] += 3_000.0
    model = NuisanceModel(6, 1, (), False, 120, 2.0)
    rows, denoiser = design(model, motion, tissue[:, :0]), Denoiser(5, model)
    for n in range(120):
        denoiser.update(rows[n], signals[n], 0.0 if n in bad else 1.0)
    with_spikes = np.hstack([rows, np.eye(120)[:, bad]])
    betas = np.linalg.lstsq(with_spikes, signals, rcond=None)[0]
    np.testing.assert_allclose(denoiser.betas, betas[: model.n_regressors], rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_seeding_rest_is_the_block_design(n_seeds: int) -> None:
    n_run, n_seed, n_rois = 60, 150, 30
    run = simulate(n_run, n_rois, 3)
    seeds = [simulate(n_seed, n_rois, 10 + k) for k in range(n_seeds)]
    # another level and another drift each day's rest
    seeds = [(m, t, 1.3 * y + 400.0 * k) for k, (m, t, y) in enumerate(seeds)]
    weights = np.random.default_rng(0).uniform(0, 1, n_seed).round()

    model = full_model(n_run)
    denoiser = Denoiser(n_rois, model)
    seed_rows = [design(full_model(n_seed), m, t) for m, t, _ in seeds]
    for rows, (_, _, y) in zip(seed_rows, seeds, strict=True):
        denoiser.seed(rows, y, weights)
    assert np.isnan(denoiser.betas).all()
    run_rows = design(model, run[0], run[1])
    for row, x in zip(run_rows, run[2], strict=True):
        denoiser.update(row, x)

    own, p = model.n_own, model.n_regressors
    good = weights > 0
    blocks, levels = [], []
    for k, rows in enumerate([*(rows[good] for rows in seed_rows), run_rows]):
        block = np.zeros((len(rows), own * (n_seeds + 1) + p - own))
        block[:, own * k : own * (k + 1)] = rows[:, :own]
        block[:, own * (n_seeds + 1) :] = rows[:, own:]
        blocks.append(block)
    signals = [*(y[good] for _, _, y in seeds), run[2]]
    levels = [y - y[0] for y in signals]
    exact = exact_residuals(np.vstack(blocks), np.vstack(levels))[-n_run:]
    assert relative_error(residuals(denoiser, run_rows, run[2]), exact) < 1e-10
    assert denoiser.n_volumes == n_run + n_seeds * int(good.sum())


def test_seeding_changes_what_is_taken_out() -> None:
    # the seed must matter: betas of a short run alone are noisier
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((6, 40)) * 300.0
    errors = []
    for seeded in (False, True):
        model = NuisanceModel(6, 1, (), False, 60, 2.0)
        denoiser = Denoiser(40, model)
        for n, seed_run in ((300, True), (60, False)):
            motion, _, _ = simulate(n, 1, n)
            y = 10_000 + motion @ truth + 50.0 * rng.standard_normal((n, 40))
            fresh = NuisanceModel(6, 1, (), False, n, 2.0)
            rows = design(fresh, motion, np.empty((n, 0)))
            if seed_run and seeded:
                denoiser.seed(rows, y)
            elif not seed_run:
                for row, x in zip(rows, y, strict=True):
                    denoiser.update(row, x)
        errors.append(float(np.std(denoiser.betas[model.n_own :] - truth)))
    assert errors[1] < 0.6 * errors[0]


def test_long_run_stays_exact() -> None:
    # 20,000 volumes at BOLD magnitude (100,000 in the benchmark); without the anchor 5e-12
    motion, tissue, signals = simulate(20_000, 3, 5)
    model = NuisanceModel(12, 2, TISSUE, False, 20_000, 1.0)
    rows, denoiser = design(model, motion, tissue), Denoiser(3, model)
    for row, x in zip(rows, signals, strict=True):
        denoiser.update(row, x)
    exact = exact_residuals(rows, signals - signals[0])
    assert relative_error(residuals(denoiser, rows, signals), exact) < 1e-12


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    motion=st.sampled_from([0, 6, 12, 24]),
    drift=st.integers(0, 4),
    n=st.integers(1, 90),
)
def test_fit_is_least_squares_from_the_first_volume_on(
    seed: int, motion: int, drift: int, n: int
) -> None:
    # whatever columns are left out as redundant, no better fit exists among those kept
    parameters, tissue, signals = simulate(n, 4, seed)
    model = NuisanceModel(motion, drift, ("csf",), True, 90, 2.0)
    rows, denoiser = design(model, parameters, tissue[:, :1]), Denoiser(4, model)
    for row, x in zip(rows, signals, strict=True):
        denoiser.update(row, x)
    left = residuals(denoiser, rows, signals)
    kept = rows[:, (denoiser.betas != 0).any(axis=1)]
    scaled = kept / np.linalg.norm(kept, axis=0)
    np.testing.assert_allclose(scaled.T @ left, 0.0, atol=1e-6)
    assert denoiser.rank == kept.shape[1] <= n


def test_real_rest_with_global_signal(data: Path) -> None:
    # real: 122 ROIs of one person, the global signal (column 0) as regressor
    with np.load(data / "rest" / "rpn_3site_mist122_timeseries.npz") as archive:
        name = next(k for k in archive.files if k != "columns" and not k.endswith("_fd"))
        series = archive[name].astype(np.float64)
    signals, tissue = series[:, 1:], series[:, :1]
    model = NuisanceModel(0, 3, ("global_signal",), True, len(series), 2.5)
    denoiser = Denoiser(signals.shape[1], model)
    rows = np.array([model.row(n, None, tissue[n]).copy() for n in range(len(series))])
    for row, x in zip(rows, signals, strict=True):
        denoiser.update(row, x)
    exact = exact_residuals(rows, signals - signals[0])
    varies = exact.std(axis=0) > 0
    found = residuals(denoiser, rows, signals)
    assert relative_error(found[:, varies], exact[:, varies]) < 1e-9


# --- behaviour -------------------------------------------------------------------------------


def test_redundant_regressors_get_zero() -> None:
    model = NuisanceModel(24, 0, (), False, 100, 2.0)
    denoiser = Denoiser(3, model)
    rng = np.random.default_rng(0)
    for n in range(100):
        # motion correction switched off
        denoiser.update(model.row(n, np.zeros(6)), 100.0 + rng.standard_normal(3))
    assert (denoiser.betas[1:] == 0).all()
    assert denoiser.rank == 1


def test_undefined_before_the_first_volume_and_ready_after_enough() -> None:
    model = NuisanceModel(6, 1, (), False, 100, 2.0)
    denoiser = Denoiser(2, model)
    assert np.isnan(denoiser.betas).all()
    assert np.isnan(denoiser.residual(np.ones(2), np.ones(8))).all()
    motion, _, signals = simulate(100, 2, 0)
    ready = []
    for n in range(100):
        denoiser.update(model.row(n, motion[n]), signals[n], 0.5)
        ready.append(denoiser.ready(5.0))
    # eight columns, five volumes of full weight each
    assert ready.index(True) == 79


def test_seeded_run_waits_for_its_own_level_and_drift() -> None:
    model = NuisanceModel(6, 1, (), False, 100, 2.0)
    motion, _, signals = simulate(100, 2, 0)
    denoiser = Denoiser(2, model)
    denoiser.seed(design(NuisanceModel(6, 1, (), False), motion, np.empty((100, 0))), signals)
    ready = []
    for n in range(12):
        denoiser.update(model.row(n, motion[n]), signals[n])
        ready.append(denoiser.ready(5.0))
    assert ready.index(True) == 9


def test_seed_belongs_before_the_run() -> None:
    model = NuisanceModel(0, 0)
    denoiser = Denoiser(1, model)
    denoiser.update(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="before the first volume"):
        denoiser.seed(np.ones((3, 1)), np.ones((3, 1)))


def test_nothing_not_finite_gets_in() -> None:
    model = NuisanceModel(0, 1)
    denoiser = Denoiser(2, model)
    row = np.array([1.0, -0.5])
    assert not denoiser.update(np.array([1.0, np.nan]), np.ones(2))
    assert not denoiser.update(row, np.array([np.inf, 1.0]))
    assert not denoiser.update(row, np.ones(2), np.nan)
    assert not denoiser.update(row, np.ones(2), 0.0)
    assert denoiser.n_volumes == 0
    with pytest.raises(ValueError, match="above 1"):
        denoiser.update(row, np.ones(2), 1.5)


def test_causal_and_bit_identical() -> None:
    motion, tissue, signals = simulate(90, 10, 7)
    bits = []
    for n_seen in (60, 90):
        model = full_model()
        denoiser = Denoiser(10, model)
        for n in range(n_seen):
            denoiser.update(model.row(n, motion[n], tissue[n]), signals[n])
            if n % 7 == 0:
                # reading betas in between must change nothing
                denoiser.residual(signals[n], np.ones(model.n_regressors))
            if n == 59:
                bits.append(denoiser.betas.tobytes())
    assert bits[0] == bits[1]


# --- regressors ------------------------------------------------------------------------------


def test_names_and_order() -> None:
    model = NuisanceModel(12, 2, ("csf",), True, 100, 2.0)
    assert model.names[:4] == ("intercept", "drift1", "drift2", "trans_x")
    assert model.names[9:11] == ("trans_x_derivative1", "trans_y_derivative1")
    assert model.names[-2:] == ("csf", "csf_derivative1")
    assert model.n_own == 3
    assert full_model().names[22:24] == (
        "trans_x_derivative1_power2",
        "trans_y_derivative1_power2",
    )
    assert full_model().names[28:] == (*TISSUE, *(f"{name}_derivative1" for name in TISSUE))


def test_columns_hold_what_their_names_say() -> None:
    motion, tissue, _ = simulate(50, 1, 8)
    model = full_model(50)
    table = dict(zip(model.names, design(model, motion, tissue).T, strict=True))
    rate = np.diff(motion[:, 4], prepend=motion[0, 4]) / 2.0
    np.testing.assert_array_equal(table["rot_y"], motion[:, 4])
    np.testing.assert_allclose(table["rot_y_derivative1"], rate, atol=1e-15)
    np.testing.assert_allclose(table["rot_y_power2"], motion[:, 4] ** 2)
    np.testing.assert_allclose(table["rot_y_derivative1_power2"], rate**2, atol=1e-15)
    np.testing.assert_array_equal(table["csf"], tissue[:, 1] - tissue[0, 1])
    for k in range(4):
        name = f"drift{k}" if k else "intercept"
        np.testing.assert_allclose(table[name], np.linspace(0, 1, 50) ** k, atol=1e-14)


def test_derivative_over_a_gap_is_the_mean_rate() -> None:
    model = NuisanceModel(12, 0, ("csf",), True, 100, 2.0)
    ramp = np.arange(6.0)
    rates = slice(model.names.index("trans_x_derivative1"), None)
    model.row(0, 0 * ramp, [50.0])
    model.row(1, ramp, [52.0])
    # volume 2 never came, the estimate of 3 failed
    assert np.isnan(model.row(3, ramp * np.nan, [np.nan])).any()
    row = model.row(4, 7 * ramp, [58.0])
    np.testing.assert_allclose(row[rates][:6], ramp)
    assert row[-2:].tolist() == [8.0, 1.0]


def test_longer_than_planned_goes_on_smoothly() -> None:
    # residuals do not depend on the planned length
    motion, tissue, signals = simulate(120, 3, 9)
    left = []
    for planned in (60, 120, 500):
        model = NuisanceModel(0, 3, (), False, planned, 2.0)
        rows, denoiser = design(model, motion, tissue), Denoiser(3, model)
        for row, x in zip(rows, signals, strict=True):
            denoiser.update(row, x)
        left.append(residuals(denoiser, rows, signals))
    np.testing.assert_allclose(left[0], left[1], atol=1e-8)
    np.testing.assert_allclose(left[2], left[1], atol=1e-8)


def test_volumes_come_in_order() -> None:
    model = NuisanceModel(0, 1)
    model.row(3)
    with pytest.raises(ValueError, match="volume 3 after 3"):
        model.row(3)


@pytest.mark.parametrize("wrong", [{"motion": 7}, {"drift_order": -1}, {"tr_s": 0.0}])
def test_impossible_models(wrong: dict) -> None:
    with pytest.raises(ValueError):
        NuisanceModel(**wrong)
