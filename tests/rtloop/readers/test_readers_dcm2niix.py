"""Every real DICOM series against dcm2niix's reading of the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtloop.readers import ScannerConfig, read_series
from rtloop.volume import WIRE_DTYPES, Volume
from tests.rtloop.readers.conftest import SERIES, Reference

CLOCK_STEP_S = 2.5e-3 + 1e-9
"""Siemens rounds slice times to 2.5 ms, each volume's anew; dcm2niix tells one volume's."""


@pytest.fixture(scope="module", params=SERIES)
def pair(
    request: pytest.FixtureRequest,
    dicom: Callable[[str], Path],
    reference: Callable[[str], Reference],
) -> tuple[list[Volume], Reference]:
    """The whole folder read with the default binding, beside dcm2niix's image."""
    return read_series(dicom(request.param), ScannerConfig()), reference(request.param)


def test_values_are_equal(pair: tuple[list[Volume], Reference]) -> None:
    volumes, expected = pair
    assert [volume.index for volume in volumes] == list(range(expected.data.shape[3]))
    for volume in volumes:
        data = expected.data[..., volume.index]
        if volume.data.dtype.kind == "f":  # a slope was applied: float32 against nibabel's float64
            np.testing.assert_allclose(volume.data, data, rtol=2e-7, atol=0)
        else:
            np.testing.assert_array_equal(volume.data, data)


def test_affine_within_a_micrometre(pair: tuple[list[Volume], Reference]) -> None:
    volumes, expected = pair
    for volume in volumes:
        assert np.abs(volume.affine - expected.affine).max() < 1e-3


def test_repetition_time(pair: tuple[list[Volume], Reference]) -> None:
    volumes, expected = pair
    assert {volume.tr_s for volume in volumes} == {volumes[0].tr_s}
    assert volumes[0].tr_s == pytest.approx(expected.sidecar["RepetitionTime"], abs=1e-5)


def test_slice_times(pair: tuple[list[Volume], Reference]) -> None:
    volumes, expected = pair
    told = expected.sidecar.get("SliceTiming")
    assert volumes[0].slice_axis == 2
    if told is None:
        assert volumes[0].slice_times_s is None
    else:
        for volume in volumes:
            assert volume.slice_times_s == pytest.approx(told, abs=CLOCK_STEP_S)


def test_protocol(pair: tuple[list[Volume], Reference]) -> None:
    volumes, expected = pair
    protocol, sidecar = volumes[0].protocol, expected.sidecar
    assert protocol is not None
    assert protocol.get("phase_encoding") == sidecar.get("PhaseEncodingDirection")
    axis = sidecar.get("PhaseEncodingAxis") or sidecar["PhaseEncodingDirection"][0]
    assert protocol["phase_encoding_axis"] == axis
    assert protocol["echo_time_s"] == pytest.approx(sidecar["EchoTime"])
    assert protocol["field_strength_t"] == pytest.approx(sidecar["MagneticFieldStrength"])
    np.testing.assert_allclose(
        protocol["voxel_size_mm"], np.sqrt((expected.affine[:3, :3] ** 2).sum(0)), atol=1e-3
    )


def test_clock(pair: tuple[list[Volume], Reference]) -> None:
    volumes, expected = pair
    told = expected.sidecar.get("AcquisitionTime")
    if told is None or "GE" in expected.sidecar["Manufacturer"]:
        # GE repeats the series' start in every file: no clock is better than a stopped one
        assert {volume.acquired_s for volume in volumes} == {None}
        return
    hours, minutes, seconds = map(float, told.split(":"))
    assert volumes[0].acquired_s == pytest.approx(hours * 3600 + minutes * 60 + seconds)
    steps_s = np.diff([volume.acquired_s for volume in volumes])
    np.testing.assert_allclose(steps_s, volumes[0].tr_s, atol=0.02)  # Philips rounds to 10 ms


def test_form_of_the_array(pair: tuple[list[Volume], Reference]) -> None:
    for volume in pair[0]:
        assert volume.data.flags.f_contiguous
        assert volume.data.dtype.name in WIRE_DTYPES
        assert volume.data.dtype.isnative
        assert volume.affine.dtype == np.float64
