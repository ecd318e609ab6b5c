"""scanner.toml: its entries, its one line of errors, and whom it takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from rtloop.errors import ConfigError
from rtloop.readers import ScannerConfig
from rtloop.readers.piece import Series

EXAMPLE = Path(__file__).parents[3] / "configs" / "scanner.toml"
BOLD = Series(
    key="1.2.3",
    form="Siemens mosaic",
    description="rest AP",
    protocol_name="Rest_MB8",
    image_type=("ORIGINAL", "PRIMARY", "M", "ND", "NORM", "MOSAIC"),
    echo=1,
    epi=True,
    n_volumes=300,
)


def changed(**entries: object) -> Series:
    from dataclasses import replace

    return replace(BOLD, **entries)  # type: ignore[arg-type]


def test_the_example_has_every_default() -> None:
    assert ScannerConfig.load(EXAMPLE) == ScannerConfig()


def test_the_example_names_every_entry_with_an_admissible_value(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", EXAMPLE.read_text(encoding="utf-8"))
    assert set(tomllib.loads(text)) == set(ScannerConfig.model_fields)
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    assert ScannerConfig.load(tmp_path / "all.toml").tr_s == 1.0


def test_all_errors_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scanner.toml"
    path.write_text(
        'protcol_name = "x"\ntr_s = -1\necho = 0\nindex_tag = "PatientID"\nfirst_index = 0\n'
    )
    with pytest.raises(ConfigError) as caught:
        ScannerConfig.load(path)
    line = str(caught.value)
    assert "\n" not in line
    for part in ("protcol_name: no such entry", "tr_s", "-1", "echo", "index_tag", "PatientID"):
        assert part in line


@pytest.mark.parametrize("content", [b"tr_s = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "scanner.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"scanner\.toml: "):
        ScannerConfig.load(path)


@pytest.mark.parametrize("tag", ["(0010,0020)", "0008,0080", "StudyID", "(0020,001)", ""])
def test_index_tags_that_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="index_tag"):
        ScannerConfig(index_tag=tag)


@pytest.mark.parametrize(
    ("tag", "number"),
    [("AcquisitionNumber", 0x00200012), ("(0019,1016)", 0x00191016), ("0020,9128", 0x00209128)],
)
def test_index_tags(tag: str, number: int) -> None:
    assert ScannerConfig(index_tag=tag).index_element == number


def test_the_default_takes_any_epi_magnitude_series_in_time() -> None:
    binding = ScannerConfig()
    assert binding.why_not(BOLD) is None
    for entries in (
        {"epi": None, "echo": None, "n_volumes": None},
        {"image_type": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")},
        {"protocol_name": "", "description": "", "image_type": ()},
    ):
        assert binding.why_not(changed(**entries)) is None


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "M", "MOCO", "MOSAIC")}, "MOCO"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}, "holds P"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "PHASE MAP", "FFE")}, "PHASE MAP"),
        ({"image_type": ("derived", "PRIMARY", "M")}, "DERIVED"),
        ({"description": "rest_AP_SBRef"}, "sbref"),
        ({"echo": 2}, "echo 2"),
        ({"epi": False}, "not echo-planar"),
        ({"n_volumes": 1}, "one volume"),
    ],
)
def test_the_default_leaves_out(entries: dict[str, object], reason: str) -> None:
    why = ScannerConfig().why_not(changed(**entries))
    assert why is not None
    assert reason in why


def test_a_narrow_binding() -> None:
    binding = ScannerConfig(
        protocol_name="rest_mb?", image_type_include=("norm",), image_type_exclude=("DIS2D",)
    )
    assert binding.why_not(BOLD) is None
    without = ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")
    assert "lacks norm" in (binding.why_not(changed(image_type=without)) or "")
    twin = (*BOLD.image_type, "DIS2D")
    assert "DIS2D" in (binding.why_not(changed(image_type=twin)) or "")
    other = binding.why_not(changed(protocol_name="Task_MB8"))
    assert other is not None
    assert "Task" not in other
    assert ScannerConfig(epi_only=False).why_not(changed(epi=False)) is None
    assert ScannerConfig(echo=2).why_not(changed(echo=2)) is None
    assert "norm" in (ScannerConfig(image_type_exclude=("norm",)).why_not(BOLD) or "")
