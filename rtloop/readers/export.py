"""Volumes of one series as a 4-D NIfTI image, to look at what the gateway understands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np

from rtloop.errors import ReaderError
from rtloop.volume import Volume

__all__ = ["as_nifti"]

_nibabel: Any = nib  # has no types


def as_nifti(volumes: Sequence[Volume]) -> Any:
    """Stack volumes in time.

    Parameters
    ----------
    volumes : sequence of Volume
        Of one series, in the order of their index.

    Returns
    -------
    nibabel.Nifti1Image
        Voxel type of the volumes; repetition time, units, sform and qform set.

    Raises
    ------
    ReaderError
        If there is none, or a volume between the first and the last is missing: a 4-D image has
        no place for a gap in time.
    """
    if not volumes:
        raise ReaderError("expected complete volumes, found none; check the files' reasons above")
    first, last = volumes[0].index, volumes[-1].index
    missing = sorted(set(range(first, last + 1)) - {volume.index for volume in volumes})
    if missing:
        listed = ", ".join(str(index) for index in missing[:10])
        raise ReaderError(
            f"volumes missing or unreadable: {listed}; expected all from {first} to {last}; "
            "export them again"
        )
    data: np.ndarray[Any, Any] = np.stack([volume.data for volume in volumes], axis=3)
    image = _nibabel.Nifti1Image(data, volumes[0].affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], volumes[0].tr_s))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_dim_info(slice=volumes[0].slice_axis)
    image.set_qform(volumes[0].affine, code=1)
    image.set_sform(volumes[0].affine, code=1)
    return image
