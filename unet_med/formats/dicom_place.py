"""Where single pictures of a DICOM object lie: as a stack of their own, or on the voxels of a scan.

DICOM's LPS comes in, RAS+ goes out. Pictures are placed by their positions alone; which image they refer to by UID is
no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats.dicom_files import read_header, text
from unet_med.grid import Grid, Triple
from unet_med.scan import Finding, Scan, Severity

Floats = NDArray[np.float64]

LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])
TOLERANCE, STEP_PART = 0.1, 0.02  # mm and part of a step: a picture this near to a slice is that slice
IN_PLANE = 0.25  # of a voxel; an orientation with three decimals moves a corner by as much
DIRECTION = 1e-3  # per component of a unit vector
MOST_SLICES = 4096


@dataclass(frozen=True, eq=False)
class Sheet:
    """One picture in the patient, RAS+ mm.

    Args:
        corner: the centre of its first pixel.
        across, down: from a pixel to the next in its row, and to the one below.
        rows, columns: its size.
        step: how far pictures lie apart by its header; None where that is not said.
    """

    corner: Floats
    across: Floats
    down: Floats
    rows: int
    columns: int
    step: float | None

    @classmethod
    def from_dicom(
        cls,
        position: Sequence[float],
        orientation: Sequence[float],
        spacing: Sequence[float],
        *,
        rows: int,
        columns: int,
        step: float | None,
    ) -> Sheet:
        """From ImagePositionPatient, ImageOrientationPatient and PixelSpacing (between ROWS first)."""
        cosines = np.asarray(orientation, np.float64).reshape(2, 3) * LPS_FROM_RAS
        corner = np.asarray(position, np.float64) * LPS_FROM_RAS
        return cls(corner, cosines[0] * spacing[1], cosines[1] * spacing[0], rows, columns, step)

    @property
    def normal(self) -> Floats:
        """Unit vector of DICOM's row x column, in RAS."""
        # From LPS to RAS is half a turn about z, and a cross product turns with its vectors.
        normal = np.cross(self.across, self.down)
        return np.asarray(normal / np.linalg.norm(normal))

    def voxels(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp], grid: Grid, what: str, where: Path
    ) -> NDArray[np.intp]:
        """Flat C-order indices of the voxels of a grid on which pixels of this picture lie.

        The grid may count its axes in any order and direction.

        Args:
            what: the picture's name in messages, such as "Frame 3".

        Raises:
            ScanRefused: grids_differ, where pixels lie beside, between or outside voxels.
        """
        start = grid.index(self.corner)
        steps = np.stack([grid.index(self.corner + edge) - start for edge in (self.down, self.across)])
        whole = np.rint(steps).astype(np.intp)
        if (np.abs(whole).sum(axis=1) != 1).any() or (whole[0] @ whole[1]) != 0:
            raise ScanRefused(
                f"{what} is turned against the scan, or has pixels of another size.",
                where=where,
                advice="Is this the scan that was segmented?",
                code="grids_differ",
            )
        ends = np.array([(r, c) for r in (0, self.rows - 1) for c in (0, self.columns - 1)])
        expected = np.rint(start).astype(np.intp) + ends @ whole
        off = grid.index(self.corner + ends @ np.stack([self.down, self.across])) - expected
        through = np.abs(whole).sum(axis=0) == 0
        height = float(np.abs(off[:, through]).max() * np.asarray(grid.spacing)[through][0])
        if height > max(TOLERANCE, STEP_PART * np.asarray(grid.spacing)[through][0]):
            raise ScanRefused(
                f"{what} lies {height:.2f} mm away from the nearest slice of the scan.",
                where=where,
                advice="Is this the scan that was segmented?",
                code="grids_differ",
            )
        if np.abs(off).max() > IN_PLANE:
            raise ScanRefused(
                f"Pixels of {what[0].lower()}{what[1:]} lie up to {np.abs(off).max():.2f} voxels beside those of the "
                "scan.",
                where=where,
                advice="Is this the scan that was segmented?",
                code="grids_differ",
            )
        index = expected[0] + rows[:, np.newaxis] * whole[0] + columns[:, np.newaxis] * whole[1]
        if len(index) and ((index < 0).any() or (index >= grid.shape).any()):
            raise ScanRefused(
                f"{what} holds segmented pixels outside of the scan.",
                where=where,
                advice="Is this the scan that was segmented?",
                code="grids_differ",
            )
        return np.asarray(np.ravel_multi_index(tuple(index.T), grid.shape))


def stack_of(sheets: Sequence[Sheet], where: str) -> Grid:
    """The grid that parallel pictures span: i counts columns, j rows, k slices ascending along row x column.

    Pictures may repeat a place, and may leave places out: where their steps are multiples of one step, the grid has
    all slices of that step between the first and the last; else only slices that are there (`Grid.slice_offsets`).

    Raises:
        ScanRefused: mixed_orientation; missing_geometry, if the height of a single slice is not known.
    """
    first = sheets[0]
    for sheet in sheets:
        turned = max(
            float(np.abs(sheet.across - first.across).max() / np.linalg.norm(first.across)),
            float(np.abs(sheet.down - first.down).max() / np.linalg.norm(first.down)),
        )
        if turned > DIRECTION:
            raise ScanRefused(
                "The frames have different orientations or pixel spacings.", where=where, code="mixed_orientation"
            )
    corners = np.array([sheet.corner for sheet in sheets])
    corners = corners[np.argsort(corners @ first.normal, kind="stable")]
    at = corners @ first.normal
    fresh = np.concatenate([[True], np.diff(at) > DIRECTION])
    corners, at = corners[fresh], at[fresh] - at[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = first.across, first.down, corners[0]
    offsets = None
    if len(at) == 1:
        if not first.step:
            raise ScanRefused(
                "There is one slice only, and it does not say how thick it is.", where=where, code="missing_geometry"
            )
        count = 1
        affine[:3, 2] = first.normal * first.step
    else:
        steps = _multiples(at, first.step)
        count = len(at) if steps is None else steps
        affine[:3, 2] = (corners[-1] - corners[0]) / max(count - 1, 1)
        if steps is None:
            offsets = tuple(at / at[-1] * np.linalg.norm(corners[-1] - corners[0]))
    try:
        return Grid((first.columns, first.rows, count), affine, offsets)
    except ValueError as error:
        raise ScanRefused(
            "The positions and orientation of the frames give no volume.", where=where, code="invalid_geometry"
        ) from error


def _multiples(at: Floats, tag: float | None) -> int | None:
    """How many slices of one step there are from the first position to the last; None where no step fits."""
    gaps = np.diff(at)
    for step in (tag, float(gaps.min())):
        if not step:
            continue
        counts = np.concatenate([[0], np.cumsum(np.rint(gaps / step))])
        if counts[-1] < len(gaps) or counts[-1] >= MOST_SLICES or (np.diff(counts) < 1).any():
            continue
        fitted = at[-1] / counts[-1]
        if np.abs(at - counts * fitted).max() <= max(TOLERANCE, STEP_PART * fitted) and abs(fitted - step) < 0.1 * step:
            return int(counts[-1]) + 1
    return None


def picture_grid(shape: Triple) -> Grid:
    """That of a picture of which nobody knows where it lies: i to the right, j down, in pixels."""
    return Grid(shape, np.diag([-1.0, -1.0, 1.0, 1.0]))


def frame_of_reference(scan: Scan) -> str:
    """FrameOfReferenceUID of a scan that was read from DICOM; "" where there is none."""
    if scan.source.kind != "dicom" or not scan.source.paths:
        return ""
    try:
        return text(read_header(scan.source.paths[0], ("FrameOfReferenceUID",)), "FrameOfReferenceUID")
    except FileUnreadable:  # a member of an archive that is closed again
        return ""


def frame_of_reference_note(uid: str, on: Scan | None) -> Finding | None:
    """What is to be said where an object was made in another frame of reference than the scan."""
    other = frame_of_reference(on) if on is not None else ""
    if not uid or not other or uid == other:
        return None
    return Finding(
        "other_frame_of_reference",
        Severity.NOTE,
        "The segmentation names another frame of reference than the scan; whether their coordinates are the same is "
        "not certain.",
        "It was placed by its coordinates.",
    )
