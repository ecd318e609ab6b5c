"""The public multi-site releases: files of their layout, with made-up values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from offline.cohort import Limits, build_cohort
from offline.cohort.connectivity_release import read_connectivity
from offline.cohort.releases import open_people, traveling_people
from offline.errors import CohortError
from rtloop.connectivity import edge_pairs

N_EDGES = 9730

Release = tuple[Path, dict[str, NDArray[np.float64]]]


def correlations(n: int, seed: int, n_rois: int = 140) -> NDArray[np.float64]:
    """Matrices of signals, shape (n, n_rois, n_rois)."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_rois, n_rois)) + 0.3
    signals = rng.standard_normal((n, 240, n_rois)) @ mixing
    return np.stack([np.corrcoef(x.T) for x in signals])


def released(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """As MATLAB does it: R(tril(true(n), -1))."""
    n = R.shape[1]
    below = np.tril(np.ones((n, n), bool), -1)
    return np.stack([r.flatten(order="F")[below.flatten(order="F")] for r in R])


def write(root: Path, name: str, variable: str, X: NDArray[np.float64]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {variable: X})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    root = tmp_path_factory.mktemp("release") / "SRPBS_FC"
    R = {name: correlations(3, k) for k, name in enumerate(("showa", "hiroshima", "kyoto", "atr"))}
    R["showa"][1, 7] = np.nan
    R["showa"][1, :, 7] = np.nan
    write(root, "ShowaU/SWA_FC_Matrices_N3.mat", "FCMat", released(R["showa"]))
    write(root, "HiroshimaU/DEP_BAL-UHIBP39_COR.mat", "X", released(R["hiroshima"]))
    write(root, "KyotoU/SSD/BAL-KyotoU_UKY_SSD_3_BAL_BP39_COR.mat", "X", released(R["kyoto"]))
    write(root, "KyotoU/SSD/AAL-KyotoU_UKY_SSD_3.mat", "X", released(correlations(3, 9, 116)))
    (root / "ATR" / "OCD-oblique").mkdir(parents=True)
    np.savetxt(root / "ATR" / "OCD-oblique" / "BAL-ATR_3OCDPatients.mat", released(R["atr"]))
    tables = {
        "ShowaU/SUBINFO_ShowaU_for_SWA_N3.tsv": "ID\tAge\tSex\tDiagnosis\n"
        "S1\t30\t1\t0\nS2\t31\t2\t2\nS3\t32\t1\t7\n",
        "HiroshimaU/SUBINFO_HiroshimaU.tsv": "SubjID\tAge(years)\tGender\t"
        "Diagnosis(Healthy=1, Depression=2)\nH1\t40\t2\t1\nH2\t41\t2\t2\nH3\tn/a\t1\t2\n",
        "KyotoU/SUBINFO_KyotoU_SSD.tsv": "age\tsex\n50\t1\n51\t2\n52\t1\n",
        "ATR/SUBINFO_ATR.tsv": "participant_id\tage\tsex\tsite\n"
        "sub-01\t20\tM\tATT\nsub-02\t21\tF\tATV\nsub-03\t22\tF\tATV\n",
    }
    for name, text in tables.items():
        (root / name).write_text(text)
    return root, R


def test_the_connectivity_release(release: Release, tmp_path: Path) -> None:
    root, R = release
    found = read_connectivity(root)
    people = found.people.table
    assert people["participant"].tolist() == [
        "ATR-01", "ATR-02", "ATR-03", "HiroshimaU-H1", "HiroshimaU-H2", "HiroshimaU-H3",
        "KyotoU-0001", "KyotoU-0002", "KyotoU-0003", "ShowaU-S1", "ShowaU-S2", "ShowaU-S3",
    ]  # fmt: skip
    assert people["diagnosis"].tolist() == [
        *["OCD"] * 3, "HC", "MDD", "MDD", *["SCZ"] * 3, "HC", "SCZ", "7",
    ]  # fmt: skip
    assert people["site"].tolist()[:4] == ["ATR-ATT", "ATR-ATV", "ATR-ATV", "HiroshimaU"]
    assert people["sex"].tolist() == ["M", "F", "F", "F", "F", "M", "M", "F", "M", "M", "F", "M"]
    np.testing.assert_equal(people["age"].to_numpy()[3:6], [40.0, 41.0, np.nan])
    told = "\n".join(found.notes)
    assert "AAL-KyotoU_UKY_SSD_3.mat: 116 ROIs, not the 140" in told
    assert "no column known for participant, diagnosis, site" in told
    assert "diagnosis 7 is not known, kept as it is" in told
    assert "ROITBL_BAL.mat not found" in told
    limits = Limits(tier="restricted-fc")
    cohort = build_cohort(
        tmp_path / "cohort", found.people, found.source, limits, notes=found.notes
    )
    assert cohort.z.shape == (11, N_EDGES)
    assert cohort.excluded["reason"].tolist() == ["1 missing ROI"]
    a, b = edge_pairs(140).T
    order = [R["atr"], R["hiroshima"], R["kyoto"], R["showa"][[0, 2]]]
    expected = np.arctanh(np.concatenate(order)[:, a, b])
    np.testing.assert_allclose(cohort.z.read(slice(None)), expected, atol=1e-6)
    assert set(found.notes) <= set(cohort.about["notes"])


def test_names_of_rois_from_the_release_s_own_table(release: Release, tmp_path: Path) -> None:
    names = [f"L.S{k}" for k in range(137)] + ["L.CB", "R.CB", "VERM"]
    write(tmp_path, "ShowaU/SWA_FC_Matrices_N3.mat", "FCMat", released(release[1]["atr"]))
    (tmp_path / "ShowaU" / "SUBINFO_ShowaU.tsv").write_text("ID\nA\nB\nC\n")
    rois = np.array([(k + 1, name) for k, name in enumerate(names)], [("id", "O"), ("name", "O")])
    scipy.io.savemat(tmp_path / "ROITBL_BAL.mat", {"ROI": rois, "MAP": np.zeros((2, 2, 2, 140))})
    assert read_connectivity(tmp_path).source.atlas.labels == tuple(names)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("ID\nA\nB\n", r"expected one SUBINFO_\*.tsv of 3 people beside it, found none"),
        (None, "found none; keep both as released"),
    ],
)
def test_a_matrix_without_its_people(table: str | None, words: str, tmp_path: Path) -> None:
    write(tmp_path, "ShowaU/X.mat", "X", released(correlations(3, 0)))
    if table:
        (tmp_path / "ShowaU" / "SUBINFO_ShowaU.tsv").write_text(table)
    with pytest.raises(CohortError, match=words):
        read_connectivity(tmp_path)


def test_no_release(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"expected \.mat files of 9730 edges, found none"):
        read_connectivity(tmp_path)


def test_two_matrices_and_two_tables_of_one_length_are_paired_by_name(tmp_path: Path) -> None:
    for k, (name, age) in enumerate((("HC", 20), ("OCD", 60))):
        write(tmp_path, f"KPUM/BAL-KPUM_{name}.mat", "X", released(correlations(3, k)))
        (tmp_path / "KPUM" / f"SUBINFO_KPUM_{name}.tsv").write_text(
            "ID\tage\n" + "".join(f"{name}{i}\t{age + i}\n" for i in range(3))
        )
    people = read_connectivity(tmp_path).people.table
    assert people["diagnosis"].tolist() == ["HC"] * 3 + ["OCD"] * 3
    assert people["age"].tolist() == [20, 21, 22, 60, 61, 62]


def test_the_open_mri_release_s_people(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\tsite\tprotocol\tdiag\thand\n"
        "sub-0001\t30\t1\tSWA\t3\t0\t1\nsub-0002\t31\t2\tHUH\t4\t2\t1\nsub-0003\tn/a\t2\tUTO\t5\t99\t2\n"
    )
    people = open_people(tmp_path).table
    assert people["participant"].tolist() == ["0001", "0002", "0003"]
    assert people["diagnosis"].tolist() == ["HC", "MDD", "other"]
    assert people["sex"].tolist() == ["M", "F", "F"]
    assert people["scanner"].tolist() == ["3", "4", "5"]
    assert set(people["consent"]) == {"open-mri"}
    with pytest.raises(CohortError, match="expected a table, found No such file"):
        open_people(tmp_path / "none")


def test_who_traveled_where_and_when(tmp_path: Path) -> None:
    source = tmp_path / "SRPBS_TS" / "sourcedata"
    for person in ("sub-01", "sub-02"):
        for session in ("ses-siteATTd1", "ses-siteATTd2", "ses-siteATV", "ses-siteYC1"):
            (source / person / session / "func").mkdir(parents=True)
    (source / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t25\t1\n")
    for root in (source.parent, source):
        people = traveling_people(root)
        table = people.table
        assert table["participant"].tolist() == ["01"] * 4 + ["02"] * 4
        assert table["site"].tolist() == ["ATT", "ATT", "ATV", "YC1"] * 2
        assert table["visit"].tolist() == [1, 2, 1, 1] * 2
        assert table["session"].tolist()[:2] == ["siteATTd1", "siteATTd2"]
        assert table["traveling"].all()
        assert set(table["consent"]) == {"open-traveling"}
        assert table["age"].tolist()[0] == 25
        assert table["sex"].isna().tolist() == [False] * 4 + [True] * 4
    (source / "sub-03" / "ses-1").mkdir(parents=True)
    with pytest.raises(CohortError, match="expected sessions ses-siteCODE, found ses-1"):
        traveling_people(source)
