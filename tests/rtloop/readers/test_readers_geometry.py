"""Planes to volumes: no voxel moves in the world, whatever the orientation."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtloop.readers.geometry import Placement, plane_affine, scaled_dtype, stack
from rtloop.readers.outcome import Unreadable

angles = st.floats(-3.1, 3.1)


def turn(a: float, b: float, c: float) -> np.ndarray:
    """A rotation by three angles."""
    matrix = np.eye(3)
    for axis, angle in enumerate((a, b, c)):
        step = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step[i, i] = step[j, j] = np.cos(angle)
        step[j, i], step[i, j] = np.sin(angle), -np.sin(angle)
        matrix = matrix @ step
    return matrix


@settings(max_examples=60, deadline=None)
@given(angles, angles, angles, st.booleans(), st.integers(0, 2**31))
def test_every_voxel_keeps_its_place(
    a: float, b: float, c: float, reverse: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, n_slices = rng.integers(2, 7, 3)
    axes = turn(a, b, c)
    column, row, normal = axes.T * np.array([1, 1, -1 if reverse else 1])[:, None]
    spacing_mm, step_mm = rng.uniform(1, 5, 2), rng.uniform(1, 5)
    corner = rng.uniform(-100, 100, 3)
    positions = corner + np.arange(n_slices)[:, None] * normal * step_mm
    planes = [rng.integers(0, 9999, (rows, columns)).astype(np.int16) for _ in range(n_slices)]
    affine = plane_affine(positions, (*column, *row), spacing_mm)
    placement = Placement.closest_to_ras(affine, (int(columns), int(rows), int(n_slices)))
    data = stack(planes, placement, np.dtype(np.int16))

    stored = np.stack([plane.T for plane in planes], axis=2)
    expected = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    np.testing.assert_array_equal(data, np.asarray(expected.dataobj))
    np.testing.assert_allclose(placement.affine, expected.affine, atol=1e-9)
    # one voxel by the standard's own formula, in LPS+
    r, k, s = rng.integers(rows), rng.integers(columns), rng.integers(n_slices)
    lps = positions[s] + column * spacing_mm[1] * k + row * spacing_mm[0] * r
    place = np.linalg.inv(placement.affine) @ [-lps[0], -lps[1], lps[2], 1]
    np.testing.assert_allclose(place, np.round(place), atol=1e-6)
    x, y, z = np.round(place[:3]).astype(int)
    assert data[x, y, z] == planes[s][r, k]


@settings(max_examples=60, deadline=None)
@given(angles, angles, angles, st.sampled_from([0, 1]), st.booleans())
def test_directions_point_where_they_say(
    a: float, b: float, c: float, axis: int, rising: bool
) -> None:
    """The phase-encoding label, in the volume's axes, is the stored axis' direction in space."""
    axes = turn(a, b, c)
    positions = np.arange(4)[:, None] * axes[:, 2]
    affine = plane_affine(positions, (*axes[:, 0], *axes[:, 1]), (1.0, 1.0))
    placement = Placement.closest_to_ras(affine, (4, 4, 4))
    label = placement.direction(axis, rising)
    sign = -1 if label.endswith("-") else 1
    found = sign * placement.affine[:3, "ijk".index(label[0])]
    expected = (1 if rising else -1) * axes[:, axis] * (-1, -1, 1)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_uneven_slices_are_refused() -> None:
    positions = np.array([[0, 0, 0], [0, 0, 3.0], [0, 0, 9.0]])
    with pytest.raises(Unreadable, match="even spacing"):
        plane_affine(positions, (1, 0, 0, 0, 1, 0), (1, 1))
    positions[2, 2] = np.nan
    with pytest.raises(Unreadable, match="even spacing"):
        plane_affine(positions, (1, 0, 0, 0, 1, 0), (1, 1))


def test_missing_and_dependent_axes_are_refused() -> None:
    positions = np.array([[0, 0, 0], [0, 0, 3.0]])
    with pytest.raises(Unreadable, match="ImageOrientationPatient"):
        plane_affine(positions, (), (1, 1))
    affine = plane_affine(positions, (1, 0, 0, 1, 0, 0), (1, 1))
    with pytest.raises(Unreadable, match="independent"):
        Placement.closest_to_ras(affine, (4, 4, 2))


@pytest.mark.parametrize(
    ("stored", "bits", "scaled", "kept"),
    [
        ("<i2", 16, False, "int16"),
        ("<u2", 12, False, "int16"),
        ("<u2", 16, False, "uint16"),
        ("<u2", None, False, "uint16"),
        ("<u2", 12, True, "float32"),
        ("u1", 8, False, "float32"),
        ("<i4", 32, False, "float32"),
    ],
)
def test_voxel_types(stored: str, bits: int | None, scaled: bool, kept: str) -> None:
    assert scaled_dtype(np.dtype(stored), bits, scaled) == np.dtype(kept)


def test_scaling_is_per_plane() -> None:
    placement = Placement.closest_to_ras(np.eye(4), (2, 2, 2))
    planes = [np.full((2, 2), 10, np.uint16)] * 2
    data = stack(planes, placement, np.dtype(np.float32), [(0.5, 1.0), (2.0, -3.0)])
    assert data[:, :, 0].tolist() == [[6.0, 6.0]] * 2
    assert data[:, :, 1].tolist() == [[17.0, 17.0]] * 2
