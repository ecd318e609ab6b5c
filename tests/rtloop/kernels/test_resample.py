"""Three-pass resampling against SciPy, a plain NumPy form, and images given by formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from rtloop.columns import Sampler, volume_buffer, work_buffers
from rtloop.interpolants import Interpolant, band_interpolator, quintic_smoother
from rtloop.kernels.intake import take_in
from rtloop.kernels.resample import extent, fill_columns, separate
from rtloop.kernels.sample import sample_all, sample_some
from tests.rtloop.phantom import Head
from tools.bench.motion_truth import rigid

Floats = NDArray[np.float64]
SHAPE = (37, 22, 19)
"""Not a multiple of sixteen, so that rows end within a block."""


class _Resampler:
    """The kernels on one volume."""

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.shape = (image.shape[0], image.shape[1], image.shape[2])
        self.dims = np.array(self.shape)
        self.volume = volume_buffer(self.shape)
        nx, ny, nz = self.shape
        take_in(
            np.ascontiguousarray(image.T).reshape(-1),
            self.dims,
            np.ones(3, np.int64),
            self.volume,
            volume_buffer(self.shape),
            np.zeros((ny + 1) * nx, np.float32),
            np.zeros(nz),
        )
        self.buffers = work_buffers(self.shape, self.shape)

    def __call__(
        self, matrix: Floats, interpolant: Interpolant, voxels: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        everything = np.argwhere(np.ones(self.shape, np.bool_))
        sampler = Sampler.of(self.shape, everything if voxels is None else voxels)
        columns, passes = sampler.columns, np.zeros(12)
        separate(matrix, passes)
        how = interpolant.arguments
        fill_columns(
            self.volume, self.dims, passes, how, columns.box, columns.spans, 1, self.buffers
        )
        common = self.dims, matrix, passes, how, sampler.rows, self.buffers
        if voxels is None:
            out = np.zeros(int(self.dims.prod()), np.float32)
            sample_all(*common, out)
            return out.reshape(self.shape[::-1]).T
        out = np.zeros(len(voxels), np.float32)
        sample_some(*common, sampler.wanted, out)
        return out


def _noise(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def _shift(*voxels: float) -> Floats:
    matrix = np.eye(4)
    matrix[:3, 3] = voxels
    return matrix


def _turn(angle: float, *voxels: float) -> Floats:
    centre = (np.array(SHAPE) - 1) / 2
    return rigid(np.array([*voxels, angle, -0.7 * angle, 1.2 * angle]), centre)


@pytest.mark.parametrize(
    "shift", [(0, 0, 0), (0.3, 0, 0), (0, -0.6, 0), (0, 0, 0.45), (1.7, -2.2, 0.9), (-3, 2, -1)]
)
def test_a_shift_equals_scipys_tensor_product(shift: tuple[float, float, float]) -> None:
    image = _noise()
    found = _Resampler(image)(_shift(*shift), quintic_smoother())
    places = np.indices(SHAPE) + np.reshape(shift, (3, 1, 1, 1))
    expected = scipy.ndimage.map_coordinates(
        image.astype(np.float64), places, order=5, mode="reflect", prefilter=False
    )
    inside = np.isfinite(found)
    limits = np.reshape(SHAPE, (3, 1, 1, 1)) - 0.5
    np.testing.assert_array_equal(inside, ((places >= -0.5) & (places <= limits)).all(axis=0))
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-6)


@pytest.mark.parametrize("angle", [0.004, 0.03, 0.09])
@pytest.mark.parametrize("interpolant", [quintic_smoother(), band_interpolator()])
def test_a_turn_equals_three_plain_passes(angle: float, interpolant: Interpolant) -> None:
    image, matrix = _noise(), _turn(angle, 0.4, -0.3, 0.2)
    found = _Resampler(image)(matrix, interpolant)
    expected = _three_passes(image.astype(np.float64), matrix, interpolant)
    inside = np.isfinite(found)
    assert inside.mean() > 0.7
    # Weights serve a line, and follow it by their slopes: the error is of second order.
    off = 0.5 * min(max(0.05, 8 * angle**2), 40 * angle**2) ** 2
    assert np.abs(found - expected)[inside].max() < 20 * off + 0.04
    assert np.abs(found - expected)[inside].std() < 5 * off + 2e-3


def _three_passes(image: Floats, matrix: Floats, interpolant: Interpolant) -> Floats:
    """Passes along x, y, z voxel by voxel, each exactly in its place."""
    x, y, z = np.indices(image.shape).astype(np.float64)
    lower = np.linalg.inv(matrix[1:3, 1:3])
    yz = np.einsum(
        "ij,jxyz->ixyz",
        lower,
        np.stack([y - matrix[1, 0] * x - matrix[1, 3], z - matrix[2, 0] * x - matrix[2, 3]]),
    )
    image = _pass(
        image, matrix[0, :3] @ np.stack([x, *yz]).reshape(3, -1) + matrix[0, 3], 0, interpolant
    )
    above = (z - matrix[2, 0] * x - matrix[2, 1] * y - matrix[2, 3]) / matrix[2, 2]
    image = _pass(
        image, matrix[1, :3] @ np.stack([x, y, above]).reshape(3, -1) + matrix[1, 3], 1, interpolant
    )
    return _pass(
        image, matrix[2, :3] @ np.stack([x, y, z]).reshape(3, -1) + matrix[2, 3], 2, interpolant
    )


def _pass(image: Floats, places: Floats, axis: int, interpolant: Interpolant) -> Floats:
    places = places.reshape(image.shape)
    n, half = image.shape[axis], interpolant.n_taps // 2
    low = np.floor(places).astype(int)
    fine = np.linspace(0.0, 1.0, 2049)
    table = np.stack([interpolant.weights(f) for f in fine])
    weights = table[np.rint((places - low) * 2048).astype(int)]
    result = np.zeros_like(image)
    for k in range(interpolant.n_taps):
        index = np.mod(low + k - half + 1, 2 * n)
        index = np.where(index < n, index, 2 * n - 1 - index)
        result += weights[..., k] * np.take_along_axis(image, index, axis)
    return result


def test_separate_leads_each_voxel_to_its_place() -> None:
    matrix = _turn(0.2, 3.0, -4.0, 2.0) @ np.diag([1.02, 0.98, 1.01, 1.0])
    passes = np.zeros(12)
    separate(matrix, passes)
    points = np.vstack([np.random.default_rng(0).uniform(0, 40, (3, 50)), np.ones(50)])
    goal = matrix @ points
    np.testing.assert_allclose(passes[8:] @ points, goal[2])
    np.testing.assert_allclose(passes[4:8] @ [points[0], points[1], goal[2], points[3]], goal[1])
    np.testing.assert_allclose(passes[:4] @ [points[0], goal[1], goal[2], points[3]], goal[0])


def test_extent_holds_all_places_of_a_box() -> None:
    passes, box = np.zeros(12), np.array([3, 20, 2, 15, 4, 18])
    separate(_turn(0.1, 1.0, 2.0, -1.0), passes)
    x, y, z = np.meshgrid(np.arange(0, 32), np.arange(2, 15), np.arange(4, 18), indexing="ij")
    places = passes[8] * x + passes[9] * y + passes[10] * z + passes[11]
    np.testing.assert_allclose(extent(passes, 8, box, 0), (places.min(), places.max()))
    in_slice = passes[4] * x + passes[5] * y + passes[6] * 7 + passes[7]
    np.testing.assert_allclose(extent(passes, 4, box, 7), (in_slice.min(), in_slice.max()))


def test_a_formulas_image_is_brought_back() -> None:
    head = Head()
    motion = rigid(np.array([0.6, -0.5, 0.7, 0.03, -0.02, 0.04]), head.centre)
    matrix = np.linalg.inv(head.affine) @ motion @ head.affine
    found = _Resampler(head(motion))(matrix, band_interpolator())
    inside = np.isfinite(found)
    error = (found - head())[inside] / head.level
    assert np.sqrt((error**2).mean()) < 3e-3


@pytest.mark.parametrize("angle", [0.0, 0.05])
def test_some_voxels_are_those_of_all_bit_for_bit(angle: float) -> None:
    resampler, matrix = _Resampler(_noise()), _turn(angle, 2.4, -1.1, 0.8)
    rng = np.random.default_rng(5)
    voxels = np.argwhere(rng.random(SHAPE) < 0.05)
    voxels = np.concatenate([voxels, voxels[:7]])[rng.permutation(len(voxels) + 7)]
    full = resampler(matrix, band_interpolator())
    some = resampler(matrix, band_interpolator(), voxels)
    np.testing.assert_array_equal(some, full[tuple(voxels.T)])
    assert np.isnan(some).any()


def test_a_constant_at_bold_magnitude_stays_constant() -> None:
    image = np.full(SHAPE, 10_000.0, np.float32)
    for angle in (0.0, 0.01, 0.08):
        found = _Resampler(image)(_turn(angle, 0.3, 0.4, -0.2), band_interpolator())
        np.testing.assert_allclose(found[np.isfinite(found)], 10_000.0, rtol=3e-5)


@pytest.mark.parametrize("far", [45.0, -300.0, 1e5, -1e9])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_moved_out_of_sight_is_nan(far: float, axis: int) -> None:
    shift = np.zeros(3)
    shift[axis] = far
    matrix = _turn(0.02, 0.0, 0.0, 0.0)
    matrix[:3, 3] += shift
    assert np.isnan(_Resampler(_noise())(matrix, band_interpolator())).all()


def test_results_do_not_depend_on_what_came_before() -> None:
    resampler, matrix = _Resampler(_noise()), _turn(0.04, 0.2, 0.1, 0.3)
    first = resampler(matrix, band_interpolator()).copy()
    resampler(_turn(0.3, 5.0, -9.0, 4.0), quintic_smoother())
    np.testing.assert_array_equal(resampler(matrix, band_interpolator()), first)
