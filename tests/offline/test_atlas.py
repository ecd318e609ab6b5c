"""Atlas identity: labels and their order, however the file or the atlas is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.atlas import Atlas, numbered, rois_of_edges
from offline.errors import AtlasError
from rtloop.connectivity import edge_pairs

ABCD = Atlas("four", ("A", "B", "C", "D"))


def test_edges_are_the_online_side_s() -> None:
    assert np.array_equal(ABCD.edges(), edge_pairs(4))
    assert ABCD.edge_names() == ("A--B", "A--C", "A--D", "B--C", "B--D", "C--D")
    assert (ABCD.n_rois, ABCD.n_edges) == (4, 6)


def test_the_digest_is_of_labels_and_order_alone() -> None:
    assert ABCD.digest == Atlas("other name", ("A", "B", "C", "D")).digest
    assert ABCD.digest != Atlas("four", ("B", "A", "C", "D")).digest
    assert Atlas("x", ("A", "BC")).digest != Atlas("x", ("AB", "C")).digest
    assert Atlas("x", ('A","B', "C")).digest != Atlas("x", ("A", "B", "C")).digest


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("A", "B", "C"), "expected the 4 ROIs of atlas four, found the 3 of other"),
        (("A", "C", "B", "D"), "expected ROI 1 .* to be 'B', found 'C' .*another order"),
        (("A", "B", "C", "E"), "expected ROI 3 .* to be 'D', found 'E' in other; take"),
    ],
)
def test_another_atlas_is_refused_with_the_first_difference(
    labels: tuple[str, ...], words: str
) -> None:
    ABCD.require_same(Atlas("renamed", ABCD.labels))
    with pytest.raises(AtlasError, match=words):
        ABCD.require_same(Atlas("other", labels))


@given(st.permutations(range(6)))
def test_columns_are_brought_into_order(places: list[int]) -> None:
    atlas = Atlas("six", tuple("ABCDEF"))
    labels = [atlas.labels[k] for k in places]
    assert [labels[k] for k in atlas.order_of(labels)] == list(atlas.labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["A", "B", "C"], "without 'D'"),
        (["A", "B", "C", "D", "E"], "with 'E'"),
        (["A", "B", "C", "D", "A"], "with repeated names"),
        (["A", "X", "Y", "Z", "W", "V"], "without 'B', 'C', 'D' and with 'X', 'Y', 'Z' and 2 more"),
    ],
)
def test_columns_that_are_no_permutation_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(AtlasError, match=words):
        ABCD.order_of(labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("A",), "at least two"),
        (("A", ""), "a name for ROI 1, found ''"),
        (("A", "B", "A"), "every label once, found 'A' again at ROI 2"),
    ],
)
def test_an_atlas_has_names_for_all(labels: tuple[str, ...], words: str) -> None:
    with pytest.raises(AtlasError, match=words):
        Atlas("bad", labels)


def test_without_some_rois() -> None:
    smaller = ABCD.without(["B"])
    assert smaller.labels == ("A", "C", "D")
    assert smaller.name == "four without 1"
    assert ABCD.without([]) is ABCD
    with pytest.raises(AtlasError, match="found 'Z'"):
        ABCD.without(["Z"])


def test_files(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text("\tindex\tlabels\n1\t9\tA\n2\t4\tB\n3\t5\tA\n")
    assert Atlas.load(tmp_path / "table.tsv").labels == ("A", "B", "A.1")
    (tmp_path / "names.csv").write_text("\ufeffname,x\nA,1\nB,2\n")
    assert Atlas.load(tmp_path / "names.csv", "mine") == Atlas("mine", ("A", "B"))
    (tmp_path / "list.txt").write_text("A\n\nB\n")
    assert Atlas.load(tmp_path / "list.txt") == Atlas("list", ("A", "B"))
    (tmp_path / "kept.json").write_text(json.dumps(ABCD.as_json()))
    assert Atlas.load(tmp_path / "kept.json") == ABCD


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.tsv", None, "expected a readable table of labels, found No such file"),
        ("x.tsv", "index\tmodule\n1\tA\n", "expected a column name or label .* found index, mod"),
        ("x.json", "{", "expected JSON"),
        ("x.json", json.dumps({**ABCD.as_json(), "labels": ["A", "C"]}), "was changed"),
    ],
)
def test_a_file_that_is_no_atlas(name: str, text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(AtlasError, match=words):
        Atlas.load(tmp_path / name)


@given(st.integers(2, 3000))
def test_rois_of_edges(n_rois: int) -> None:
    n_edges = n_rois * (n_rois - 1) // 2
    assert rois_of_edges(n_edges) == n_rois
    if n_edges > 1:
        assert rois_of_edges(n_edges + 1) is None


def test_numbered_stays_unique_for_names_that_look_numbered() -> None:
    made = numbered(["A", "A.1", "A"])
    assert len(set(made)) == 3
