"""Motion correction on heads with exactly known motion, and on real series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from rtloop.errors import ReaderError
from rtloop.motion import Motion, Realigner, framewise_displacement
from rtloop.readers import ScannerConfig, read_series
from tests.rtloop.phantom import Head, displacement_mm, oblique
from tools.bench.motion_truth import Mover, brain, jumps, random_walk, rigid, slow_motion

HEAD = Head()
WALK = random_walk(7, seed=3)[1:]


@pytest.fixture(scope="module")
def reference() -> NDArray[np.float32]:
    return HEAD()


@pytest.fixture(scope="module")
def walk() -> list[NDArray[np.float32]]:
    """Six volumes along a random walk with 1 % noise."""
    rng = np.random.default_rng(0)
    noise = 0.01 * HEAD.level * rng.standard_normal((len(WALK), *HEAD.shape))
    moved = [HEAD(rigid(parameters, HEAD.centre)) for parameters in WALK]
    return [
        np.asfortranarray(volume + more).astype(np.float32, order="F")
        for volume, more in zip(moved, noise, strict=True)
    ]


@pytest.fixture
def realigner(reference: NDArray[np.float32]) -> Realigner:
    return Realigner(reference, HEAD.affine)


def test_a_volume_like_the_reference_has_not_moved(
    realigner: Realigner, reference: NDArray[np.float32]
) -> None:
    motion = realigner.estimate(reference.copy(order="F"))
    assert motion.ok
    assert np.abs(motion.parameters).max() < 1e-6
    assert motion.residual < 1e-5
    assert motion.doubted_slices == ()
    back = realigner.resample(reference, motion)
    np.testing.assert_allclose(back, reference, atol=3e-5 * HEAD.level)


def test_known_motion_is_found(realigner: Realigner, walk: list[NDArray[np.float32]]) -> None:
    for truth, volume in zip(WALK, walk, strict=True):
        motion = realigner.estimate(volume)
        assert motion.ok, motion.reason
        # The head is nearly an ellipsoid: noise alone turns it by 0.01 degrees.
        assert np.abs(motion.parameters[:3] - truth[:3]).max() < 0.015
        assert np.rad2deg(np.abs(motion.parameters[3:] - truth[3:]).max()) < 0.03
        goal = rigid(truth, HEAD.centre)
        assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.04


def test_the_matrix_maps_the_reference_to_the_volume(
    realigner: Realigner, reference: NDArray[np.float32]
) -> None:
    """An independent resampling (SciPy, pull-back through the matrix) undoes the motion."""
    volume = HEAD(rigid(WALK[-1], HEAD.centre))
    motion = realigner.estimate(volume)
    forth = np.linalg.inv(HEAD.affine) @ motion.matrix @ HEAD.affine
    back = scipy.ndimage.affine_transform(
        volume.astype(np.float64), forth[:3, :3], forth[:3, 3], order=5, mode="mirror"
    )
    inside = brain(reference)
    moved = np.abs(volume - reference)[inside].mean()
    assert np.abs(back - reference)[inside].mean() < 0.05 * moved
    ours = realigner.resample(volume, motion)
    kept = inside & np.isfinite(ours)
    assert np.abs(ours - reference)[kept].mean() < 0.05 * moved


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float64, ">i2"])
@pytest.mark.parametrize("order", ["F", "C"])
def test_voxel_type_and_memory_order_do_not_matter(
    realigner: Realigner, walk: list[NDArray[np.float32]], dtype: Any, order: Any
) -> None:
    volume = np.clip(walk[0], 0, 32_000).round()
    expected = realigner.estimate(volume.astype(np.float32, order="F")).parameters
    realigner.restore(Motion.from_parameters(np.zeros(6), realigner))
    found = realigner.estimate(volume.astype(dtype, order=order)).parameters
    np.testing.assert_array_equal(found, expected)


def test_the_same_volumes_give_the_same_bits(
    reference: NDArray[np.float32], walk: list[NDArray[np.float32]]
) -> None:
    runs = []
    for _ in range(2):
        realigner = Realigner(reference, HEAD.affine)
        runs.append([realigner.estimate(volume) for volume in walk])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one.parameters, two.parameters)
        np.testing.assert_array_equal(one.matrix, two.matrix)
        assert one.residual == two.residual


def test_a_restored_realigner_continues_bit_for_bit(
    reference: NDArray[np.float32], walk: list[NDArray[np.float32]]
) -> None:
    whole = Realigner(reference, HEAD.affine)
    lame = walk[3] * np.float32("nan")
    expected = [whole.estimate(volume) for volume in (*walk[:3], lame, *walk[3:])][4:]
    first = Realigner(reference, HEAD.affine)
    for volume in walk[:3]:
        first.estimate(volume)
    stored = [float(value) for value in first.last.parameters]
    again = Realigner(reference, HEAD.affine)
    again.restore(Motion.from_parameters(stored, again))
    for volume, motion in zip(walk[3:], expected, strict=True):
        found = again.estimate(volume)
        np.testing.assert_array_equal(found.parameters, motion.parameters)
        np.testing.assert_array_equal(again.resample(volume, found), whole.resample(volume, motion))


def test_only_an_accepted_motion_can_be_restored(
    realigner: Realigner, reference: NDArray[np.float32]
) -> None:
    lost = realigner.estimate(np.zeros_like(reference))
    with pytest.raises(ValueError, match="accepted motion"):
        realigner.restore(lost)
    assert realigner.last.ok
    assert not realigner.last.parameters.any()


@pytest.mark.parametrize("voxel_mm", [(3.0, 3.0, 3.6), (2.0, 3.5, 5.0), (-3.0, 3.0, 4.0)])
def test_any_affine(voxel_mm: tuple[float, float, float]) -> None:
    shape = (70, 50, 28)
    head = Head(shape=shape, affine=oblique(voxel_mm, shape))
    goal = rigid(np.array([0.5, -0.7, 0.4, 0.02, -0.03, 0.025]), head.centre)
    motion = Realigner(head(), head.affine).estimate(head(goal))
    assert motion.ok, motion.reason
    assert displacement_mm(motion.matrix, goal, head.centre) < 0.03


@pytest.mark.parametrize("slice_axis", [0, 1])
def test_slices_may_lie_along_any_axis(slice_axis: int) -> None:
    """The same head with its axes exchanged gives the same motion, values and doubted slices."""
    head = Head()
    order = [axis for axis in range(3) if axis != 2]
    order.insert(slice_axis, 2)
    goal = rigid(np.array([0.5, -0.3, 0.4, 0.02, 0.01, -0.02]), head.centre)
    reference, moved = head(), head(goal)
    moved[:, :, 14] *= 0.5
    plain = Realigner(reference, head.affine)
    expected = plain.estimate(moved)
    affine = head.affine[:, [*order, 3]]
    turned = Realigner(reference.transpose(order), affine, slice_axis)
    found = turned.estimate(moved.transpose(order))
    np.testing.assert_allclose(found.parameters, expected.parameters, atol=1e-9)
    assert found.doubted_slices == expected.doubted_slices == (14,)
    np.testing.assert_array_equal(
        turned.resample(moved.transpose(order), found),
        plain.resample(moved, expected).transpose(order),
    )
    mask = reference > 0.5 * head.level
    np.testing.assert_array_equal(
        turned.resample(moved.transpose(order), found, mask.transpose(order)),
        plain.resample(moved, expected).transpose(order)[mask.transpose(order)],
    )


@pytest.mark.parametrize("seed", range(4))
def test_jumps_are_caught(realigner: Realigner, seed: int) -> None:
    for parameters in jumps(2, seed):
        goal = rigid(parameters, HEAD.centre)
        motion = realigner.estimate(HEAD(goal))
        assert motion.ok, motion.reason
        assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.05


def test_a_head_far_from_the_grids_beginning_is_followed() -> None:
    shape = (160, 60, 30)
    affine = oblique((3.0, 3.0, 3.6), shape)
    head = Head(shape=shape, affine=affine)
    # The head lies in the last third along x.
    affine = affine.copy()
    affine[:3, 3] -= affine[:3, 0] * 50.0
    head.affine = affine
    goal = rigid(np.array([0.5, -0.6, 0.4, 0.02, -0.01, 0.03]), head.centre)
    motion = Realigner(head(), affine).estimate(head(goal))
    assert motion.ok, motion.reason
    assert displacement_mm(motion.matrix, goal, head.centre) < 0.03


def test_a_start_far_off_is_left_behind(realigner: Realigner) -> None:
    realigner.restore(Motion.from_parameters([60.0, -70.0, 40.0, 0.6, 0.0, 0.5], realigner))
    goal = rigid(np.array([0.4, 0.3, -0.2, 0.01, 0.02, -0.01]), HEAD.centre)
    motion = realigner.estimate(HEAD(goal))
    assert motion.ok, motion.reason
    assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.02


@pytest.mark.parametrize("gain", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("axis", [0, 1])
def test_gain_and_ramps_do_not_move_the_head(realigner: Realigner, gain: float, axis: int) -> None:
    ramp = np.linspace(-0.05, 0.05, HEAD.shape[axis])
    ramp = ramp.reshape([-1 if i == axis else 1 for i in range(3)])
    goal = rigid(WALK[2], HEAD.centre)
    volume = (HEAD(goal) * gain * (1.0 + ramp)).astype(np.float32, order="F")
    motion = realigner.estimate(volume)
    assert motion.residual < 0.002
    assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.02


@pytest.mark.parametrize("slices", [(14, 15), (8, 20), (5, 24)])
def test_slices_that_lost_half_their_signal_are_left_out(
    realigner: Realigner, slices: tuple[int, int]
) -> None:
    goal = rigid(WALK[4], HEAD.centre)
    volume = HEAD(goal)
    volume[:, :, list(slices)] *= 0.5
    motion = realigner.estimate(volume)
    assert motion.ok
    assert motion.doubted_slices == slices
    assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.03
    # The next volume is whole again and trusts all its slices.
    motion = realigner.estimate(HEAD(goal))
    assert motion.doubted_slices == ()
    assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.02


def test_stripes_over_the_whole_volume_are_not_lost_slices(realigner: Realigner) -> None:
    """Interleaved slices of a first volume differ all through; leaving out half would not help."""
    goal = rigid(WALK[2], HEAD.centre)
    volume = HEAD(goal)
    volume[:, :, ::2] *= 0.75
    motion = realigner.estimate(volume)
    assert motion.ok
    assert motion.doubted_slices == ()
    assert displacement_mm(motion.matrix, goal, HEAD.centre) < 0.05


def _broken(image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    one_nan = image.copy()
    one_nan[30, 30, 15] = np.nan
    infinite = image.copy()
    infinite[0, 0, 0] = np.inf
    return {
        "finite": one_nan,
        "voxels": infinite,
        "signal": np.zeros_like(image),
        "fit": rng.normal(3_000.0, 500.0, image.shape).astype(np.float32),
        "fit: ": image[:, :, ::-1],
        "degrees|overlap|fit": HEAD(rigid(np.array([8.0, 0.0, 5.0, 0.0, 0.5, 0.3]), HEAD.centre)),
        "fit|overlap|from the reference": HEAD(
            rigid(np.array([0.0, 5.0, 80.0, 0.0, 0.0, 0.0]), HEAD.centre)
        ),
    }


@pytest.mark.parametrize("reason", list(_broken(HEAD())))
def test_a_failed_estimate_says_so(
    realigner: Realigner,
    walk: list[NDArray[np.float32]],
    reference: NDArray[np.float32],
    reason: str,
) -> None:
    before = realigner.estimate(walk[0])
    volume = np.asfortranarray(_broken(reference)[reason])
    motion = realigner.estimate(volume)
    assert not motion.ok
    assert any(word in motion.reason for word in reason.split("|")), motion.reason
    assert np.isnan(motion.parameters).all()
    assert np.isnan(motion.matrix).all()
    assert np.isnan(realigner.resample(volume, motion)).all()
    assert np.isnan(framewise_displacement(motion, before))
    assert realigner.last is before


def test_a_mask_gives_the_same_values_as_the_whole(
    realigner: Realigner, walk: list[NDArray[np.float32]]
) -> None:
    motion = realigner.estimate(walk[-1])
    whole = realigner.resample(walk[-1], motion)
    assert whole.flags.f_contiguous
    assert whole.dtype == np.float32
    rng = np.random.default_rng(2)
    mask = rng.random(HEAD.shape) < 0.03
    assert np.isnan(whole[mask]).any()
    np.testing.assert_array_equal(realigner.resample(walk[-1], motion, mask), whole[mask])
    flat = rng.permutation(np.flatnonzero(mask.ravel(order="F")))
    sampler = realigner.sampler(flat)
    np.testing.assert_array_equal(
        realigner.resample(walk[-1], motion, sampler), whole.ravel(order="F")[flat]
    )


def test_another_volume_can_be_resampled_after_an_estimate(
    realigner: Realigner, walk: list[NDArray[np.float32]]
) -> None:
    motion = realigner.estimate(walk[0])
    realigner.estimate(walk[1])
    again = realigner.resample(walk[0], motion)
    realigner.estimate(walk[0])
    np.testing.assert_array_equal(again, realigner.resample(walk[0], motion))


def test_voxels_outside_the_volume_are_nan(realigner: Realigner) -> None:
    motion = Motion.from_parameters([0.0, 0.0, 4.0, 0.0, 0.0, 0.0], realigner)
    values = realigner.resample(HEAD(), motion)
    index = np.indices(HEAD.shape).reshape(3, -1)
    world = HEAD.affine[:3, :3] @ index + HEAD.affine[:3, 3:] + [[0.0], [0.0], [4.0]]
    places = np.linalg.inv(HEAD.affine[:3, :3]) @ (world - HEAD.affine[:3, 3:])
    limits = np.array(HEAD.shape)[:, None] - 0.5
    inside = ((places >= -0.5 - 1e-4) & (places <= limits + 1e-4)).all(axis=0)
    np.testing.assert_array_equal(np.isfinite(values).ravel(), inside)


def test_framewise_displacement_is_powers(realigner: Realigner) -> None:
    a = Motion.from_parameters([0.1, -0.2, 0.3, 0.01, 0.0, -0.02], realigner)
    b = Motion.from_parameters([0.0, 0.1, 0.3, 0.0, 0.01, -0.01], realigner)
    assert framewise_displacement(a, b) == pytest.approx(0.1 + 0.3 + 50 * 0.03)
    assert framewise_displacement(a, b) == framewise_displacement(b, a)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((30, 30, 20)),
        np.ones((30, 30)),
        np.full((30, 30, 20), np.nan),
        np.ones((30, 30, 5)),
    ],
)
def test_a_useless_reference_is_refused(image: NDArray[np.float64]) -> None:
    with pytest.raises(ReaderError, match=r"motion reference: expected .* found .* choose another"):
        Realigner(image, np.diag([3.0, 3.0, 3.0, 1.0]))


def test_a_volume_of_another_shape_is_refused(realigner: Realigner) -> None:
    with pytest.raises(ValueError, match="expected a volume of shape"):
        realigner.estimate(np.zeros((64, 60, 31), np.float32))


# --- real images ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bold(data: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    image: Any = nibabel.load(next((data / "bold").glob("*_bold.nii.gz")))
    return np.asarray(image.dataobj[..., :12], dtype=np.float32), image.affine


def test_a_real_volume_moved_by_known_motion(
    bold: tuple[NDArray[np.float32], NDArray[np.float64]],
) -> None:
    images, affine = bold
    image = images[..., 2]
    realigner, mover = Realigner(image, affine), Mover(image, affine, upsampling=1)
    inside = brain(image)
    noise = 0.01 * image[inside].mean()
    rng = np.random.default_rng(0)
    for parameters in (*random_walk(4, seed=1)[1:], *jumps(1, seed=1)):
        goal = rigid(parameters, realigner.centre_mm)
        volume = mover(goal) + rng.normal(0.0, noise, image.shape).astype(np.float32)
        motion = realigner.estimate(np.asfortranarray(volume))
        assert motion.ok, motion.reason
        assert np.abs(motion.parameters[:3] - parameters[:3]).max() < 0.02
        assert np.rad2deg(np.abs(motion.parameters[3:] - parameters[3:]).max()) < 0.03
        back = realigner.resample(volume, motion)
        kept = inside & np.isfinite(back)
        error = np.sqrt(((back - image)[kept] ** 2).mean()) / image[inside].mean()
        assert error < 0.03


def test_real_motion_is_that_of_plain_least_squares_on_all_voxels(
    bold: tuple[NDArray[np.float32], NDArray[np.float64]],
) -> None:
    images, affine = bold
    realigner = Realigner(images[..., 0], affine)
    motion = realigner.estimate(np.asfortranarray(images[..., 9]))
    mask = scipy.ndimage.binary_dilation(brain(images[..., 0]), iterations=2)
    mask[:2] = mask[-2:] = mask[:, :2] = mask[:, -2:] = mask[..., :2] = mask[..., -2:] = False
    slow = slow_motion(images[..., 0], images[..., 9], affine, mask, np.eye(4), n_steps=4)
    assert displacement_mm(motion.matrix, slow, realigner.centre_mm) < 0.03


@pytest.mark.parametrize(
    "name",
    [
        "siemens_mosaic_skyra",
        "siemens_mosaic_prisma_64x64x18",
        "siemens_xa30_enhanced",
        "philips_ingenia",
    ],
)
def test_real_series_are_followed(dicom: Callable[[str], Path], name: str) -> None:
    volumes = read_series(dicom(name), ScannerConfig())[:12]
    realigner = Realigner(volumes[0].data, volumes[0].affine, volumes[0].slice_axis)
    before = realigner.last
    for volume in volumes[1:]:
        motion = realigner.estimate(volume.data)
        assert motion.ok, motion.reason
        assert framewise_displacement(motion, before) < 1.0
        before = motion


def test_a_subject_who_turns_within_a_volume_is_said_so(dicom: Callable[[str], Path]) -> None:
    """In this series the subject moves grossly; volumes 2 to 4 hold two positions each."""
    volumes = read_series(dicom("mr_0004"), ScannerConfig())
    realigner = Realigner(volumes[0].data, volumes[0].affine)
    found = [realigner.estimate(volume.data).ok for volume in volumes]
    assert [found[i] for i in (0, 1, 5, 8, 9)] == [True] * 5
    assert not any(found[i] for i in (2, 3, 4, 6, 7))
