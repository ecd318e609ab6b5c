"""Sums, steps and maps of registration against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rtloop.alignment import Level
from rtloop.columns import volume_buffer
from rtloop.kernels.intake import take_in
from rtloop.kernels.register import advance, place, rigid_matrix
from tests.rtloop.phantom import Head, oblique
from tools.bench.motion_truth import rigid

CENTRE = np.array([3.0, -20.0, 11.0])


def test_rigid_matrix_is_scipys_intrinsic_rotation_about_the_centre() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parameters = np.concatenate([rng.uniform(-9, 9, 3), rng.uniform(-1, 1, 3)])
        matrix = np.zeros((4, 4))
        rigid_matrix(parameters, CENTRE, matrix)
        turn = Rotation.from_euler("XYZ", parameters[3:]).as_matrix()
        np.testing.assert_allclose(matrix[:3, :3], turn, atol=1e-14)
        np.testing.assert_allclose((matrix @ [*CENTRE, 1.0])[:3], CENTRE + parameters[:3])
        np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])


def test_place_is_the_product_of_its_maps() -> None:
    affine = oblique((3.0, 2.0, 4.0), (30, 30, 20))
    parameters = np.array([1.0, -2.0, 0.5, 0.1, -0.2, 0.05])
    matrix, passes = np.zeros((4, 4)), np.zeros(12)
    inverse = np.ascontiguousarray(np.linalg.inv(affine))
    place(parameters, CENTRE, inverse, affine, np.zeros((3, 4, 4)), matrix, passes)
    np.testing.assert_allclose(matrix, inverse @ rigid(parameters, CENTRE) @ affine, atol=1e-12)
    np.testing.assert_allclose(passes[8:], matrix[2])


def test_a_step_composes_with_the_inverse_of_what_was_solved_for() -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((10, 10))
    normal = root @ root.T + np.eye(10)
    wanted = np.concatenate([rng.uniform(-1, 1, 3), rng.uniform(-0.02, 0.02, 3), [0.1, 0, 0, 0]])
    projection = rng.standard_normal((16, 10))
    sums = np.zeros(18)
    sums[:16] = np.linalg.lstsq(projection.T, normal @ wanted, rcond=None)[0]
    parameters = np.array([0.5, -0.3, 0.8, 0.03, -0.05, 0.04])
    gains = np.array([2.0, 0.0, 0.0, 0.0])
    before = rigid(parameters, CENTRE)
    halves = np.stack([normal, 2.0 * normal, np.full((10, 10), np.nan)])
    halves[2] = 0.0
    shares = np.array([0.4, 0.3, 0.9])
    length = advance(
        sums, projection, halves, shares, CENTRE, parameters, gains,
        np.zeros((10, 10)), np.zeros(10), np.zeros((3, 4, 4)),
    )  # fmt: skip
    step = wanted[:6] / 2.0
    expected = before @ np.linalg.inv(rigid(step, CENTRE))
    np.testing.assert_allclose(rigid(parameters, CENTRE), expected, atol=1e-12)
    np.testing.assert_allclose(gains, [2.1, 0.0, 0.0, 0.0], atol=1e-12)
    expected_mm = np.linalg.norm(step[:3]) + 50 * np.linalg.norm(step[3:])
    assert length == pytest.approx(expected_mm)


def test_a_singular_system_is_refused() -> None:
    parameters, gains = np.zeros(6), np.array([1.0, 0, 0, 0])
    length = advance(
        np.ones(18), np.ones((16, 10)), np.zeros((1, 10, 10)), np.ones(1), CENTRE, parameters,
        gains, np.zeros((10, 10)), np.zeros(10), np.zeros((3, 4, 4)),
    )  # fmt: skip
    assert length == -1.0
    assert not parameters.any()


def test_the_first_step_is_that_of_plain_least_squares() -> None:
    head = Head(shape=(40, 34, 20), affine=oblique((4.5, 4.5, 5.0), (40, 34, 20)))
    reference = head().astype(np.float64)
    mask = np.zeros(head.shape, np.bool_)
    mask[5:33, 6:28, 4:15] = reference[5:33, 6:28, 4:15] > 2_000
    motion = rigid(np.array([0.3, -0.2, 0.25, 0.004, -0.003, 0.005]), head.centre)
    moved = head(motion) * np.float32(1.03)
    level = Level(reference, head.affine, head.centre, mask)
    volume = volume_buffer(head.shape)
    take_in(
        moved.T.reshape(-1), np.array(head.shape), np.ones(3, np.int64), volume,
        volume_buffer(head.shape), np.zeros(35 * 40, np.float32), np.zeros(20),
    )  # fmt: skip
    parameters, gains = np.zeros(6), np.array([1.0, 0.0, 0.0, 0.0])
    fit = level.align(volume, parameters, gains, np.zeros(20, np.bool_), 1, 0.0)
    expected, expected_gain, residual = _plain_step(reference, moved, head, mask)
    np.testing.assert_allclose(parameters, expected, rtol=2e-3, atol=2e-5)
    assert gains[0] == pytest.approx(expected_gain, rel=1e-4)
    assert fit.n_steps == 1
    assert fit.share == 1.0
    smooth_mean = _smoothed(reference)[mask].mean()
    assert fit.residual * gains[0] * smooth_mean == pytest.approx(residual, rel=1e-4)


def _smoothed(image: np.ndarray, derivative_axis: int | None = None) -> np.ndarray:
    from scipy.ndimage import correlate1d

    for axis in range(3):
        taps = [1, 26, 66, 26, 1]
        if axis == derivative_axis:
            taps = [-5, -50, 0, 50, 5]
        image = correlate1d(image, np.array(taps) / 120.0, axis=axis, mode="reflect")
    return image


def _plain_step(
    reference: np.ndarray, moved: np.ndarray, head: Head, mask: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """One inverse-compositional step with an explicit Jacobian."""
    points = np.argwhere(mask).T
    world = head.affine[:3, :3] @ points + head.affine[:3, 3:] - head.centre[:, None]
    value = _smoothed(reference)[mask]
    slope = np.stack([_smoothed(reference, axis)[mask] for axis in range(3)])
    slope = np.linalg.inv(head.affine)[:3, :3].T @ slope
    design = np.vstack([slope, np.cross(world.T, slope.T).T, value, value * (points - 15.0)])
    error = _smoothed(moved.astype(np.float64))[mask] - value
    solved = np.linalg.lstsq(design.T, error, rcond=None)[0]
    back = np.linalg.inv(rigid(solved[:6], head.centre))
    angles = Rotation.from_matrix(back[:3, :3]).as_euler("XYZ")
    shift = back[:3, :3] @ head.centre + back[:3, 3] - head.centre
    # Ramps are counted from the rotation centre in the loop, from voxel 15 here.
    centre = np.linalg.inv(head.affine)[:3, :3] @ head.centre + np.linalg.inv(head.affine)[:3, 3]
    gain = 1.0 + solved[6] + solved[7:] @ (centre - 15.0)
    return np.concatenate([shift, angles]), float(gain), float(np.sqrt((error**2).mean()))
