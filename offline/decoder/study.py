"""One decoder on one cohort: who is compared with whom, with what, and what is written down.

`choose` says which scans of a cohort take part for a target, `make_decoder` and
`make_harmonizer` which estimators, `disorders_table` applies the decoders of all disorders to
all of them, and `write_study` leaves everything in one folder: report, results as JSON, tables,
and the fitted decoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from offline.atlas import Atlas
from offline.cohort import Cohort, has_diagnosis
from offline.decoder import (
    ComponentClassifier,
    ComponentRegressor,
    LassoEnsemble,
    LassoEnsembleRegressor,
    across_disorders,
)
from offline.decoder.samples import MIN_SCANS
from offline.decoder.small_sites import common_sites
from offline.decoder.validate import Validation
from offline.errors import DecodeError, HarmonizeError, LeakageError
from offline.harmonize import ComBat, TravelingSubject
from offline.store import EdgeStore, read_block

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = [
    "CONTROLS",
    "Chosen",
    "Harmonizer",
    "Selector",
    "choose",
    "disorders_table",
    "make_decoder",
    "make_harmonizer",
    "write_study",
]

Selector = Literal["lasso", "components"]
Harmonizer = Literal["combat", "traveling", "none"]

CONTROLS = ("control", "controls", "hc", "healthy", "healthy control", "ctl", "td", "none")
"""What people without a diagnosis are called, whatever the case."""

NO_TARGETS = ("participant", "site", "consent", "traveling")


@dataclass(frozen=True)
class Chosen:
    """Scans of a cohort that take part.

    Attributes
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
    y : ndarray of object, shape (n_scans,)
        Class names or numbers.
    people : pandas.DataFrame
        Their rows of the participants table.
    positive, negative : str or None
        Names of the classes; None for a continuous target.
    told : tuple of str
        Who was left out, and why.
    """

    X: NDArray[np.float32] | EdgeStore
    y: NDArray[Any]
    people: pd.DataFrame
    positive: str | None
    negative: str | None
    told: tuple[str, ...]


def choose(
    cohort: Cohort, target: str, positive: str | None = None, negative: str | None = None
) -> Chosen:
    """Who is compared with whom; traveling scans stay, for the harmonizer.

    Parameters
    ----------
    cohort : Cohort
    target : str
        Column of the participants table.
    positive, negative : str or None
        Values to be told apart; None where there are two only, or the target is a number. For
        `diagnosis` the negative class are the controls.

    Raises
    ------
    DecodeError
        If there is no such column, it does not vary, or too few scans are left.
    """
    people = cohort.people
    values = _column(people, target)
    travels = people["traveling"].to_numpy(bool)
    numeric = pd.api.types.is_numeric_dtype(values) and positive is None
    if numeric and values[~travels].nunique() > 2:
        y, known = values.to_numpy(object), values.notna().to_numpy(bool)
        positive = negative = None
    else:
        y, positive, negative = _classes(people, values, travels, target, positive, negative)
        known = y != None  # noqa: E711 (element by element)
    take = known | travels
    told = []
    missing = int(np.sum(values.isna().to_numpy(bool) & ~travels))
    if missing:
        told.append(f"{missing} scans without {target} were left out")
    others = int(np.sum(~take)) - missing
    if others:
        told.append(f"{others} scans that are neither {positive} nor {negative} were left out")
    n = int(np.sum(take & ~travels))
    if n < MIN_SCANS:
        raise DecodeError(
            f"cohort {cohort.folder}: expected at least {MIN_SCANS} scans with {target}, found {n}"
            " that do not travel; a decoder of so few means nothing, add people"
        )
    rows = np.flatnonzero(take)
    X = cohort.z if take.all() else read_block(cohort.z, slice(None), rows)
    table = people.iloc[rows].reset_index(drop=True)
    return Chosen(X, y[rows], table, positive, negative, tuple(told))


def _column(people: pd.DataFrame, target: str) -> pd.Series:
    if target == "site":
        raise DecodeError(
            "expected a target other than site: how well the site is told is part of every report"
        )
    usable = [c for c in people if c not in NO_TARGETS and people[c].notna().any()]
    if target not in usable:
        raise DecodeError(
            f"expected a target among {', '.join(usable)}, found {target!r}; name a column of the"
            " participants table that has values"
        )
    own = people.loc[~people["traveling"].to_numpy(bool), target].dropna()
    if own.nunique() < 2:
        found = own.iloc[0] if len(own) else "none"
        raise DecodeError(
            f"expected {target} to vary, found {found} for everyone; there is nothing to tell apart"
        )
    return people[target]


def _classes(
    people: pd.DataFrame,
    values: pd.Series,
    travels: NDArray[np.bool_],
    target: str,
    positive: str | None,
    negative: str | None,
) -> tuple[NDArray[Any], str, str]:
    """Class names of every scan (None: takes no part), and the two names."""
    texts = values.map(lambda v: None if pd.isna(v) else _text(v))
    found = sorted(set(texts[~travels].dropna()))
    if target == "diagnosis":
        names = sorted({d for text in found for d in text.split(";")})
        negative = negative or next((n for n in names if n.lower() in CONTROLS), None)
        if negative is None:
            raise DecodeError(
                f"expected controls among the diagnoses {', '.join(names)}, found none; say with"
                " --negative what controls are called"
            )
        others = [name for name in names if name != negative]
    else:
        names = found
        others = [name for name in names if name != negative]
    if positive is None:
        if len(others) > (1 if negative else 2) or not others:
            raise DecodeError(
                f"expected two values of {target}, found {len(names)} ({', '.join(names[:6])});"
                " choose with --positive and --negative"
            )
        positive = others[-1]
    if negative is None:
        rest = [name for name in names if name != positive]
        if len(rest) != 1:
            raise DecodeError(
                f"expected one other value of {target} than {positive}, found {len(rest)}"
                f" ({', '.join(rest[:6])}); choose with --negative"
            )
        negative = rest[0]
    for name in (positive, negative):
        if name not in names:
            raise DecodeError(
                f"expected values of {target} ({', '.join(names[:6])}), found {name!r}; check the"
                " spelling"
            )
    if positive == negative:
        raise DecodeError(f"expected two values of {target}, found {positive!r} twice")
    y = np.full(len(people), None, object)
    if target == "diagnosis":
        # somebody with several diagnoses has each of them; a control has none besides
        y[has_diagnosis(people, positive)] = positive
        y[(texts == negative).to_numpy(bool)] = negative
    else:
        y[(texts == positive).to_numpy(bool)] = positive
        y[(texts == negative).to_numpy(bool)] = negative
    return y, positive, negative


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def make_decoder(
    selector: Selector,
    categorical: bool,
    *,
    seed: int = 0,
    draws: int = 10,
    within_person: bool = False,
) -> Any:
    """The estimator of a selector, unfitted; the arguments are those of the command."""
    if draws < 1:
        raise DecodeError(f"expected at least one draw, found {draws}; use 10")
    known: dict[str, Any] = {"random_state": seed, "within_person": within_person}
    if selector == "lasso":
        kind = LassoEnsemble if categorical else LassoEnsembleRegressor
        return kind(n_undersamples=draws, **known)
    return (ComponentClassifier if categorical else ComponentRegressor)(**known)


def make_harmonizer(
    name: Harmonizer, chosen: Chosen, covariates: Sequence[str], target: str
) -> Any:
    """The harmonizer of that name, unfitted; None for none.

    Raises
    ------
    LeakageError
        If it should keep the target.
    HarmonizeError
        If the method cannot be used on these scans.
    """
    people = chosen.people
    if target in covariates:
        raise LeakageError(
            f"expected covariates other than the target, found {target!r}: a harmonizer that keeps"
            " the target writes it into the edges; leave it out"
        )
    unknown = [name for name in covariates if name not in people]
    if unknown:
        raise HarmonizeError(
            f"expected covariates among the columns of the participants table, found {unknown[0]!r}"
        )
    if name == "none":
        if covariates:
            raise HarmonizeError(
                "expected no covariates without a harmonizer, found"
                f" {', '.join(covariates)}; leave them out or choose combat"
            )
        return None
    if name == "combat":
        return ComBat()
    if covariates:
        raise HarmonizeError(
            f"expected no covariates for traveling, found {', '.join(covariates)}; it removes"
            " measurement bias alone and has nothing to keep"
        )
    if not people["traveling"].any():
        raise HarmonizeError(
            "expected traveling subjects, found none; mark their scans in the column traveling, or"
            " use --harmonizer combat"
        )
    return TravelingSubject()


def disorders_table(
    cohort: Cohort,
    validation: Validation,
    estimator: Any,
    harmonizer: Any,
    covariates: Sequence[str],
    executor: Executor | None = None,
    least: int = 1,
) -> pd.DataFrame | None:
    """Every disorder's decoder on every disorder; None where there is one disorder only.

    Disorders of fewer than `MIN_SCANS` / 2 patients are left out, and sites that not every decoder
    knows. All controls and people of one diagnosis alone take part; the decoder of each disorder
    is trained on its patients and all controls.

    Parameters
    ----------
    cohort : Cohort
    validation : Validation
        Of one disorder; its controls are everybody's.
    estimator, harmonizer : estimator
        Unfitted.
    covariates : sequence of str
    executor : Executor or None
    least : int
        People a site needs in the sample of every decoder.
    """
    assert validation.classes is not None
    people, control = cohort.people, validation.classes[0]
    dx = people["diagnosis"].to_numpy(object)
    travels = people["traveling"].to_numpy(bool)
    names = _disorders(people[~travels], control)
    shared = common_sites(people, dx, names, control, least)
    names = _disorders(people[~travels & shared], control)
    if len(names) < 2:
        return None
    part = np.flatnonzero(travels | (shared & np.isin(dx.astype(str), [control, *names])))
    X = read_block(cohort.z, slice(None), part)
    table = people.iloc[part].reset_index(drop=True)
    dx, travels = dx[part], travels[part]
    known = {
        "sites": table["site"].to_numpy(object),
        "groups": table["participant"].to_numpy(object),
    }
    kept = table[list(covariates)] if covariates else None
    decoders = {}
    for name in names:
        rows = np.flatnonzero(travels | (dx == name) | (dx == control))
        model = clone(estimator).set_params(harmonizer=harmonizer)
        decoders[name] = model.fit(
            X[rows],
            (dx[rows] == name).astype(np.int64),
            sites=known["sites"][rows],
            groups=known["groups"][rows],
            covariates=None if kept is None else kept.iloc[rows],
            traveling=travels[rows],
            executor=executor,
        )
    return across_disorders(
        decoders, X, np.where(travels, control, dx), control=control, covariates=kept,
        traveling=travels, **known,
    )  # fmt: skip


def _disorders(people: pd.DataFrame, control: str) -> list[str]:
    """Diagnoses that enough people have by themselves."""
    counts = people["diagnosis"].value_counts()
    return sorted(
        str(d)
        for d, n in counts.items()
        if d != control and ";" not in str(d) and n >= MIN_SCANS / 2
    )


def write_study(
    validation: Validation,
    folder: str | Path,
    *,
    atlas: Atlas | None = None,
    coordinates: NDArray[np.float64] | None = None,
    title: str = "",
    excluded: Sequence[tuple[str, int]] = (),
    notes: Sequence[str] = (),
    source: dict[str, Any] | None = None,
) -> Path:
    """Report, results, tables and model of a validation.

    Parameters
    ----------
    validation : Validation
    folder : str or Path
        Files that are there are replaced.
    atlas : Atlas or None
    coordinates : ndarray of float64, shape (n_rois, 3), or None
    title : str
    excluded : sequence of tuple
    notes : sequence of str
        All five as of `offline.report.write_report`.
    source : dict or None
        What the decoder was made from, to be kept with the results.

    Returns
    -------
    Path
        Of the report.
    """
    from offline.report import write_report
    from offline.report.page import chosen_edges
    from offline.report.words import verdict, versions

    folder = Path(folder)
    tables = folder / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    frames = {
        "sites": validation.sites,
        "outputs": validation.outputs,
        "permuted": validation.permuted,
        "site_prediction": validation.site_prediction,
        "confounds": validation.confounds,
        "calibration": validation.calibration,
        "disorders": validation.disorders,
    }
    if validation.decoder is not None:
        frames["edges"] = chosen_edges(validation, atlas)
        validation.decoder.save(folder / "decoder.safetensors")
    for name, frame in frames.items():
        if frame is not None:
            frame.to_csv(tables / f"{name}.tsv", sep="\t", index=False, na_rep="n/a")
    said = verdict(validation)
    results = {
        "verdict": {"found": said.found, "sentence": said.sentence, "reading": said.reading},
        "target": validation.target,
        "classes": validation.classes,
        "figures": _figures(validation.figures),
        "not_to_believe": _figures(validation.not_to_believe),
        "motion": _figures(validation.motion),
        "p": validation.p,
        "site_prediction": validation.site_prediction.to_dict("records"),
        "confounding": validation.confounding,
        "brier": validation.brier,
        "calibration_error": validation.calibration_error,
        "warnings": validation.warnings,
        "notes": [*notes, *validation.notes],
        "settings": validation.settings,
        "source": source or {},
        "versions": versions(),
    }
    plain = json.loads(json.dumps(results), parse_constant=lambda _: None)
    (folder / "results.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    report = folder / "report.html"
    write_report(
        validation,
        report,
        atlas=atlas,
        coordinates=coordinates,
        title=title,
        excluded=excluded,
        notes=notes,
    )
    return report


def _figures(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": f.value, "low": f.low, "high": f.high, "chance": f.chance}
        for name, f in figures.items()
    }
