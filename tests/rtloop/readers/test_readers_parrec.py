"""PAR/REC against nibabel: magnitude values, and geometry where the general header is filled in."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.fileholders import FileHolder
from nibabel.parrec import PARRECHeader, PARRECImage, parse_PAR_header

from rtloop.readers import Assembler, Complete, Refused, Repeat, ScannerConfig, Taken, Unfinished
from tests.rtloop.readers.conftest import SECRET, assembled

BINDING = ScannerConfig(tr_s=1.0)


@pytest.fixture(scope="module")
def pairs(data: Path) -> list[Path]:
    return sorted((data / "dicom" / "philips_par_rec").iterdir())


@pytest.fixture(scope="module")
def text(pairs: list[Path]) -> str:
    return pairs[0].read_text(encoding="latin-1")


def test_values_equal_nibabels_magnitude_image(pairs: list[Path]) -> None:
    volumes, outcomes = assembled(pairs, BINDING)
    assert [volume.index for volume in volumes] == [0, 1, 2, 3]
    assert [type(outcome) for outcome in outcomes] == [Taken, Complete] * 4
    assert len({volume.attempt for volume in volumes}) == 1
    for volume, path in zip(volumes, pairs[::2], strict=True):
        expected = nibabels(path)[..., 1]
        # stored rows run from anterior, columns from right: both are turned for RAS+
        np.testing.assert_allclose(volume.data, expected[::-1, ::-1], rtol=2e-7)
        assert volume.data.min() >= 0
        assert volume.data.dtype == np.float32
        assert volume.tr_s == 1.0
        assert volume.acquired_s is None
        assert volume.protocol is not None
        assert volume.protocol["manufacturer"] == "Philips"
        np.testing.assert_allclose(volume.voxel_size_mm, [3, 3, 4], atol=1e-6)


def nibabels(path: Path) -> np.ndarray:
    """What nibabel reads, phase and magnitude in the last axis."""
    stored = io.BytesIO(path.with_suffix(".rec").read_bytes())
    with path.open(encoding="latin-1") as text:
        holders = {"header": FileHolder(fileobj=text), "image": FileHolder(fileobj=stored)}
        return np.asarray(PARRECImage.from_file_map(holders).dataobj)


def test_slice_centres_are_where_the_images_lines_say(pairs: list[Path], text: str) -> None:
    (volume, *_), _ = assembled(pairs[:2], BINDING)
    _, lines = parse_PAR_header(io.StringIO(text))
    posterior, superior, left = lines["image offcentre"][lines["image_type_mr"] == 16].T
    told = np.column_stack([-left, -posterior, superior])
    middle = np.array([39.5, 39.5])
    for number, expected in enumerate(told):
        found = volume.affine @ [*middle, number, 1]
        np.testing.assert_allclose(found[:3], expected, atol=0.12)  # lines round to 0.1 mm


def filled_in(
    text: str, angulation: np.ndarray, middle: np.ndarray, orientation: int
) -> tuple[str, np.ndarray]:
    """A PAR text whose general header and image lines agree, and nibabel's affine of it."""
    lines = text.splitlines()
    head = [line for line in lines if not line[:1].isdigit()]
    for number, line in enumerate(head):
        if "Angulation midslice" in line or "Off Centre midslice" in line:
            values = angulation if "Angulation" in line else middle
            head[number] = line[: line.index(":") + 1] + "  " + " ".join(map(repr, values.tolist()))
    images = [line.split() for line in lines if line[:1].isdigit()]
    for image in images:
        image[16:19] = [repr(value) for value in angulation.tolist()]
        image[25] = str(orientation)
    affine = _nibabel_affine(head, images)
    for image in images:
        x, y, z, _ = affine @ [39.5, 39.5, int(image[0]) - 1, 1]
        image[19:22] = [repr(float(value)) for value in (-y, z, -x)]
    return _joined(head, images), affine


def _nibabel_affine(head: list[str], images: list[list[str]]) -> np.ndarray:
    general, lines = parse_PAR_header(io.StringIO(_joined(head, images)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the dump's zeroed header
        return PARRECHeader(general, lines).get_affine()


def _joined(head: list[str], images: list[list[str]]) -> str:
    return "\n".join([*head[:-2], *map(" ".join, images), *head[-2:]]) + "\n"


@pytest.mark.parametrize("orientation", [1, 2, 3])
def test_geometry_equals_nibabels(
    orientation: int, pairs: list[Path], text: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(orientation)
    stored = pairs[1].read_bytes()
    for number in range(5):
        angulation, middle = rng.uniform(-30, 30, 3), rng.uniform(-40, 40, 3)
        changed, affine = filled_in(text, angulation, middle, orientation)
        par, rec = tmp_path / f"x_{number}.PAR", tmp_path / f"x_{number}.REC"
        par.write_text(changed, encoding="latin-1")
        rec.write_bytes(stored)
        (volume,), _ = assembled([rec, par], BINDING)
        expected = nib.as_closest_canonical(nib.Nifti1Image(_magnitude(changed, rec), affine))
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-3)
        np.testing.assert_allclose(volume.data, expected.get_fdata(), rtol=2e-7)


def _magnitude(text: str, rec: Path) -> np.ndarray:
    _, lines = parse_PAR_header(io.StringIO(text))
    images = np.frombuffer(rec.read_bytes(), "<u2").reshape(-1, 80, 80)
    chosen = lines[lines["image_type_mr"] == 16]
    scaled = images[chosen["index in REC file"]] * chosen["rescale slope"][:, None, None]
    return scaled.transpose(2, 1, 0)


def test_the_header_repetition_time_of_1_ms_is_refused(pairs: list[Path]) -> None:
    _, outcomes = assembled(pairs[:2])
    assert isinstance(outcomes[1], Refused)
    assert "tr_s" in outcomes[1].reason
    assert outcomes[1].index == 0


def test_either_half_may_come_first_and_a_pair_counts_once(pairs: list[Path]) -> None:
    reader = Assembler(BINDING, SECRET)
    attempt_index = reader.add(pairs[1], 0.0)
    assert isinstance(attempt_index, Taken)
    assert reader.pending() == [(attempt_index.attempt, 0, 1, 2)]
    assert isinstance(reader.add(pairs[0], 0.0), Complete)
    assert reader.pending() == []
    assert isinstance(reader.add(pairs[0], 0.0), Repeat)
    assert isinstance(reader.add(pairs[1], 0.0), Repeat)


def test_truncated_halves_never_give_a_volume(pairs: list[Path], tmp_path: Path) -> None:
    text, stored = pairs[0].read_bytes(), pairs[1].read_bytes()
    par, rec = tmp_path / "cut_0.par", tmp_path / "cut_0.rec"
    reader = Assembler(BINDING, SECRET)
    end = text.index(b"END OF DATA")
    for cut in (0, 10, 500, len(text) // 2, end - 1):
        par.write_bytes(text[:cut])
        rec.write_bytes(stored)
        reader.add(par, 0.0)
        assert isinstance(reader.add(rec, 0.0), Unfinished)
    par.write_bytes(text)
    for cut in (0, 2, 12800, len(stored) - 2):
        rec.write_bytes(stored[:cut])
        assert isinstance(reader.add(rec, 0.0), Unfinished)
    rec.write_bytes(stored)
    assert isinstance(reader.add(rec, 0.0), Complete)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("V4.2", "V9.9", "version"),
        ("slices/locations    :   15", "slices/locations    :   16", "each of 16 slices"),
        ("\n1 1 1 0 16 ", "\n1 1 1 0 17 ", "found 14"),
        ("14.3000001907349", "34.3000001907349", "thickness and gap"),
        ("Repetition time [ms]               :   1", "Repetition time [ms]", "entries"),
    ],
)
def test_odd_pairs_are_refused(
    old: str, new: str, reason: str, pairs: list[Path], text: str, tmp_path: Path
) -> None:
    assert old in text
    (tmp_path / "odd_0.par").write_text(text.replace(old, new), encoding="latin-1")
    (tmp_path / "odd_0.rec").write_bytes(pairs[1].read_bytes())
    _, outcomes = assembled(sorted(tmp_path.iterdir()), BINDING)
    assert isinstance(outcomes[-1], Refused)
    assert reason in outcomes[-1].reason
