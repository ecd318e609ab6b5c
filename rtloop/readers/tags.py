"""The whitelist: the DICOM elements that are read. Everything else is passed over unread.

No patient, study, operator, institution or device element is here, and no date without which
the time of day would be unknown. Private elements are named by their creator, since the block
they lie in (the `10` of `0019,10xx`) is the writer's to choose. Names of the standard's elements
are its keywords; names of private ones are the vendors' (dcm2niix and pydicom's dictionaries).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = ["NOTHING", "TOP", "Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Elements to read at one level of a dataset.

    Attributes
    ----------
    public : dict of int to (str, bytes)
        Tag (group << 16 | element) to name and the VR that an implicit-VR file leaves unsaid.
    private : dict of (int, bytes) to dict of int to (str, bytes)
        Group and creator to {last two digits of the element: (name, VR)}.
    items : dict of str to Wanted
        What to read inside the sequences among the names above.
    keys : dict of bytes to (str, bytes)
        The public names by the four bytes that stand for the tag in a little-endian file.
    """

    public: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    private: dict[tuple[int, bytes], dict[int, tuple[str, bytes]]] = field(default_factory=dict)
    items: dict[str, Wanted] = field(default_factory=dict)
    keys: dict[bytes, tuple[str, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        keys = {struct.pack("<HH", tag >> 16, tag & 0xFFFF): n for tag, n in self.public.items()}
        object.__setattr__(self, "keys", keys)

    def with_public(self, tag: int, name: str) -> Wanted:
        """The same, and one more element of this level (the index tag of `scanner.toml`)."""
        if tag in self.public:
            return self
        return Wanted(self.public | {tag: (name, b"IS")}, self.private, self.items)


NOTHING = Wanted()

_FRAME_TIME = Wanted(
    {
        0x00189074: ("FrameAcquisitionDateTime", b"DT"),
        0x00209057: ("InStackPositionNumber", b"UL"),
        0x00209128: ("TemporalPositionIndex", b"UL"),
    }
)
_SIEMENS_FRAME = Wanted(
    private={
        (0x0021, b"SIEMENS MR SDI 02"): {
            0x04: ("TimeAfterStart", b"DS"),
            0x1C: ("PhaseEncodingDirectionPositive", b"IS"),
            0x75: ("ImageTypeText", b"CS"),
        }
    }
)
_SIEMENS_SHARED = Wanted(
    private={(0x0021, b"SIEMENS MR SDS 01"): {0x19: ("MrPhoenixProtocol", b"OB")}}
)

_FUNCTIONAL_GROUPS = Wanted(
    public={
        0x00189112: ("MRTimingAndRelatedParametersSequence", b"SQ"),
        0x00189114: ("MREchoSequence", b"SQ"),
        0x00189125: ("MRFOVGeometrySequence", b"SQ"),
        0x00209111: ("FrameContentSequence", b"SQ"),
        0x00209113: ("PlanePositionSequence", b"SQ"),
        0x00209116: ("PlaneOrientationSequence", b"SQ"),
        0x00289110: ("PixelMeasuresSequence", b"SQ"),
        0x00289145: ("PixelValueTransformationSequence", b"SQ"),
    },
    private={
        (0x0021, b"SIEMENS MR SDI 02"): {0xFE: ("SiemensMRSDISequence", b"SQ")},
        (0x0021, b"SIEMENS MR SDS 01"): {0xFE: ("SiemensMRSDSSequence", b"SQ")},
    },
    items={
        "MRTimingAndRelatedParametersSequence": Wanted({0x00180080: ("RepetitionTime", b"DS")}),
        "MREchoSequence": Wanted({0x00189082: ("EffectiveEchoTime", b"FD")}),
        "MRFOVGeometrySequence": Wanted({0x00181312: ("InPlanePhaseEncodingDirection", b"CS")}),
        "FrameContentSequence": _FRAME_TIME,
        "PlanePositionSequence": Wanted({0x00200032: ("ImagePositionPatient", b"DS")}),
        "PlaneOrientationSequence": Wanted({0x00200037: ("ImageOrientationPatient", b"DS")}),
        "PixelMeasuresSequence": Wanted(
            {
                0x00180050: ("SliceThickness", b"DS"),
                0x00180088: ("SpacingBetweenSlices", b"DS"),
                0x00280030: ("PixelSpacing", b"DS"),
            }
        ),
        "PixelValueTransformationSequence": Wanted(
            {
                0x00281052: ("RescaleIntercept", b"DS"),
                0x00281053: ("RescaleSlope", b"DS"),
            }
        ),
        "SiemensMRSDISequence": _SIEMENS_FRAME,
        "SiemensMRSDSSequence": _SIEMENS_SHARED,
    },
)

TOP = Wanted(
    public={
        0x00080008: ("ImageType", b"CS"),
        0x00080016: ("SOPClassUID", b"UI"),
        0x0008002A: ("AcquisitionDateTime", b"DT"),
        0x00080032: ("AcquisitionTime", b"TM"),
        0x00080033: ("ContentTime", b"TM"),
        0x00080070: ("Manufacturer", b"LO"),
        0x0008103E: ("SeriesDescription", b"LO"),
        0x00081090: ("ManufacturerModelName", b"LO"),
        0x00089208: ("ComplexImageComponent", b"CS"),
        0x00180020: ("ScanningSequence", b"CS"),
        0x00180050: ("SliceThickness", b"DS"),
        0x00180080: ("RepetitionTime", b"DS"),
        0x00180081: ("EchoTime", b"DS"),
        0x00180086: ("EchoNumbers", b"IS"),
        0x00180087: ("MagneticFieldStrength", b"DS"),
        0x00180088: ("SpacingBetweenSlices", b"DS"),
        0x00181030: ("ProtocolName", b"LO"),
        0x00181312: ("InPlanePhaseEncodingDirection", b"CS"),
        0x00189018: ("EchoPlanarPulseSequence", b"CS"),
        0x0020000E: ("SeriesInstanceUID", b"UI"),
        0x00200011: ("SeriesNumber", b"IS"),
        0x00200012: ("AcquisitionNumber", b"IS"),
        0x00200013: ("InstanceNumber", b"IS"),
        0x00200032: ("ImagePositionPatient", b"DS"),
        0x00200037: ("ImageOrientationPatient", b"DS"),
        0x00200100: ("TemporalPositionIdentifier", b"IS"),
        0x00200105: ("NumberOfTemporalPositions", b"IS"),
        0x00201002: ("ImagesInAcquisition", b"IS"),
        0x00209057: ("InStackPositionNumber", b"UL"),
        0x00280002: ("SamplesPerPixel", b"US"),
        0x00280008: ("NumberOfFrames", b"IS"),
        0x00280010: ("Rows", b"US"),
        0x00280011: ("Columns", b"US"),
        0x00280030: ("PixelSpacing", b"DS"),
        0x00280100: ("BitsAllocated", b"US"),
        0x00280101: ("BitsStored", b"US"),
        0x00280103: ("PixelRepresentation", b"US"),
        0x00281052: ("RescaleIntercept", b"DS"),
        0x00281053: ("RescaleSlope", b"DS"),
        0x52009229: ("SharedFunctionalGroupsSequence", b"SQ"),
        0x52009230: ("PerFrameFunctionalGroupsSequence", b"SQ"),
    },
    private={
        (0x0019, b"SIEMENS MR HEADER"): {
            0x0A: ("NumberOfImagesInMosaic", b"US"),
            0x29: ("MosaicRefAcqTimes", b"FD"),
        },
        (0x0021, b"GEMS_RELA_01"): {0x4F: ("LocationsInAcquisition", b"SS")},
        (0x0025, b"GEMS_SERS_01"): {0x1B: ("ProtocolDataBlock", b"OB")},
        (0x0029, b"SIEMENS CSA HEADER"): {
            0x10: ("CSAImageHeaderInfo", b"OB"),
            0x20: ("CSASeriesHeaderInfo", b"OB"),
        },
        (0x0043, b"GEMS_PARM_01"): {
            0x2F: ("ImageComponent", b"SS"),
            0xB6: ("MultibandParameters", b"LO"),
        },
        (0x2001, b"Philips Imaging DD 001"): {
            0x0A: ("SliceNumberMR", b"IS"),
            0x13: ("EPIFactor", b"SL"),
            0x18: ("NumberOfSlicesMR", b"SL"),
        },
    },
    items={
        "SharedFunctionalGroupsSequence": _FUNCTIONAL_GROUPS,
        "PerFrameFunctionalGroupsSequence": _FUNCTIONAL_GROUPS,
    },
)
