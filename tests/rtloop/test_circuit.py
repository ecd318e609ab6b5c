"""Circuit scores by hand; standard errors against exact Gaussian covariances of a dense window."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.autocorrelation import Autocorrelation
from rtloop.circuit import Circuit, Score
from rtloop.connectivity import SlidingWindowFC, edge_index
from rtloop.errors import PlanError
from rtloop.kernels.sampling_error import (
    circuit_variance,
    concentration,
    edge_errors,
    mean_covariances,
    overlaps,
)

Float64 = NDArray[np.float64]

CIRCUIT = Circuit([[7, 2], [2, 4], [4, 9]], [1.0, -2.0, 0.5])
NAMES = ("value", "standard_error", "n_effective", "n_samples", "bias")


def white_run(circuit: Circuit, n_volumes: int, seed: int = 0) -> Autocorrelation:
    """White signals with correlations .5, short lags."""
    run = Autocorrelation(len(circuit.rois), 3)
    rng = np.random.default_rng(seed)
    for _ in range(n_volumes):
        common = rng.standard_normal()
        run.update(rng.standard_normal(len(circuit.rois)) + common)
    return run


# --- raw score --------------------------------------------------------------------------------


def test_raw_score_is_the_weighted_mean_of_fisher_z() -> None:
    r = np.array([0.3, -0.2, 0.8])
    score = CIRCUIT.score(r, white_run(CIRCUIT, 100), np.ones(30))
    expected = (np.arctanh(0.3) + 2 * np.arctanh(0.2) + 0.5 * np.arctanh(0.8)) / 3.5
    assert score.value == pytest.approx(expected, rel=1e-14)
    assert score.estimate == score.value - score.bias


def test_perfect_correlation_is_clipped_not_infinite() -> None:
    score = CIRCUIT.score([1.0, 0.0, 0.0], white_run(CIRCUIT, 100), np.ones(30))
    assert 14.0 / 3.5 < score.value < 15.0 / 3.5


def test_an_undefined_edge_makes_no_score() -> None:
    score = CIRCUIT.score([0.3, np.nan, 0.8], white_run(CIRCUIT, 100), np.ones(30))
    assert score.n_samples == 30
    assert all(math.isnan(getattr(score, name)) for name in NAMES if name != "n_samples")


def test_no_standard_error_before_the_run_can_tell() -> None:
    score = CIRCUIT.score([0.3, -0.2, 0.8], white_run(CIRCUIT, 15), np.ones(30))
    assert math.isfinite(score.value)
    assert math.isnan(score.standard_error)
    assert math.isnan(score.n_effective)


def test_a_constant_signal_in_the_run_makes_no_standard_error() -> None:
    run = Autocorrelation(4, 3)
    for values in np.random.default_rng(0).standard_normal((100, 4)):
        run.update([1.0, *values[1:]])
    score = CIRCUIT.score([0.3, -0.2, 0.8], run, np.ones(30))
    assert math.isfinite(score.value)
    assert math.isnan(score.standard_error)


def test_two_rois_of_one_signal_make_no_standard_error() -> None:
    run = Autocorrelation(2, 3)
    for value in np.random.default_rng(0).standard_normal(100):
        run.update([value, value])
    score = Circuit([[0, 1]], [1.0]).score([1.0], run, np.ones(30))
    assert score.value > 14.0
    assert math.isnan(score.standard_error)


def test_betas_that_used_the_window_up_leave_no_standard_error() -> None:
    rng = np.random.default_rng(0)
    x, rows = rng.standard_normal((40, 4)), rng.standard_normal((40, 36))
    run, window = Autocorrelation(4, 3, 36), SlidingWindowFC(4, 40, None, 36)
    for values, row in zip(x, rows, strict=True):
        run.update(values, 1.0, row)
        window.update(values, 1.0, row)
    betas = np.zeros((36, 10))
    betas[:, CIRCUIT.rois] = np.linalg.lstsq(rows, x, rcond=None)[0]
    products = window.regressor_products()
    spent = CIRCUIT.score([0.3, -0.2, 0.8], run, window.weights, betas, products)
    given = CIRCUIT.score([0.3, -0.2, 0.8], run, window.weights, betas)
    assert math.isnan(spent.standard_error)
    assert math.isfinite(given.standard_error)


def test_same_input_same_bits() -> None:
    scores = [
        CIRCUIT.score([0.3, -0.2, 0.8], white_run(CIRCUIT, 200), np.linspace(0, 1, 40))
        for _ in range(2)
    ]
    assert [getattr(scores[0], n).hex() for n in NAMES] == [
        getattr(scores[1], n).hex() for n in NAMES
    ]


# --- what a circuit is ------------------------------------------------------------------------


def test_places_of_rois_and_edges() -> None:
    assert CIRCUIT.rois.tolist() == [2, 4, 7, 9]
    assert CIRCUIT.roi_edges.tolist() == [[2, 0], [0, 1], [1, 3]]
    assert CIRCUIT.positions(10).tolist() == edge_index(10, [2, 2, 4], [7, 4, 9]).tolist()
    assert CIRCUIT.labels == ("7-2", "2-4", "4-9")
    run = CIRCUIT.autocorrelation(2.0, 5)
    assert (run.n_rois, run.n_lags, run.n_regressors) == (4, 10, 5)


def test_edge_order_within_a_pair_does_not_matter() -> None:
    turned = Circuit(CIRCUIT.edges[:, ::-1], CIRCUIT.weights)
    r, run = [0.3, -0.2, 0.8], white_run(CIRCUIT, 200)
    assert turned.score(r, run, np.ones(30)) == CIRCUIT.score(r, run, np.ones(30))


@pytest.mark.parametrize(
    ("edges", "weights", "labels", "told"),
    [
        ([[0, 1], [1, 0]], [1, 1], (), "twice"),
        ([[0, 0]], [1], (), "different"),
        ([[-1, 0]], [1], (), "numbered from 0"),
        ([[0, 1]], [0.0], (), "not 0"),
        ([[0, 1]], [np.nan], (), "finite"),
        ([[0, 1]], [1, 2], (), "one weight per edge"),
        ([0, 1], [1, 2], (), "one weight per edge"),
        (np.empty((0, 2)), [], (), "at least one"),
        ([[0, 1]], [1], ("a", "b"), "2 labels"),
    ],
)
def test_wrong_circuits_are_said(edges: object, weights: object, labels: tuple, told: str) -> None:
    with pytest.raises(PlanError, match=told):
        Circuit(edges, weights, labels)  # type: ignore[arg-type]


# --- its standard error -----------------------------------------------------------------------


def stationary(n_rois: int, n_lags: int, seed: int = 0) -> Float64:
    """Lagged covariances of mixed AR(1) signals with different time constants, cut at n_lags."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_rois, n_rois))
    persistence = rng.uniform(0.0, 0.6, n_rois)
    powers = persistence ** np.arange(n_lags + 1)[:, None]
    return np.asarray(np.einsum("ak,tk,bk->tab", mixing, powers, mixing))


def dense(covariances: Float64, n: int, a: int, b: int) -> Float64:
    """cov(x_a(t), x_b(q)) for all pairs of times in a window."""
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    known = lag < len(covariances)
    return np.where(known, covariances[np.where(known, lag, 0), a, b], 0.0)


def exact(covariances: Float64, weights: Float64, edges: NDArray, shares: Float64) -> dict:
    """First-order variance of Σ share z, with the window's mean removed exactly."""
    n = len(weights)
    total = weights.sum()
    quadratic = np.diag(weights) / total - np.outer(weights, weights) / total**2

    def product(a: int, b: int, c: int, d: int) -> float:
        return float(
            np.trace(
                quadratic @ dense(covariances, n, a, b) @ quadratic @ dense(covariances, n, c, d)
            )
        )

    def expected(a: int, b: int) -> float:
        return float(np.trace(quadratic @ dense(covariances, n, a, b)))

    gradient: dict[tuple[int, int], float] = {}
    r = []
    for (i, j), share in zip(edges, shares, strict=True):
        root = math.sqrt(expected(i, i) * expected(j, j))
        r.append(expected(i, j) / root)
        slope = share / (1 - r[-1] ** 2)
        for pair, value in (
            ((i, j), slope / root),
            ((i, i), -0.5 * slope * r[-1] / expected(i, i)),
            ((j, j), -0.5 * slope * r[-1] / expected(j, j)),
        ):
            gradient[pair] = gradient.get(pair, 0.0) + value
    variance = sum(
        g * h * (product(a, c, d, b) + product(a, d, c, b))
        for (a, b), g in gradient.items()
        for (c, d), h in gradient.items()
    )
    return {"variance": variance, "r": r}


def kernels(covariances: Float64, weights: Float64, circuit: Circuit) -> dict:
    """The same by the kernels, through the circuit's own loadings."""
    n_rois = covariances.shape[1]
    overlap, means = np.empty(len(covariances)), np.empty((n_rois, n_rois))
    overlaps(weights, overlap)
    total = float(weights.sum())
    mean_covariances(covariances, overlap, total, means)
    r, variance, bias = np.empty((3, len(circuit.edges)))
    edge_errors(covariances, overlap, total, means, circuit.roi_edges, r, variance, bias)
    loadings = circuit._loadings(r, covariances[0] - means)
    return {
        "variance": circuit_variance(
            covariances, overlap, total, means, loadings, np.empty((n_rois, n_rois))
        ),
        "r": r,
        "edge_variance": variance,
        "bias": bias,
    }


@pytest.mark.parametrize(
    "weights",
    [np.ones(60), (np.random.default_rng(1).random(60) > 0.3) * 1.0, np.linspace(0.1, 1.0, 60)],
    ids=["all", "censored", "weighted"],
)
def test_variance_equals_the_exact_one_of_gaussian_signals(weights: Float64) -> None:
    circuit = Circuit([[0, 1], [1, 2], [0, 2], [3, 1]], [1.0, -0.5, 0.3, 1.0])
    covariances = stationary(4, 12)
    found = kernels(covariances, weights, circuit)
    right = exact(covariances, weights, circuit.roi_edges, circuit.shares)
    np.testing.assert_allclose(found["r"], right["r"], atol=1e-12)
    # the mean's part is approximate, to (correlation time / window)²
    assert found["variance"] == pytest.approx(right["variance"], rel=0.02)
    for e, edge in enumerate(circuit.roi_edges):
        alone = exact(covariances, weights, edge[None], np.ones(1))
        assert found["edge_variance"][e] == pytest.approx(alone["variance"], rel=0.02)


def test_white_signals_have_the_textbook_error_and_bias() -> None:
    covariances = np.array([[[1.0, 0.6], [0.6, 1.0]], np.zeros((2, 2))])
    n = 40
    found = kernels(covariances, np.ones(n), Circuit([[0, 1]], [1.0]))
    assert found["edge_variance"][0] == pytest.approx(1 / (n - 1), rel=1e-12)
    assert found["variance"] == pytest.approx(1 / (n - 1), rel=1e-12)
    assert found["bias"][0] == pytest.approx(0.6 / (2 * (n - 1)), rel=1e-12)

    circuit = Circuit([[0, 1]], [1.0])
    score = circuit.score([0.5], white_run(circuit, 20_000), np.ones(n))
    assert score.standard_error == pytest.approx(1 / math.sqrt(n - 3), rel=0.02)
    assert score.n_effective == pytest.approx(n, rel=0.03)
    assert score.bias == pytest.approx(0.5 / (2 * (n - 1)), rel=0.1)


def test_edges_that_share_an_roi_covary_as_pearson_and_filon_say() -> None:
    r12, r13, r23 = 0.6, 0.3, 0.5
    covariances = np.zeros((2, 3, 3))
    covariances[0] = [[1, r12, r13], [r12, 1, r23], [r13, r23, 1]]
    n = 50
    apart = [Circuit([[0, 1], [1, 2]], weights) for weights in ([1.0, 1.0], [1.0, -1.0])]
    for circuit in apart:
        object.__setattr__(circuit, "roi_edges", np.array([[0, 1], [0, 2]]))
    plus, minus = (kernels(covariances, np.ones(n), c)["variance"] for c in apart)
    # Steiger 1980 (doi:10.1037/0033-2909.87.2.245), eq. 3 and 12
    psi = r23 * (1 - r12**2 - r13**2) - 0.5 * r12 * r13 * (1 - r12**2 - r13**2 - r23**2)
    covariance = psi / ((1 - r12**2) * (1 - r13**2)) / (n - 1)
    assert (plus - minus) == pytest.approx(covariance, rel=1e-10)


@pytest.mark.parametrize(
    ("covariance", "weights"),
    [
        ([1.0], np.ones(30)),
        ([1.0, 0.7, 0.4, 0.1], np.ones(30)),
        ([1.0, 0.7, 0.4, 0.1], np.random.default_rng(2).random(30)),
        ([0.5, 0.5 * 0.3], (np.random.default_rng(3).random(30) > 0.4) * 1.0),
    ],
)
def test_concentration_is_that_of_the_window_s_eigenvalues(
    covariance: list[float], weights: Float64
) -> None:
    n = len(weights)
    series = np.array(covariance)
    remove = np.eye(n) - np.outer(np.ones(n), weights) / weights.sum()
    matrix = remove @ dense(series[:, None, None], n, 0, 0) @ remove.T
    root = np.sqrt(weights)
    values = np.linalg.eigvalsh(root[:, None] * matrix * root)
    expected = (values**3).sum() * values.sum() / (values**2).sum() ** 2
    found = concentration(series, weights, np.empty(n), np.empty((n, n)))
    assert found == pytest.approx(expected, rel=1e-10)
    if len(covariance) == 1:
        assert found == pytest.approx(1.0, rel=1e-12)


def test_slow_signals_are_worth_fewer_volumes() -> None:
    circuit = Circuit([[0, 1]], [1.0])
    effective = []
    for persistence in (0.0, 0.5, 0.8):
        run, x = Autocorrelation(2, 20), np.zeros(2)
        rng = np.random.default_rng(0)
        for _ in range(5000):
            x = persistence * x + rng.standard_normal(2)
            run.update(x)
        effective.append(circuit.score([0.1], run, np.ones(100)).n_effective)
        product = persistence**2
        # Bartlett: n (1 - φ²) / (1 + φ²) for two AR(1)
        assert effective[-1] == pytest.approx(100 * (1 - product) / (1 + product), rel=0.1)
    assert effective[0] > effective[1] > effective[2]


def test_censoring_one_volume_in_two_costs_white_signals_half_and_slow_ones_little() -> None:
    circuit = Circuit([[0, 1]], [1.0])
    every, second = np.ones(200), np.tile([1.0, 0.0], 100)
    ratios = []
    for persistence in (0.0, 0.9):
        run, x = Autocorrelation(2, 40), np.zeros(2)
        rng = np.random.default_rng(1)
        for _ in range(5000):
            x = persistence * x + rng.standard_normal(2)
            run.update(x)
        counts = [circuit.score([0.1], run, w).n_effective for w in (every, second)]
        ratios.append(counts[1] / counts[0])
    assert ratios[0] == pytest.approx(0.5, abs=0.03)
    assert ratios[1] > 0.9


def test_score_is_a_plain_record() -> None:
    assert tuple(Score.__dataclass_fields__) == NAMES
