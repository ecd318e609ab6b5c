"""ROIs on one voxel grid: from a label image or spheres to the mean signal of each.

A `RoiSet` is frozen and knows its grid; `check_grid` refuses volumes of another. ROIs may overlap.
White matter, CSF and the whole brain are ROIs like any other, kept in a `RoiSet` of their own
(names such as "white_matter", "csf", "global_signal"); `RoiSet.join` makes one set of several, so
that the voxels of all are resampled at once and the means split afterwards.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.errors import RoiError
from rtloop.grids import by, checked_affine, grid_difference, sphere_indices, whole_labels
from rtloop.kernels.means import roi_means
from rtloop.slicetime import SliceAligner

__all__ = ["MINIMUM_COVERAGE", "RoiSet", "SliceAligner"]

MINIMUM_COVERAGE = 0.9
"""Share of an ROI's voxels that must be there, in the field of view and in each volume."""

_FORMAT = "fcnef.rois.1"
_NO_BASELINE = np.zeros(0, dtype=np.float32)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RoiSet:
    """Regions of interest on one grid; made by `from_labels`, `from_label_file`, `from_spheres`.

    Attributes
    ----------
    names : tuple of str
        One per ROI, all different.
    shape : tuple of int
        Grid, `(x, y, z)`.
    affine : ndarray, shape (4, 4), float64
        Voxel index to world, mm, RAS+.
    voxels : ndarray, shape (n_voxels,), int64
        Every labelled voxel once, ascending, as flat index in Fortran order (x fastest).
    starts : ndarray, shape (n_rois + 1,), int64
        ROI k owns `members[starts[k]:starts[k + 1]]`.
    members : ndarray, shape (n_members,), int64
        Positions in `voxels`, grouped by ROI, ascending within each.
    """

    names: tuple[str, ...]
    shape: tuple[int, int, int]
    affine: Float64
    voxels: Int64
    starts: Int64
    members: Int64

    def __post_init__(self) -> None:
        for array in (self.affine, self.voxels, self.starts, self.members):
            array.flags.writeable = False

    @classmethod
    def from_labels(
        cls, labels: ArrayLike, affine: ArrayLike, names: Mapping[int, str] | Sequence[str]
    ) -> Self:
        """ROIs of a label image that lies on the volumes' grid.

        Parameters
        ----------
        labels : array_like, shape (x, y, z)
            Whole numbers; 0 is background.
        affine : array_like, shape (4, 4)
            Voxel index to world, mm, RAS+.
        names : mapping of int to str, or sequence of str
            Label to name, or the names of labels 1, 2, ... A mapping chooses: labels it does not
            mention are left out. A sequence must name every label. Order is kept.

        Raises
        ------
        RoiError
            Labels are not 3-D, not whole or negative; a named label has no voxel; a sequence
            leaves a label without name.
        """
        volume = whole_labels(np.asarray(labels))
        if not isinstance(names, Mapping):
            if (n_labels := int(volume.max(initial=0))) > len(names):
                raise RoiError(
                    f"expected at least {n_labels} ROI names (the largest label), found "
                    f"{len(names)}: give one name per label, or a table that chooses labels"
                )
            names = dict(enumerate(names, start=1))
        flat = volume.ravel(order="F")
        labelled = np.flatnonzero(flat)
        order = np.argsort(flat[labelled], kind="stable")
        ordered = flat[labelled[order]]
        groups = []
        for label, name in names.items():
            first, last = np.searchsorted(ordered, [label, label + 1])
            if label <= 0 or first == last:
                raise RoiError(
                    f"expected voxels with label {label} for ROI {name!r}, found none: the ROI is "
                    "outside the image or the label table belongs to another atlas"
                )
            groups.append(labelled[order[first:last]])
        return cls._from_groups(names.values(), groups, volume.shape, affine)

    @classmethod
    def from_label_file(cls, path: str | Path, names: Mapping[int, str] | Sequence[str]) -> Self:
        """ROIs of a label NIfTI, turned to the orientation closest to RAS+ as volumes are.

        Raises
        ------
        RoiError
            The file is missing or no image, or as for `from_labels`.
        """
        import nibabel

        try:
            image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
            labels = np.asanyarray(image.dataobj)
        except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RoiError(
                f"expected a label image at {path}, could not read one ({reason}): "
                "give a 3-D NIfTI file"
            ) from error
        if labels.ndim == 4 and labels.shape[3] == 1:
            labels = labels[..., 0]
        return cls.from_labels(labels, image.affine, names)

    @classmethod
    def from_spheres(
        cls,
        spheres: Iterable[tuple[str, ArrayLike, float]],
        shape: tuple[int, int, int],
        affine: ArrayLike,
    ) -> Self:
        """Spheres: all voxels whose centre is within the radius. They may overlap.

        Parameters
        ----------
        spheres : iterable of (name, center_mm, radius_mm)
            World coordinates of the volumes (native space, RAS+ mm), not of an atlas.
        shape : tuple of int
            Grid of the volumes, (x, y, z).
        affine : array_like, shape (4, 4)
            Voxel index to world, mm, of the volumes.

        Raises
        ------
        RoiError
            A sphere holds no voxel, or less than `MINIMUM_COVERAGE` of it is on the grid.
        """
        matrix = checked_affine(affine)
        names, groups = [], []
        for name, center_mm, radius_mm in spheres:
            inside = sphere_indices(name, center_mm, radius_mm, matrix)
            on_grid = inside[((inside >= 0) & (inside < np.array(shape))).all(axis=1)]
            if len(on_grid) < MINIMUM_COVERAGE * len(inside):
                raise RoiError(
                    f"expected sphere {name!r} inside the volumes, found {len(on_grid)} of its "
                    f"{len(inside)} voxels there: check that its centre is in the participant's "
                    "native space"
                )
            names.append(name)
            groups.append(np.sort(np.ravel_multi_index(tuple(on_grid.T), shape, order="F")))
        return cls._from_groups(names, groups, shape, matrix)

    @classmethod
    def join(cls, sets: Sequence[RoiSet]) -> Self:
        """One set with the ROIs of several on the same grid, in their order.

        Raises
        ------
        RoiError
            The grids differ, or a name occurs twice.
        """
        for other in sets[1:]:
            other.check_grid(sets[0].shape, sets[0].affine)
        names = [name for one in sets for name in one.names]
        groups = [group for one in sets for group in one._groups()]
        return cls._from_groups(names, groups, sets[0].shape, sets[0].affine)

    def select(self, names: Sequence[str]) -> Self:
        """The named ROIs alone, in the order given; RoiError for an unknown name."""
        groups = self._groups()
        chosen = [groups[self.index(name)] for name in names]
        return self._from_groups(names, chosen, self.shape, self.affine)

    def index(self, name: str) -> int:
        """Position of an ROI by its name; RoiError, naming the closest, if there is none."""
        if name not in self.names:
            close = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5) or self.names[:3]
            raise RoiError(
                f"expected one of the {self.n_rois} ROI names, found {name!r}: "
                f"did you mean {', '.join(close)}?"
            )
        return self.names.index(name)

    @property
    def n_rois(self) -> int:
        return len(self.names)

    @property
    def n_voxels(self) -> int:
        return len(self.voxels)

    @property
    def sizes(self) -> Int64:
        """Voxels per ROI, shape (n_rois,)."""
        return np.diff(self.starts)

    @property
    def roi_of_voxel(self) -> NDArray[np.int32]:
        """First ROI that holds each voxel, shape (n_voxels,)."""
        owner = np.empty(self.n_voxels, dtype=np.int32)
        backwards = self.members[::-1]
        owner[backwards] = np.repeat(np.arange(self.n_rois), self.sizes)[::-1]
        return owner

    @property
    def centers_mm(self) -> Float64:
        """Mean world coordinate of each ROI's voxels, mm, shape (n_rois, 3)."""
        index = np.array(np.unravel_index(self.voxels[self.members], self.shape, order="F"))
        mean_index = np.add.reduceat(index, self.starts[:-1], axis=1) / self.sizes
        return np.asarray(mean_index.T @ self.affine[:3, :3].T + self.affine[:3, 3])

    @property
    def sha256(self) -> str:
        """Digest of names, grid and voxels: equal for equal sets, on every machine."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def take(self, data: NDArray[Any], out: Float32 | None = None) -> Float32:
        """Values of the labelled voxels of an image `(x, y, z)`, in the order of `voxels`.

        No copy of the image is made if it is Fortran-ordered, as a `Volume`'s data are.
        """
        out = np.empty(self.n_voxels, dtype=np.float32) if out is None else out
        out[:] = data.ravel(order="F")[self.voxels]
        return out

    def means(
        self,
        values: Float32,
        out: Float64 | None = None,
        coverage: Float64 | None = None,
        baseline: Float32 | None = None,
        minimum_coverage: float = MINIMUM_COVERAGE,
    ) -> Float64:
        """ROI means of one volume's labelled voxels.

        Parameters
        ----------
        values : ndarray, shape (n_voxels,), float32
            In the order of `voxels`; NaN (or infinite) where a voxel has no value.
        out : ndarray, shape (n_rois,), float64, optional
            Receives the means. None: allocated.
        coverage : ndarray, shape (n_rois,), float64, optional
            Receives the share of voxels with a value.
        baseline : ndarray, shape (n_voxels,), float32, optional
            The reference image's values. A voxel without value is then taken to sit there, so
            that its loss does not shift the mean. None: the mean of what is left.
        minimum_coverage : float
            An ROI with less is lost; its mean is NaN.
        """
        out = np.empty(self.n_rois) if out is None else out
        coverage = np.empty(self.n_rois) if coverage is None else coverage
        baseline = _NO_BASELINE if baseline is None else baseline
        if values.shape != self.voxels.shape or baseline.shape not in ((0,), values.shape):
            raise ValueError(f"{self.n_voxels} voxels, given {values.shape} and {baseline.shape}")
        roi_means(values, self.starts, self.members, baseline, minimum_coverage, out, coverage)
        return out

    def slice_offsets_s(self, slice_times_s: Sequence[float], slice_axis: int) -> Float64:
        """Mean acquisition time of each ROI's voxels within a volume, seconds, shape (n_rois,).

        Parameters
        ----------
        slice_times_s : sequence of float
            Start of each slice, seconds from the volume's start, along `slice_axis`.
        slice_axis : int
            Axis of the grid along which slices were acquired.

        Raises
        ------
        RoiError
            The number of slice times is not the number of slices.
        """
        if len(slice_times_s) != self.shape[slice_axis]:
            raise RoiError(
                f"expected {self.shape[slice_axis]} slice times (grid axis {slice_axis}), found "
                f"{len(slice_times_s)}: labels and volumes differ in slices"
            )
        index = np.unravel_index(self.voxels[self.members], self.shape, order="F")[slice_axis]
        times = np.asarray(slice_times_s, dtype=np.float64)[index]
        return np.asarray(np.add.reduceat(times, self.starts[:-1]) / self.sizes)

    def check_grid(self, shape: tuple[int, ...], affine: ArrayLike) -> None:
        """Refuse volumes that are not on the ROIs' grid, saying what differs.

        Raises
        ------
        RoiError
            Shape, voxel size, orientation or position differ (see `rtloop.grids`).
        """
        advice = "prepare the ROIs for this run's reference volume"
        if tuple(shape) != self.shape:
            raise RoiError(
                f"expected volumes of {by(self.shape)} voxels (the ROI labels' grid), found "
                f"{by(shape)}: {advice}"
            )
        difference = grid_difference(self.shape, self.affine, checked_affine(affine))
        if difference:
            raise RoiError(
                f"expected volumes in the ROI labels' space, found them {difference}: {advice}"
            )

    def to_bytes(self) -> bytes:
        """The set as msgpack, the same bytes for the same set; `from_bytes` reads it back."""
        body = {
            "format": _FORMAT,
            "names": list(self.names),
            "shape": list(self.shape),
            "affine": self.affine.astype("<f8").tobytes(),
            "sizes": self.sizes.astype("<i8").tobytes(),
            "voxels": self.voxels[self.members].astype("<i8").tobytes(),
        }
        return bytes(msgpack.packb(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote; RoiError if it is anything else."""
        try:
            body = msgpack.unpackb(data)
            if body["format"] != _FORMAT:
                raise ValueError(f"format {body['format']!r}")
            x, y, z = (int(n) for n in body["shape"])
            sizes = np.frombuffer(body["sizes"], "<i8")
            flat = np.frombuffer(body["voxels"], "<i8").astype(np.int64)
            affine = np.frombuffer(body["affine"], "<f8").reshape(4, 4)
            if not ((sizes > 0).all() and sizes.sum() == flat.size and len(flat)):
                raise ValueError("sizes do not match voxels")
            if flat.min() < 0 or flat.max() >= x * y * z:
                raise ValueError("voxels off the grid")
            groups = np.split(flat, np.cumsum(sizes)[:-1])
            return cls._from_groups(body["names"], groups, (x, y, z), affine)
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise RoiError(
                f"expected ROIs as {_FORMAT}, found something else ({error}): "
                "the record is damaged or of another version"
            ) from error

    def _groups(self) -> list[Int64]:
        """Flat voxel indices of each ROI."""
        return np.split(self.voxels[self.members], self.starts[1:-1])

    @classmethod
    def _from_groups(
        cls,
        names: Iterable[str],
        groups: Sequence[Int64],
        shape: tuple[int, ...],
        affine: ArrayLike,
    ) -> Self:
        """Set from the flat voxel indices of each ROI."""
        all_names = tuple(str(name) for name in names)
        doubles = sorted({name for name in all_names if all_names.count(name) > 1})
        if not groups or doubles or len(groups) != len(all_names):
            found = f"{', '.join(doubles)} more than once" if doubles else "none"
            raise RoiError(f"expected ROIs with a name each, found {found}: rename or add ROIs")
        voxels, members = np.unique(np.concatenate(groups), return_inverse=True)
        starts = np.concatenate([[0], np.cumsum([len(group) for group in groups])])
        x, y, z = shape
        return cls(
            names=all_names,
            shape=(int(x), int(y), int(z)),
            affine=checked_affine(affine),
            voxels=voxels.astype(np.int64),
            starts=starts.astype(np.int64),
            members=members.astype(np.int64),
        )
