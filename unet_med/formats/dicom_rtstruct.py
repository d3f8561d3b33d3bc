"""DICOM structure sets (RTSTRUCT, PS3.3 A.19): outlines in millimetres, filled on the voxels of a scan.

A structure set holds no voxels, so it is read on a scan. An outline belongs to the slice in whose plane it lies, never
to the image that it refers to by UID: exports break such references as often as they keep them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError, WriteFailed, WrongUse
from unet_med.formats.atomic import replacing
from unet_med.formats.contours import combined
from unet_med.formats.dicom_files import numbers, quietly, read_header, sop_class_name, text, whole
from unet_med.formats.dicom_place import LPS_FROM_RAS, STEP_PART, TOLERANCE, frame_of_reference_note
from unet_med.formats.dicom_rtstruct_write import structure_set
from unet_med.formats.overlaps import Part, label_maps, plain_names
from unet_med.grid import Grid
from unet_med.provenance import Provenance
from unet_med.scan import Finding, Scan, Severity
from unet_med.segmentation import Label, Segmentation, written_labels

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED, CLOSED_XOR = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"


@dataclass(frozen=True, eq=False)
class _Contour:
    """A closed outline: (N, 3) in RAS+ mm."""

    points: NDArray[np.float64]
    exclusive: bool


@dataclass(frozen=True, eq=False)
class _Structure:
    """A region of interest: its label, its closed outlines, and how many of its outlines are not closed."""

    label: Label
    contours: tuple[_Contour, ...]
    open: int


def read(path: Path, on: Scan | None = None) -> list[Segmentation]:
    """Fills the outlines of a structure set on the grid of a scan.

    A voxel is inside where its centre is. Of one structure in one slice, an outline inside of another is a hole, and
    outlines side by side add up. Nothing is filled in between slices.

    Returns:
        One label map; several where structures overlap, each structure whole in one of them. Label values are ROI
        numbers where these can be, else they count from 1. Outlines without a slice are left out, with a finding.

    Raises:
        WrongUse: no scan was named.
        FileUnreadable: damaged, or no structure set.
        ScanRefused: grids_differ, if no outline lies on the scan; contours_cross, if outlines of a structure cross.
    """
    header = read_header(path, ())
    if text(header, "SOPClassUID") != SOP_CLASS:
        raise FileUnreadable(
            f"This is no DICOM structure set, but {sop_class_name(text(header, 'SOPClassUID')) or 'another object'}.",
            where=path,
        )
    if on is None:
        raise WrongUse(
            "A structure set holds outlines and no voxels; they are filled on the voxels of a scan.",
            where=path,
            advice="Name the scan that was outlined: read_segmentation(path, on=scan).",
        )
    structures = _structures(header, path)
    findings: list[Finding] = []
    parts = list(_parts(structures, on.grid, path, findings))
    note = frame_of_reference_note(_frame_of_reference(header), on)
    if note:
        findings.append(note)
    return [
        Segmentation(labels, on.grid, table, on.space_units, on.source, tuple(findings))
        for labels, table in label_maps(on.grid.shape, parts)
    ]


def write(segmentation: Segmentation, path: Path, *, provenance: Provenance | None = None) -> None:
    """Writes outlines along the edges of voxels, in the planes of the images, and proves them: the file is read back
    from its tags, filled, and compared voxel by voxel, before it gets its name.

    Raises:
        WrongUse: the segmentation is of no DICOM series.
        ScanRefused: the series cannot be referred to, or its slices are not those of the segmentation.
        WriteFailed: the disk refuses, or the file did not read back as written. No file is left.
    """
    labels = written_labels(segmentation)
    if not labels:
        raise WrongUse("The segmentation has no label, and a structure set needs at least one structure.")
    made = structure_set(segmentation, labels, provenance)
    with replacing(path) as temporary:
        with quietly():
            made.save_as(temporary, enforce_file_format=True)
        try:
            structures = _structures(read_header(temporary, ()), temporary)
            lost: list[Finding] = []
            parts = list(_parts(structures, segmentation.grid, temporary, lost))
        except UnetMedError as error:
            raise WriteFailed(f"What was written could not be read back: {error.what}", where=path) from error
        if lost or len(parts) != len(labels):
            raise WriteFailed("The outlines did not read back as they were written; the file was removed.", where=path)
        for label, part in zip(labels, parts, strict=True):
            mask = np.isin(segmentation.labels, label.region or (label.value,))
            if not np.array_equal(np.flatnonzero(mask), np.sort(part.where)):
                raise WriteFailed(
                    "The voxels did not read back as they were written; the file was removed.", where=path
                )


# -- the header -----------------------------------------------------------------------------------------------------


def _structures(header: Any, path: Path) -> list[_Structure]:
    named = [(whole(item, "ROINumber"), text(item, "ROIName")) for item in header.get("StructureSetROISequence") or []]
    values = [found for found, _ in named]
    if len(set(values)) < len(values) or not all(found is not None and 1 <= found <= 65535 for found in values):
        values = list(range(1, len(named) + 1))
    drawn = {whole(item, "ReferencedROINumber"): item for item in header.get("ROIContourSequence") or []}
    structures = []
    for (roi, _), value, name in zip(named, values, plain_names(name for _, name in named), strict=True):
        item = drawn.get(roi)
        colour = numbers(item, "ROIDisplayColor", 3) if item is not None else None
        shown = "#" + "".join(f"{min(max(int(part), 0), 255):02x}" for part in colour) if colour else "#808080"
        contours, opened = [], 0
        for contour in (item.get("ContourSequence") or []) if item is not None else []:
            kind = text(contour, "ContourGeometricType")
            if kind not in (CLOSED, CLOSED_XOR):
                opened += 1
                continue
            contours.append(_Contour(_points(contour, name, path), kind == CLOSED_XOR))
        structures.append(_Structure(Label(value or 0, name, shown), tuple(contours), opened))
    if not structures:
        raise FileUnreadable("The structure set names no structures.", where=path)
    return structures


def _points(contour: Any, name: str, path: Path) -> NDArray[np.float64]:
    # As bytes: pydicom would make an object of each number, which for many outlines takes minutes.
    stored = contour.get_item("ContourData").value if "ContourData" in contour else None
    try:
        parts = (
            stored.strip(b" \0").split(b"\\") if isinstance(stored, bytes) and stored.strip(b" \0") else stored or []
        )
        points = np.array(list(parts), np.float64).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise FileUnreadable(
            f"An outline of {name} is not made of points with three coordinates.",
            where=path,
            advice="Export the structure set again.",
        ) from error
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1e5:
        raise FileUnreadable(f"An outline of {name} has coordinates that no scanner could mean.", where=path)
    return np.asarray(points * LPS_FROM_RAS)


def _frame_of_reference(header: Any) -> str:
    uids = {text(item, "ReferencedFrameOfReferenceUID") for item in header.get("StructureSetROISequence") or []}
    return uids.pop() if len(uids) == 1 else ""


# -- the voxels -----------------------------------------------------------------------------------------------------


def _parts(structures: list[_Structure], grid: Grid, path: Path, findings: list[Finding]) -> Iterator[Part]:
    """The voxels of each structure; what was left out is added to the findings."""
    through = _slice_axis(structures, grid)
    column, row = (axis for axis in range(3) if axis != through)
    shape = (grid.shape[row], grid.shape[column])
    lost: dict[str, int] = {}
    farthest = 0.0
    for structure in structures:
        slices: dict[int, list[_Contour]] = {}
        for contour in structure.contours:
            k, distance = _slice(contour, grid, through)
            limit = max(TOLERANCE, STEP_PART * grid.spacing[through])
            if distance > limit or not 0 <= k < grid.shape[through]:
                lost[structure.label.name] = lost.get(structure.label.name, 0) + 1
                farthest = max(farthest, distance)
                continue
            slices.setdefault(k, []).append(contour)
        flat = [np.zeros(0, np.intp)]
        for k, contours in sorted(slices.items()):
            rings = [grid.index(contour.points)[:, [column, row]] for contour in contours if len(contour.points) > 2]
            inside, crossing = combined(rings, shape)
            if crossing and not any(contour.exclusive for contour in contours):
                raise ScanRefused(
                    f"Outlines of {structure.label.name} cross each other in slice {k + 1}: {crossing} pixels lie in "
                    "two of them, and nobody can tell whether these are inside.",
                    where=path,
                    advice="Mend them in the program they were drawn with.",
                    code="contours_cross",
                )
            rows, columns = np.nonzero(inside)
            index: list[Any] = [None, None, None]
            index[column], index[row], index[through] = columns, rows, np.full_like(rows, k)
            flat.append(np.ravel_multi_index(tuple(index), grid.shape))
        yield Part((structure.label,), np.concatenate(flat), structure.label.value)
    drawn = sum(len(structure.contours) for structure in structures)
    if lost and sum(lost.values()) == drawn:
        raise ScanRefused(
            f"None of the {drawn} outlines lies on a slice of the scan.",
            where=path,
            advice="Is this the scan that was outlined?",
            code="grids_differ",
        )
    if lost:
        findings.append(
            Finding(
                "contour_without_slice",
                Severity.NOTE,
                f"{sum(lost.values())} of {drawn} outlines lie in planes where the scan has no slice "
                f"({', '.join(f'{name} {count}' for name, count in lost.items())}).",
                "They were left out.",
            )
        )
    if opened := sum(structure.open for structure in structures):
        findings.append(
            Finding(
                "contour_not_closed",
                Severity.NOTE,
                f"{opened} outlines are points or open lines, which have no inside.",
                "They were left out.",
            )
        )


def _slice_axis(structures: list[_Structure], grid: Grid) -> int:
    """The axis of the grid along which all outlines are flat."""
    spread = np.zeros(3)
    for structure in structures:
        for contour in structure.contours:
            if len(contour.points):
                spread = np.maximum(spread, np.ptp(grid.index(contour.points), axis=0) * grid.spacing)
    return int(spread.argmin()) if spread.any() else 2


def _slice(contour: _Contour, grid: Grid, through: int) -> tuple[int, float]:
    """The nearest slice, and how far the outline strays from its plane, in mm."""
    if not len(contour.points):
        return -1, 0.0
    index = grid.index(contour.points)
    k = int(np.rint(index[:, through].mean()))
    flat = index.copy()
    flat[:, through] = k
    return k, float(np.linalg.norm(grid.world(flat) - contour.points, axis=1).max())
