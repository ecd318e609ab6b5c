"""`TravelingSubject`: measurement bias told from sampling bias by people scanned at every site.

Model and constraints are those of Yamashita et al. 2019 (doi:10.1371/journal.pbio.3000042),
declared in `design`, solved for all edges at once in `ridge`. Only what belongs to the
measurement is removed from a scan; that sites recruit different people stays in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from offline.errors import DesignError, HarmonizeError
from offline.harmonize.design import (
    Design,
    factor_blocks,
    factor_columns,
    require_connected,
    traveling_blocks,
)
from offline.harmonize.estimate import Estimate, estimate
from offline.harmonize.extension import from_controls, from_travelers
from offline.harmonize.inputs import (
    Edges,
    Labels,
    as_edges,
    atlas_entry,
    inner_blocks,
    labels_or_none,
    named,
    outer_blocks,
    prepare_output,
    refuse_missing,
    require_atlas,
    require_known,
    site_labels,
)
from offline.harmonize.models import StoredModel
from offline.harmonize.report import TravelingReport, design_notes, traveling_report
from offline.model_file import Arrays
from offline.store import EdgeStore

__all__ = ["TravelingSubject"]

ADVICE = (
    "extend the model with traveling scans of that site, or estimate it from its controls with"
    " reference_controls, which is transductive"
)

FACTOR = "factor:"
"""Begins the names of the arrays of measurement factors in a file."""

Float64 = NDArray[np.float64]


class TravelingSubject(StoredModel):
    """Remove the measurement bias of sites, estimated with traveling subjects.

    Parameters
    ----------
    penalty : "gcv" or float
        λ of the ridge on all coefficients; "gcv": one λ for all edges, that of the least total
        generalised cross-validation score.
    estimator : "joint" or "traveling_only"
        Joint: travelers and residents in one model. Traveling only: site and participant effects
        of the traveling scans alone; needs no diagnosis and sees no resident.
    control : str
        The diagnosis of controls.
    measurement_factors : sequence of str
        Columns of `factors` that describe the measurement (a protocol, a phase-encoding
        direction) and are removed as the site's bias is. All others stay in the data.

    Attributes
    ----------
    sites_ : tuple of str
        Sites, in the order of the rows of `measurement_bias_`.
    measurement_bias_ : ndarray of float64, shape (n_sites, n_edges)
        m, Fisher z; sums to zero over the fitted sites.
    standard_error_ : ndarray of float64, shape (n_sites, n_edges)
        Root mean squared error to be expected of it: noise of scans and shrinkage.
    factor_bias_ : dict
        By measurement factor, shape (n_levels, n_edges); levels in `factor_levels_`.
    penalty_ : float
        λ.
    constant_edges_ : ndarray of int64
        Edges with one value in all scans; they are left as they are.
    covariate_names_ : tuple of str
        What besides sites and subjects entered the fit.
    transductive_ : bool
        Whether a site's bias was estimated from the very kind of scans to be harmonized.
    provenance_ : dict
        What the model was fitted with, as JSON; kept in its file, may be added to.
    report_ : TravelingReport
        Sizes of biases, regime, connectivity, notes.

    Notes
    -----
    Travelers and controls share the constant of the published model: travelers as a group are
    taken for controls. `transform` never sees a diagnosis.
    """

    _arrays: ClassVar = (
        "measurement_bias_",
        "standard_error_",
        "constant_",
        "participant_",
        "participant_error_",
        "noise_",
        "constant_edges_",
    )

    def __init__(
        self,
        penalty: Literal["gcv"] | float = "gcv",
        estimator: Literal["joint", "traveling_only"] = "joint",
        control: str = "control",
        measurement_factors: Sequence[str] = (),
    ) -> None:
        self.penalty = penalty
        self.estimator = estimator
        self.control = control
        self.measurement_factors = measurement_factors

    def fit(
        self,
        X: Edges,
        sites: Any,
        subjects: Any,
        diagnosis: Any = None,
        factors: Any = None,
    ) -> Self:
        """Estimate the biases.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Fisher z, float32 or float64, finite.
        sites : array_like of str, shape (n_scans,)
        subjects : array_like of str or None, shape (n_scans,)
            Who travels; None (or NaN) for everyone else.
        diagnosis : array_like of str or None, shape (n_scans,)
            Of residents; None altogether: residents are one population. Only for "joint".
        factors : pandas.DataFrame or None
            Further factors, one a column: text one-hot, numbers as one centred column.

        Raises
        ------
        DesignError
            If travelers do not connect all sites (naming the parts), or a factor is of no use.
        HarmonizeError
            If labels are missing or values are not finite.
        """
        X = as_edges(X)
        penalty = self._checked_penalty()
        labels = site_labels(sites, X.shape[0])
        travelers = labels_or_none(subjects, X.shape[0], "subjects")
        dx = None if diagnosis is None else labels_or_none(diagnosis, X.shape[0], "diagnosis")
        travels = travelers != None  # noqa: E711 (element by element)
        parts = require_connected(labels, travelers)
        joint = self.estimator == "joint"
        if joint:
            self._require_diagnosis(dx, travels)
        rows = np.arange(len(labels)) if joint else np.flatnonzero(travels)
        self._scales: dict[str, tuple[float, float]] = {}
        blocks = traveling_blocks(
            labels[rows],
            travelers[rows],
            dx[rows] if joint and dx is not None else None,
            self.control,
        )
        if factors is not None:
            table = factors.iloc[rows] if hasattr(factors, "iloc") else factors
            blocks += factor_blocks(table, self.measurement_factors, len(rows), self._scales)
        elif self.measurement_factors:
            raise HarmonizeError(
                f"expected factors with {named(self.measurement_factors)}, found none; give them"
            )
        design = Design(tuple(blocks))
        found = estimate(X, rows, travels[rows], design, penalty)
        self._learn(design, found, atlas_entry(X))
        names = () if dx is None or not joint else ("diagnosis",)
        self.covariate_names_ = (*names, *(str(c) for c in getattr(factors, "columns", ())))
        self.report_ = traveling_report(
            estimator=self.estimator,
            design=design,
            found=found,
            sites=labels[rows],
            travelers=self._travelers,
            n_traveling_scans=int(travels.sum()),
            parts=parts,
            given=penalty is not None,
            notes=design_notes(labels, travels, dx, self.control) if joint else (),
        )
        return self

    def transform(self, X: Edges, sites: Any, out: Any = None, factors: Any = None) -> Edges:
        """Take the measurement bias out of scans of known sites.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
        sites : array_like of str, shape (n_scans,)
        out : ndarray or EdgeStore, shape (n_scans, n_edges), or None
            Where to; may be X itself. None: a new array of float64.
        factors : pandas.DataFrame or None
            The measurement factors of these scans, if the model has any.

        Raises
        ------
        UnseenSiteError
            If a site was not among those fitted.
        """
        check_is_fitted(self)
        X = as_edges(X)
        require_atlas(self.atlas_, X)
        codes = require_known(site_labels(sites, X.shape[0]), self.sites_, ADVICE)
        levels = np.zeros((X.shape[0], len(self.sites_)))
        levels[np.arange(len(codes)), codes] = 1.0
        bias = [self.measurement_bias_]
        for name, known in self.factor_levels_.items():
            of_scans = factor_columns(factors, name, known, self._scales.get(name), X.shape[0])
            levels = np.hstack([levels, of_scans])
            bias.append(self.factor_bias_[name])
        stacked = np.vstack(bias)
        harmonized = prepare_output(out, X)
        for edges, view in outer_blocks(X):
            if isinstance(harmonized, EdgeStore):
                result = np.empty(view.shape, np.float32)
            else:
                result = harmonized[:, edges]
            for inner in inner_blocks(view):
                at = slice(edges.start + inner.start, edges.start + inner.stop)
                np.subtract(view[:, inner], levels @ stacked[:, at], out=result[:, inner])
                # a sum is finite only if every value is
                if not np.isfinite(result[:, inner].sum()):
                    refuse_missing(X, at)
            if isinstance(harmonized, EdgeStore):
                harmonized.write(edges, result)
        return harmonized

    def fit_transform(
        self,
        X: Edges,
        sites: Any,
        subjects: Any,
        diagnosis: Any = None,
        factors: Any = None,
        out: Any = None,
    ) -> Edges:
        """Fit, then transform the same scans."""
        self.fit(X, sites, subjects, diagnosis, factors)
        return self.transform(X, sites, out=out, factors=factors)

    def extend(self, X: Edges, sites: Any, subjects: Any) -> Self:
        """Add sites by traveling scans, everything known before held as it is.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Scans of traveling subjects at the new sites; of new travelers also at known sites.
        sites, subjects : array_like of str, shape (n_scans,)

        Raises
        ------
        DesignError
            If travelers do not connect a new site with known ones.
        """
        check_is_fitted(self)
        X = as_edges(X)
        require_atlas(self.atlas_, X)
        labels = site_labels(sites, X.shape[0])
        travelers = labels_or_none(subjects, X.shape[0], "subjects")
        names, bias, error = from_travelers(X, labels, travelers, self)
        self._add_sites(names, bias, error)
        self.report_.notes.append(f"extended by traveling scans: {named(names)}")
        return self

    def reference_controls(self, X: Edges, sites: Any) -> Self:
        """Add sites by their own controls: their sampling bias is taken for measurement bias.

        Transductive: sets `transductive_`, and is noted in the report. A result on the new sites
        is not one on unseen sites.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Scans of controls at new sites.
        sites : array_like of str, shape (n_scans,)
        """
        check_is_fitted(self)
        X = as_edges(X)
        require_atlas(self.atlas_, X)
        if self.estimator != "joint":
            raise HarmonizeError(
                "expected the joint estimator, found traveling_only: it does not know what"
                " controls elsewhere look like; fit with residents"
            )
        names, bias, error = from_controls(X, site_labels(sites, X.shape[0]), self)
        self._add_sites(names, bias, error)
        self.transductive_ = True
        self.report_.notes.append(
            f"TRANSDUCTIVE: {named(names)} by controls of their own, sampling bias included"
        )
        return self

    def _checked_penalty(self) -> float | None:
        if self.estimator not in ("joint", "traveling_only"):
            raise HarmonizeError(
                f"expected estimator joint or traveling_only, found {self.estimator!r}"
            )
        if isinstance(self.penalty, str):
            if self.penalty != "gcv":
                raise HarmonizeError(f"expected penalty gcv or a number, found {self.penalty!r}")
            return None
        if not 0.0 <= float(self.penalty) < np.inf:
            raise HarmonizeError(f"expected a penalty >= 0, found {self.penalty}")
        return float(self.penalty)

    def _require_diagnosis(self, dx: Labels | None, travels: NDArray[np.bool_]) -> None:
        if dx is None:
            return
        missing = int(np.sum(dx[~travels] == None))  # noqa: E711 (element by element)
        if missing:
            raise HarmonizeError(
                f"expected a diagnosis for every resident, found none for {missing}; give"
                f" {self.control!r} to controls or leave these scans out"
            )
        present = sorted(set(dx[~travels]))
        if present and self.control not in present:
            raise DesignError(
                f"expected residents diagnosed {self.control!r}, found {named(present)} alone;"
                " name the controls' diagnosis with control=, or fit traveling_only"
            )

    def _learn(self, design: Design, found: Estimate, atlas: dict[str, Any]) -> None:
        site, constant = design.columns_of("site"), design.columns_of("constant").start
        self.atlas_ = atlas
        self.sites_ = design.block("site").levels
        self.measurement_bias_ = found.coefficients[site].copy()
        self.standard_error_ = found.standard_error[site].copy()
        own = [b for b in design.blocks if b.measurement and b.name != "site"]
        self.factor_levels_ = {b.name: [*b.levels] for b in own}
        self.factor_bias_ = {
            b.name: found.coefficients[design.columns_of(b.name)].copy() for b in own
        }
        self.constant_ = found.coefficients[constant].copy()
        self.noise_ = found.noise
        self.penalty_ = found.penalty
        self.sizes_ = found.size
        self.constant_edges_ = found.constant_edges
        self.transductive_ = False
        self.provenance_: dict[str, Any] = {}
        self._travelers: tuple[str, ...] = ()
        self.participant_ = np.zeros((0, found.coefficients.shape[1]))
        self.participant_error_ = self.participant_
        if any(block.name == "participant" for block in design.blocks):
            columns = design.columns_of("participant")
            self._travelers = design.block("participant").levels
            self.participant_ = found.coefficients[columns].copy()
            self.participant_error_ = found.standard_error[columns].copy()

    def _add_sites(self, names: tuple[str, ...], bias: Float64, error: Float64) -> None:
        bias[:, self.constant_edges_] = 0.0
        self.sites_ = (*self.sites_, *names)
        self.measurement_bias_ = np.vstack([self.measurement_bias_, bias])
        self.standard_error_ = np.vstack([self.standard_error_, error])

    def _named_arrays(self) -> Arrays:
        factors = {f"{FACTOR}{name}": bias for name, bias in self.factor_bias_.items()}
        return super()._named_arrays() | factors

    def _header(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _HEADER},
            "parameters": {**self.get_params(), "measurement_factors": [*self.measurement_factors]},
            "travelers": self._travelers,
            "scales": self._scales,
            "report": self.report_.as_dict(),
        }

    def _restore(self, header: dict[str, Any], arrays: Arrays) -> None:
        for name in _HEADER:
            value = header[name]
            setattr(self, name, tuple(value) if name in _TUPLES else value)
        self.factor_bias_ = {
            name.removeprefix(FACTOR): bias
            for name, bias in arrays.items()
            if name.startswith(FACTOR)
        }
        self._travelers = tuple(header["travelers"])
        self._scales = {name: tuple(pair) for name, pair in header["scales"].items()}
        self.report_ = TravelingReport.from_dict(header["report"])


_HEADER = (
    "sites_",
    "factor_levels_",
    "penalty_",
    "sizes_",
    "transductive_",
    "covariate_names_",
    "atlas_",
    "provenance_",
)
_TUPLES = ("sites_", "covariate_names_")
