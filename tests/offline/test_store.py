"""Edges on disk against the array they came from."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.atlas import Atlas
from offline.errors import AtlasError, CohortError
from offline.store import EdgeStore, edge_blocks, read_block

ATLAS = Atlas("forty", tuple(f"R{k}" for k in range(40)))
N_EDGES = ATLAS.n_edges


def values(n_rows: int = 37, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_rows, N_EDGES)).astype(np.float32)


def stored(folder: Path, X: np.ndarray, chunks: tuple[int, int] = (8, 100)) -> EdgeStore:
    store = EdgeStore.create(folder / "edges", len(X), ATLAS, chunks)
    with store.rows() as writer:
        for start in range(0, len(X), 5):
            writer.add(X[start : start + 5])
    return store


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(0, N_EDGES),
    n=st.integers(0, N_EDGES),
    rows=st.one_of(
        st.none(),
        st.builds(slice, st.integers(-40, 40), st.integers(-40, 40)),
        st.lists(st.integers(-37, 36), max_size=20),
        st.lists(st.booleans(), min_size=37, max_size=37).map(lambda b: np.array(b)),
    ),
)
def test_reads_what_the_array_has(
    tmp_path_factory: pytest.TempPathFactory, start: int, n: int, rows: object
) -> None:
    X = values()
    store = stored(tmp_path_factory.mktemp("store"), X)
    rows = np.array(rows, int) if isinstance(rows, list) else rows
    edges = slice(start, start + n)
    expected = X[:, edges] if rows is None else X[rows][:, edges]  # type: ignore[index]
    found = store.read(edges, rows)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    assert np.array_equal(read_block(X, edges, rows), expected)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    start=st.integers(0, N_EDGES - 1),
    n=st.integers(1, 300),
    rows=st.one_of(
        st.none(),
        st.builds(slice, st.integers(0, 36), st.integers(0, 37)),
        st.lists(st.integers(0, 36), unique=True, max_size=20),
    ),
)
def test_writes_like_the_array(
    tmp_path_factory: pytest.TempPathFactory, start: int, n: int, rows: object
) -> None:
    X = values()
    store = stored(tmp_path_factory.mktemp("store"), X)
    rows = np.array(rows, int) if isinstance(rows, list) else rows
    edges = slice(start, min(start + n, N_EDGES))
    where = slice(None) if rows is None else rows
    new = np.random.default_rng(1).standard_normal(X[where, edges].shape)  # type: ignore[index]
    X[where, edges] = new  # type: ignore[index]
    store.write(edges, new, rows)  # type: ignore[arg-type]
    assert np.array_equal(store.read(slice(None)), X)


def test_what_is_not_written_is_nan(tmp_path: Path) -> None:
    store = EdgeStore.create(tmp_path / "edges", 10, ATLAS, (4, 100))
    store.write(slice(100, 200), np.zeros((10, 100)))
    assert np.isnan(store.read(slice(0, 100))).all()
    assert not store.read(slice(100, 200)).any()
    with store.rows() as writer:
        writer.add(values(3))
    assert np.isnan(store.read(slice(0, 50), slice(3, None))).all()


@pytest.mark.parametrize("width", [1, 7, 100, 149, 151, 4096])
def test_blocks_cover_all_edges_in_order(tmp_path: Path, width: int) -> None:
    X = values(3)
    for kind in (X, stored(tmp_path, X)):
        blocks = edge_blocks(kind, width)
        covered = np.concatenate([np.arange(N_EDGES)[block] for block in blocks])
        assert np.array_equal(covered, np.arange(N_EDGES))
        whole = np.concatenate([read_block(kind, block) for block in blocks], axis=1)
        assert np.array_equal(whole, X)


def test_blocks_of_a_store_end_where_its_chunks_do(tmp_path: Path) -> None:
    store = stored(tmp_path, values(3))
    assert store.blocks() == [slice(k, min(k + 100, N_EDGES)) for k in range(0, N_EDGES, 100)]
    assert {block.stop % 100 for block in edge_blocks(store, 230)[:-1]} == {0}
    assert {block.start // 100 for block in edge_blocks(store, 60)} == set(range(8))


def test_opened_again_and_in_another_process(tmp_path: Path) -> None:
    X = values()
    store = stored(tmp_path, X)
    for again in (EdgeStore.open(tmp_path / "edges"), pickle.loads(pickle.dumps(store))):
        assert again.atlas == ATLAS
        assert again.identity == store.identity
        assert again.shape == X.shape == (len(again), N_EDGES)
        assert np.array_equal(again.read(slice(None)), X)
    assert EdgeStore.from_array(tmp_path / "other", X, ATLAS).identity != store.identity


def test_refusals(tmp_path: Path) -> None:
    store = stored(tmp_path, values())
    with pytest.raises(CohortError, match="expected a new folder"):
        EdgeStore.create(tmp_path / "edges", 3, ATLAS)
    with pytest.raises(CohortError, match="expected a folder of edges, found none"):
        EdgeStore.open(tmp_path / "none")
    with pytest.raises(CohortError, match="opened writable"):
        EdgeStore.open(tmp_path / "edges").write(slice(0, 1), np.zeros((37, 1)))
    with pytest.raises(CohortError, match=r"shape \(37, 2\), found \(37, 3\)"):
        store.write(slice(0, 2), np.zeros((37, 3)))
    with pytest.raises(CohortError, match=r"rows of 0..36, found 0..37"):
        store.read(slice(0, 2), np.array([0, 37]))
    with pytest.raises(CohortError, match="every row once"):
        store.write(slice(0, 2), np.zeros((2, 2)), np.array([3, 3]))
    with pytest.raises(CohortError, match="of step 1"):
        store.read(slice(0, 10, 2))
    with store.rows() as writer, pytest.raises(CohortError, match="expected 37 scans, found more"):
        writer.add(values(38))
    with pytest.raises(AtlasError, match=r"expected \(n_scans, 780\) for atlas forty"):
        EdgeStore.from_array(tmp_path / "x", np.zeros((3, 5)), ATLAS)


def test_a_chunk_that_is_gone_is_damage_not_missing_edges(tmp_path: Path) -> None:
    store = EdgeStore.create(tmp_path / "s", 5, ATLAS, chunks=(2, 400))
    store.write(slice(None), np.zeros(store.shape, np.float32))
    assert EdgeStore.open(store.path).shape == store.shape
    (store.path / "c" / "1" / "1").unlink()
    (store.path / "c" / "2" / "0").unlink()
    with pytest.raises(CohortError, match="expected all 6 chunks of edges, found 2 gone"):
        EdgeStore.open(store.path)
    assert EdgeStore.open(store.path, writable=True).shape == store.shape  # to be written again


def test_a_changed_atlas_is_noticed(tmp_path: Path) -> None:
    stored(tmp_path, values(3))
    about = tmp_path / "edges" / "zarr.json"
    about.write_text(about.read_text().replace('"R7"', '"R9x"'))
    with pytest.raises(AtlasError, match="was changed"):
        EdgeStore.open(tmp_path / "edges")
