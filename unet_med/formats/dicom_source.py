"""The headers of the DICOM series that a segmentation belongs to, for objects that are written beside it.

They are read again from the files and mended where the standard allows it, so that what is copied from them is legal
and says what the grid says: tags of type 2 that a deidentifier has dropped are empty, never made up, and distances
between slices are measured.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.errors import ScanRefused, WrongUse
from unet_med.formats.dicom_files import numbers, quietly, read_header, text, whole
from unet_med.formats.dicom_place import LPS_FROM_RAS, Sheet
from unet_med.formats.dicom_write import PATIENT_AND_STUDY, decimal
from unet_med.segmentation import Segmentation

UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
UTF_8 = "ISO_IR 192"
"""What is written, whatever the images use: names are decoded on reading, and some images claim no known set."""


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The images that a segmentation lies on.

    Args:
        headers: pydicom data sets without pixels, one a slice, in the order of the grid's slices.
        frame_of_reference_made: whether its UID was made here because the images name none.
    """

    headers: tuple[Any, ...]
    frame_of_reference_made: bool


def source_series(segmentation: Segmentation) -> SourceSeries:
    """Reads the headers of the series, and sees that they lie on the slices of the segmentation.

    Raises:
        WrongUse: the segmentation is of no DICOM series.
        FileUnreadable: a file of the series is gone or damaged.
        ScanRefused: images that cannot be referred to, or that do not lie on the slices; images of several patients.
    """
    source = segmentation.source
    if source.kind != "dicom" or not source.paths:
        raise WrongUse(
            "A DICOM segmentation refers to the DICOM images that were segmented, and these were not DICOM "
            f"({source.kind}).",
            where=source.name if source.paths else None,
            advice="Write NIfTI or NRRD, or segment the DICOM series itself.",
        )
    headers = [_header(path) for path in source.paths]
    for tags, what in (
        (("PatientID", "PatientName"), "patients"),
        (("StudyInstanceUID",), "studies"),
        (("SeriesInstanceUID",), "series"),
    ):
        if len({tuple(text(header, tag) for tag in tags) for header in headers}) > 1:
            raise ScanRefused(
                f"The images are of several {what}; one object cannot refer to them all.",
                where=source.name,
                code="several_series",
            )
    headers = _in_slice_order(headers, segmentation)
    made = not text(headers[0], "FrameOfReferenceUID")
    _mend(headers, segmentation)
    return SourceSeries(tuple(headers), made)


def _header(path: Path) -> Any:
    header = read_header(path, ())
    missing = [tag for tag in UIDS if not text(header, tag)]
    if missing:
        raise ScanRefused(
            f"The image lacks {', '.join(missing)}; nothing can refer to it.",
            where=path,
            advice="Write NIfTI or NRRD, or export the series again with all its tags.",
            code="unreadable_instance",
        )
    if (whole(header, "NumberOfFrames") or 1) > 1 or "SharedFunctionalGroupsSequence" in header:
        raise ScanRefused(
            "The images are frames of one multi-frame object; a DICOM segmentation of such is not written yet.",
            where=path,
            advice="Write NIfTI or NRRD.",
            code="unsupported_object",
        )
    return header


def _in_slice_order(headers: list[Any], segmentation: Segmentation) -> list[Any]:
    """By position; the order of the files means nothing."""
    columns, rows, slices = segmentation.grid.shape
    placed: dict[int, Any] = {}
    for header, path in zip(headers, segmentation.source.paths, strict=True):
        position, orientation, spacing = (
            numbers(header, tag, count)
            for tag, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
        )
        if position is None or orientation is None or spacing is None:
            raise ScanRefused(
                "The image does not say where it lies in the patient.", where=path, code="missing_geometry"
            )
        size = whole(header, "Rows") or 0, whole(header, "Columns") or 0
        sheet = Sheet.from_dicom(position, orientation, spacing, rows=size[0], columns=size[1], step=None)
        ends = sheet.voxels(
            np.array([0, size[0] - 1]), np.array([0, size[1] - 1]), segmentation.grid, "The image", path
        )
        first, last = (tuple(int(part) for part in np.unravel_index(end, segmentation.grid.shape)) for end in ends)
        if first[:2] != (0, 0) or last != (columns - 1, rows - 1, first[2]):
            raise ScanRefused(
                "The rows, columns and slices of the segmentation are not those of the images.",
                where=path,
                advice="Bring it onto the grid of the series first.",
                code="grids_differ",
            )
        placed[first[2]] = header
    if len(placed) != slices or len(headers) != slices:
        raise ScanRefused(
            f"The series has {len(headers)} images at {len(placed)} places, and the segmentation {slices} slices.",
            where=segmentation.source.name,
            code="grids_differ",
        )
    return [placed[k] for k in range(slices)]


def _mend(headers: list[Any], segmentation: Segmentation) -> None:
    grid = segmentation.grid
    cosines = np.concatenate([grid.affine[:3, axis] / grid.spacing[axis] * LPS_FROM_RAS for axis in (0, 1)])
    stated = np.array([numbers(header, "ImageOrientationPatient", 6) for header in headers])
    rounded = np.abs(stated - cosines).max() > 1e-5 or np.ptp(stated, axis=0).max() > 0
    spacings = {numbers(header, "PixelSpacing", 2) for header in headers}
    normal = np.cross(cosines[:3], cosines[3:])
    heights = np.diff(grid.slice_positions) if grid.shape[2] > 1 else np.array([grid.spacing[2]])
    thickness = float(np.median(heights) * abs(grid.affine[:3, 2] * LPS_FROM_RAS @ normal) / grid.spacing[2])
    frame_of_reference = text(headers[0], "FrameOfReferenceUID") or derived_uid(
        text(headers[0], "SeriesInstanceUID"), "frame of reference"
    )
    with quietly():
        for header in headers:
            for tag in PATIENT_AND_STUDY:
                if not text(header, tag):
                    setattr(header, tag, "")
            header.FrameOfReferenceUID = frame_of_reference
            # A wrong spacing tag would be copied; that of the object is measured from positions.
            header.pop("SpacingBetweenSlices", None)
            header.SliceThickness = decimal(thickness)
            if rounded:
                header.ImageOrientationPatient = [decimal(part) for part in cosines]
            if len(spacings) > 1:
                header.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]


def derived_uid(*parts: str) -> str:
    """A UID made of a UUID (PS3.5 B.2) that is derived from words, so that the same words give the same UID."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"
