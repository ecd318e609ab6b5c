"""Givens updating against NumPy's least squares, and against extended precision where it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtloop.kernels.least_squares import back_substitute, givens_update, subtract_fit
from tools.bench.denoise import exact_residuals

TOLERANCE = 1e-7


def triangle(X: NDArray, Y: NDArray) -> tuple[NDArray, NDArray]:
    R, Z = np.zeros((X.shape[1],) * 2), np.zeros((X.shape[1], Y.shape[1]))
    for x, y in zip(X, Y, strict=True):
        givens_update(R, Z, x.copy(), y.copy())
    return R, Z


def solve(R: NDArray, Z: NDArray) -> tuple[int, NDArray]:
    betas = np.full_like(Z, np.nan)
    scratch = np.empty_like(R), np.empty_like(Z), np.empty(len(R)), np.empty(Z.shape[1])
    return back_substitute(R, Z, TOLERANCE, *scratch, betas), betas


def residuals(betas: NDArray, X: NDArray, Y: NDArray) -> NDArray:
    out = np.empty_like(Y)
    for x, y, row in zip(X, Y, out, strict=True):
        subtract_fit(betas, x, y, row)
    return out


@settings(max_examples=60, deadline=None)
@given(
    p=st.integers(1, 12),
    q=st.integers(1, 9),
    extra=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_betas_equal_lstsq(p: int, q: int, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = np.concatenate([np.eye(p), rng.standard_normal((extra, p))])
    Y = rng.standard_normal((len(X), q))
    rank, betas = solve(*triangle(X, Y))
    assert rank == p
    np.testing.assert_allclose(betas, np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-12)


def test_triangle_holds_the_cross_products() -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 4))
    R, Z = triangle(X, Y)
    assert (np.tril(R, -1) == 0).all()
    np.testing.assert_allclose(R.T @ R, X.T @ X, atol=1e-12)
    np.testing.assert_allclose(R.T @ Z, X.T @ Y, atol=1e-12)


def test_row_is_left_as_its_rotated_residual() -> None:
    # the sum of squares that no regressor explains is what the rows carry away with them
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((40, 5)), rng.standard_normal((40, 3))
    R, Z = np.zeros((5, 5)), np.zeros((5, 3))
    carried = np.zeros(3)
    for x, y in zip(X.copy(), Y.copy(), strict=True):
        givens_update(R, Z, x, y)
        carried += y**2
    expected = (exact_residuals(X, Y) ** 2).sum(axis=0).astype(float)
    np.testing.assert_allclose(carried, expected, rtol=1e-12)


@pytest.mark.parametrize("place", [0, 2, 5])
@pytest.mark.parametrize("kind", ["zero", "copy", "sum"])
def test_collinear_column_gets_zero_and_the_rest_stays_least_squares(place: int, kind: str) -> None:
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((60, 6)), rng.standard_normal((60, 4))
    others = [k for k in range(6) if k != place]
    X[:, place] = {
        "zero": np.zeros(60),
        "copy": X[:, others[0]],
        "sum": X[:, others] @ [1.0, -2.0, 3.0, 0.5, 0.1],
    }[kind]
    rank, betas = solve(*triangle(X, Y))
    assert rank == 5
    assert (betas == 0).all(axis=1).sum() == 1
    expected = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    np.testing.assert_allclose(residuals(betas, X, Y), expected, atol=1e-12)


def test_the_later_of_two_equal_columns_is_left_out() -> None:
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    X[:, 3] = 2.0 * X[:, 1]
    _, betas = solve(*triangle(X, Y))
    assert (betas[3] == 0).all()
    assert (betas[1] != 0).all()


def test_fewer_rows_than_columns_fit_exactly() -> None:
    rng = np.random.default_rng(5)
    X, Y = rng.standard_normal((4, 9)), rng.standard_normal((4, 3))
    rank, betas = solve(*triangle(X, Y))
    assert rank == 4
    np.testing.assert_allclose(residuals(betas, X, Y), 0.0, atol=1e-11)


def test_levels_and_units_do_not_cost_accuracy() -> None:
    # head 5 mm from the reference and hardly moving, a squared rotation, tissue at 10,000
    rng = np.random.default_rng(6)
    n = 400
    columns = [
        np.ones(n),
        np.linspace(-1, 1, n) ** 3,
        5.0 + 0.01 * rng.standard_normal(n),
        (1e-4 * rng.standard_normal(n)) ** 2,
        10_000.0 + 20.0 * rng.standard_normal(n),
    ]
    X = np.stack(columns, axis=1)
    Y = 50.0 * rng.standard_normal((n, 7)) + 0.3 * X[:, 4:] + 500.0 * X[:, 2:3]
    rank, betas = solve(*triangle(X, Y - Y[0]))
    assert rank == 5
    exact = exact_residuals(X, Y - Y[0])
    error = np.abs(residuals(betas, X, Y - Y[0]) - exact).max()
    assert error < 1e-10 * exact.std()


def test_same_rows_give_the_same_bits() -> None:
    rng = np.random.default_rng(7)
    X, Y = rng.standard_normal((200, 13)), rng.standard_normal((200, 37))
    first, second = triangle(X, Y), triangle(X.copy(), Y.copy())
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()
    assert solve(*first)[1].tobytes() == solve(*second)[1].tobytes()


def test_values_too_small_to_rotate_are_zero() -> None:
    R, Z = np.zeros((2, 2)), np.zeros((2, 1))
    givens_update(R, Z, np.array([1e-200, 1.0]), np.array([3.0]))
    assert R[0].tolist() == [0.0, 0.0]
    assert solve(R, Z)[1].ravel().tolist() == [0.0, 3.0]


def test_nan_signal_stays_nan_in_the_residual() -> None:
    out = np.empty(2)
    subtract_fit(np.ones((1, 2)), np.ones(1), np.array([np.nan, 3.0]), out)
    assert np.isnan(out[0])
    assert out[1] == 2.0
