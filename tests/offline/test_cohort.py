"""Building a cohort: who is in it, who is not and why, and that the withdrawn are gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import offline.cohort.build as building
import offline.cohort.reading as reading
import offline.cohort.stored as stored
from offline.atlas import Atlas
from offline.blocks import open_executor
from offline.cohort import Cohort, Limits, build_cohort, open_source, read_people
from offline.cohort.exclusion import by_reason
from offline.cohort.hold import held
from offline.cohort.scans import Censoring
from offline.errors import AtlasError, CohortError, ScaleError
from offline.fc import fc_edges
from tests.offline.cohorts import ATLAS, people_table, series, write_series


def build(
    tmp_path: Path,
    table: pd.DataFrame,
    limits: Limits | None = None,
    changed: dict[str, Any] | None = None,
    folder: str = "cohort",
    censoring: Censoring | None = None,
    fd_pattern: str = "",
    **options: Any,
) -> Cohort:
    people = read_people(table)
    arrays = write_series(tmp_path / "arrays", len(table), **(changed or {}))
    source = open_source(
        arrays,
        "series",
        ATLAS,
        len(table),
        censoring=censoring or Censoring(tr_s=2.0),
        fd_pattern=fd_pattern,
    )
    return build_cohort(tmp_path / folder, people, source, limits, **options)


def reasons(cohort: Cohort) -> dict[str, str]:
    return dict(zip(cohort.excluded["participant"], cohort.excluded["reason"], strict=True))


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_everyone_is_in_it(tmp_path: Path) -> None:
    table = people_table(
        10,
        sex=["F", "M"] * 5,
        diagnosis=["HC"] * 9 + ["MDD;OCD"],
        BDI=["n/a", *map(str, range(9))],
        note=["x"] * 10,
    )
    cohort = build(tmp_path, table, description="made up")
    for again in (cohort, Cohort.open(tmp_path / "cohort")):
        assert again.atlas == ATLAS
        assert again.people["participant"].tolist() == table["participant"].tolist()
        assert again.people.columns.tolist() == [
            *stored.TEXT_COLUMNS, "age", "mean_fd", "minutes", "traveling", "BDI",
        ]  # fmt: skip
        assert again.people["age"].tolist() == list(range(20, 30))
        assert again.people["minutes"].tolist() == [2.0] * 10
        assert again.people["diagnosis"].iloc[9] == "MDD;OCD"
        assert again.people["scanner"].isna().all()
        assert again.people["traveling"].dtype == bool
        np.testing.assert_equal(again.people["BDI"].to_numpy(), [np.nan, *range(9)])
        assert again.scores == ("BDI",)
        assert again.excluded.empty
        expected = [fc_edges(series(k)) for k in range(10)]
        assert np.array_equal(again.z.read(slice(None)), expected)
        assert again.about["description"] == "made up"
        assert "mean FD: no limit" in again.about["rules"]
        assert again.about["notes"] == ["columns left out of the table: note"]
    assert not (tmp_path / "cohort" / ".building").exists()


def test_each_rule_leaves_out_whom_it_says(tmp_path: Path) -> None:
    broken = series(5)
    broken[10, 3] = np.nan
    noisy = series(6)
    noisy[:, 2] = noisy[:, 1]
    table = people_table(
        12,
        mean_fd=[0.1, 0.9, "n/a", 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        consent=["open-mri"] * 9 + ["restricted-fc", "n/a", "withdrawn"],
    )
    table.loc[8, "participant"] = "p07"
    changed = {
        "p03": series(3, n_volumes=15),
        "p04": series(4, n_volumes=40),
        "p05": broken,
        "p06": noisy,
    }
    limits = Limits(tier="restricted-mri", max_mean_fd_mm=0.5, min_minutes=1.5)
    cohort = build(tmp_path, table, limits, changed)
    assert cohort.people["participant"].tolist() == ["p00", "p07"]
    told = reasons(cohort)
    (hashed,) = [name for name, reason in told.items() if reason == "withdrawn"]
    assert "p11" not in hashed
    del told[hashed]
    assert told == {
        "p01": "mean FD 0.9 mm, limit 0.5 mm",
        "p02": "mean FD not known, limit 0.5 mm",
        "p03": "expected at least 20 effective volumes, found 15.0; leave the scan out",
        "p04": "minutes 1.3, at least 1.5",
        "p05": "1 missing ROI",
        "p06": told["p06"],
        "p07": "participant and session are those of row 9",
        "p09": "consent restricted-fc does not cover restricted-mri",
        "p10": "consent not stated does not cover restricted-mri",
    }
    assert "between ROIs R1 and R2; they have one signal" in told["p06"]
    assert len(cohort.excluded) == 10


def test_arrays_of_the_withdrawn_and_not_covered_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = reading.Entry

    class Watched(original):  # type: ignore[misc, valid-type]
        def __new__(cls, participant: str, *rest: Any) -> Any:
            read.append(participant)
            return original.__new__(cls, participant, *rest)

    monkeypatch.setattr(reading, "Entry", Watched)
    table = people_table(4, consent=["open-mri", "withdrawn", "restricted-fc", "open-mri"])
    build(tmp_path, table, Limits(tier="open-mri"))
    assert read == ["p00", "p03"]


def test_consent_must_be_settled(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="state the tier"):
        build(tmp_path, people_table(2, consent=["open-mri", "open-mri"]))
    with pytest.raises(CohortError, match="expected a column consent for the tier open-mri"):
        build(tmp_path, people_table(2), Limits(tier="open-mri"))
    with pytest.raises(CohortError, match=r"everyone excluded: consent .* \(2 of 2\)"):
        build(
            tmp_path, people_table(2, consent=["restricted-fc"] * 2), Limits(tier="open-traveling")
        )
    assert not (tmp_path / "cohort" / "cohort.json").exists()


@pytest.mark.parametrize(
    ("policy", "n_people", "n_rois", "note"),
    [
        ("exclude", 8, 8, None),
        ("drop", 10, 6, "ROIs left out for everyone: R2, R5"),
        ("keep", 10, 8, "2 scans have NaN at the edges of missing ROIs"),
    ],
)
def test_missing_rois(
    policy: Any, n_people: int, n_rois: int, note: str | None, tmp_path: Path
) -> None:
    constant, absent = series(1), series(4)
    constant[:, 2] = 7.0
    absent[:, 5] = np.nan
    limits = Limits(missing_rois=policy, max_missing_share=0.15)
    cohort = build(tmp_path, people_table(10), limits, {"p01": constant, "p04": absent})
    assert (len(cohort.people), cohort.atlas.n_rois) == (n_people, n_rois)
    assert cohort.z.shape == (n_people, n_rois * (n_rois - 1) // 2)
    assert (note in cohort.about["notes"]) if note else not cohort.about["notes"]
    X = cohort.z.read(slice(None))
    if policy == "keep":
        assert np.isnan(X).sum(axis=1).tolist() == [0, 7, 0, 0, 7, 0, 0, 0, 0, 0]
        return
    assert np.isfinite(X).all()
    kept = [k for k in range(8) if ATLAS.labels[k] in cohort.atlas.labels]
    people = cohort.people["participant"].tolist()
    for row, person in enumerate(people):
        np.testing.assert_allclose(
            X[row],
            fc_edges({1: constant, 4: absent}.get(k := int(person[1:]), series(k))[:, kept]),
            atol=1e-6,
        )


def test_reasons_are_counted_and_numbers_that_differ_are_a_range() -> None:
    told = [
        "mean FD 0.9 mm, limit 0.5 mm", "same values as p-3/1", "mean FD 10.5 mm, limit 0.5 mm",
        "mean FD not known, limit 0.5 mm", "same values as p-4/2", "mean FD 2 mm, limit 0.5 mm",
    ]  # fmt: skip
    assert by_reason(pd.DataFrame({"reason": told})) == [
        ("mean FD 0.9–10.5 mm, limit 0.5 mm", 3),
        ("same values as another scan", 2),
        ("mean FD not known, limit 0.5 mm", 1),
    ]
    assert by_reason(pd.DataFrame({"reason": []})) == []


def test_a_person_who_lacks_many_rois_is_left_out_before_others_lose_them(tmp_path: Path) -> None:
    poor = series(1)
    poor[:, 3:] = 0.0
    cohort = build(tmp_path, people_table(5), Limits(missing_rois="drop"), {"p01": poor})
    assert reasons(cohort) == {"p01": "5 missing ROIs, limit 10% of 8"}
    assert cohort.atlas == ATLAS


def test_the_same_values_again(tmp_path: Path) -> None:
    table = people_table(6)
    table["session"] = ["1", "1", "1", "2", "1", "1"]
    table.loc[3, ["participant", "site"]] = "p02", "A"
    table["file"] = [f"p{k:02d}.npy" for k in range(6)]
    # p02's second session is a copy of its first; p00 and p05 share one array
    cohort = build(tmp_path, table, changed={"p03": series(2), "p05": series(0)})
    assert cohort.people["participant"].tolist() == ["p01", "p02", "p04"]
    assert reasons(cohort) == {
        "p00": "same values as p05/1",
        "p05": "same values as p00/1",
        "p02": "same values as p02/1",
    }


def test_censoring_by_displacement(tmp_path: Path) -> None:
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for k, n_values in enumerate((60, 59, 40)):
        fd = np.full(n_values, 0.1)
        fd[[10, 20]] = 0.9
        np.save(arrays / f"p{k:02d}_fd.npy", fd)
    options: dict[str, Any] = {"fd_pattern": "{participant}_fd.npy"}
    strict = Censoring(tr_s=2.0, fd_limit_mm=0.5)
    cohort = build(tmp_path, people_table(3), censoring=strict, **options)
    assert cohort.scans["n_used"].tolist() == [58.0, 58.0]
    assert cohort.people["minutes"].tolist() == [58 * 2 / 60] * 2
    assert cohort.people["mean_fd"].iloc[0] == pytest.approx((58 * 0.1 + 2 * 0.9) / 60)
    # 59 values are differences: the second of them belongs to the volume after
    for row, gone in ((0, [10, 20]), (1, [11, 21])):
        expected = fc_edges(np.delete(series(row), gone, axis=0))
        np.testing.assert_allclose(cohort.z.read(slice(None))[row], expected, atol=1e-6)
    assert "40 displacements for 60 volumes, cannot be censored" in reasons(cohort)["p02"]
    lenient = Censoring(tr_s=2.0, fd_limit_mm=0.5, misaligned="keep")
    cohort = build(tmp_path, people_table(3), censoring=lenient, folder="other", **options)
    assert cohort.scans["n_used"].tolist() == [58.0, 58.0, 60.0]
    assert cohort.about["notes"] == ["1 scans: 40 displacements for 60 volumes, cannot be censored"]


# --- withdrawal -----------------------------------------------------------------------------------


def test_a_withdrawn_person_is_gone(tmp_path: Path) -> None:
    table = people_table(10, BDI=[float(k) + 0.125 for k in range(10)])
    table["participant"] = [f"person-{k}" for k in range(10)]
    table["file"] = [f"p{k:02d}.npy" for k in range(10)]
    cohort = build(tmp_path, table, changed={"p09": series(8)})
    before = everything(cohort.folder)
    secret = fc_edges(series(3)).tobytes()
    # edges lie in one chunk here: a person's row is contiguous on disk
    assert secret in before
    assert b"person-3" in before
    assert cohort.withdraw("sub-person-3") == 1
    after = everything(cohort.folder)
    assert secret not in after
    assert secret[:64] not in after
    assert b"person-3" not in after
    assert b"3.125" not in after
    for found in (cohort, Cohort.open(cohort.folder)):
        left = [f"person-{k}" for k in (0, 1, 2, 4, 5, 6, 7)]
        assert found.people["participant"].tolist() == left
        expected = [fc_edges(series(k)) for k in (0, 1, 2, 4, 5, 6, 7)]
        assert np.array_equal(found.z.read(slice(None)), expected)
        assert found.excluded["reason"].tolist()[-1] == "withdrawn"
    assert len([path for path in cohort.folder.iterdir() if path.is_dir()]) == 1
    # the person was named in another's reason too
    assert cohort.withdraw("person-8") == 0
    assert b"person-8" not in everything(cohort.folder)
    assert any("same values as" in reason for reason in cohort.excluded["reason"])


def test_a_withdrawn_person_does_not_come_back(tmp_path: Path) -> None:
    cohort = build(tmp_path, people_table(6))
    cohort.withdraw("p02")
    again = build(tmp_path, people_table(6), rebuild=True)
    assert again.people["participant"].tolist() == ["p00", "p01", "p03", "p04", "p05"]
    assert again.excluded["reason"].tolist() == ["withdrawn"]
    again = build(tmp_path, people_table(6), changed={"p02": series(77)}, rebuild=True)
    assert "p02" not in again.people["participant"].tolist()  # nor with a new scan
    renamed = people_table(6)
    renamed["file"] = [f"p{k:02d}.npy" for k in range(6)]
    renamed.loc[2, "participant"] = "somebody"
    again = build(tmp_path, renamed, rebuild=True)
    assert "somebody" not in again.people["participant"].tolist()
    assert b"somebody" not in everything(again.folder)
    with pytest.raises(CohortError, match="'p02', found one who was withdrawn already"):
        again.withdraw("p02")
    with pytest.raises(CohortError, match="'p 7', found none; check the id"):
        again.withdraw("p 7")


@pytest.mark.parametrize("at", ["rename", "about", "delete"])
def test_an_interrupted_withdrawal(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the switch the cohort is as it was; after it the rest is deleted when opened."""
    cohort = build(tmp_path, people_table(5))
    secret = fc_edges(series(1)).tobytes()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    write = stored._write
    with monkeypatch.context() as patched:
        if at == "rename":
            patched.setattr(Path, "rename", stop)
        elif at == "about":
            patched.setattr(
                stored, "_write", lambda p, e: stop() if p.name == "cohort.json" else write(p, e)
            )
        else:
            rmtree = shutil.rmtree

            def keep(path: Path, *rest: Any, **options: Any) -> None:
                stop() if path.name.startswith("g-") else rmtree(path, *rest, **options)

            patched.setattr(shutil, "rmtree", keep)
        with pytest.raises(KeyboardInterrupt):
            cohort.withdraw("p01")
    again = Cohort.open(cohort.folder)
    if at == "delete":
        assert secret not in everything(cohort.folder)
        assert len(again.people) == 4
    else:
        assert again.people["participant"].tolist() == cohort.people["participant"].tolist()
        again.withdraw("p01")
    assert secret not in everything(cohort.folder)
    assert len(Cohort.open(cohort.folder).people) == 4
    assert len([path for path in cohort.folder.iterdir() if path.is_dir()]) == 1


def test_everyone_may_leave(tmp_path: Path) -> None:
    cohort = build(tmp_path, people_table(2))
    cohort.withdraw("p00")
    cohort.withdraw("p01")
    assert Cohort.open(cohort.folder).z.read(slice(None)).shape == (0, 28)
    assert len(cohort.people) == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("people.tsv", None, "expected people.tsv as it was written, found it damaged or gone"),
        ("people.tsv", "participant\tage\np00\told\n", "found it damaged or gone; build it anew"),
        ("people.tsv", 3, "a row for each of 6 scans, found 2; build it anew"),
        ("edges/c/0/0", "short", "expected whole chunks, found a damaged one; make it anew"),
        ("edges/c/0/0", None, "expected all 1 chunks of edges, found 1 gone; the store is damaged"),
    ],
)
def test_damage_is_told(tmp_path: Path, name: str, content: str | int | None, words: str) -> None:
    cohort = build(tmp_path, people_table(6))
    (path,) = cohort.folder.glob(f"g-*/{name}")
    if isinstance(content, int):  # so many lines are left
        content = "".join(path.read_text().splitlines(keepends=True)[:content])
    path.unlink() if content is None else path.write_text(content)
    cohort = Cohort.open(cohort.folder)
    with pytest.raises(CohortError, match=words):
        cohort.z.read(slice(None), np.arange(len(cohort.people)))


@pytest.mark.parametrize("names", [["people"], ["scans"], ["people", "scans"]])
def test_a_table_that_was_sorted_by_hand_is_noticed(tmp_path: Path, names: list[str]) -> None:
    cohort = build(tmp_path, people_table(6))
    for name in names:
        (path,) = cohort.folder.glob(f"g-*/{name}.tsv")
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *sorted(rows, reverse=True)]) + "\n")
    cohort = Cohort.open(cohort.folder)
    with pytest.raises(CohortError, match=f"the rows of {names[0]}.tsv in the order of the arrays"):
        getattr(cohort, names[0])


def test_the_order_of_a_cohort_that_does_not_tell_it(tmp_path: Path) -> None:
    cohort = build(tmp_path, people_table(6))
    cohort.about.pop("order")
    stored._write(cohort.folder / "cohort.json", cohort.about)
    assert len(Cohort.open(cohort.folder).people) == 6
    (path,) = cohort.folder.glob("g-*/people.tsv")
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *rows[::-1]]) + "\n")
    with pytest.raises(CohortError, match=r"the rows of people\.tsv in the order of the arrays"):
        _ = Cohort.open(cohort.folder).people


def test_a_value_corrected_by_hand_is_no_damage(tmp_path: Path) -> None:
    cohort = build(tmp_path, people_table(6))
    (path,) = cohort.folder.glob("g-*/people.tsv")
    path.write_text(path.read_text().replace("\t21.0\t", "\t31.0\t"))
    assert Cohort.open(cohort.folder).people["age"].iloc[1] == 31.0


def test_withdrawal_takes_what_an_interrupted_building_read(tmp_path: Path) -> None:
    cohort = build(tmp_path, people_table(6))
    left = cohort.folder / ".building" / "x"
    left.mkdir(parents=True)
    (left / "item-0.npz").write_bytes(b"what was read of p02")
    cohort.withdraw("p02")
    assert b"read of p02" not in everything(cohort.folder)


def test_a_cohort_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    table = people_table(6)
    cohort, other = build(tmp_path, table), Cohort.open(tmp_path / "cohort")
    assert len(other.people) == 6
    with held(cohort.folder):
        with pytest.raises(CohortError, match=r"expected nobody else to write it, found a build"):
            cohort.withdraw("p02")
        with pytest.raises(CohortError, match=r"found a build or withdrawal under way; wait"):
            build(tmp_path, table, rebuild=True)
    cohort.withdraw("p02")
    with pytest.raises(CohortError, match="found it changed since; open it anew"):
        other.withdraw("p03")  # its tables still have p02
    assert "p02" not in Cohort.open(cohort.folder).people["participant"].tolist()


# --- where and how it runs ------------------------------------------------------------------------


def test_interrupted_building_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 2 * 4 * ATLAS.n_edges)
    table = people_table(10)
    arrays = write_series(tmp_path / "arrays", 10)
    hidden = tmp_path / "hidden.npy"
    (arrays / "p07.npy").rename(hidden)
    np.save(arrays / "p07.npy", np.zeros((60, 9)))  # another atlas: building stops here
    people = read_people(table)
    source = open_source(arrays, "series", ATLAS, 10, censoring=Censoring())
    with (
        open_executor(workers=1) as executor,
        pytest.raises(AtlasError, match="p07: expected 8 columns of atlas eight, found 9"),
    ):
        build_cohort(tmp_path / "cohort", people, source, executor=executor)
    with pytest.raises(CohortError, match="found one whose building was interrupted; build it"):
        Cohort.open(tmp_path / "cohort")
    parts = sorted((tmp_path / "cohort" / ".building").glob("*/item-*"))
    assert len(parts) == 3
    times = [part.stat().st_mtime_ns for part in parts]
    hidden.replace(arrays / "p07.npy")
    seen: list[list[int]] = []
    rmtree = shutil.rmtree
    monkeypatch.setattr(
        building.shutil,
        "rmtree",
        lambda p, *a, **k: (
            seen.append([part.stat().st_mtime_ns for part in parts])
            if p.name == ".building"
            else None,
            rmtree(p, *a, **k),
        ),
    )
    cohort = build_cohort(tmp_path / "cohort", people, source)
    assert seen == [times]  # those finished before were not read again
    expected = [fc_edges(series(k)) for k in range(10)]
    assert np.array_equal(cohort.z.read(slice(None)), expected)


def test_a_building_that_failed_does_not_stand_in_the_way(tmp_path: Path) -> None:
    arrays = write_series(tmp_path / "arrays", 10)
    people = read_people(people_table(10))
    wrong = open_source(arrays, "series", ATLAS, 10, pattern="sub-{participant}.npy")
    with pytest.raises(CohortError, match=r"everyone excluded: .* expected a file, found none"):
        build_cohort(tmp_path / "cohort", people, wrong)
    assert list((tmp_path / "cohort" / ".building").iterdir())
    right = open_source(arrays, "series", ATLAS, 10, censoring=Censoring(tr_s=2.0))
    cohort = build_cohort(tmp_path / "cohort", people, right)
    assert (cohort.people["minutes"] == 2.0).all()  # 60 volumes, by the corrected settings
    assert not (tmp_path / "cohort" / ".building").exists()


def test_the_same_cohort_by_threads_processes_and_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 2 * 4 * ATLAS.n_edges)
    found = []
    for k, where in enumerate(({"workers": 1}, {"workers": 3}, {"workers": 2, "processes": True})):
        with open_executor(**where) as executor:  # type: ignore[arg-type]
            cohort = build(tmp_path, people_table(10), folder=f"c{k}", executor=executor)
        found.append(cohort.z.read(slice(None)).tobytes())
    assert len(set(found)) == 1


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    build(tmp_path, people_table(3))
    with pytest.raises(CohortError, match="found a cohort of 3 scans; give another, or rebuild"):
        build(tmp_path, people_table(3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(CohortError, match="found other files in it"):
        build(tmp_path, people_table(3), folder="other")
    with pytest.raises(CohortError, match="expected a cohort, found none"):
        Cohort.open(tmp_path / "none")
    about = tmp_path / "cohort" / "cohort.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 9}))
    with pytest.raises(CohortError, match="expected format 1, found 9"):
        Cohort.open(tmp_path / "cohort")


def test_a_file_that_is_missing_is_a_reason(tmp_path: Path) -> None:
    arrays = write_series(tmp_path / "arrays", 3)
    (arrays / "p01.npy").unlink()
    source = open_source(arrays, "series", ATLAS, 3)
    cohort = build_cohort(tmp_path / "cohort", read_people(people_table(3)), source)
    assert "p01.npy: expected a file, found none" in reasons(cohort)["p01"]


# --- matrices of others ---------------------------------------------------------------------------


def matrices(n: int = 6, n_rois: int = 8) -> np.ndarray:
    return np.stack([np.corrcoef(series(k).T) for k in range(n)])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_one_table_for_all(flat: bool, suffix: str, tmp_path: Path) -> None:
    R = matrices()
    X = R[:, *np.triu_indices(8, 1)] if flat else R
    path = tmp_path / f"all.{suffix}"
    np.save(path, X) if suffix == "npy" else np.savez(path, other=np.arange(3), X=X)
    variable = None if suffix == "npy" else "X"
    source = open_source(path, "r", ATLAS, 6, variable=variable)
    cohort = build_cohort(tmp_path / "cohort", read_people(people_table(6)), source)
    expected = [fc_edges(series(k)) for k in range(6)]
    np.testing.assert_allclose(cohort.z.read(slice(None)), expected, atol=1e-6)
    assert cohort.people["minutes"].isna().all()
    short = open_source(path, "r", ATLAS, 5, variable=variable)
    with pytest.raises(CohortError, match="each of 5 scans of the table, found 6"):
        build_cohort(tmp_path / "other", read_people(people_table(5)), short)


def test_what_is_ambiguous_or_was_reordered_is_noted(tmp_path: Path) -> None:
    weak = 0.3 * matrices(3)
    np.save(tmp_path / "z.npy", np.where(np.eye(8), 0.0, weak))
    source = open_source(tmp_path / "z.npy", "z", ATLAS, 3)
    cohort = build_cohort(tmp_path / "z", read_people(people_table(3)), source)
    assert cohort.about["notes"] == ["3 scans: all |z| < 1: taken for z as stated, could be r"]
    (tmp_path / "csv").mkdir()
    for k in range(3):
        columns = ATLAS.labels[::-1] if k else ATLAS.labels
        frame = pd.DataFrame(series(k), columns=list(ATLAS.labels))[list(columns)]
        frame.to_csv(tmp_path / "csv" / f"p{k:02d}.csv", index=False)
    source = open_source(tmp_path / "csv", "series", ATLAS, 3, pattern="{participant}.csv")
    cohort = build_cohort(tmp_path / "named", read_people(people_table(3)), source)
    told = "2 scans: columns brought into the atlas's order by their names"
    assert cohort.about["notes"] == [told]
    expected = [fc_edges(series(k)) for k in range(3)]
    np.testing.assert_allclose(cohort.z.read(slice(None)), expected, atol=1e-6)


def test_fisher_z_given_twice_stops_the_building(tmp_path: Path) -> None:
    R = matrices()
    z = np.arctanh(np.where(np.eye(8), 0.0, R))
    np.save(tmp_path / "z.npy", z)
    source = open_source(tmp_path / "z.npy", "r", ATLAS, 6)
    with pytest.raises(ScaleError, match="state kind z"):
        build_cohort(tmp_path / "cohort", read_people(people_table(6)), source)


def test_an_atlas_that_is_not_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", columns=np.array(["G", *ATLAS.labels]), p00=np.zeros((60, 9)))
    source = open_source(tmp_path / "a.npz", "series", None, 1, drop=["G"])
    assert source.atlas == Atlas("a", ATLAS.labels)
    with pytest.raises(CohortError, match="found no names of ROIs in it; give the atlas"):
        open_source(write_series(tmp_path / "arrays", 1), "series", None, 1)
    with pytest.raises(CohortError, match="expected series in a folder or archive"):
        open_source(tmp_path / "arrays" / "p00.npy", "series", ATLAS, 1)
    with pytest.raises(CohortError, match="expected a file or folder, found none"):
        open_source(tmp_path / "none", "series", ATLAS, 1)


# --- real data ------------------------------------------------------------------------------------


def test_a_public_three_site_rest_data_set(data: Path, tmp_path: Path) -> None:
    """119 people; eight lack an ROI, two of different age and sex have one and the same series."""
    rest = data / "rest"
    people = read_people(rest / "rpn_3site_participants.tsv")
    atlas = Atlas.load(rest / "rpn_atlas_mist122_relabeled.tsv", "MIST-122")
    source = open_source(
        rest / "rpn_3site_mist122_timeseries.npz",
        "series",
        atlas,
        len(people.table),
        drop=["GlobSig"],
        censoring=Censoring(tr_s=2.5),
    )
    cohort = build_cohort(tmp_path / "rest", people, source)
    assert cohort.atlas.digest == atlas.digest
    assert (len(cohort.people), cohort.z.shape) == (109, (109, 7381))
    told = reasons(cohort)
    assert told.pop("essen-004") == "same values as essen-005/1"
    assert told.pop("essen-005") == "same values as essen-004/1"
    lacking = ["004", "006", "016", "018", "024", "027", "029", "044"]
    assert told == {f"bochum-{person}": "1 missing ROI" for person in lacking}
    sites = cohort.people["site"].value_counts().to_dict()
    assert sites == {"essen": 47, "bochum": 33, "szeged": 29}
    assert cohort.people["minutes"].between(155 * 2.5 / 60, 290 * 2.5 / 60).all()
    with np.load(rest / "rpn_3site_mist122_timeseries.npz") as archive:
        first = archive[cohort.people["participant"].iloc[0]][:, 1:].astype(float)
    expected = np.arctanh(np.corrcoef(first.T)[np.triu_indices(122, 1)])
    np.testing.assert_allclose(cohort.z.read(slice(None), np.array([0]))[0], expected, atol=2e-6)
