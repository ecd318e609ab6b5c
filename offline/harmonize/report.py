"""What a traveling-subject fit says about itself: design, penalty, sizes of biases, regime.

Which harmonizer does best depends on how large sampling bias is against measurement bias. The
report gives that ratio as estimated and names the regime; it does not say that one method wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from offline.harmonize.design import Design
from offline.harmonize.estimate import Estimate
from offline.harmonize.inputs import Labels, named
from offline.harmonize.ridge import PENALTIES

__all__ = ["REGIMES", "TravelingReport", "design_notes", "regime_of", "traveling_report"]

REGIMES = (
    (0.5, "measurement bias dominates: sites differ mostly by their scanners"),
    (1.25, "both of a size: what distinguishes sites is as much their people as their scanners"),
    (np.inf, "sampling bias dominates: sites differ mostly by their people"),
)
"""Upper bounds of sampling / measurement SD, and what lies below."""

TOLD = 0.5
"""Share of its standard error below which a measurement bias is taken for noise: it is the bias's
SD with noise taken out, and what is left of pure noise is far below this."""


@dataclass(frozen=True)
class TravelingReport:
    """Of one fit; `lines` for people, `as_dict` for files.

    Attributes
    ----------
    measurement_sd, sampling_sd : float
        SD over sites and edges of the biases, noise taken out, Fisher z; NaN where not estimated.
    ratio : float
        sampling_sd / measurement_sd.
    parts : list of list of str
        Groups of sites that travelers connect; one where everything can be estimated.
    notes : list of str
        What a reader has to know: confounding, sites of one class, what was decided by penalty.
    """

    estimator: str
    n_scans: int
    n_traveling_scans: int
    n_travelers: int
    n_sites: int
    n_edges: int
    n_constant_edges: int
    penalty: float
    penalty_from: str
    dof: float
    measurement_sd: float
    sampling_sd: float
    ratio: float
    regime: str
    noise_sd: dict[str, float]
    factor_sd: dict[str, float]
    removed: list[str]
    parts: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it: None for NaN."""
        plain = asdict(self)
        return {k: None if v != v else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Self:
        """The report `as_dict` wrote."""
        values: dict[str, Any] = {k: np.nan if v is None else v for k, v in entries.items()}
        return cls(**values)

    def lines(self) -> list[str]:
        """The report as text, a line a fact."""
        ratio = "not estimated" if np.isnan(self.ratio) else f"{self.ratio:.2f}"
        return [
            f"estimator: {self.estimator}, penalty {self.penalty:.4g} ({self.penalty_from}),"
            f" {self.dof:.1f} degrees of freedom",
            f"scans: {self.n_scans}, of them {self.n_traveling_scans} of {self.n_travelers}"
            f" travelers; {self.n_sites} sites, {self.n_edges} edges"
            f" ({self.n_constant_edges} constant, left as they are)",
            f"connected sites: {'; '.join(', '.join(part) for part in self.parts)}",
            f"removed from every scan: {', '.join(self.removed)}",
            f"measurement bias SD {self.measurement_sd:.4f}, sampling bias SD"
            f" {self.sampling_sd:.4f}, ratio {ratio}",
            f"regime: {self.regime}",
            *(f"NOTE: {note}" for note in self.notes),
        ]


def traveling_report(
    estimator: str,
    design: Design,
    found: Estimate,
    sites: Labels,
    travelers: Sequence[str],
    n_traveling_scans: int,
    parts: Sequence[Sequence[str]],
    given: bool,
    notes: Sequence[str],
) -> TravelingReport:
    """Put a fit's findings together."""
    sampling = [b for b in design.blocks if b.name.startswith("sampling:")]
    weights = np.array([len(b.levels) - 1 for b in sampling], float)
    squares = np.array([found.size[b.name] ** 2 for b in sampling])
    sampling_sd = float(np.sqrt(weights @ squares / weights.sum())) if sampling else float("nan")
    measurement_sd = found.size["site"]
    ratio = sampling_sd / measurement_sd if measurement_sd > 0.0 else float("nan")
    notes = list(notes)
    if not given and found.penalty in (PENALTIES[0], PENALTIES[-1]):
        notes.append(
            f"cross-validation went to the end of its grid ({found.penalty:g}): the data do not"
            " tell how much to shrink"
        )
    if found.undetermined:
        notes.append(
            f"{found.undetermined} direction(s) of the design are decided by the penalty alone"
            " (a factor nested in sites or in another factor); only their sum is told by the data"
        )
    who = ("travelers", "residents")
    return TravelingReport(
        estimator=estimator,
        n_scans=len(sites),
        n_traveling_scans=n_traveling_scans,
        n_travelers=len(travelers),
        n_sites=len(set(sites)),
        n_edges=found.coefficients.shape[1],
        n_constant_edges=len(found.constant_edges),
        penalty=found.penalty,
        penalty_from="given" if given else "generalised cross-validation, one for all edges",
        dof=found.dof,
        measurement_sd=measurement_sd,
        sampling_sd=sampling_sd,
        ratio=ratio,
        regime=_regime(ratio, measurement_sd, design, found, bool(sampling)),
        noise_sd={
            name: float(np.sqrt(np.mean(sd**2)))
            for name, sd in zip(who, found.noise, strict=True)
            if np.isfinite(sd).all()
        },
        factor_sd=dict(found.size),
        removed=[block.name for block in design.blocks if block.measurement],
        parts=[list(part) for part in parts],
        notes=notes,
    )


def _regime(
    ratio: float, measurement_sd: float, design: Design, found: Estimate, sampled: bool
) -> str:
    """The regime, where there is a measurement bias that can be told from its own noise."""
    if not sampled:
        return regime_of(ratio)
    error = float(np.sqrt(np.mean(found.standard_error[design.columns_of("site")] ** 2)))
    if measurement_sd > TOLD * error:
        return regime_of(ratio)
    return (
        "not estimated: no measurement bias was found to compare sampling bias with (SD"
        f" {measurement_sd:.4f}, its standard error {error:.4f})"
    )


def regime_of(ratio: float) -> str:
    """Name of the regime at a sampling / measurement ratio."""
    if np.isnan(ratio):
        return "not estimated: only the joint estimator sees sampling bias"
    return next(name for bound, name in REGIMES if ratio < bound)


def design_notes(sites: Labels, travels: Any, diagnosis: Labels | None, control: str) -> list[str]:
    """Sites and diagnoses that cannot be told apart, or hardly."""
    notes = []
    resident_sites, resident_dx = (
        sites[~travels],
        None if diagnosis is None else diagnosis[~travels],
    )
    only_travelers = sorted(set(sites) - set(resident_sites))
    if only_travelers:
        notes.append(f"only travelers were scanned at {named(only_travelers)}")
    counts = {site: int(np.sum(resident_sites == site)) for site in sorted(set(resident_sites))}
    single = [site for site, n in counts.items() if n == 1]
    if single:
        notes.append(f"one resident alone at {named(single)}: its sampling bias is one person's")
    if resident_dx is None:
        return notes
    without = [s for s in counts if control not in set(resident_dx[resident_sites == s])]
    if without:
        notes.append(
            f"no controls at {named(without)}: every difference between these sites' patients and"
            " controls is also one between sites"
        )
    for disorder in sorted(set(resident_dx) - {control}):
        where = sorted(set(resident_sites[resident_dx == disorder]))
        if len(where) == 1:
            notes.append(
                f"diagnosis {disorder} CONFOUNDED WITH SITE {where[0]}: its effect and that site's"
                " sampling of it cannot be told apart; the measurement bias can, by the travelers"
            )
    only_one = [s for s in counts if len(set(resident_dx[resident_sites == s])) == 1]
    if len(only_one) == len(counts) and len(set(resident_dx)) > 1:
        notes.append(
            "diagnosis CONFOUNDED WITH SITE: every site has residents of one diagnosis alone, so"
            " no comparison of diagnoses is free of sampling bias"
        )
    return notes
