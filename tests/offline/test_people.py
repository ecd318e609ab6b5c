"""The participants table: what is read, and how a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offline.cohort.consent import TIERS, Tombstones, covers, tier_of
from offline.cohort.people import has_diagnosis, read_people
from offline.errors import CohortError

FULL = """\
participant_id\tses\tsite\tdiag\tage\tsex\tconsent_tier\tmean_fd\tTraveling\tBDI\tn_volumes\tnote
sub-01\tx\tA\tMDD; PTSD\t30.5\tfemale\topen-mri\t0.1\tno\t21\t200\tfine
sub-02\tx\tB\tHC\tn/a\tM\tRestricted FC\t0.2\tyes\tn/a\t210\t
03\tx\tB\t\t41\t\twithdrawn\tNaN\t\t3.5\t220\tx
"""


def table(text: str, folder: Path) -> Path:
    path = folder / "participants.tsv"
    path.write_text(text)
    return path


def test_a_full_table(tmp_path: Path) -> None:
    people = read_people(table(FULL, tmp_path), {"session": "ses"})
    t = people.table
    assert t["participant"].tolist() == ["01", "02", "03"]
    assert t["session"].tolist() == ["x"] * 3
    assert t["diagnosis"].tolist()[:2] == ["MDD;PTSD", "HC"]
    assert t["sex"].tolist()[:2] == ["F", "M"]
    assert t["consent"].tolist() == ["open-mri", "restricted-fc", "withdrawn"]
    assert t["traveling"].tolist() == [False, True, False]
    np.testing.assert_equal(t["age"].to_numpy(), [30.5, np.nan, 41.0])
    np.testing.assert_equal(t["BDI"].to_numpy(), [21.0, np.nan, 3.5])
    assert t[["diagnosis", "sex", "mean_fd"]].isna().iloc[2].all()
    assert t[["scanner", "medication", "minutes", "file"]].isna().all(axis=None)
    assert people.scores == ("BDI",)
    assert people.ignored == ("n_volumes", "note")
    assert people.has_consent
    assert has_diagnosis(t, "PTSD").tolist() == [True, False, False]


def test_csv_with_a_byte_order_mark_and_ids_that_look_like_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("\ufeffID,Site\n007,1\n010,1\n")
    people = read_people(tmp_path / "p.csv")
    assert people.table["participant"].tolist() == ["007", "010"]
    assert people.table["session"].tolist() == ["1", "1"]
    assert not people.has_consent


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("30.5", "old", "row 2, column age: expected a number of 0..120, found 'old'; correct"),
        ("30.5", "-3", "row 2, column age: .* found '-3'"),
        ("30.5", "inf", "row 2, column age: .* found 'inf'"),
        ("0.2", "-0.2", "row 3, column mean_fd: expected a number of 0..inf, found '-0.2'"),
        ("female", "w", "row 2, column sex: expected M, F or O, found 'w'"),
        ("Restricted FC", "all", "row 3, column consent: expected a consent tier, or withdrawn"),
        ("yes", "maybe", "row 3, column traveling: expected yes or no, found 'maybe'"),
        ("3.5", "3,5", "row 4, column BDI: expected a number, found '3,5'"),
        ("sub-02", "", "row 3, column participant: expected a participant's id, found nothing"),
        ("sub-02", "sub-0 2", "row 3, column participant: .* found 'sub-0 2'"),
        ("MDD; PTSD", ";MDD", "row 2, column diagnosis: .* found ';MDD'"),
        ("sub-02", "sub-01", "one sex of participant 01, found several"),
        ("participant_id", "who", r"expected a column participant \(or participant, .*found who"),
        ("site", "place", "expected a column site"),
    ],
)
def test_a_mistake_is_told_where_it_is(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in FULL
    with pytest.raises(CohortError, match=words):
        read_people(table(FULL.replace(old, new, 1), tmp_path), {"session": "ses"})


def test_who_travels_is_not_guessed() -> None:
    moved = {"participant": ["1", "1", "2"], "session": ["a", "b", "a"], "site": ["A", "B", "B"]}
    with pytest.raises(CohortError, match=r"expected a column traveling, as participant 1 .*none"):
        read_people(pd.DataFrame(moved))
    told = read_people(pd.DataFrame({**moved, "traveling": ["yes", "yes", "no"]})).table
    assert told["traveling"].tolist() == [True, True, False]
    stayed = pd.DataFrame({**moved, "site": ["A", "A", "B"]})
    assert not read_people(stayed).table["traveling"].any()


def test_no_table(tmp_path: Path) -> None:
    for name, content in (("none.tsv", None), ("empty.tsv", b""), ("binary.tsv", b"\xff\x00\x91")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CohortError, match=f"{name}: expected a table with a header, found"):
            read_people(tmp_path / name)
    with pytest.raises(CohortError, match=r"expected .tsv or .csv"):
        read_people(tmp_path / "people.xlsx")
    with pytest.raises(CohortError, match=r"OURS=THEIRS .* found age=years; columns are id, site"):
        read_people(pd.DataFrame({"id": ["1"], "site": ["A"]}), {"age": "years"})


def test_consent_to_the_wider_use_covers_the_narrower() -> None:
    allowed = {tier: [request for request in TIERS if covers(tier, request)] for tier in TIERS}
    assert allowed == {
        "restricted-fc": ["restricted-fc"],
        "restricted-mri": ["restricted-fc", "restricted-mri"],
        "open-mri": ["restricted-fc", "restricted-mri", "open-mri"],
        "open-traveling": list(TIERS),
    }
    assert not any(covers("", request) for request in TIERS)
    assert tier_of(" Open_MRI ") == "open-mri"
    with pytest.raises(CohortError, match="expected a consent tier of restricted-fc"):
        tier_of("mri")


def test_tombstones_know_who_left_and_hold_no_name() -> None:
    stones = Tombstones().with_these("p01", "abc")
    assert stones.has("p01")
    assert stones.has("abc")
    assert not stones.has("p02")
    assert not any("p01" in mark for mark in stones.marks)
    again = Tombstones(stones.key, stones.marks)
    assert again.has("p01")
    assert not Tombstones(marks=stones.marks).has("p01")  # another cohort's key
    assert stones.with_these("p01").marks == stones.marks
