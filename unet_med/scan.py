"""What comes in: a scan on its grid, where it came from, and what a careful reader would mention about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.grid import Grid

PIXEL_UNITS = "pixel"
"""`Scan.space_units` of a picture whose pixel size nobody recorded: lengths are counted in pixels, never called mm."""


class Severity(StrEnum):
    """How much a finding matters: used as it is; used after a repair that is described; not used."""

    NOTE = "note"
    REPAIRED = "repaired"
    REFUSED = "refused"


FINDING_CODES: Mapping[str, str] = {
    # values
    "non_finite_values": "voxels that are NaN or infinite",
    "constant_image": "every voxel has the same value",
    "unit_scaling_ignored": "an intensity scaling in the header that cannot be meant (slope 0 or not finite)",
    "invalid_rescale": "a rescale (slope, intercept) that cannot be meant, or that only some slices have",
    "monochrome1": "stored values in which bright means low (MONOCHROME1); used as stored",
    "padding_values": "voxels that the scanner marked as padding",
    "colour_as_grey": "a colour picture with three equal channels, read as grey",
    "colour_image": "a colour picture where one grey channel is needed",
    "trailing_dimensions": "extra dimensions of length 1, dropped",
    "unsupported_dimensions": "more dimensions than channels and space",
    "unsupported_data_type": "a voxel type that holds no plain numbers (complex, structured)",
    "too_many_channels": "several values a voxel where the model reads one",
    # geometry
    "no_orientation": "the file does not say how the voxels lie in the patient (both NIfTI codes 0)",
    "qform_only": "geometry taken from the qform, for want of an sform",
    "sform_qform_disagree": "sform and qform place the voxels differently; the sform is used",
    "sheared": "axes that are not perpendicular (a tilted gantry, or an affine registration)",
    "mirrored": "a left-handed voxel order; exact, and kept",
    "units_unknown": "no unit of length in the file; taken as mm, as NIfTI readers do",
    "units_converted": "lengths given in other units than mm, converted",
    "no_pixel_spacing": "a picture without a pixel size; lengths are in pixels",
    "invalid_geometry": "an affine or a spacing that is zero, not finite or singular",
    "invalid_spacing": "a pixel spacing that is zero, negative or absurd",
    "invalid_orientation": "axes of an image that are no perpendicular unit vectors",
    "not_collinear": "slices that do not lie on a straight line",
    "single_slice": "one slice only; its thickness is the z extent",
    "gantry_tilt": "slices shifted against each other by a tilted gantry; the shear is kept",
    "uneven_spacing": "slices that are not evenly spaced",
    "missing_slice": "a gap in the stack the size of whole slices",
    "duplicate_slice": "the same slice twice, with equal content",
    "repeated_position": "several different slices at one place",
    "spacing_tag_disagrees": "a spacing tag that differs from the slice positions; positions are used",
    "position_jitter": "slice positions that stray a little from a straight line",
    "resampled_to_match": "a channel that was resampled onto the grid of the first",
    "grids_differ": "channels of one case, or a scan and its segmentation, whose grids differ",
    "other_frame_of_reference": "a segmentation that names another frame of reference than its scan",
    "segments_overlap": "segments that overlap where one label map is needed",
    "contour_without_slice": "contours in planes where the scan has no slice; left out",
    "contour_not_closed": "points and open lines of a structure set; they have no inside, and are left out",
    "contours_cross": "outlines of one structure that cross each other, so that nobody can tell what is inside",
    # series and files
    "several_series": "more than one series where one is needed",
    "several_stacks": "more than one stack of slices in one series",
    "mixed_orientation": "slices of different orientations in one series",
    "mixed_matrix": "slices of different sizes in one series",
    "mixed_spacing": "slices of different pixel spacing in one series",
    "mixed_frame_of_reference": "slices of different frames of reference in one series",
    "missing_geometry": "image position or orientation missing",
    "missing_frame_of_reference": "no frame of reference: nothing says that other series share its coordinates",
    "unsupported_object": "a kind of DICOM object that is not read",
    "unsupported_transfer_syntax": "a compression or arrangement of pixels that is not read",
    "siemens_mosaic": "all slices of a volume as tiles of one picture, as Siemens writes them",
    "vendor_mosaic": "all slices of a volume as tiles of one picture, in another maker's way",
    "projection_image": "a picture of one projection, which has no place in the patient",
    "duplicate_uid": "several images under one SOP instance UID",
    "unreadable_instance": "a file of the series that cannot be read",
    "data_after_end": "bytes after the end of the image data, ignored",
    # the model's view
    "modality_not_declared": "the file does not say which modality it is",
    "modality_mismatch": "another modality than the model was made for",
    "field_of_view": "a field of view far from what the model was trained on",
    "spacing_unusual": "a spacing far from what the model was trained on",
    "channel_count": "another number of channels than the model needs",
    "unknown_spacing": "a model that needs millimetres and a scan without them",
    "empty_result": "no voxel was given any label",
    "forced": "a check that the user overrode",
    "precision_reduced": "an option that this device cannot honour, and what was done instead",
}
"""The closed list of finding codes; each code says in a few words what it stands for."""


@dataclass(frozen=True)
class Finding:
    """One fact about an input.

    Args:
        code: a key of `FINDING_CODES`.
        severity: note, repaired or refused.
        message: what was seen, with its size, in words. Never holds a patient's name or id.
        action: what was done about it, or what the user can do.
    """

    code: str
    severity: Severity
    message: str
    action: str = ""

    def __post_init__(self) -> None:
        if self.code not in FINDING_CODES:
            raise ValueError(f"{self.code!r} is not in the list of finding codes")

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "severity": str(self.severity), "message": self.message, "action": self.action}


@dataclass(frozen=True)
class Source:
    """Where a scan comes from, and what a writer needs to answer in kind. Holds no pixels.

    Args:
        kind: the format: "nifti", "nrrd", "metaimage", "picture", "dicom" or "memory".
        paths: the files, in slice order for a DICOM series.
        modality: the modality that the file DECLARES ("MR", "CT", ...), else None.
        description: series description and the like; may be shown, but not written to records.
        series_uid, series_number: of a DICOM series, else None.
        header: format's own header fields that the writers of the same format keep.
        identity: patient name and id as found in the file, so that they can be kept OUT of names and records.
    """

    kind: str
    paths: tuple[Path, ...] = ()
    modality: str | None = None
    description: str = ""
    series_uid: str | None = None
    series_number: int | None = None
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)
    identity: tuple[str, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """For messages: the file, or the folder of a series."""
        if not self.paths:
            return self.kind
        return str(self.paths[0] if len(self.paths) == 1 else self.paths[0].parent)


@dataclass(frozen=True, eq=False)
class Scan:
    """Image data on its grid.

    Args:
        data: (C, I, J, K), real-valued, axis order of `grid`; any numeric dtype, values already rescaled to `units`.
            A 2D picture has K = 1. Made read-only, not copied.
        grid: place and size of the voxels, RAS+ mm.
        units: meaning of the values: "HU", "Bq/ml", "arbitrary" ...
        space_units: "mm", or "pixel" where the file holds no pixel size (then `grid` is a convention, no measurement).
        modality: declared by the file, else None.
        channels: a name per channel.
        source: where it came from.
        findings: what is worth mentioning about it.
    """

    data: NDArray[Any]
    grid: Grid
    units: str = "arbitrary"
    space_units: str = "mm"
    modality: str | None = None
    channels: tuple[str, ...] = ("image",)
    source: Source = field(default_factory=lambda: Source("memory"))
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.data.ndim != 4 or self.data.shape[1:] != self.grid.shape:
            raise ValueError(f"data {self.data.shape} is not (C, I, J, K) on a grid of shape {self.grid.shape}")
        if self.data.dtype.kind not in "iufb":
            raise ValueError(f"image data are real numbers, not {self.data.dtype}")
        if len(self.channels) != self.data.shape[0]:
            raise ValueError(f"{self.data.shape[0]} channels but {len(self.channels)} channel names")
        view = self.data.view()
        view.flags.writeable = False
        object.__setattr__(self, "data", view)

    @classmethod
    def from_array(cls, array: Any, affine: Any, *, modality: str | None = None, units: str = "arbitrary") -> Scan:
        """A scan from memory.

        Args:
            array: (I, J, K) or (C, I, J, K), real numbers.
            affine: 4x4, voxel index (i, j, k) to RAS+ mm.
        """
        data = np.asarray(array)
        data = data[np.newaxis] if data.ndim == 3 else data
        names = ("image",) if len(data) == 1 else tuple(f"channel {n}" for n in range(len(data)))
        return cls(data, Grid(data.shape[1:], affine), units, modality=modality, channels=names)

    def with_findings(self, *more: Finding) -> Scan:
        """The same scan with findings added."""
        return replace(self, findings=(*self.findings, *more))
