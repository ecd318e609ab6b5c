"""The simulated participant's head: an EPI-like image with anatomy, sampled at any pose.

The head is built once from the MNI templates that nilearn ships (nothing is downloaded), on their
2 mm grid, with T2*-weighted contrast at a short repetition time, fat-suppressed scalp, eyes and
signal loss above the sinuses and ear canals. It is smoothed to the scanner's point spread and
kept as cubic B-spline coefficients, so that a moved head is sampled anew from finer data than the
volumes: motion costs no interpolation of an already sampled volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn import datasets
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["TEMPLATE_MM", "Head"]

TEMPLATE_MM = 2
"""Resolution at which the templates are loaded, mm."""

GM, WM, CSF = 0.80, 0.60, 1.25
"""Relative signal at TE 30 ms, TR about 2 s; CSF is saturated by the short TR, yet brightest."""

SCALP = 0.22
EYE = 0.95

SKULL_MM, SCALP_MM = 7.0, 12.0
"""Outer borders of skull (no signal) and scalp, as distance from the brain."""

EYES_MM = ((-32.0, 58.0, -38.0), (32.0, 58.0, -38.0))
EYE_RADIUS_MM = 11.0

DROPOUTS = (
    ((0.0, 34.0, -26.0), (20.0, 18.0, 12.0), 0.85),
    ((-50.0, -22.0, -32.0), (12.0, 16.0, 10.0), 0.70),
    ((50.0, -22.0, -32.0), (12.0, 16.0, 10.0), 0.70),
)
"""Susceptibility losses: centre (MNI, mm), extent (SD, mm), share of signal lost at the centre."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """A head in its own template space.

    Attributes
    ----------
    coefficients : ndarray, shape (99, 117, 95), float32
        Cubic B-spline coefficients of the image; brain median 1.
    brain, white_matter, csf : ndarray, shape (99, 117, 95), float32
        Tissue shares, 0..1.
    affine : ndarray, shape (4, 4)
        Template voxel index to MNI world, mm.
    """

    coefficients: NDArray[np.float32]
    brain: NDArray[np.float32]
    white_matter: NDArray[np.float32]
    csf: NDArray[np.float32]
    affine: Array

    @classmethod
    def build(cls, voxel_mm: Array) -> Head:
        """The head as a scanner of this voxel size sees it.

        Parameters
        ----------
        voxel_mm : ndarray, shape (3,)
            Voxel size; a Gaussian of that full width at half maximum is the point spread.
        """
        return _built(tuple(float(edge) for edge in voxel_mm))

    def sample(self, voxels: Array) -> NDArray[np.float32]:
        """Signal at fractional template voxels, shape (3, n); 0 outside the template's box."""
        found = ndimage.map_coordinates(
            self.coefficients, voxels, np.float32, order=3, prefilter=False, mode="constant"
        )
        clipped: NDArray[np.float32] = np.maximum(found, 0, out=found)
        return clipped


@lru_cache(maxsize=4)
def _built(voxel_mm: tuple[float, ...]) -> Head:
    """The head for one voxel size; making one takes a second."""
    brain, gm, wm, affine = _templates()
    csf = np.clip(brain - gm - wm, 0, 1)
    image = GM * gm + WM * wm + CSF * csf + _texture(brain, gm, wm)
    image = np.where(brain > 0, image, _outside(brain > 0, affine))
    image *= _dropout(brain.shape, affine)
    sigma = np.array(voxel_mm) / TEMPLATE_MM / np.sqrt(8 * np.log(2))
    image = ndimage.gaussian_filter(image, sigma, mode="constant")
    image /= np.median(image[brain > 0])
    coefficients = ndimage.spline_filter(image, 3, output=np.float32, mode="mirror")

    def blurred(tissue: Array) -> NDArray[np.float32]:
        share: Array = ndimage.gaussian_filter(tissue, sigma, mode="constant")
        return share.astype(np.float32)

    return Head(coefficients, blurred(brain), blurred(wm), blurred(csf), affine)


def _templates() -> tuple[Array, Array, Array, Array]:
    """Brain mask, grey and white matter shares on the 2 mm template grid, and its affine."""
    mask = datasets.load_mni152_brain_mask(resolution=TEMPLATE_MM)
    brain = np.asarray(mask.dataobj, dtype=np.float64)
    gm = datasets.load_mni152_gm_template(resolution=TEMPLATE_MM).get_fdata()
    wm = datasets.load_mni152_wm_template(resolution=TEMPLATE_MM).get_fdata()
    return brain, np.clip(gm, 0, 1) * brain, np.clip(wm, 0, 1) * brain, np.array(mask.affine)


def _texture(brain: Array, gm: Array, wm: Array) -> Array:
    """What tissue shares do not tell: deep nuclei and myelin, from the T1 image's residue."""
    t1 = datasets.load_mni152_template(resolution=TEMPLATE_MM).get_fdata() * brain
    inside = brain > 0
    design = np.stack([gm[inside], wm[inside], np.ones(int(inside.sum()))], axis=1)
    beta, *_ = np.linalg.lstsq(design, t1[inside], rcond=None)
    texture = np.zeros_like(brain)
    texture[inside] = -0.5 * (t1[inside] - design @ beta)
    return np.clip(texture, -0.15, 0.15)


def _outside(brain: NDArray[np.bool_], affine: Array) -> Array:
    """Skull, scalp and eyes around the brain."""
    distance_mm = ndimage.distance_transform_edt(~brain, sampling=np.diag(affine)[:3])
    outside = np.where((distance_mm > SKULL_MM) & (distance_mm < SCALP_MM), SCALP, 0.02)
    outside[distance_mm > SCALP_MM] = 0
    world = _world(brain.shape, affine)
    for eye in EYES_MM:
        outside[((world - np.array(eye)) ** 2).sum(axis=-1) < EYE_RADIUS_MM**2] = EYE
    return outside


def _dropout(shape: tuple[int, ...], affine: Array) -> Array:
    """Share of signal that survives the field's inhomogeneity, 0..1."""
    world = _world(shape, affine)
    left = np.ones(shape)
    for centre, extent, share in DROPOUTS:
        square = (((world - np.array(centre)) / np.array(extent)) ** 2).sum(axis=-1)
        left *= 1 - share * np.exp(-square / 2)
    return left


def _world(shape: tuple[int, ...], affine: Array) -> Array:
    """World coordinates of every voxel, shape (*shape, 3), mm."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])
