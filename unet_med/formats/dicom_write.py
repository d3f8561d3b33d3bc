"""A scan as a new, plain DICOM series: one uncompressed file a slice, each with its own position.

Written for other programs to read a volume from: MR or CT Image Storage (PS3.3 A.4, A.3), Explicit VR Little Endian.
Nothing about a patient is written; the tags that must be there are empty (type 2). UIDs are derived from the content,
so that the same scan gives the same files.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import ScanRefused, WrongUse
from unet_med.formats.atomic import replacing_folder
from unet_med.formats.dicom_files import quietly
from unet_med.formats.dicom_place import LPS_FROM_RAS
from unet_med.grid import Grid
from unet_med.scan import Scan

SOP_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

PERPENDICULAR = 1e-4  # cosine between rows and columns; DICOM states both as perpendicular unit vectors

PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Type 2: they must be there, and may be empty."""
EMPTY_TAGS = (
    *PATIENT_AND_STUDY,
    "Manufacturer",
    "PatientPosition",
    "PositionReferenceIndicator",
    "AcquisitionNumber",
)
EMPTY_TAGS_OF = {
    "CT": ("KVP",),
    "MR": ("ScanOptions", "MRAcquisitionType", "EchoTime", "RepetitionTime", "EchoTrainLength"),
}


def write(scan: Scan, folder: Path) -> None:
    """Writes a scan of one channel as a new folder, a file for each slice along its third axis.

    Positions are exact to 1e-9 mm: shear along the slices, oblique and uneven stacks included. Whole numbers that span
    at most 65,536 levels are stored exactly; other values are rounded to 65,536 levels between their extremes. Reading
    back gives the slices in ascending order along rows x columns, which for a left-handed grid is the reverse.

    Raises:
        WrongUse: more than one channel, no modality that can be written, or a folder that is not empty.
        ScanRefused: a scan that DICOM cannot hold: no mm, rows not perpendicular to columns, NaN, too many levels.
        WriteFailed: the disk refuses. The folder appears whole or not at all.
    """
    _check(scan)
    stored, slope, intercept = _stored_values(scan)
    template = _template(scan, stored, slope, intercept)
    with replacing_folder(folder) as place, quietly():
        for number, k in enumerate(_slice_order(scan.grid)):
            _write_slice(place / f"slice_{number + 1:04d}.dcm", template, scan.grid, stored[:, :, k], k, number + 1)


def _check(scan: Scan) -> None:
    where = scan.source.name
    if len(scan.channels) != 1:
        raise WrongUse(f"A DICOM series holds one channel, not {len(scan.channels)}; write one series for each.")
    if scan.modality not in SOP_CLASSES:
        raise WrongUse(
            f"A DICOM series states its modality; that of this scan is {scan.modality or 'not declared'}, and "
            f"{' and '.join(SOP_CLASSES)} can be written.",
            where=where,
            advice='State it: dataclasses.replace(scan, modality="MR").',
        )
    if scan.space_units != "mm":
        raise ScanRefused(
            "The pixel size in mm is not known, and DICOM cannot do without.", where=where, code="unknown_spacing"
        )
    row, column, _ = _axes(scan.grid)
    cosine = abs(float(row @ column))
    if cosine > PERPENDICULAR:
        raise ScanRefused(
            f"The first two axes are {np.degrees(np.arccos(cosine)):.2f} degrees apart; rows and columns of a DICOM "
            "image are perpendicular.",
            where=where,
            advice="Resample it onto a grid without shear in the plane, or write NIfTI.",
            code="sheared",
        )


def _axes(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors in LPS along i and j, and the normal i x j."""
    row, column = (grid.affine[:3, axis] / grid.spacing[axis] * LPS_FROM_RAS for axis in (0, 1))
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _slice_order(grid: Grid) -> list[int]:
    """Slices in the order in which readers sort them: ascending along rows x columns."""
    _, _, normal = _axes(grid)
    ascending = float(grid.affine[:3, 2] * LPS_FROM_RAS @ normal) > 0
    slices = list(range(grid.shape[2]))
    return slices if ascending else slices[::-1]


def _stored_values(scan: Scan) -> tuple[NDArray[Any], float, float]:
    """(I, J, K) of int16 or uint16, slope and intercept; value = stored x slope + intercept."""
    data, where = scan.data[0], scan.source.name
    low, high = float(data.min()), float(data.max())
    if not np.isfinite((low, high)).all():  # NaN comes through min and max
        raise ScanRefused(
            "The scan holds values that are NaN or infinite; DICOM stores whole numbers.",
            where=where,
            code="non_finite_values",
        )
    if data.dtype.kind in "iub" or bool((data == np.rint(data)).all()):
        if low >= -(1 << 15) and high < 1 << 15:
            return data.astype(np.int16), 1.0, 0.0
        if high - low < 1 << 16:
            return (data - data.dtype.type(low)).astype(np.uint16), 1.0, low
        if data.dtype.kind in "iub":
            raise ScanRefused(
                f"Whole numbers from {low:.0f} to {high:.0f} do not fit into the 65,536 levels of a DICOM image.",
                where=where,
                code="unsupported_data_type",
            )
    slope = (high - low) / ((1 << 16) - 1)
    # What is read back is computed with the numbers as they stand in the file.
    slope, intercept = float(decimal(slope)), float(decimal(low))
    levels = np.rint((data.astype(np.float64) - intercept) / slope)
    return np.clip(levels, 0, (1 << 16) - 1).astype(np.uint16), slope, intercept


def _template(scan: Scan, stored: NDArray[Any], slope: float, intercept: float) -> Any:
    """A pydicom data set with all that the slices have in common."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    assert scan.modality is not None
    grid, modality = scan.grid, scan.modality
    content = hashlib.sha256(np.ascontiguousarray(stored.T).data)
    content.update(repr((modality, scan.units, slope, intercept, grid.affine.tolist(), grid.slice_offsets)).encode())
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = UID(SOP_CLASSES[modality])
    header.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE_ENDIAN)
    header.file_meta.ImplementationClassUID = _uid(b"unet-med")
    header.SOPClassUID = SOP_CLASSES[modality]
    header.Modality = modality
    for tag in (*EMPTY_TAGS, *EMPTY_TAGS_OF[modality]):
        setattr(header, tag, None)
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    if modality == "MR":
        header.ScanningSequence, header.SequenceVariant = "RM", "NONE"
    header.SeriesNumber = 1
    for tag in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(header, tag, _uid(content.digest() + tag.encode()))
    row, column, normal = _axes(grid)
    header.ImageOrientationPatient = [decimal(part) for part in (*row, *column)]
    header.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]  # between rows first
    header.SliceThickness = decimal(abs(float(grid.affine[:3, 2] * LPS_FROM_RAS @ normal)))
    header.Rows, header.Columns = grid.shape[1], grid.shape[0]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    if modality == "CT" or (slope, intercept) != (1.0, 0.0):
        header.RescaleSlope, header.RescaleIntercept = decimal(slope), decimal(intercept)
        header.RescaleType = "HU" if scan.units == "HU" else "US"
    return header


def _write_slice(path: Path, header: Any, grid: Grid, pixels: NDArray[Any], k: int, number: int) -> None:
    """One file. The template is changed in place: a copy a slice costs more than the writing."""
    uid = _uid(header.SeriesInstanceUID.encode() + str(number).encode())
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = uid
    header.InstanceNumber = number
    header.ImagePositionPatient = [decimal(part) for part in grid.world((0, 0, k)) * LPS_FROM_RAS]
    header.PixelData = np.ascontiguousarray(pixels.T, dtype=pixels.dtype.newbyteorder("<")).tobytes()
    header["PixelData"].VR = "OW"
    header.save_as(path, enforce_file_format=True)


def decimal(number: float) -> str:
    """A number in at most 16 characters, as DICOM's decimal strings are; as exact as these allow."""
    for digits in range(17, 0, -1):
        shown = f"{number + 0.0:.{digits}g}"  # + 0.0: no "-0"
        if len(shown) <= 16:
            return shown
    raise AssertionError(number)


def _uid(content: bytes) -> Any:
    """A UID made of a UUID (PS3.5 B.2) that is derived from the content."""
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4).int}"
