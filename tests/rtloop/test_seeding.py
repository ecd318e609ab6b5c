"""Seeding: scores from the first full window on, and those of one regression over both runs."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.polynomial import legendre
from numpy.typing import NDArray

from rtloop import attempts
from rtloop.config import EngineConfig
from rtloop.engine import Engine
from rtloop.errors import ConfigError, RecordError
from rtloop.events import Observation, encode
from rtloop.journal import Record
from rtloop.observer import Geometry
from rtloop.plan import Plan
from rtloop.replay import verify
from rtloop.rois import RoiSet
from rtloop.seeding import SeedRun, pack_seeds, read_seed, reference_bytes, unpack_seeds
from rtloop.slicetime import SliceAligner
from rtloop.volume import Volume
from tests.rtloop.simulated import (
    AFFINE,
    N_DUMMIES,
    SHAPE,
    TR_S,
    series,
    small_config,
    small_plan,
    small_rois,
)
from tests.tools.recorded import rest_plan, session_for, write_record

Array = NDArray[np.float64]

N_SEED = 160
SLICE_TIMES_S = (0.0, 0.5, 0.1, 0.6, 0.2, 0.7, 0.3, 0.8)
SLANTED = {
    "kind": "spheres",
    "spheres": [
        {"name": "A", "center_mm": [9, 15, 3], "radius_mm": 4},
        {"name": "B", "center_mm": [24, 15, 15], "radius_mm": 4},
    ],
}
"""Two spheres whose slices lie far apart in time."""

# --- against one least-squares problem over both runs, in NumPy -------------------------------


def config_with(motion: int, **changes: Any) -> EngineConfig:
    denoise = {"motion": motion, "drift_order": 1, "volumes_per_regressor": 5.0}
    return small_config(denoise=denoise, **changes)


def observations(n: int, seed: int, gone: tuple[int, ...] = ()) -> list[Observation]:
    """ROI signals that follow motion and drift as much as each other; volumes after the dummies."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 1, (n, 6)) * ([0.02] * 3 + [3e-4] * 3)
    motion = np.cumsum(steps, axis=0)
    mixing = np.random.default_rng(1).normal(0, 1, (6, 2)) * ([[40.0]] * 3 + [[2500.0]] * 3)
    common = np.cumsum(rng.normal(0, 2, n))
    x = 1000 + motion @ mixing + common[:, None] + rng.normal(0, 5, (n, 2))
    x += 0.2 * np.arange(n)[:, None]
    return [
        Observation(i, motion[i], "", x[i], np.array([1000.0 + common[i]]), 1.0)
        for i in range(N_DUMMIES, n)
        if i not in gone
    ]


def as_seed(rest: list[Observation], weights: Array | None = None) -> SeedRun:
    return SeedRun(
        n_planned=N_SEED,
        indices=np.array([o.index for o in rest]),
        parameters=np.array([o.parameters for o in rest]),
        signals=np.array([o.signals for o in rest]),
        tissue=np.array([o.tissue for o in rest]),
        weights=np.ones(len(rest)) if weights is None else weights,
    )


def shared_columns(seen: list[Observation], motion: int) -> Array:
    """Motion regressors by the book, each column scaled to a comparable size."""
    parameters = np.array([o.parameters for o in seen])
    gaps = np.diff([o.index for o in seen])[:, None] * TR_S
    rates = np.vstack([np.zeros(6), np.diff(parameters, axis=0) / gaps])
    six_or_twelve = np.hstack([parameters, rates]) if motion >= 12 else parameters
    columns = np.hstack([six_or_twelve, six_or_twelve**2]) if motion == 24 else six_or_twelve
    return np.asarray(columns)


def own_columns(seen: list[Observation], n_planned: int) -> Array:
    """Level and linear drift."""
    return legendre.legvander(np.array([o.index for o in seen]) / (n_planned - 1) * 2 - 1, 1)


def aligned(
    seen: list[Observation], good: NDArray[np.bool_], offsets_s: Array | None
) -> tuple[Array, NDArray[np.bool_]]:
    """Signals at a common time, and whether each could be had; from good volumes alone."""
    signals = np.array([o.signals for o in seen])
    if offsets_s is None:
        return signals, good
    aligner, whole, before = SliceAligner(offsets_s, TR_S), [], seen[0].index - 1
    for k, one in enumerate(seen):
        for _ in range(one.index - before - 1):
            aligner.update(np.full(2, math.nan), False)
        values, valid = aligner.update(one.signals, bool(good[k]))
        signals[k], before = values, one.index
        whole.append(valid)
    return signals, np.array(whole)


def by_the_book(
    rest: list[Observation],
    run: list[Observation],
    plan: Plan,
    config: EngineConfig,
    offsets_s: Array | None = None,
    rest_good: NDArray[np.bool_] | None = None,
) -> Array:
    """Raw score after each volume of the run, from the block design of rest and run so far."""
    motion = config.denoise.motion
    shared = np.vstack([shared_columns(rest, motion), shared_columns(run, motion)])
    # columns differ by many orders of magnitude, which lstsq would take for rank deficiency
    shared /= np.sqrt((shared**2).mean(axis=0))
    rest_own, run_own = own_columns(rest, N_SEED), own_columns(run, plan.n_volumes)
    own = np.block(
        [
            [rest_own, np.zeros((len(rest), 2))],
            [np.zeros((len(run), 2)), run_own],
        ]
    )
    design = np.hstack([own, shared])
    rest_good = np.ones(len(rest), bool) if rest_good is None else rest_good
    rest_signals, rest_whole = aligned(rest, rest_good, offsets_s)
    run_signals, run_whole = aligned(run, np.ones(len(run), bool), offsets_s)
    signals = np.vstack([rest_signals - 1000, run_signals - 1000])
    whole = np.concatenate([rest_whole, run_whole])
    indices = np.array([o.index for o in run])
    found = np.full(plan.n_volumes, math.nan)
    for k, index in enumerate(indices):
        so_far = whole & (np.arange(len(whole)) <= len(rest) + k)
        in_window = run_whole & (indices <= index) & (indices > index - plan.window)
        betas = np.linalg.lstsq(design[so_far], signals[so_far], rcond=None)[0]
        rows = np.flatnonzero(in_window) + len(rest)
        residuals = signals[rows] - design[rows] @ betas
        if len(rows) >= config.quality.effective_share_min * plan.window:
            found[index] = np.arctanh(np.corrcoef(residuals.T)[0, 1])
    return found


def first_volume(plan: Plan, slice_times_s: tuple[float, ...] | None) -> tuple[RoiSet, Geometry]:
    volume = replace(series(1)[0], slice_times_s=slice_times_s)
    return small_rois(plan), Geometry.of(volume)


@pytest.mark.parametrize("motion", [6, 12, 24])
@pytest.mark.parametrize("gone", [(), (5, 30, 31)], ids=["nothing missing", "volumes missing"])
def test_scores_equal_one_regression_over_both_runs(motion: int, gone: tuple[int, ...]) -> None:
    plan, config = small_plan(), config_with(motion)
    rois, geometry = first_volume(plan, None)
    rest, run = observations(N_SEED, 3, gone), observations(60, 4, gone)
    engine = Engine(plan, config, rois, None, geometry, seeds=[as_seed(rest)])
    found = np.full(60, math.nan)
    for event in run:
        found[event.index] = engine.step(event).scores[0].value
    expected = by_the_book(rest, run, plan, config)
    # level and drift are the run's own: ten of its volumes, and a full window
    first = N_DUMMIES + 9 + sum(index < 13 for index in gone)
    assert np.flatnonzero(np.isfinite(found))[0] == first
    assert np.isfinite(found[first:]).sum() == sum(o.index >= first for o in run)
    ours = np.isfinite(found)
    np.testing.assert_allclose(found[ours], expected[ours], rtol=0, atol=1e-9)


def test_scores_equal_it_with_slices_aligned() -> None:
    plan = small_plan(rois=SLANTED)
    config = config_with(6, connectivity={"slice_alignment_above_s": 0.1})
    rois, geometry = first_volume(plan, SLICE_TIMES_S)
    offsets_s = rois.slice_offsets_s(SLICE_TIMES_S, 2)
    assert abs(offsets_s[0] - offsets_s[1]) > 0.1
    rest, run = observations(N_SEED, 3, (40,)), observations(60, 4, (30,))
    # a censored volume of the rest lends nothing to its neighbours either
    good = np.arange(len(rest)) % 11 != 5
    seed = as_seed(rest, good.astype(float))
    engine = Engine(plan, config, rois, None, geometry, seeds=[seed])
    found = np.full(60, math.nan)
    for event in run:
        found[event.index] = engine.step(event).scores[0].value
    expected = by_the_book(rest, run, plan, config, offsets_s, good)
    ours = np.isfinite(found)
    assert ours.sum() > 40
    np.testing.assert_allclose(found[ours], expected[ours], rtol=0, atol=1e-9)


def test_without_the_seed_there_is_no_score_yet() -> None:
    plan, config = small_plan(), config_with(24)
    rois, geometry = first_volume(plan, None)
    engine = Engine(plan, config, rois, None, geometry)
    steps = [engine.step(event) for event in observations(60, 4)]
    assert not any(math.isfinite(step.scores[0].value) for step in steps)
    assert "57 of 130 volumes for the nuisance regression" in steps[-1].warming_up


def test_warming_up_says_what_a_seeded_run_waits_for() -> None:
    """Never "160 of 40 volumes": what is wanting is the run's own level and drift."""
    plan, config = small_plan(), config_with(6)
    rois, geometry = first_volume(plan, None)
    engine = Engine(plan, config, rois, None, geometry, seeds=[as_seed(observations(N_SEED, 3))])
    step = engine.step(observations(60, 4)[0])
    assert "10 volumes of this run for its level and drift" in step.warming_up


def test_censored_volumes_of_the_seed_do_not_count() -> None:
    plan, config = small_plan(), config_with(6)
    rois, geometry = first_volume(plan, None)
    rest = observations(N_SEED, 3)
    wild = [replace(o, signals=o.signals + 1e4 * (i % 7 == 3)) for i, o in enumerate(rest)]
    weights = np.array([float(i % 7 != 3) for i in range(len(rest))])
    scores = []
    for seed in (as_seed(rest, weights), as_seed(wild, weights)):
        engine = Engine(plan, config, rois, None, geometry, seeds=[seed])
        scores.append([engine.step(o).scores[0].value for o in observations(60, 4)])
    np.testing.assert_array_equal(scores[0], scores[1])


# --- in the record ------------------------------------------------------------------------------

TISSUE = {"motion": 0, "drift_order": 1, "tissue": ["global_signal"], "tissue_derivatives": True}


def seeded_record(
    folder: Path, n: int = 60, outcome: Any = "complete"
) -> tuple[Path, EngineConfig]:
    """A rest, and a run seeded with it; the rest's record is gone afterwards."""
    rest_config = small_config(denoise=TISSUE)
    rest = write_record(folder / "rest.sqlite", rest_plan(), series(60, seed=8), rest_config)
    config = small_config(denoise={**TISSUE, "seed": ["rest.sqlite"]})
    run = write_record(folder / "run.sqlite", None, series(60)[:n], config, outcome)
    for path in folder.glob("rest.sqlite*"):
        path.unlink()
    assert rest not in folder.iterdir()
    return run, config


def scored_from(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(
            db.execute("SELECT min(volume_index) FROM step WHERE raw_score NOT NULL").fetchone()[0]
        )


def test_seeds_come_back_as_they_were() -> None:
    seeds = [as_seed(observations(N_SEED, seed)) for seed in (3, 5)]
    again = unpack_seeds(pack_seeds(seeds))
    assert [seed.n_planned for seed in again] == [N_SEED, N_SEED]
    for ours, theirs in zip(seeds, again, strict=True):
        for name in ("indices", "parameters", "signals", "tissue", "weights"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert pack_seeds(again) == pack_seeds(seeds)


def test_a_seed_is_what_the_record_holds(tmp_path: Path) -> None:
    gone = (20, 21)
    volumes = [volume for volume in series(60) if volume.index not in gone]
    path = write_record(tmp_path / "rest.sqlite", rest_plan(), volumes)
    seed = read_seed(path, small_rois(small_plan()), small_plan())
    assert seed.n_planned == 60
    expected = [index for index in range(N_DUMMIES, 60) if index not in gone]
    assert seed.indices.tolist() == expected
    rois = small_rois(small_plan())
    for k in (0, 30):
        image = volumes[[v.index for v in volumes].index(expected[k])].data
        means = [image[tuple(np.argwhere(mask).T)].mean() for mask in _masks(rois)]
        np.testing.assert_allclose(seed.signals[k], means, rtol=1e-6)


def _masks(rois: RoiSet) -> list[NDArray[np.bool_]]:
    """The spheres again, by distance."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    places = grid @ AFFINE[:3, :3] + AFFINE[:3, 3]
    centers = [(9.0, 15.0, 12.0), (24.0, 15.0, 12.0)]
    return [np.linalg.norm(places - center, axis=-1) <= 4.0 for center in centers]


def test_a_seeded_run_scores_earlier_and_replays(tmp_path: Path) -> None:
    path, _ = seeded_record(tmp_path)
    plain = write_record(tmp_path / "plain.sqlite", config=small_config(denoise=TISSUE))
    assert scored_from(path) == N_DUMMIES + 9
    assert scored_from(plain) == N_DUMMIES + 19
    assert verify(path).identical
    assert verify(path, "rois").identical


def test_a_restart_continues_with_the_same_bits(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    path, config = seeded_record(whole)
    with Record.open(path) as record:
        expected = [r.body for r in record.events(record.attempts()[0])]
    path, _ = seeded_record(cut, 30, outcome=None)
    with Record.open(path) as record:
        running = attempts.resume(session_for(cut, config), small_plan(), record)
        assert running is not None
        steps = [running.engine.step(volume) for volume in series(60)[30:]]
    assert [encode(step) for step in steps] == expected[30:]


def test_another_seed_gives_other_scores(tmp_path: Path) -> None:
    """The seed kept in the record is the one that a replay uses."""
    path, _ = seeded_record(tmp_path)
    with Record.open(path, writable=True) as record, record.transaction():
        body = record.kept("seeds")
        assert body is not None
        (seed,) = unpack_seeds(body)
        record.keep("seeds", pack_seeds([replace(seed, signals=seed.signals + seed.tissue)]))
    assert not verify(path).identical


# --- what is refused ----------------------------------------------------------------------------


def rest_record(folder: Path, volumes: list[Volume] | None = None, **plan: Any) -> Path:
    return write_record(folder / "rest.sqlite", rest_plan(**plan), volumes)


def refusal(path: Path, plan: Plan, tissue: RoiSet | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read_seed(path, small_rois(plan), plan, tissue)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_rois_are_refused(tmp_path: Path) -> None:
    path = rest_record(tmp_path)
    assert "expected a run with this run's ROIs" in refusal(path, small_plan(rois=SLANTED))


def test_another_tr_is_refused(tmp_path: Path) -> None:
    volumes = [replace(volume, tr_s=1.25) for volume in series()]
    path = rest_record(tmp_path, volumes, tr_s=1.25, window_s=15.0)
    assert "expected TR 1 s, found 1.25 s" in refusal(path, small_plan())


def test_other_tissue_is_refused(tmp_path: Path) -> None:
    path = rest_record(tmp_path)
    tissue = RoiSet.from_spheres([("csf", (15.0, 15.0, 12.0), 4.0)], SHAPE, AFFINE)
    assert "this run's tissue regressors" in refusal(path, small_plan(), tissue)


def test_a_run_that_never_began_is_refused(tmp_path: Path) -> None:
    with Record.create(
        tmp_path / "rest.sqlite",
        attempts.about(session_for(tmp_path), session_for(tmp_path).runs[0], rest_plan()),
    ):
        pass
    assert "this run's ROIs" in refusal(tmp_path / "rest.sqlite", small_plan())


def test_a_run_of_dummies_is_refused(tmp_path: Path) -> None:
    path = rest_record(tmp_path, series(N_DUMMIES))
    assert "expected observed volumes, found none" in refusal(path, small_plan())


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rest.sqlite").write_text("rest")
    with pytest.raises(RecordError, match="expected a run record"):
        read_seed(tmp_path / "rest.sqlite", small_rois(small_plan()), small_plan())


def test_a_missing_seed_ends_the_run_in_one_line(tmp_path: Path) -> None:
    config = small_config(denoise={**TISSUE, "seed": ["rest.sqlite"]})
    with pytest.raises(RecordError, match="expected a file, found none"):
        write_record(tmp_path / "run.sqlite", config=config)


# --- squared motion columns need one reference ------------------------------------------------


def test_squares_are_shared_with_one_reference_only(tmp_path: Path) -> None:
    """The square of a shifted position is no share of the position's square."""
    path, plan = rest_record(tmp_path), small_plan()
    rois, reference = small_rois(plan), series()[0].data
    with pytest.raises(ConfigError, match="expected a run with this run's motion reference"):
        read_seed(path, rois, plan, None, reference, squares=True)
    with pytest.raises(ConfigError, match="name one image for both"):
        read_seed(path, rois, plan, None, None, squares=True)
    assert len(read_seed(path, rois, plan, None, reference).indices)
    with Record.open(path, writable=True) as record, record.transaction():
        record.keep("reference", reference_bytes(reference))
    assert len(read_seed(path, rois, plan, None, reference, squares=True).indices)
    with pytest.raises(ConfigError, match="found another"):
        read_seed(path, rois, plan, None, reference + np.int16(1), squares=True)
