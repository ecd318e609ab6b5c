"""What is written down of a judgement: report, results as JSON, tables, the fitted decoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.decoder.metrics import Figure
from offline.decoder.validation import Validation

__all__ = ["write_study"]


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

    folder = Path(folder)
    _write_tables(validation, folder / "tables", atlas)
    if validation.decoder is not None:
        validation.decoder.save(folder / "decoder.safetensors")
    _write_results(validation, folder / "results.json", notes, source or {})
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


def _write_tables(validation: Validation, folder: Path, atlas: Atlas | None) -> None:
    """Every table as TSV."""
    from offline.report.page import chosen_edges

    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "sites": validation.sites,
        "outputs": validation.outputs,
        "permuted": validation.permuted,
        "site_prediction": validation.site_prediction,
        "confounds": validation.confounds,
        "calibration": validation.calibration,
        "disorders": validation.disorders,
    }
    if validation.decoder is not None:
        tables["edges"] = chosen_edges(validation, atlas)
    for name, table in tables.items():
        if table is not None:
            table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, na_rep="n/a")


def _write_results(
    validation: Validation, path: Path, notes: Sequence[str], source: dict[str, Any]
) -> None:
    """Verdict, figures and settings as JSON; what is undefined is null."""
    from offline.report.words import verdict, versions

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
        "source": source,
        "versions": versions(),
    }
    plain = json.loads(json.dumps(results), parse_constant=lambda _: None)
    path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _figures(figures: dict[str, Figure]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": f.value, "low": f.low, "high": f.high, "chance": f.chance}
        for name, f in figures.items()
    }
