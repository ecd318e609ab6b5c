"""The page says first what was reached, needs no network, and draws what it knows."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from offline.atlas import Atlas
from offline.decoder import LassoEnsemble
from offline.decoder.metrics import Figure
from offline.decoder.validate import Validation, validate
from offline.errors import AtlasError
from offline.harmonize import ComBat
from offline.report import roi_coordinates, write_report
from offline.report.methods import methods
from offline.report.page import chosen_edges
from offline.report.words import verdict
from offline.synthetic import case_control

ATLAS = Atlas("nine", tuple(f"R{k}" for k in range(9)))
SMALL = LassoEnsemble(n_folds=3, n_undersamples=1, n_lambdas=5, n_inner_folds=3)


@pytest.fixture(scope="module")
def found() -> Validation:
    c = case_control([30, 30], [0.4, 0.6], n_edges=36, n_effect_edges=3, effect=1.5)
    return validate(
        c.X, c.diagnosis, c.people, SMALL, ComBat(), n_permutations=2, target="diagnosis",
        positive="MDD",
    )  # fmt: skip


class Page(HTMLParser):
    """Everything a test asks of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        # a word goes on after <wbr>, a place where a line may break
        goes_on = self.words and self.attributes[-1][0] == "wbr"
        self.words.append(self.words.pop() + data if goes_on else data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(found: Validation, tmp_path: Path, **known: Any) -> tuple[Page, str]:
    path = tmp_path / "report.html"
    write_report(found, path, **known)
    text = path.read_text()
    return Page(text), text


def changed(found: Validation, figure: Figure, **more: Any) -> Validation:
    return dataclasses.replace(found, figures={**found.figures, found.headline: figure}, **more)


def permuted(found: Validation, values: list[float]) -> pd.DataFrame:
    columns = found.permuted.columns
    return pd.DataFrame({columns[0]: values, columns[1]: values, "largest": 1})


@pytest.mark.parametrize(
    ("figure", "null", "sentence", "shown"),
    [
        (Figure(0.53, 0.43, 0.63, 0.5), 0.5, "Adds nothing that can be shown", False),
        (Figure(0.35, 0.25, 0.45, 0.5), 0.5, "Worse than chance", False),
        (Figure(0.65, 0.55, 0.75, 0.5), 0.7, "Not to be relied on", False),
        (
            Figure(0.65, 0.55, 0.75, 0.5),
            0.5,
            "Beyond chance: telling MDD from control",
            True,
        ),
        (Figure(np.nan, np.nan, np.nan, 0.5), 0.5, "Nothing can be said", False),
    ],
)
def test_the_first_sentence_is_honest(
    found: Validation, figure: Figure, null: float, sentence: str, shown: bool
) -> None:
    said = verdict(changed(found, figure, permuted=permuted(found, [null] * 99)))
    assert said.sentence.startswith(sentence)
    assert said.found is shown
    if np.isfinite(figure.value):
        assert f"{figure.low:.2f} to {figure.high:.2f}" in said.sentence


def test_the_same_output_for_everybody_tells_nothing(found: Validation) -> None:
    same = {**found.figures, "AUC at sites left out": Figure(0.5, 0.5, 0.5, 0.5)}
    reading = verdict(dataclasses.replace(found, figures=same)).reading
    assert "everybody of a site gets the same: nothing is told" in reading


def test_few_permutations_show_nothing(found: Validation) -> None:
    figure = Figure(0.8, 0.7, 0.9, 0.5)
    said = verdict(changed(found, figure, permuted=permuted(found, [0.5] * 5)))
    assert not said.found
    assert "5 permutations are too few" in said.sentence


def test_the_page_needs_nothing_from_outside(found: Validation, tmp_path: Path) -> None:
    shown, text = page(found, tmp_path, atlas=ATLAS)
    for tag, attributes in shown.attributes:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
    assert not re.search(r"url\((?!#)", text)


def test_every_figure_is_drawn_and_has_words_for_those_who_cannot_see_it(
    found: Validation, tmp_path: Path
) -> None:
    coordinates = np.random.default_rng(0).uniform(-50, 50, (9, 3))
    shown, _ = page(found, tmp_path, atlas=ATLAS, coordinates=coordinates)
    images = [a["alt"] for tag, a in shown.attributes if tag == "img"]
    drawn = [a["aria-label"] for tag, a in shown.attributes if a.get("role") == "img"]
    assert len(images) == 1
    assert len(drawn) == sum(tag == "svg" for tag, _ in shown.attributes) >= 7
    assert all(words and len(words) > 20 for words in [*images, *drawn])
    (source,) = [a["src"] for tag, a in shown.attributes if tag == "img"]
    content = base64.b64decode(str(source).partition("base64,")[2])
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_all_that_was_asked_for_is_on_the_page(found: Validation, tmp_path: Path) -> None:
    shown, _ = page(
        found, tmp_path, atlas=ATLAS, title="a title", notes=["a note"], excluded=[("moved", 3)]
    )
    headings = "Sites,Permuted labels,Predict the site,Motion,Calibration,Selection counts,Edges,"
    headings += "Connectogram,What may be quoted,What not to believe,Methods,a title,a note"
    for heading in headings.split(","):
        assert heading in shown.text, heading
    for name in (*found.figures, *found.not_to_believe):
        assert name in shown.text
    assert "moved 3" in shown.text.partition("Left out of the sample")[2]
    assert "ComBat (" in shown.text
    assert "moved: 3" in shown.text
    assert '"scikit-learn"' in shown.text
    assert "Positions of the ROIs are not known" in shown.text


def test_warnings_come_before_the_verdict(found: Validation, tmp_path: Path) -> None:
    loud = dataclasses.replace(found, warnings=("DIAGNOSIS IS CONFOUNDED WITH SITE & <more>",))
    _, text = page(loud, tmp_path)
    assert text.index("CONFOUNDED WITH SITE &amp; &lt;more&gt;") < text.index('class="verdict')


def test_a_site_that_determines_a_number_leaves_nothing_to_quote() -> None:
    c = case_control([20, 20], [0.5, 0.5], n_edges=36)
    y = np.where(c.people["site"] == c.people["site"].iloc[0], 1.0, 2.0)
    y[0] += 1e-12  # more than two values: a number
    found = validate(c.X, y, c.people, Ridge(), None, n_permutations=0, target="score")
    assert "Nothing can be said" in verdict(found).sentence
    assert list(found.figures) == ["r within sites"]
    assert "mean absolute error" in found.not_to_believe


def test_one_is_one_and_minus_is_minus(found: Validation, tmp_path: Path) -> None:
    once = dataclasses.replace(
        found,
        permuted=found.permuted.iloc[:1],
        settings={**found.settings, "n_permutations": 1, "n_sites": 1},
        figures={**found.figures, "MCC": Figure(-0.25, -0.5, -0.001, 0.0)},
        motion={"within sites": Figure(-0.5, -0.6, -0.4, 0.0)},
    )
    shown, _ = page(once, tmp_path, atlas=ATLAS)
    said = shown.text.partition("Settings, versions")[0]
    assert not re.search(r"\b1 (permutations|runs|sites|draws|people|scans|edges)\b", said)
    assert "p, 1 permutation" in said
    assert not re.search(r"(?<![\w-])-\d", said), re.findall(r".{20}-\d.{5}", said)
    assert "−0.25 −0.50 to 0.00" in said
    assert "r = −0.50 (−0.60 to −0.40)" in said


def test_sites_harmonized_by_their_own_controls_are_marked(
    found: Validation, tmp_path: Path
) -> None:
    sites = found.sites.assign(told=["TRANSDUCTIVE: by its own 9 controls", "as measured"])
    own = str(sites["site"].iloc[0])
    shown, _ = page(dataclasses.replace(found, sites=sites), tmp_path)
    assert f"TRANSDUCTIVE ({own}): harmonized by controls of their own" in shown.text
    assert f"TRANSDUCTIVE when left out: {own}." in shown.text
    assert "AUC at sites left out, TRANSDUCTIVE" in shown.text
    sites = found.sites.assign(told="TRANSDUCTIVE: by controls")
    assert (
        "TRANSDUCTIVE (all sites): harm" in verdict(dataclasses.replace(found, sites=sites)).reading
    )
    plain, _ = page(found, tmp_path)
    assert "TRANSDUCTIVE" not in plain.text


def test_a_continuous_target_and_an_estimator_without_edges(tmp_path: Path) -> None:
    c = case_control([20, 20], [0.5, 0.5], n_edges=36)
    found = validate(c.X, c.people["age"], c.people, Ridge(), None, n_permutations=0, target="age")
    shown, _ = page(found, tmp_path)
    assert "Predicted and actual" in shown.text
    assert "does not say which edges" in shown.text
    assert "No permuted labels were run" in verdict(found).reading


def test_nothing_to_judge_is_still_a_page(tmp_path: Path) -> None:
    c = case_control([20, 20], [0.0, 1.0], n_edges=36)
    model = LogisticRegression()
    found = validate(c.X, c.diagnosis, c.people, model, None, n_permutations=2, positive="MDD")
    shown, _ = page(found, tmp_path)
    assert "Nothing can be said: no site has both control and MDD" in shown.text
    assert "IS CONFOUNDED WITH SITE" in shown.text
    # deciding at a threshold is then as much the site's as the pooled AUC
    assert list(found.figures) == ["AUC within sites"]
    assert {"accuracy", "sensitivity", "specificity", "MCC"} <= set(found.not_to_believe)
    quoted, _, doubted = shown.text.partition("What not to believe")
    assert "What may be quoted Nothing: no site has both control and MDD" in quoted
    assert "accuracy" not in quoted
    assert "accuracy" in doubted


def test_no_edge_chosen_is_said_in_its_figure(found: Validation, tmp_path: Path) -> None:
    assert found.selection is not None
    nothing = dataclasses.replace(found.selection, counts=np.zeros(36, np.int64))
    shown, _ = page(dataclasses.replace(found, selection=nothing), tmp_path)
    assert "no edge was chosen" in shown.text.partition("Selection counts")[2]


def test_an_interval_that_rounding_puts_past_its_value_is_drawn(
    found: Validation, tmp_path: Path
) -> None:
    told = found.site_prediction.assign(balanced=0.0, balanced_low=1e-17, balanced_high=0.1)
    sites = found.sites.assign(value=0.25, low=0.25 + 1e-12)
    shown, _ = page(dataclasses.replace(found, site_prediction=told, sites=sites), tmp_path)
    assert "after 0 % (0 % to 10 %)" in shown.text


def test_edges_are_significant_by_their_corrected_p(found: Validation) -> None:
    assert found.selection is not None
    null = dataclasses.replace(found.selection, largest=np.zeros(99, np.int64))
    edges = chosen_edges(dataclasses.replace(found, selection=null), ATLAS)
    assert edges["significant"].all()
    assert edges["name"].iloc[0] == ATLAS.edge_names()[edges["edge"].iloc[0]]
    assert not chosen_edges(found, ATLAS)["significant"].any()  # two permutations show nothing
    counts = found.decoder.selection_counts_[edges["edge"]]
    np.testing.assert_array_equal(edges["count"], counts)
    assert (np.diff(counts) <= 0).all()


def test_methods_follow_the_configuration(found: Validation) -> None:
    text = " ".join(methods(found, ATLAS))
    for words in ("60 scans of 60 people at 2 sites", "3 folds of people", "1 draw of", "ComBat (",
                  ATLAS.digest[:12], "Seed 0", "2 runs of the whole procedure"):  # fmt: skip
        assert words in text, words
    plain = dataclasses.replace(found, settings={**found.settings, "harmonizer": None})
    assert "Harmonization" not in " ".join(methods(plain, None))


def test_an_atlas_of_other_edges_is_refused(found: Validation, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="expected an atlas of 36 edges, found 3"):
        write_report(found, tmp_path / "r.html", atlas=Atlas("three", ("A", "B", "C")))
    with pytest.raises(AtlasError, match="expected coordinates"):
        write_report(found, tmp_path / "r.html", atlas=ATLAS, coordinates=np.zeros((8, 3)))


# --- where ROIs are ---------------------------------------------------------------------------


def image(path: Path) -> Path:
    """Three labels of 2 mm voxels: 1 left, 2 right, 7 front."""
    data = np.zeros((20, 20, 20), np.int16)
    data[2:5, 8:11, 8:11] = 1
    data[15:18, 8:11, 8:11] = 2
    data[12:15, 16:19, 8:11] = 7
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -19.0
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def test_long_names_are_shortened_in_the_circle_and_whole_in_the_list(
    found: Validation, tmp_path: Path
) -> None:
    tail = "of_a_region_with_a_very_long_name"
    atlas = Atlas("long", tuple(f"400Parcels_7Networks_LH_R{k}_{tail}" for k in range(9)))
    shown, _ = page(found, tmp_path, atlas=atlas)
    circle, _, listed = shown.text.partition("Connectogram")[2].partition("List")
    drawn = re.findall(r"\S*…\S*", circle)
    assert drawn
    assert all(len(name) <= 16 and name.startswith("R") for name in drawn)
    assert f"R3_{tail}" in listed


def test_positions_from_a_table_in_the_atlas_order(tmp_path: Path) -> None:
    table = tmp_path / "rois.tsv"
    table.write_text("name\tx\ty\tz\nB\t4\t5\t6\nA\t1\t2\t3\n")
    at = roi_coordinates(Atlas("two", ("A", "B")), table)
    np.testing.assert_array_equal(at, [[1, 2, 3], [4, 5, 6]])


def test_positions_from_a_label_image(tmp_path: Path) -> None:
    labels = image(tmp_path / "labels.nii.gz")
    table = tmp_path / "rois.tsv"
    table.write_text("index\tlabels\n7\tfront\n2\tright\n1\tleft\n")
    at = roi_coordinates(Atlas("three", ("left", "right", "front")), table, labels)
    assert at is not None
    np.testing.assert_allclose(at[0], [-13, -1, -1], atol=1.5)
    assert at[1, 0] > 5
    assert at[2, 1] > 10
    assert roi_coordinates(Atlas("two", ("A", "B"))) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x\ty\tz\n1\t2\t3\n", "expected a column name or label"),
        ("name\tx\ty\tz\nA\t1\t2\t3\n", "found none for 'B'"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "rois.tsv"
    table.write_text(content)
    with pytest.raises(AtlasError, match=message):
        roi_coordinates(Atlas("two", ("A", "B")), table)


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    labels = image(tmp_path / "labels.nii.gz")
    four = Atlas("four", ("A", "B", "C", "D"))
    with pytest.raises(AtlasError, match="expected label 3"):
        roi_coordinates(four, None, labels)
    with pytest.raises(AtlasError, match="expected a label image"):
        roi_coordinates(four, None, tmp_path / "none.nii.gz")
    with pytest.raises(AtlasError, match="expected a readable table"):
        roi_coordinates(four, tmp_path / "none.tsv")
