"""Arrays as people keep them, and what is refused: other atlases, z for r, z twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.arrays import Array, load_array, matched, variables
from offline.cohort.matrices import edges_of_matrix
from offline.cohort.scans import Censoring, Entry
from offline.cohort.sources import open_source
from offline.errors import AtlasError, CohortError, ScaleError
from tests.offline.cohorts import ATLAS, series

X = series(0, 30)
NAMES = list(ATLAS.labels)


def text(values: NDArray[Any], separator: str, header: list[str] | None = None) -> str:
    rows = [separator.join(f"{value:.17g}" for value in row) for row in values]
    return "\n".join([*([separator.join(header)] if header else []), *rows]) + "\n"


def test_every_format_gives_the_same_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", signals=X)
    scipy.io.savemat(tmp_path / "x.mat", {"signals": X})
    (tmp_path / "x.csv").write_text(text(X, ","))
    (tmp_path / "named.tsv").write_text(text(X, "\t", NAMES))
    for name in ("x.npy", "x.npz", "x.mat", "x.csv", "named.tsv"):
        found = load_array(tmp_path / name)
        assert np.array_equal(found.values, X), name
        assert found.labels == (ATLAS.labels if name == "named.tsv" else None)


def test_names_and_atlas_of_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", signals=X, columns=np.array(NAMES), atlas_digest=ATLAS.digest)
    cells = np.array(NAMES, object)
    scipy.io.savemat(tmp_path / "x.mat", {"signals": X, "labels": cells})
    assert load_array(tmp_path / "x.npz") .labels == ATLAS.labels  # fmt: skip
    assert load_array(tmp_path / "x.npz").digest == ATLAS.digest
    assert load_array(tmp_path / "x.mat").labels == ATLAS.labels
    assert list(variables(tmp_path / "x.npz", ["columns", "none"])) == ["columns"]


def test_a_table_with_row_names_and_missing_values(tmp_path: Path) -> None:
    R = np.corrcoef(X.T)
    lines = text(R, "\t").splitlines()
    lines = ["\t".join(["", *NAMES]), *(f"{n}\t{row}" for n, row in zip(NAMES, lines, strict=True))]
    (tmp_path / "r.tsv").write_text("\n".join(lines).replace(f"{R[2, 3]:.17g}", "n/a"))
    found = load_array(tmp_path / "r.tsv")
    assert found.labels == ATLAS.labels
    assert np.isnan(found.values[2, 3])
    assert found.values[2, 4] == R[2, 4]
    lines[1], lines[2] = lines[2], lines[1]
    (tmp_path / "r.tsv").write_text("\n".join(lines))
    with pytest.raises(AtlasError, match="rows named like its columns, found 'R1' first"):
        load_array(tmp_path / "r.tsv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.npy", None, "expected a file, found none"),
        ("x.npy", b"junk", "x.npy: expected numbers, found"),
        ("x.npz", b"junk", "x.npz: expected an npz of arrays, found"),
        ("x.mat", b"junk" * 100, "x.mat: expected a MATLAB file, found"),
        ("x.csv", b"1,2\n3,x\n", "row 2, column 2: expected a number, found 'x'"),
        ("x.csv", b"a,b\n3,4\n5,6,7\n", "x.csv: expected a table, found"),
        ("x.csv", b"", "x.csv: expected a table, found"),
        ("x.xlsx", b"junk", r"expected \.npy, \.npz, .* found \.xlsx; convert it"),
    ],
)
def test_what_cannot_be_read(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CohortError, match=words):
        load_array(tmp_path / name)


def test_what_is_no_array_of_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=X, b=X)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    (tmp_path / "new.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(1000))
    with pytest.raises(CohortError, match="expected real numbers, found <U1"):
        load_array(tmp_path / "text.npy")
    with pytest.raises(CohortError, match=r"pickled\.npy: expected numbers"):
        load_array(tmp_path / "pickled.npy")
    with pytest.raises(CohortError, match="expected one array of numbers, found a, b; say which"):
        load_array(tmp_path / "two.npz")
    with pytest.raises(CohortError, match="expected a variable c, found a, b"):
        load_array(tmp_path / "two.npz", "c")
    with pytest.raises(CohortError, match=r"found 7\.3; save it in MATLAB with save"):
        load_array(tmp_path / "new.mat")


# --- atlas ----------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.permutations([*range(8)]), st.booleans())
def test_named_columns_are_brought_into_order_and_it_is_said(
    places: list[int], matrix: bool
) -> None:
    R = np.corrcoef(X.T)
    values = R[np.ix_(places, places)] if matrix else X[:, places]
    labels = tuple(NAMES[k] for k in places)
    found, told = matched(Array(values, labels), ATLAS, (), "x", matrix)
    assert np.array_equal(found, R if matrix else X)
    assert bool(told) == (places != sorted(places))


def test_named_columns_that_are_no_rois_are_dropped() -> None:
    labels = ("G", *NAMES)
    values = np.column_stack([np.zeros(30), X])
    found, told = matched(Array(values, labels), ATLAS, ("G",), "x")
    assert np.array_equal(found, X)
    assert told == ""
    with pytest.raises(AtlasError, match=r"x: expected columns .* found 9 with 'G'"):
        matched(Array(values, labels), ATLAS, (), "x")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (Array(X[:, :7]), "expected 8 columns of atlas eight, found 7"),
        (Array(X, tuple(NAMES[:7])), "expected a name for each of 8 columns, found 7"),
        (Array(X, tuple("ABCDEFGH")), "without 'R0', 'R1', 'R2' and 5 more"),
        (Array(X, None, Atlas("x", tuple("AB")).digest), "expected arrays of atlas eight"),
    ],
)
def test_another_atlas_is_refused(array: Array, words: str) -> None:
    with pytest.raises(AtlasError, match=words):
        matched(array, ATLAS, (), "x")


# --- r, z, twice ----------------------------------------------------------------------------------


def strong(n_rois: int = 60, noise: float = 0.3, seed: int = 0) -> NDArray[np.float64]:
    """Correlations as ROIs have them: a few shared signals of either sign, and noise."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((200, 6)) @ rng.standard_normal((6, n_rois)) / np.sqrt(6)
    return np.asarray(np.corrcoef((shared + noise * rng.standard_normal((200, n_rois))).T))


def off(matrix: NDArray[np.float64], diagonal: float = 0.0) -> NDArray[np.float64]:
    changed = matrix.copy()
    np.fill_diagonal(changed, diagonal)
    return changed


SIXTY = Atlas("sixty", tuple(f"R{k}" for k in range(60)))
R = strong()
Z = np.arctanh(off(R))
EDGES = np.triu_indices(60, 1)


@pytest.mark.parametrize("values", [R, off(R), R[EDGES], np.round(R, 3)])
def test_r_becomes_z(values: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(edges_of_matrix(values, "r", SIXTY, "x"), Z[EDGES], atol=2e-2)


@pytest.mark.parametrize("values", [Z, off(Z, np.inf), off(Z, 18.7), Z[EDGES], off(Z, np.nan)])
def test_z_stays(values: NDArray[np.float64]) -> None:
    assert np.array_equal(edges_of_matrix(values, "z", SIXTY, "x"), Z[EDGES])


WEAK = off(strong(noise=1.5))  # nobody can tell r from z here


def test_weak_correlations_pass_as_what_they_are_said_to_be() -> None:
    assert np.array_equal(edges_of_matrix(WEAK, "z", SIXTY, "x"), WEAK[EDGES])
    np.testing.assert_allclose(
        edges_of_matrix(WEAK, "r", SIXTY, "x"), np.arctanh(WEAK[EDGES]), atol=1e-12
    )


def changed(matrix: NDArray[np.float64], *places: tuple[int, int, float]) -> NDArray[np.float64]:
    matrix = matrix.copy()
    for a, b, value in places:
        matrix[a, b] = value
    return matrix


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (Z, "r", r"\|r\| < 1, found .* such edges\); if it is Fisher z, state kind z"),
        (np.clip(Z, -0.99, 0.99), "r", "no signals have together .* state kind z"),
        (R, "z", "a diagonal of 1, which correlations have; state kind r"),
        (off(R), "z", "correlations themselves and no Fisher z of any; state kind r"),
        (R[EDGES], "z", "correlations themselves"),
        (np.arctanh(np.clip(Z, -0.999, 0.999)), "z", "Fisher z taken twice; take it once"),
        (off(np.full((60, 60), -0.5)), "z", "that of no signals' correlations"),
        (changed(R, (3, 4, 0.9)), "r", "a symmetric matrix, found .* between ROIs R3 and R4"),
        (np.triu(R), "r", "symmetric"),
        (changed(R, (3, 4, np.nan)), "r", "symmetric"),
        (changed(R, (3, 4, 1.0), (4, 3, 1.0)), "r", "found 1 between ROIs R3 and R4"),
        (changed(Z, (3, 4, np.inf), (4, 3, np.inf)), "z", "infinity between ROIs R3 and R4"),
    ],
)
def test_what_the_numbers_are_not(values: NDArray[np.float64], kind: Any, words: str) -> None:
    with pytest.raises(ScaleError, match=words):
        edges_of_matrix(values, kind, SIXTY, "x")


@pytest.mark.parametrize("shape", [(59, 59), (1769,), (60, 59), (60,)])
def test_another_number_of_rois(shape: tuple[int, ...]) -> None:
    with pytest.raises(AtlasError, match="a matrix 60 x 60 or 1770 edges of atlas sixty"):
        edges_of_matrix(np.zeros(shape), "r", SIXTY, "x")


def test_missing_rois_and_holes_stay_nan() -> None:
    values = R.copy()
    values[5] = values[:, 5] = np.nan
    found = edges_of_matrix(values, "r", SIXTY, "x")
    assert np.array_equal(np.isnan(found), (SIXTY.edges() == 5).any(axis=1))
    values[2, 9] = values[9, 2] = np.nan
    assert np.isnan(edges_of_matrix(values, "r", SIXTY, "x")).sum() == 60
    zs = Z.copy()
    zs[5] = zs[:, 5] = np.nan
    assert np.isnan(edges_of_matrix(zs, "z", SIXTY, "x")).sum() == 59
    with pytest.raises(ScaleError, match="state kind z"):
        edges_of_matrix(np.clip(zs, -0.99, 0.99), "r", SIXTY, "x")


def test_real_people_s_correlations(data: Path) -> None:
    """r rounded to two decimals passes; its Fisher z, kept below 1, is not taken for r."""
    with np.load(data / "rest" / "rpn_3site_mist122_timeseries.npz") as archive:
        atlas = Atlas("MIST", tuple(archive["columns"][1:].tolist()))
        people = [name for name in archive.files if name.startswith("essen") and "_fd" not in name]
        for name in people[:10]:
            r = np.corrcoef(archive[name][:, 1:].astype(float).T)
            z = np.arctanh(off(r))
            edges_of_matrix(np.round(r, 2), "r", atlas, name)
            edges_of_matrix(z, "z", atlas, name)
            with pytest.raises(ScaleError, match="state kind z"):
                edges_of_matrix(np.clip(z, -0.99, 0.99), "r", atlas, name)


# --- sources --------------------------------------------------------------------------------------


def test_patterns_sessions_and_files_of_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "arrays" / "sub-01"
    folder.mkdir(parents=True)
    np.save(folder / "ses-2_bold.npy", X)
    np.save(tmp_path / "arrays" / "other.npy", series(1, 30))
    source = open_source(
        tmp_path / "arrays",
        "series",
        ATLAS,
        1,
        pattern="sub-{participant}/ses-{session}_bold.npy",
        censoring=Censoring(tr_s=2.0),
    )
    first = source.read(Entry("01", "2", "", 0))
    second = source.read(Entry("01", "2", "other.npy", 0))
    assert first.z is not None
    assert second.z is not None
    assert not np.array_equal(first.z, second.z)
    assert source.stamp(Entry("01", "2", "", 0))
    assert source.stamp(Entry("02", "2", "", 0)) == ""
    bad = open_source(tmp_path / "arrays", "series", ATLAS, 1, pattern="{person}.npy")
    assert "expected a pattern with {participant}" in bad.read(Entry("01", "1", "", 0)).fault


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", p1=X)
    source = open_source(tmp_path / "x.npz", "series", ATLAS, 1)
    before = source.stamp(Entry("p1", "1", "", 0))
    np.savez(tmp_path / "x.npz", p1=X, p2=X)
    assert source.stamp(Entry("p1", "1", "", 0)) != before
    assert source.read(Entry("p3", "1", "", 0)).fault == "no variable p3 in x.npz"
    assert source.read(Entry("p2", "1", "", 0)).n_volumes == 30
