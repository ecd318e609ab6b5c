"""Where the simulated participant's ROIs are: spheres from coordinate sets that nilearn ships."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from nilearn import datasets
from numpy.typing import NDArray

from rtloop.errors import ConfigError
from rtloop.plan import Sphere

__all__ = ["BORDER_MM", "DEFAULT_TARGET", "PLATEAU_MM", "default_spheres", "network_correlation"]

DEFAULT_TARGET = ("dlPFC 24", "precuneus 112")
"""Left dorsolateral prefrontal cortex and precuneus, the connection trained in depression
(Taylor 2022): always the first two spheres."""

PLATEAU_MM, BORDER_MM = 2.0, 3.0
"""An ROI's signal is full up to its radius plus the plateau, then falls linearly to nothing: a
head that moves by less than the plateau leaves the ROI mean's signal whole."""

Places = list[tuple[str, str, NDArray[np.float64]]]


def default_spheres(
    n: int = 12,
    radius_mm: float = 7.0,
    gap_mm: float = 4.0,
    atlas: Literal["dosenbach", "power"] = "dosenbach",
) -> tuple[tuple[Sphere, ...], tuple[str, ...]]:
    """Spheres in MNI coordinates that lie apart, taken in turn from every network.

    Parameters
    ----------
    n : int
        How many.
    radius_mm, gap_mm : float
        Radius, and the least distance between the borders of two spheres.
    atlas : "dosenbach" or "power"
        Coordinate set: 160 named centres in six networks, or 264 numbered ones without networks.

    Returns
    -------
    spheres : tuple of Sphere
    networks : tuple of str

    Raises
    ------
    ConfigError
        If the set holds fewer centres that lie apart.
    """
    chosen: Places = []
    for place in _in_turn(_dosenbach() if atlas == "dosenbach" else _power()):
        apart_mm = 2 * radius_mm + gap_mm
        if all(np.linalg.norm(place[2] - other[2]) >= apart_mm for other in chosen):
            chosen.append(place)
        if len(chosen) == n:
            break
    else:
        raise ConfigError(
            f"participant: expected {n} spheres of {radius_mm:g} mm, {gap_mm:g} mm apart, found "
            f"{len(chosen)} in the {atlas} set; ask for fewer or smaller ones"
        )
    spheres = tuple(
        Sphere(name=name, center_mm=(float(c[0]), float(c[1]), float(c[2])), radius_mm=radius_mm)
        for name, _, c in chosen
    )
    return spheres, tuple(network for _, network, _ in chosen)


def network_correlation(
    networks: tuple[str, ...], within: float = 0.3, target: float = 0.1
) -> NDArray[np.float64]:
    """Population correlation of a one-factor-per-network model.

    Parameters
    ----------
    networks : tuple of str
        Network of each ROI.
    within : float
        Correlation of two ROIs of one network.
    target : float
        The first two ROIs' share of variance from their network. It is small, so that the
        correlation of the two can be steered over a wide range and the matrix stays positive.

    Returns
    -------
    ndarray, shape (n_rois, n_rois)
    """
    share = np.full(len(networks), within)
    share[:2] = target
    same = np.equal.outer(np.array(networks), np.array(networks))
    correlation = np.where(same, np.sqrt(np.outer(share, share)), 0.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _dosenbach() -> Places:
    found = datasets.fetch_coords_dosenbach_2010(ordered_regions=False)
    centres = np.array(found.rois.to_records(index=False).tolist(), dtype=np.float64)
    return list(zip(map(str, found.labels), map(str, found.networks), centres, strict=True))


def _power() -> Places:
    rois = datasets.fetch_coords_power_2011().rois
    return [
        (f"power {row.roi}", "none", np.array([row.x, row.y, row.z], dtype=np.float64))
        for row in rois.itertuples()
    ]


def _in_turn(places: Places) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """The default target first, then one of each network in turn until all are given."""
    names = [name for name, _, _ in places]
    for name in DEFAULT_TARGET:
        if name in names:
            yield places.pop(names.index(name))
            names.remove(name)
    networks = sorted({network for _, network, _ in places})
    queues = [[place for place in places if place[1] == network] for network in networks]
    while any(queues):
        for queue in queues:
            if queue:
                # From the middle: neighbours in the list lie close together.
                yield queue.pop(len(queue) // 2)
