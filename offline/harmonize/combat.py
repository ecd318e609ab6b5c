"""`ComBat`: sites made alike in mean and variance, by empirical Bayes.

Johnson, Li & Rabinovic 2007 (doi:10.1093/biostatistics/kxj037); for connectivity Yu et al. 2018
(doi:10.1002/hbm.24241), with covariates as Fortin et al. 2018
(doi:10.1016/j.neuroimage.2017.11.024). Pooled variance with ddof 0, site variances with ddof 1,
as the published implementations have it: results equal theirs to 1e-8.

ComBat cannot tell a scanner from the people who are scanned there: both are removed. Keeping a
covariate is safe only where the covariate is not what shall be predicted afterwards.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from offline.errors import DesignError, HarmonizeError
from offline.harmonize.bayes import shrink
from offline.harmonize.covariates import Covariates
from offline.harmonize.inputs import (
    Edges,
    SiteRows,
    as_edges,
    atlas_entry,
    inner_blocks,
    named,
    outer_blocks,
    prepare_output,
    refuse_missing,
    require_atlas,
    require_known,
    site_labels,
)
from offline.harmonize.models import StoredModel
from offline.harmonize.moments import Standardization, standardize
from offline.model_file import Arrays
from offline.store import EdgeStore

__all__ = ["ComBat"]

ADVICE = (
    "fit with scans of that site, or estimate it from its controls with reference_controls, which"
    " is transductive"
)

NO_VARIANCE = 1e-14
"""Standardized variance of a site below which an edge is constant there."""

Float64 = NDArray[np.float64]


class ComBat(StoredModel):
    """Remove differences between sites in the mean and variance of every edge.

    Parameters
    ----------
    parametric : bool
        Normal and inverse gamma priors; False: the edges themselves are the prior, which takes
        time proportional to the square of their number.
    empirical_bayes : bool
        Whether a site's estimates are shrunk towards those of its other edges.
    mean_only : bool
        Leave variances as they are. A site of one scan is then possible.
    reference_site : str or None
        This site is left as it is, and the others are made like it.

    Attributes
    ----------
    sites_ : tuple of str
        Sites, in the order of the rows of `gamma_` and `delta_`.
    gamma_, delta_ : ndarray of float64, shape (n_sites, n_edges)
        γ* and δ*: what is taken off the standardized edges, and their variance.
    grand_mean_, pooled_sd_ : ndarray of float64, shape (n_edges,)
        Standardization, Fisher z.
    coefficients_ : ndarray of float64, shape (n_columns, n_edges)
        Of the covariates, standardized where they are numbers.
    covariate_names_ : tuple of str
        Covariates the model was fitted with.
    constant_edges_ : ndarray of int64
        Edges with one value in all scans; they take no part and are left as they are.
    transductive_ : bool
        Whether a site was estimated from the very kind of scans to be harmonized.
    provenance_ : dict
        What the model was fitted with, as JSON; kept in its file, may be added to.
    """

    _arrays: ClassVar = (
        "gamma_",
        "delta_",
        "grand_mean_",
        "pooled_sd_",
        "coefficients_",
        "constant_edges_",
    )

    def __init__(
        self,
        parametric: bool = True,
        empirical_bayes: bool = True,
        mean_only: bool = False,
        reference_site: str | None = None,
    ) -> None:
        self.parametric = parametric
        self.empirical_bayes = empirical_bayes
        self.mean_only = mean_only
        self.reference_site = reference_site

    def fit(self, X: Edges, sites: Any, covariates: Any = None) -> Self:
        """Estimate every site's location and scale.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Fisher z, float32 or float64, finite.
        sites : array_like of str, shape (n_scans,)
        covariates : pandas.DataFrame or None
            What shall be kept, one row a scan. Numbers are continuous, all else is categorical.

        Raises
        ------
        DesignError
            If there is one site alone, a site has one scan, or a covariate is determined by site.
        HarmonizeError
            If a value is missing, or an edge has no variance at some site.
        """
        X = as_edges(X)
        rows = SiteRows.of(site_labels(sites, X.shape[0]))
        reference = self._checked(rows)
        learned = Covariates.learn(covariates, X.shape[0])
        C = learned.design(covariates, X.shape[0])
        found = standardize(X, rows, learned, C, reference)
        self.sites_ = rows.names
        self.atlas_ = atlas_entry(X)
        self._covariates = learned
        self.covariate_names_ = learned.names
        self.grand_mean_ = found.grand_mean
        self.coefficients_ = found.coefficients
        self.pooled_sd_ = found.pooled_sd
        self.constant_edges_ = found.constant_edges
        self.transductive_ = False
        self.provenance_: dict[str, Any] = {"n_scans": X.shape[0]}
        self.gamma_, self.delta_ = self._shrunk(found, rows, reference)
        return self

    def transform(self, X: Edges, sites: Any, covariates: Any = None, out: Any = None) -> Edges:
        """Make scans of known sites alike.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Scans the model was fitted with, or others.
        sites : array_like of str, shape (n_scans,)
        covariates : pandas.DataFrame or None
            The same columns as in `fit`.
        out : ndarray or EdgeStore, shape (n_scans, n_edges), or None
            Where to; may be X itself. None: a new array of float64.

        Raises
        ------
        UnseenSiteError
            If a site was not among those fitted.
        HarmonizeError
            If covariates differ from those fitted, have an unseen level or a missing value.
        """
        check_is_fitted(self)
        X = as_edges(X)
        require_atlas(self.atlas_, X)
        labels = site_labels(sites, X.shape[0])
        codes = require_known(labels, self.sites_, ADVICE)
        C = self._covariates.design(covariates, X.shape[0])
        harmonized = prepare_output(out, X)
        for edges, view in outer_blocks(X):
            if isinstance(harmonized, EdgeStore):
                result = np.empty(view.shape, np.float32)
            else:
                result = harmonized[:, edges]
            if not self._adjust(view, codes, C, edges, result):
                refuse_missing(X, edges)
            if isinstance(harmonized, EdgeStore):
                harmonized.write(edges, result)
        return harmonized

    def fit_transform(self, X: Edges, sites: Any, covariates: Any = None, out: Any = None) -> Edges:
        """Fit, then transform the same scans."""
        return self.fit(X, sites, covariates).transform(X, sites, covariates, out)

    def reference_controls(self, X: Edges, sites: Any, covariates: Any = None) -> Self:
        """Add sites by scans of their own, against the mean and variance of the fitted ones.

        Transductive: sets `transductive_`, and `provenance_` names the sites. A result on the new
        sites is not one on unseen sites.

        Parameters
        ----------
        X : ndarray or EdgeStore, shape (n_scans, n_edges)
            Scans of controls at new sites.
        sites : array_like of str, shape (n_scans,)
        covariates : pandas.DataFrame or None
            The same columns as in `fit`.
        """
        check_is_fitted(self)
        X = as_edges(X)
        require_atlas(self.atlas_, X)
        rows = SiteRows.of(site_labels(sites, X.shape[0]))
        known = [name for name in rows.names if name in self.sites_]
        if known:
            raise HarmonizeError(f"expected new sites only, found {named(known)}; leave them out")
        self._require_scans(rows)
        C = self._covariates.design(covariates, X.shape[0])[rows.order]
        found = self._standardized(X, rows, C)
        gamma, delta = self._shrunk(found, rows, None)
        self.sites_ = (*self.sites_, *rows.names)
        self.gamma_ = np.vstack([self.gamma_, gamma])
        self.delta_ = np.vstack([self.delta_, delta])
        self.transductive_ = True
        own = self.provenance_.get("transductive_sites", [])
        self.provenance_ = {**self.provenance_, "transductive_sites": [*own, *rows.names]}
        return self

    def _header(self) -> dict[str, Any]:
        return {
            "sites": self.sites_,
            "atlas": self.atlas_,
            "transductive": self.transductive_,
            "covariates": self._covariates.as_json(),
            "provenance": self.provenance_,
        }

    def _restore(self, header: dict[str, Any], arrays: Arrays) -> None:
        self.sites_ = tuple(header["sites"])
        self.atlas_ = header["atlas"]
        self.transductive_ = header["transductive"]
        self.provenance_ = header["provenance"]
        self._covariates = Covariates.from_json(header["covariates"])
        self.covariate_names_ = self._covariates.names

    def _checked(self, rows: SiteRows) -> int | None:
        """Place of the reference site, once the sites are enough."""
        if len(rows.names) < 2:
            raise DesignError(
                f"expected at least two sites, found {named(rows.names)} alone; there is nothing"
                " to harmonize"
            )
        self._require_scans(rows)
        if self.reference_site is None:
            return None
        if str(self.reference_site) not in rows.names:
            raise HarmonizeError(
                f"expected the reference site among {named(rows.names)}, found"
                f" {self.reference_site!r}; check its name"
            )
        return rows.names.index(str(self.reference_site))

    def _require_scans(self, rows: SiteRows) -> None:
        single = [name for name, n in zip(rows.names, rows.counts, strict=True) if n < 2]
        if single and not self.mean_only:
            raise DesignError(
                f"expected at least two scans at every site, found one at {named(single)}: it has"
                " no variance; leave the site out, or set mean_only=True"
            )

    def _shrunk(
        self, found: Standardization, rows: SiteRows, reference: int | None
    ) -> tuple[Float64, Float64]:
        """γ* and δ* of every site, in the place of γ and δ."""
        varies = np.ones(found.gamma.shape[1], bool)
        varies[found.constant_edges] = False
        gamma, delta = found.gamma, found.delta
        gamma[:, ~varies], delta[:, ~varies] = 0.0, 1.0
        for k, name in enumerate(rows.names):
            if k == reference:
                gamma[k], delta[k] = 0.0, 1.0
                continue
            own, own_variance = gamma[k, varies], delta[k, varies]
            if not self.mean_only:
                _require_variance(own_variance, np.flatnonzero(varies), name)
            if self.empirical_bayes:
                own, own_variance = shrink(
                    own,
                    own_variance,
                    rows.counts[k],
                    parametric=self.parametric,
                    mean_only=self.mean_only,
                )
            gamma[k, varies] = own
            delta[k, varies] = 1.0 if self.mean_only else own_variance
        return gamma, delta

    def _standardized(self, X: Edges, rows: SiteRows, C: Float64) -> Standardization:
        """Means and variances of new sites in units of the fitted standardization."""
        shape = (len(rows.names), X.shape[1])
        gamma, delta = np.empty(shape), np.ones(shape)
        for edges, view in outer_blocks(X):
            for inner in inner_blocks(view):
                at = slice(edges.start + inner.start, edges.start + inner.stop)
                block = rows.take(view[:, inner])
                block -= self.grand_mean_[at]
                block -= C @ self.coefficients_[:, at]
                block /= self.pooled_sd_[at]
                if not np.isfinite(block.sum()):
                    refuse_missing(X, at)
                for k, part in enumerate(rows.slices):
                    gamma[k, at] = block[part].mean(axis=0)
                    if part.stop - part.start > 1:
                        delta[k, at] = block[part].var(axis=0, ddof=1)
        return Standardization(
            self.grand_mean_,
            self.coefficients_,
            self.pooled_sd_,
            gamma,
            delta,
            self.constant_edges_,
        )

    def _adjust(
        self,
        view: NDArray[Any],
        codes: NDArray[np.int64],
        C: Float64,
        at: slice,
        result: NDArray[Any],
    ) -> bool:
        """Adjust a block of edges, scan by scan; whether all of it is finite.

        (x - α - Cβ - σγ) / √δ + α + Cβ, as x · scale + shift + C (β - β · scale): a scan's edges
        lie side by side, so memory is read and written once, in its order.
        """
        mean, sd, beta = self.grand_mean_[at], self.pooled_sd_[at], self.coefficients_[:, at]
        scale = 1.0 / np.sqrt(self.delta_[:, at])
        shift = mean - (mean + sd * self.gamma_[:, at]) * scale
        # of the first covariate of site 0, the second, …, of the first of site 1, …
        slope = beta * (1.0 - scale)[:, None, :]
        row = np.empty(view.shape[1])
        total = 0.0
        with np.errstate(invalid="ignore"):  # infinities are looked for in the sum, and said
            for scan, (x, k) in enumerate(zip(view, codes.tolist(), strict=True)):
                np.multiply(x, scale[k], out=row)
                row += shift[k]
                if len(beta):
                    row += C[scan] @ slope[k]
                total += row.sum()
                # not (1·x + 0) at the reference site: its scans stay the same bits
                result[scan] = x if self.sites_[k] == str(self.reference_site) else row
        return bool(np.isfinite(total))


def _require_variance(variance: Float64, edges: NDArray[np.int64], site: str) -> None:
    lost = edges[~(variance > NO_VARIANCE)]
    if len(lost):
        raise HarmonizeError(
            f"expected edges that vary at every site, found {len(lost)} constant at {site} (first:"
            f" edge {lost[0]}); leave them or the site out, or set mean_only=True"
        )
