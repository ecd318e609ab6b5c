"""Sites that a fitted traveling-subject model did not see: by travelers, or by their controls.

By travelers: what is known (constant, biases of known sites, levels of known travelers) is taken
off their scans, and the rest is a ridge regression on new sites and new travelers. By controls:
the mean of a site's controls against the constant of the model, its sampling bias included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offline.errors import DesignError, HarmonizeError
from offline.harmonize.design import travel_parts
from offline.harmonize.inputs import Edges, Labels, named, outer_blocks, refuse_missing

if TYPE_CHECKING:
    from offline.harmonize.traveling import TravelingSubject

__all__ = ["from_controls", "from_travelers"]

Float64 = NDArray[np.float64]
Found = tuple[tuple[str, ...], Float64, Float64]
"""Names of the new sites, their bias and its standard error, (n_new, n_edges) each."""


def from_travelers(X: Edges, sites: Labels, travelers: Labels, model: TravelingSubject) -> Found:
    """Bias of new sites from traveling scans; see `TravelingSubject.extend`."""
    if any(traveler is None for traveler in travelers):
        raise HarmonizeError(
            "expected traveling subjects only, found scans of others; leave them out"
        )
    new_sites = tuple(sorted(set(sites) - set(model.sites_)))
    new_people = tuple(sorted(set(travelers) - set(model._travelers)))
    if not new_sites:
        raise HarmonizeError(
            f"expected scans at a new site, found {named(sorted(set(sites)))}, all known; fit anew"
            " to improve known sites"
        )
    _require_bridges(sites, travelers, model)
    _require_no_factors(model)
    # new columns to be estimated, known ones to be taken off
    D = _one_hot(sites, new_sites, travelers, new_people)
    K = _one_hot(sites, model.sites_, travelers, model._travelers)
    known = np.vstack([model.measurement_bias_, model.participant_])
    solve = np.linalg.inv(D.T @ D + model.penalty_ * np.eye(D.shape[1])) @ D.T
    bias = _solved(X, solve, K, known, model.constant_)[: len(new_sites)]
    sizes = np.repeat(
        [model.sizes_["site"], model.sizes_.get("participant", 0.0)],
        [len(new_sites), len(new_people)],
    )
    shrunk = (solve @ D - np.eye(D.shape[1])) ** 2 @ sizes**2
    known_error = np.vstack([model.standard_error_, model.participant_error_])
    variance = (
        np.outer(np.sum(solve**2, axis=1), model.noise_[0] ** 2)
        + (solve @ K) ** 2 @ known_error**2
        + shrunk[:, None]
    )
    return new_sites, bias, np.sqrt(variance[: len(new_sites)])


def from_controls(X: Edges, sites: Labels, model: TravelingSubject) -> Found:
    """Bias of new sites from their controls; see `TravelingSubject.reference_controls`."""
    names = tuple(sorted(set(sites)))
    known = [name for name in names if name in model.sites_]
    if known:
        raise HarmonizeError(f"expected new sites only, found {named(known)}; leave them out")
    _require_no_factors(model)
    columns = (sites[:, None] == np.array(names, object)).astype(np.float64)
    counts = columns.sum(axis=0)
    solve = columns.T / counts[:, None]
    nothing = np.zeros((len(sites), 0))
    bias = _solved(X, solve, nothing, np.zeros((0, X.shape[1])), model.constant_)
    sampling = model.sizes_.get(f"sampling:{model.control}", 0.0)
    variance = np.outer(1.0 / counts, model.noise_[1] ** 2) + sampling**2
    return names, bias, np.sqrt(variance)


def _solved(X: Edges, solve: Float64, K: Float64, known: Float64, constant: Float64) -> Float64:
    """solve @ (X - constant - K @ known), by blocks of edges."""
    out = np.empty((len(solve), X.shape[1]))
    for edges, view in outer_blocks(X):
        rest = view.astype(np.float64) - constant[edges] - K @ known[:, edges]
        if not np.isfinite(rest).all():
            refuse_missing(X, edges)
        out[:, edges] = solve @ rest
    return out


def _one_hot(
    sites: Labels, site_names: tuple[str, ...], travelers: Labels, people: tuple[str, ...]
) -> Float64:
    columns: list[Any] = [sites[:, None] == np.array(site_names, object)[None, :]]
    columns.append(travelers[:, None] == np.array(people, object)[None, :])
    return np.hstack(columns).astype(np.float64)


def _require_bridges(sites: Labels, travelers: Labels, model: TravelingSubject) -> None:
    """Every new site has to be reached from what is known."""
    hub = "known sites"
    places = np.array([hub if site in model.sites_ else site for site in sites], object)
    known_people = [t for t in sorted(set(travelers)) if t in model._travelers]
    # a known traveler's level was estimated at known sites: as if scanned there once more
    parts = travel_parts(
        np.array([*places, hub, *[hub] * len(known_people)], object),
        np.array([*travelers, None, *known_people], object),
    )
    lost = [part for part in parts if hub not in part]
    if lost:
        raise DesignError(
            f"expected travelers to connect new sites with known ones, found {len(lost)} part(s)"
            f" without: {' | '.join(', '.join(part) for part in lost)}; add their scans at a known"
            " site"
        )


def _require_no_factors(model: TravelingSubject) -> None:
    if model.factor_bias_:
        raise HarmonizeError(
            "expected a model without measurement factors besides the site, found"
            f" {named(list(model.factor_bias_))}; fit anew with the new scans"
        )
