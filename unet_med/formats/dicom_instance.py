"""One image of a DICOM series: what its header says about place and values, in DICOM's own terms (LPS, mm).

An image is a file, or a frame of a multi-frame file (`dicom_frames` makes a plain header of each frame). What cannot be
a slice of a volume is refused here by name; nothing is guessed for a tag that is missing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet_med.errors import ScanRefused
from unet_med.formats.dicom_files import (
    number,
    numbers,
    read_header,
    text,
    transfer_syntax,
    value,
    whole,
)
from unet_med.formats.dicom_frames import GROUPS, flat_headers
from unet_med.formats.dicom_pixels import check_syntax

SIEMENS_BLOCK, SIEMENS_MOSAIC_COUNT = 0x00190010, 0x0019100A
"""NumberOfImagesInMosaic of Siemens' private group, and that group's owner: kept where ImageType is changed."""

TELLING_TAGS = (
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "NominalCardiacTriggerDelayTime",
    "TriggerTime",
    "InversionTime",
    "FlipAngle",
    "ImageType",
    "ComplexImageComponent",
    "ConvolutionKernel",
    "StackID",
    "SliceThickness",
    "AcquisitionNumber",
    "FrameReferenceTime",
    "FrameAcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
)
"""What tells images at one position apart, in order of trust."""

PROJECTIONS = ("CR", "DX", "MG", "PX", "IO", "RG", "XA", "RF")
"""Modalities whose pictures sum up what lies along the rays, and so have no place in the patient."""

PIXEL_TAGS = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit")

INSTANCE_TAGS: tuple[str | int, ...] = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "SpacingBetweenSlices",
    "ImagesInAcquisition",
    *PIXEL_TAGS,
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "Units",
    SIEMENS_BLOCK,
    SIEMENS_MOSAIC_COUNT,
    *TELLING_TAGS,
    *GROUPS,
)


FARTHEST = 1e5  # mm; a damaged number must not overflow in what is computed from it
LARGEST = 1e30  # of a slope or intercept
INVALID = {
    "ImagePositionPatient": "invalid_geometry",
    "PixelSpacing": "invalid_spacing",
    "ImageOrientationPatient": "invalid_orientation",
}


@dataclass(frozen=True)
class Instance:
    """A grey image: a single-frame file, or one frame of a file.

    Args:
        path: its file.
        frame: which frame of the file, counted from 0; None for a single-frame file.
        uid: SOPInstanceUID; "" where absent.
        syntax: transfer syntax UID.
        rows, columns: size in pixels.
        position: ImagePositionPatient, the centre of the first pixel.
        orientation: ImageOrientationPatient, as it stands: direction of a row, then of a column.
        pixel_spacing: PixelSpacing, as it stands: between ROWS, then between columns.
        thickness, step_tag: SliceThickness, SpacingBetweenSlices; None where absent.
        frame_of_reference: FrameOfReferenceUID; "" where absent.
        in_acquisition: ImagesInAcquisition; None where absent.
        bits, signed: bits stored, and whether they hold a sign.
        rescale: (slope, intercept); None where the file has none.
        padding: smallest and largest stored value that the scanner marked as padding; None where it marked none.
        inverted: MONOCHROME1.
        units: of the rescaled values.
        telling: the values of TELLING_TAGS.
    """

    path: Path
    frame: int | None
    uid: str
    syntax: str
    rows: int
    columns: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing: tuple[float, ...]
    thickness: float | None
    step_tag: float | None
    frame_of_reference: str
    in_acquisition: int | None
    bits: int
    signed: bool
    rescale: tuple[float, float] | None
    padding: tuple[int, int] | None
    inverted: bool
    units: str
    telling: dict[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """For messages: the file, and which frame of it."""
        return str(self.path) if self.frame is None else f"{self.path} (frame {self.frame + 1})"


def read_instances(path: Path, wanted: Collection[int] | None = None) -> tuple[Instance, ...]:
    """Reads and checks the header of a file: one image, or one for each frame.

    Args:
        wanted: which frames, counted from 0; None for all.

    Raises:
        FileUnreadable: the file cannot be parsed.
        ScanRefused: mosaic, colour, compressed in a way that is not read, without geometry, or with a rescale that
            cannot be meant.
    """
    return instances_of(read_header(path, INSTANCE_TAGS), path, wanted)


def instances_of(header: Any, path: Path, wanted: Collection[int] | None = None) -> tuple[Instance, ...]:
    """The images that a header with INSTANCE_TAGS describes; raises as `read_instances` does."""
    _check_object(header, path)
    _check_pixels(header, path)
    syntax = transfer_syntax(header)
    check_syntax(syntax, whole(header, "BitsStored") or 0, path)
    frames = flat_headers(header, path, wanted)
    if frames is None:
        return (_instance(header, path, None, syntax),)
    return tuple(_instance(flat, path, frame, syntax) for frame, flat in frames.items())


def _instance(header: Any, path: Path, frame: int | None, syntax: str) -> Instance:
    where = path if frame is None else f"{path} (frame {frame + 1})"
    place = _place(header, where)
    bits = whole(header, "BitsStored") or 0
    signed = whole(header, "PixelRepresentation") == 1
    rescale = _rescale(header, where)
    return Instance(
        path=path,
        frame=frame,
        uid=text(header, "SOPInstanceUID"),
        syntax=syntax,
        rows=whole(header, "Rows") or 0,
        columns=whole(header, "Columns") or 0,
        position=place["ImagePositionPatient"],
        orientation=place["ImageOrientationPatient"],
        pixel_spacing=place["PixelSpacing"],
        thickness=number(header, "SliceThickness"),
        step_tag=number(header, "SpacingBetweenSlices"),
        frame_of_reference=text(header, "FrameOfReferenceUID"),
        in_acquisition=whole(header, "ImagesInAcquisition"),
        bits=bits,
        signed=signed,
        rescale=rescale,
        padding=_padding(header, whole(header, "BitsAllocated") or 0, signed),
        inverted=text(header, "PhotometricInterpretation") == "MONOCHROME1",
        units=_units(header, rescale is not None),
        telling={tag: text(header, tag) for tag in TELLING_TAGS},
    )


def _check_object(header: Any, path: Path) -> None:
    image_type = text(header, "ImageType").upper().split("\\")
    siemens = text(header, SIEMENS_BLOCK).startswith("SIEMENS MR HEADER")
    tiles = number(header, SIEMENS_MOSAIC_COUNT) if siemens else None
    # Enhanced objects of newer scanners hold single slices, and keep the word MOSAIC all the same.
    mosaic = ("MOSAIC" in image_type or "VFRAME" in image_type) and GROUPS[1] not in header
    if (tiles or 1) > 1 or mosaic:
        maker = "another maker's" if "VFRAME" in image_type else "a Siemens"
        raise ScanRefused(
            f"This is {maker} mosaic: one picture that holds all slices of a volume side by side. Such are not read.",
            where=path,
            advice="Convert it to NIfTI with a program that unfolds mosaics, such as dcm2niix.",
            code="vendor_mosaic" if "VFRAME" in image_type else "siemens_mosaic",
        )


def _check_pixels(header: Any, path: Path) -> None:
    missing = [tag for tag in ("Rows", "Columns", *PIXEL_TAGS) if value(header, tag) is None]
    if missing:
        raise ScanRefused(
            f"The header lacks {', '.join(missing)}; it is damaged or cut short, or this is no image.",
            where=path,
            advice="Export or copy the file again.",
            code="unreadable_instance",
        )
    photometric = text(header, "PhotometricInterpretation")
    if whole(header, "SamplesPerPixel") != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ScanRefused(f"This is a colour image ({photometric}); a scan is grey.", where=path, code="colour_image")
    allocated, stored, high = (whole(header, tag) for tag in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated not in (8, 16, 32) or stored is None or not 1 <= stored <= allocated or high != stored - 1:
        raise ScanRefused(
            f"Pixels of {stored} bits in {allocated} with the highest at {high} are not read; expected are 8, 16 or 32 "
            "bits, of which the lowest are used.",
            where=path,
            code="unsupported_data_type",
        )
    if value(header, "ModalityLUTSequence") is not None:
        raise ScanRefused(
            "The values are to be translated by a table (Modality LUT Sequence); such images are not read.",
            where=path,
            code="unsupported_object",
        )


def _place(header: Any, where: str | Path) -> dict[str, tuple[float, ...]]:
    place, faults = {}, []
    for tag, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        found = numbers(header, tag, count)
        if found is None:
            # The raw value may be anything; it is not repeated.
            there = value(header, tag) is not None or tag in header
            faults.append(f"{tag} ({f'not {count} numbers' if there else 'absent or empty'})")
        else:
            place[tag] = found
    if faults:
        if text(header, "Modality") in PROJECTIONS and "ImagePositionPatient" not in place:
            raise ScanRefused(
                f"This is a projection image ({text(header, 'Modality')}): it sums up what lies behind each other, so "
                "its pixels have no place in the patient.",
                where=where,
                advice="Export it as PNG or TIFF to use it as a picture.",
                code="projection_image",
            )
        raise ScanRefused(
            f"The file does not say where its pixels lie in the patient: {', '.join(faults)}.",
            where=where,
            advice="Without these tags no geometry is true. Export the series again with all its tags.",
            code="missing_geometry",
        )
    for tag, limit in (
        ("ImagePositionPatient", FARTHEST),
        ("PixelSpacing", FARTHEST),
        ("ImageOrientationPatient", 1.1),
    ):
        if max(map(abs, place[tag])) > limit:
            raise ScanRefused(
                f"{tag} holds {max(place[tag], key=abs):g}, which no scanner could mean (at most {limit:g}).",
                where=where,
                code=INVALID[tag],
            )
    if min(place["PixelSpacing"]) <= 0:
        raise ScanRefused(
            f"PixelSpacing is {' x '.join(f'{size:g}' for size in place['PixelSpacing'])} mm; it must be positive.",
            where=where,
            code="invalid_spacing",
        )
    return place


def _rescale(header: Any, where: str | Path) -> tuple[float, float] | None:
    tags = ("RescaleSlope", "RescaleIntercept")
    if not any(tag in header for tag in tags):
        return None
    slope, intercept = (number(header, tag) for tag in tags)
    if slope is None or intercept is None or slope == 0 or max(abs(slope), abs(intercept)) > LARGEST:
        raise ScanRefused(
            f"The rescale cannot be meant: slope {text(header, tags[0]) or 'absent'}, intercept "
            f"{text(header, tags[1]) or 'absent'}; a slope that is not 0 and an intercept are expected.",
            where=where,
            code="invalid_rescale",
        )
    return slope, intercept


def _padding(header: Any, allocated: int, signed: bool) -> tuple[int, int] | None:
    first = whole(header, "PixelPaddingValue")
    if first is None:
        return None
    last = whole(header, "PixelPaddingRangeLimit")
    # -2000 is also met as 63536: the same bits, read with the other of the two value representations of the tag.
    span = 1 << allocated
    ends = [
        (end + span // 2) % span - span // 2 if signed else end % span
        for end in (first, first if last is None else last)
    ]
    return min(ends), max(ends)


def _units(header: Any, rescaled: bool) -> str:
    modality = text(header, "Modality")
    if modality == "CT":
        return "HU" if rescaled and text(header, "RescaleType") in ("", "HU") else "arbitrary"
    if modality == "PT":
        units = text(header, "Units")
        return {"BQML": "Bq/ml", "GML": "g/ml", "CNTS": "counts", "PROPCNTS": "proportional counts"}.get(
            units, units or "arbitrary"
        )
    return "arbitrary"
