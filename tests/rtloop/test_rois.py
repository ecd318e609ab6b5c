"""ROI sets from labels and spheres, their means, and the grids they refuse."""

from __future__ import annotations

from pathlib import Path

import msgpack
import nibabel
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from rtloop.errors import RoiError
from rtloop.rois import RoiSet

SHAPE = (12, 10, 8)
AFFINE = np.array([[3.0, 0, 0, -20], [0, 3.0, 0, -15], [0, 0, 3.5, -10], [0, 0, 0, 1]])


@pytest.fixture
def labels() -> NDArray:
    image = np.zeros(SHAPE, dtype=np.int16)
    image[2:5, 3:6, 1:3] = 1
    image[7:9, 2:8, 4] = 2
    image[6, 6, 6:8] = 7
    return image


def bad_affine(**changes: float) -> NDArray:
    affine = AFFINE.copy()
    for place, value in changes.items():
        affine[int(place[1]), int(place[2])] += value
    return affine


def voxels_within(center_mm: ArrayLike, radius_mm: float, affine: NDArray) -> list[int]:
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    away = nibabel.affines.apply_affine(affine, grid) - np.asarray(center_mm)
    near = np.linalg.norm(away, axis=-1) <= radius_mm
    return np.flatnonzero(near.ravel(order="F")).tolist()


# --- from labels -----------------------------------------------------------------------------


def test_means_of_labels_equal_masked_means(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {7: "seven", 1: "one"})
    image = np.random.default_rng(0).normal(10_000, 50, SHAPE).astype(np.float32)
    means = rois.means(rois.take(np.asfortranarray(image)))
    expected = [image[labels == label].astype(float).mean() for label in (7, 1)]
    np.testing.assert_allclose(means, expected, rtol=1e-14)
    assert rois.names == ("seven", "one")
    assert rois.sizes.tolist() == [2, 18]


def test_voxels_are_fortran_indices_and_owners_follow(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 2: "b", 7: "c"})
    assert (np.diff(rois.voxels) > 0).all()
    found = labels.ravel(order="F")[rois.voxels]
    assert (np.array([1, 2, 7])[rois.roi_of_voxel] == found).all()
    assert (labels > 0).sum() == rois.n_voxels


def test_take_of_c_and_fortran_ordered_images_agree(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a"})
    image = np.arange(labels.size, dtype=np.int16).reshape(SHAPE)
    assert (rois.take(image) == rois.take(np.asfortranarray(image))).all()
    assert sorted(rois.take(image)) == sorted(image[labels == 1])


def test_centers_are_world_coordinates(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 7: "c"})
    expected = [
        nibabel.affines.apply_affine(AFFINE, np.argwhere(labels == label).mean(axis=0))
        for label in (1, 7)
    ]
    np.testing.assert_allclose(rois.centers_mm, expected, atol=1e-12)


def test_sequence_names_labels_from_one(labels: NDArray) -> None:
    labels[labels == 7] = 3
    assert RoiSet.from_labels(labels, AFFINE, ["a", "b", "c"]).sizes.tolist() == [18, 12, 2]


def test_slice_offsets_are_mean_acquisition_times(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 2: "b", 7: "c"})
    times = [0.0, 1.0, 0.25, 1.25, 0.5, 1.5, 0.75, 1.75]
    np.testing.assert_allclose(rois.slice_offsets_s(times, 2), [0.625, 0.5, 1.25])
    with pytest.raises(RoiError, match=r"expected 8 slice times .* found 7"):
        rois.slice_offsets_s(times[:7], 2)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (lambda image: image, {1: "a", 3: "x"}, "label 3 for ROI 'x', found none"),
        (lambda image: image, {0: "background"}, "label 0"),
        (lambda image: image, ["a", "b"], "at least 7 ROI names"),
        (lambda image: image, {1: "a", 2: "a"}, "found a more than once"),
        (lambda image: image, {}, "found none"),
        (lambda image: image + 0.5, {1: "a"}, "found fractions"),
        (lambda image: np.where(image, np.nan, 0.0), {1: "a"}, "found fractions"),
        (lambda image: image - 1, {1: "a"}, "found -1"),
        (lambda image: image[0], {1: "a"}, "3 axes, found 2"),
    ],
)
def test_bad_labels_are_refused_in_one_line(labels, change, names, message) -> None:
    with pytest.raises(RoiError, match=message) as caught:
        RoiSet.from_labels(change(labels), AFFINE, names)
    assert "\n" not in str(caught.value)


def test_whole_numbers_stored_as_floats_are_labels(labels: NDArray) -> None:
    a, b = (RoiSet.from_labels(image, AFFINE, {2: "b"}) for image in (labels, labels.astype("f4")))
    assert a.sha256 == b.sha256


# --- from files ------------------------------------------------------------------------------


def test_label_file_is_turned_to_ras(labels: NDArray, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(labels, AFFINE)
    flipped = image.as_reoriented([[0, -1], [2, 1], [1, -1]])
    assert nibabel.aff2axcodes(flipped.affine) != ("R", "A", "S")
    nibabel.save(flipped, tmp_path / "labels.nii.gz")
    from_file = RoiSet.from_label_file(tmp_path / "labels.nii.gz", {1: "a", 7: "c"})
    assert from_file.sha256 == RoiSet.from_labels(labels, AFFINE, {1: "a", 7: "c"}).sha256


def test_label_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08\x00")
    for name in ("absent.nii", "text.nii", "cut.nii.gz"):
        with pytest.raises(RoiError, match="expected a label image at"):
            RoiSet.from_label_file(tmp_path / name, {1: "a"})


# --- from spheres ----------------------------------------------------------------------------


def test_sphere_holds_the_voxels_within_its_radius() -> None:
    rois = RoiSet.from_spheres([("s", (-2.0, 0.0, 4.0), 6.5)], SHAPE, AFFINE)
    assert rois.voxels.tolist() == voxels_within((-2.0, 0.0, 4.0), 6.5, AFFINE)


def test_sphere_on_an_oblique_grid() -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    affine = AFFINE.copy()
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    center = nibabel.affines.apply_affine(affine, [6, 5, 4])
    rois = RoiSet.from_spheres([("s", center, 9.5)], SHAPE, affine)
    np.testing.assert_allclose(rois.centers_mm[0], center, atol=1e-9)
    assert rois.voxels.tolist() == voxels_within(center, 9.5, affine)


def test_spheres_may_overlap() -> None:
    spheres = [("a", (-2.0, 0.0, 4.0), 6.0), ("b", (1.0, 0.0, 4.0), 6.0)]
    both = RoiSet.from_spheres(spheres, SHAPE, AFFINE)
    apart = [RoiSet.from_spheres([sphere], SHAPE, AFFINE) for sphere in spheres]
    assert both.n_voxels < both.sizes.sum() == sum(one.n_voxels for one in apart)
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    means = both.means(both.take(image))
    assert means.tolist() == [float(one.means(one.take(image))[0]) for one in apart]
    shared = set(apart[0].voxels) & set(apart[1].voxels)
    first = dict(zip(both.voxels, both.roi_of_voxel, strict=True))
    assert {first[voxel] for voxel in shared} == {0}


@pytest.mark.parametrize(
    ("center", "radius", "message"),
    [
        ((-20.0, -15.0, -10.0), 6.0, "of its .* voxels there"),
        ((200.0, 0.0, 0.0), 6.0, "found 0 of its"),
        ((-18.5, -13.5, -8.25), 1.0, "farther than its radius of 1 mm"),
        ((0.0, 0.0, 0.0), -1.0, "radius above 0"),
        ((0.0, 0.0, 0.0), 1e9, "up to 100 mm"),
        ((0.0, np.nan, 0.0), 5.0, "three finite coordinates"),
        ((0.0, 0.0), 5.0, "three finite coordinates"),
    ],
)
def test_bad_spheres_are_refused_in_one_line(center, radius, message) -> None:
    with pytest.raises(RoiError, match=message) as caught:
        RoiSet.from_spheres([("s", center, radius)], SHAPE, AFFINE)
    assert "\n" not in str(caught.value)


# --- means -----------------------------------------------------------------------------------


def test_lost_roi_is_nan_and_the_others_stay(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 2: "b"})
    values = np.full(rois.n_voxels, 5.0, dtype=np.float32)
    values[np.flatnonzero(rois.roi_of_voxel == 1)[:2]] = np.nan
    coverage = np.empty(2)
    means = rois.means(values, coverage=coverage)
    assert means[0] == 5.0
    assert np.isnan(means[1])
    assert coverage.tolist() == [1.0, 10 / 12]
    assert rois.means(values, minimum_coverage=0.8)[1] == 5.0


def test_means_of_another_set_are_a_bug(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a"})
    with pytest.raises(ValueError, match="18 voxels"):
        rois.means(np.zeros(17, dtype=np.float32))


# --- sets ------------------------------------------------------------------------------------


def test_select_keeps_the_order_asked_for(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 2: "b", 7: "c"})
    chosen = rois.select(["c", "a"])
    assert chosen.sha256 == RoiSet.from_labels(labels, AFFINE, {7: "c", 1: "a"}).sha256


def test_unknown_name_suggests_the_closest(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "left_insula", 2: "precuneus"})
    with pytest.raises(RoiError, match=r"'left_inslua': did you mean left_insula\?"):
        rois.select(["left_inslua"])


def test_join_measures_all_at_once(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 2: "b"})
    tissue = RoiSet.from_labels(labels > 0, AFFINE, {1: "global_signal"})
    joined = RoiSet.join([rois, tissue])
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    means = joined.means(joined.take(image))
    assert means[:2].tolist() == rois.means(rois.take(image)).tolist()
    assert means[2:].tolist() == tissue.means(tissue.take(image)).tolist()
    with pytest.raises(RoiError, match="a, b more than once"):
        RoiSet.join([rois, rois])


def test_frozen(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a"})
    with pytest.raises(ValueError, match="read-only"):
        rois.voxels[0] = 3


# --- grids -----------------------------------------------------------------------------------


def test_same_grid_within_tolerance(labels: NDArray) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a"})
    rois.check_grid(SHAPE, AFFINE)
    rois.check_grid(SHAPE, bad_affine(_03=9e-4))


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((12, 10, 9), AFFINE, "12x10x8 voxels .* found 12x10x9"),
        (SHAPE, bad_affine(_13=0.5), r"0.5 mm apart, shifted by \(0, 0.5, 0\) mm"),
        (SHAPE, bad_affine(_00=0.2), "voxels 3x3x3.5 mm against 3.2x3x3.5 mm"),
        (SHAPE, AFFINE @ np.diag([-1.0, 1, 1, 1]), "oriented differently"),
        (SHAPE, bad_affine(_01=1e-3), "0.009 mm apart"),
        (SHAPE, AFFINE * np.nan, "finite, invertible 4x4"),
        (SHAPE, np.eye(3), "finite, invertible 4x4"),
    ],
)
def test_other_grids_are_refused_in_one_line(labels, shape, affine, message) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a"})
    with pytest.raises(RoiError, match=message) as caught:
        rois.check_grid(shape, affine)
    assert "\n" not in str(caught.value)


def test_atlas_in_another_space_is_refused(data: Path) -> None:
    # real: an MNI atlas against a native EPI, and against the other MNI template
    folder = data / "atlas"
    atlas = next((folder / "MNI152NLin6").glob("*chaefer*200*.nii.gz"))
    other = next((folder / "MNI152NLin2009cAsym").glob("*.nii.gz"))
    bold = nibabel.load(next((data / "bold").glob("*bold.nii.gz")))
    numbers = np.unique(np.asanyarray(nibabel.load(atlas).dataobj))
    names = {int(n): f"roi{int(n)}" for n in numbers if n}
    rois = RoiSet.from_label_file(atlas, names)
    assert rois.n_rois == 200
    for image in (bold, nibabel.as_closest_canonical(nibabel.load(other))):
        with pytest.raises(RoiError, match="ROI labels' grid"):
            rois.check_grid(image.shape[:3], image.affine)


# --- bytes -----------------------------------------------------------------------------------


def test_bytes_bring_back_the_same_set(labels: NDArray) -> None:
    spheres = RoiSet.from_spheres(
        [("a", (-2.0, 0.0, 4.0), 6.0), ("b", (1.0, 0.0, 4.0), 6.0)], SHAPE, AFFINE
    )
    for rois in (spheres, RoiSet.from_labels(labels, AFFINE, {7: "ä", 1: "one"})):
        again = RoiSet.from_bytes(rois.to_bytes())
        assert again.names == rois.names
        assert again.shape == rois.shape
        for name in ("affine", "voxels", "starts", "members"):
            assert getattr(again, name).tobytes() == getattr(rois, name).tobytes()
        assert again.sha256 == rois.sha256


def test_digest_depends_on_voxels_names_and_grid(labels: NDArray) -> None:
    def digest(image: NDArray, affine: NDArray, name: str) -> str:
        return RoiSet.from_labels(image, affine, {1: name}).sha256

    other = labels.copy()
    other[0, 0, 0] = 1
    digests = {
        digest(labels, AFFINE, "a"),
        digest(labels, AFFINE, "b"),
        digest(other, AFFINE, "a"),
        digest(labels, bad_affine(_03=1.0), "a"),
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"format": "fcnef.rois.99"},
        {"shape": [2, 2, 2]},
        {"shape": [2, 2]},
        {"sizes": b"12345678"},
        {"voxels": b""},
        {"affine": b"123"},
        {"names": ["a", "a"]},
    ],
)
def test_damaged_bytes_are_refused(labels: NDArray, change: dict) -> None:
    rois = RoiSet.from_labels(labels, AFFINE, {1: "a", 2: "b"})
    body = msgpack.unpackb(rois.to_bytes()) | change
    with pytest.raises(RoiError, match="expected ROIs"):
        RoiSet.from_bytes(msgpack.packb(body))
    with pytest.raises(RoiError, match="expected ROIs"):
        RoiSet.from_bytes(rois.to_bytes()[:-9])
