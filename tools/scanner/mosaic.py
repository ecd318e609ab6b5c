"""Volumes as Siemens mosaic DICOM files made from scratch: what a scanner of that kind exports.

One file per volume: slices tiled row by row into a square, MR Image Storage, explicit VR little
endian, slice count and times both in group 0019 and in the CSA header. The image position is that
of the mosaic's first pixel as Siemens writes it, as if the whole tile plane were one slice
centred where the first slice is.
"""

from __future__ import annotations

import datetime
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from rtloop.volume import Volume
from tools.scanner.csa import csa_header

__all__ = ["Identity", "mosaic_file"]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's patient axes point left and back, NIfTI's right and forward."""

DAY = "20260101"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one series from another.

    Attributes
    ----------
    key : str
        Where unique identifiers are derived from; equal keys are one series.
    number : int
        Series number.
    protocol : str
        Protocol name.
    component : {"M", "P"}
        Third value of the image type: magnitude or phase.
    n_volumes : int
        Volumes the header announces.
    """

    key: str
    number: int
    protocol: str
    component: str
    n_volumes: int

    @property
    def series_uid(self) -> str:
        return str(generate_uid(entropy_srcs=[self.key, "series"]))

    def instance_uid(self, index: int) -> str:
        return str(generate_uid(entropy_srcs=[self.key, f"instance {index}"]))


def mosaic_file(volume: Volume, identity: Identity) -> bytes:
    """One volume as a DICOM file.

    Parameters
    ----------
    volume : Volume
        Integer voxels, 0..65535, slices along its third axis.
    identity : Identity
        The series it belongs to.
    """
    dataset = Dataset()
    _identify(dataset, volume, identity)
    _describe(dataset, volume, identity)
    # Rows run to the left and columns to the back in a Siemens axial image.
    tiles = _tiled(volume.data[::-1, ::-1, :])
    _orient(dataset, volume, tiles.shape)
    _privates(dataset, volume, identity)
    _pixels(dataset, tiles)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _identify(dataset: Dataset, volume: Volume, identity: Identity) -> None:
    acquired = _clock(volume.acquired_s or 0.0)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", identity.component, "ND", "MOSAIC"]
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = identity.instance_uid(volume.index)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = DAY
    dataset.StudyTime = dataset.SeriesTime = _clock(9.5 * 3600)
    dataset.AcquisitionTime = acquired
    dataset.ContentTime = _clock((volume.acquired_s or 0.0) + volume.tr_s)
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["fcnef simulated study"])
    dataset.SeriesInstanceUID = identity.series_uid
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["fcnef simulated frame"])
    dataset.StudyID = "1"
    dataset.SeriesNumber = identity.number
    dataset.AcquisitionNumber = volume.index + 1
    dataset.InstanceNumber = volume.index + 1
    dataset.PatientName = "SIMULATED^PARTICIPANT"
    dataset.PatientID = "SIMULATED"
    dataset.PatientBirthDate = dataset.PatientSex = ""


def _describe(dataset: Dataset, volume: Volume, identity: Identity) -> None:
    protocol = volume.protocol or {}
    dataset.Modality = "MR"
    dataset.Manufacturer = "SIEMENS"
    dataset.ManufacturerModelName = "Simulated"
    dataset.SoftwareVersions = "syngo MR E11"
    dataset.SeriesDescription = dataset.ProtocolName = identity.protocol
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "EP", "SK", "FS"
    dataset.MRAcquisitionType = "2D"
    dataset.SequenceName = "*epfid2d1_64"
    dataset.RepetitionTime = f"{volume.tr_s * 1000:g}"
    dataset.EchoTime = f"{float(protocol.get('echo_time_s', 0.03)) * 1000:g}"
    dataset.EchoNumbers = 1
    dataset.MagneticFieldStrength = 3
    dataset.FlipAngle = 75
    dataset.PatientPosition = "HFS"
    x, y, _ = volume.shape
    dataset.InPlanePhaseEncodingDirection = "COL"
    dataset.AcquisitionMatrix = [x, 0, 0, y]


def _orient(dataset: Dataset, volume: Volume, mosaic_shape: tuple[int, ...]) -> None:
    """Position of the mosaic's first pixel, orientation, spacings."""
    x, y, _ = volume.shape
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = x - 1, y - 1
    affine = LPS @ volume.affine @ flip
    size = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    along = affine[:3, :3] / size
    columns_over, rows_over = (mosaic_shape[1] - x) / 2, (mosaic_shape[0] - y) / 2
    first = affine[:3, 3] - affine[:3, 0] * columns_over - affine[:3, 1] * rows_over
    dataset.ImagePositionPatient = [_decimal(value) for value in first]
    dataset.ImageOrientationPatient = [_decimal(value) for value in along[:, :2].T.ravel()]
    dataset.PixelSpacing = [_decimal(size[1]), _decimal(size[0])]
    dataset.SpacingBetweenSlices = dataset.SliceThickness = _decimal(size[2])
    dataset.SliceLocation = _decimal(float(along[:, 2] @ affine[:3, 3]))


def _privates(dataset: Dataset, volume: Volume, identity: Identity) -> None:
    """Slice count and times, in group 0019 and in the CSA headers, and the protocol's text."""
    n_slices = volume.shape[2]
    affine = LPS @ volume.affine
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    times_ms = [time_s * 1000.0 for time_s in volume.slice_times_s or ()]
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", n_slices)
    if times_ms:
        block.add_new(0x29, "FD", times_ms)
    tags: dict[str, tuple[str, list[object]]] = {
        "NumberOfImagesInMosaic": ("US", [n_slices]),
        "SliceNormalVector": ("FD", [float(value) for value in normal]),
        "MosaicRefAcqTimes": ("FD", [float(value) for value in times_ms]),
        "ProtocolSliceNumber": ("IS", [0]),
        "PhaseEncodingDirectionPositive": ("IS", [1]),
    }
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    block.add_new(0x09, "LO", DAY)
    block.add_new(0x10, "OB", _even(csa_header(tags)))
    protocol = (
        "### ASCCONV BEGIN ###\n"
        f"lRepetitions\t = \t{identity.n_volumes - 1}\n"
        f"sSliceArray.lSize\t = \t{n_slices}\n"
        "### ASCCONV END ###"
    )
    block.add_new(0x18, "CS", "MR")
    block.add_new(0x19, "LO", DAY)
    block.add_new(0x20, "OB", _even(csa_header({"MrPhoenixProtocol": ("UN", [protocol])})))


def _pixels(dataset: Dataset, tiles: NDArray[np.uint16]) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = tiles.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = tiles.tobytes()


def _tiled(slices: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Slices (column, row, slice) as a square of tiles, row by row."""
    n_columns, n_rows, n_slices = slices.shape
    side = math.ceil(math.sqrt(n_slices))
    tiles = np.zeros((side, n_rows, side, n_columns), dtype="<u2")
    for place in range(n_slices):
        tiles[place // side, :, place % side] = slices[:, :, place].T
    return tiles.reshape(side * n_rows, side * n_columns)


def _clock(seconds: float) -> str:
    """DICOM time of day."""
    moment = datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=seconds % 86400)
    return moment.strftime("%H%M%S.%f")


def _decimal(value: float) -> str:
    """At most 16 characters, as DICOM's decimal strings demand."""
    text = f"{value + 0.0:.9f}".rstrip("0").rstrip(".")
    return text[:16] if text not in ("-0", "") else "0"


def _even(body: bytes) -> bytes:
    return body + b"\0" * (len(body) % 2)
