"""Simulated cohorts whose truth is known: every bias and effect in them was drawn and is kept.

One edge of one scan is drawn as the traveling-subject model has it (Yamashita et al. 2019,
doi:10.1371/journal.pbio.3000042):

    x = c + m[site] + p[traveler]                                   + e    of a traveling subject
    x = c + m[site] + s[site]                         + own level   + e    of a control
    x = c + m[site] + s[site, disorder] + d[disorder] + own level   + e    of a patient

Blocks m, p and every s sum to zero. All edges are independent. Simulated data serve to show what
a method does where the truth is known; nothing in them is a statement about brains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "CONTROLS",
    "PATIENTS",
    "Magnitudes",
    "SyntheticCohort",
    "case_control",
    "traveling_cohort",
]

CONTROLS = (40, 34, 30, 28, 26, 24, 22, 20, 18, 16, 15, 13)
"""Controls at each of twelve sites: 286, unequal as in public multi-site data."""

PATIENTS: dict[str, dict[int, int]] = {
    "MDD": {0: 24, 1: 20, 2: 16, 3: 14, 4: 16},
    "ASD": {5: 18, 6: 14, 7: 10},
    "SCZ": {2: 18, 8: 16, 9: 14},
}
"""Patients by disorder and site: 180, each disorder at a few sites only; 466 with the controls."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Magnitudes:
    """Standard deviations over levels of each part of the model, Fisher z.

    The paper finds both site biases at least as large as the effects of disorders and smaller
    than the differences between people. The sizes themselves were set before any estimator was
    run on this generator, from the noise that nine travelers leave on a site's mean: of three
    10-minute scans at each visit, noise / sqrt(27) = .43 of the measurement bias.
    """

    measurement: float = 0.04
    sampling: float = 0.035
    disorder: float = 0.03
    participant: float = 0.10
    noise: float = 0.09
    level: float = 0.20
    """Of the mean connectivity c over edges, whose mean is .15."""


@dataclass(frozen=True)
class SyntheticCohort:
    """Scans and what they were made of.

    Attributes
    ----------
    X : ndarray of float64, shape (n_scans, n_edges)
        Fisher z.
    people : pandas.DataFrame
        One row a scan, columns as of a cohort's participants table.
    sites : tuple of str
        In the order of the rows of `measurement_bias`.
    measurement_bias : ndarray of float64, shape (n_sites, n_edges)
        m; sums to zero over sites.
    sampling_bias : dict
        By diagnosis, shape (n_sites, n_edges), NaN where a site has nobody of it; s.
    disorder_effect : dict
        By disorder, shape (n_edges,); d.
    """

    X: Float64
    people: pd.DataFrame
    sites: tuple[str, ...]
    measurement_bias: Float64
    sampling_bias: dict[str, Float64] = field(default_factory=dict)
    disorder_effect: dict[str, Float64] = field(default_factory=dict)

    @property
    def site(self) -> NDArray[Any]:
        """Site of every scan, shape (n_scans,)."""
        sites: NDArray[Any] = self.people["site"].to_numpy(object)
        return sites

    @property
    def diagnosis(self) -> NDArray[Any]:
        """Diagnosis of every scan, shape (n_scans,)."""
        diagnoses: NDArray[Any] = self.people["diagnosis"].to_numpy(object)
        return diagnoses

    @property
    def traveler(self) -> NDArray[Any]:
        """Who travels, shape (n_scans,): None for everybody else."""
        travels = self.people["traveling"].to_numpy(bool)
        nobody = np.array(None, object)
        return np.where(travels, self.people["participant"].to_numpy(object), nobody)


def traveling_cohort(
    sampling_sd: float = 0.035,
    *,
    n_edges: int = 990,
    seed: int = 0,
    n_travelers: int = 9,
    scans_per_visit: int = 3,
    magnitudes: Magnitudes | None = None,
    controls: Sequence[int] = CONTROLS,
    patients: Mapping[str, Mapping[int, int]] = PATIENTS,
) -> SyntheticCohort:
    """Travelers scanned at every site, and other people scanned once where they live.

    Parameters
    ----------
    sampling_sd : float
        SD of the sampling bias, Fisher z; takes the place of that in `magnitudes`.
    n_edges : int
        Edges, independent of each other.
    seed : int
        The same seed gives the same cohort; another sampling SD scales that part alone.
    n_travelers, scans_per_visit : int
        Every traveler is scanned so many times at every site.
    magnitudes : Magnitudes or None
        None for the defaults.
    controls : sequence of int
        Controls at each site; its length is the number of sites.
    patients : mapping
        By disorder: patients by place of the site in `controls`.

    Returns
    -------
    SyntheticCohort
        Travelers first.
    """
    sd = magnitudes or Magnitudes()
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(7)]
    of_site, of_traveler, of_sampling, of_disorder, of_level, of_person, of_scan = streams
    n_sites = len(controls)
    people = _people(n_travelers, scans_per_visit, controls, patients)
    site = people["site_place"].to_numpy()
    m = _centred(of_site, n_sites, n_edges, sd.measurement)
    p = _centred(of_traveler, n_travelers, n_edges, sd.participant)
    X = 0.15 + sd.level * of_level.standard_normal(n_edges) + m[site]
    travels = people["traveling"].to_numpy(bool)
    X[travels] += p[people.loc[travels, "person_place"].to_numpy()]
    X[~travels] += sd.participant * of_person.standard_normal((np.sum(~travels), n_edges))
    sampling: dict[str, Float64] = {}
    effects: dict[str, Float64] = {}
    for diagnosis in ("control", *patients):
        present = (
            [k for k, n in enumerate(controls) if n]
            if diagnosis == "control"
            else sorted(patients[diagnosis])
        )
        s = np.full((n_sites, n_edges), np.nan)
        s[present] = _centred(of_sampling, len(present), n_edges, sampling_sd)
        sampling[diagnosis] = s
        rows = ~travels & (people["diagnosis"] == diagnosis).to_numpy()
        X[rows] += s[site[rows]]
        if diagnosis != "control":
            effects[diagnosis] = sd.disorder * of_disorder.standard_normal(n_edges)
            X[rows] += effects[diagnosis]
    X += sd.noise * of_scan.standard_normal(X.shape)
    return SyntheticCohort(
        X=X,
        people=people.drop(columns=["site_place", "person_place"]),
        sites=tuple(_site_name(k) for k in range(n_sites)),
        measurement_bias=m,
        sampling_bias=sampling,
        disorder_effect=effects,
    )


def case_control(
    sizes: Sequence[int],
    prevalence: Sequence[float],
    *,
    n_edges: int,
    n_effect_edges: int = 0,
    effect: float = 0.5,
    seed: int = 0,
    magnitudes: Magnitudes | None = None,
) -> SyntheticCohort:
    """Patients of one disorder and controls at several sites, nobody traveling.

    Parameters
    ----------
    sizes : sequence of int
        People at each site.
    prevalence : sequence of float
        Share of patients at each site, 0..1; rounded to whole people.
    n_edges : int
        Edges, independent of each other.
    n_effect_edges : int
        Edges in which patients differ, drawn at random; 0 for no true effect.
    effect : float
        Size of that difference in SD within a site (Cohen's d), its sign drawn for each edge.
    seed : int
        The same seed gives the same cohort.
    magnitudes : Magnitudes or None
        None for the defaults, without sampling bias.

    Returns
    -------
    SyntheticCohort
        In random order of sites and diagnoses; `disorder_effect["MDD"]` is 0 elsewhere.
    """
    sd = magnitudes or Magnitudes(sampling=0.0)
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(len(sizes)), sizes)
    patient = np.concatenate(
        [np.arange(n) < round(n * share) for n, share in zip(sizes, prevalence, strict=True)]
    )
    order = rng.permutation(len(site))
    site, patient = site[order], patient[order]
    m = _centred(rng, len(sizes), n_edges, sd.measurement)
    s = _centred(rng, len(sizes), n_edges, sd.sampling)
    within = float(np.hypot(sd.participant, sd.noise))
    d = np.zeros(n_edges)
    chosen = rng.choice(n_edges, n_effect_edges, replace=False)
    d[chosen] = effect * within * rng.choice([-1.0, 1.0], n_effect_edges)
    X = 0.15 + sd.level * rng.standard_normal(n_edges) + (m + s)[site]
    X += np.outer(patient, d) + within * rng.standard_normal(X.shape)
    rows = [
        _row(f"P{k:04d}", int(at), "MDD" if sick else "control", 1, False)
        for k, (at, sick) in enumerate(zip(site, patient, strict=True))
    ]
    people = _table(rows, rng).drop(columns=["site_place", "person_place"])
    return SyntheticCohort(
        X=X,
        people=people,
        sites=tuple(_site_name(k) for k in range(len(sizes))),
        measurement_bias=m,
        sampling_bias={"control": s, "MDD": s},
        disorder_effect={"MDD": d},
    )


def _centred(rng: np.random.Generator, n_levels: int, n_edges: int, sd: float) -> Float64:
    """Draws of this SD over levels (ddof 1 is unbiased), their sum taken out."""
    draws = sd * rng.standard_normal((n_levels, n_edges))
    centred: Float64 = draws - draws.mean(axis=0)
    return centred


def _people(
    n_travelers: int,
    scans_per_visit: int,
    controls: Sequence[int],
    patients: Mapping[str, Mapping[int, int]],
) -> pd.DataFrame:
    rows = [
        _row(f"T{t:02d}", site, "control", 1 + scans_per_visit * site + scan, True, t)
        for t in range(n_travelers)
        for site in range(len(controls))
        for scan in range(scans_per_visit)
    ]
    residents = [("control", site, n) for site, n in enumerate(controls)]
    residents += [(dx, site, n) for dx, at in patients.items() for site, n in at.items()]
    for diagnosis, site, n in residents:
        rows += [_row(f"{_site_name(site)}{diagnosis}{k:03d}", site, diagnosis) for k in range(n)]
    return _table(rows, np.random.default_rng(len(rows)))


def _row(
    participant: str,
    site: int,
    diagnosis: str,
    session: int = 1,
    traveling: bool = False,
    person: int = -1,
) -> dict[str, Any]:
    return {
        "participant": participant,
        "session": str(session),
        "site": _site_name(site),
        "scanner": _site_name(site),
        "diagnosis": diagnosis,
        "traveling": traveling,
        "site_place": site,
        "person_place": person,
    }


def _table(rows: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> pd.DataFrame:
    """Rows with age, sex and the rest, one draw a person, unrelated to the edges."""
    people = pd.DataFrame(rows)
    persons = people["participant"].unique()
    age = pd.Series(rng.integers(20, 66, len(persons)).astype(float), persons)
    sex = pd.Series(rng.choice(["F", "M"], len(persons)), persons)
    people["age"] = people["participant"].map(age)
    people["sex"] = people["participant"].map(sex)
    people["medication"] = pd.NA
    people["consent"] = np.where(people["traveling"], "open-traveling", "open-mri")
    people["mean_fd"] = np.round(0.05 + 0.1 * rng.random(len(people)), 3)
    people["minutes"] = 10.0
    return people


def _site_name(place: int) -> str:
    return f"S{place + 1:02d}"
