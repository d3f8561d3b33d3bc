"""DICOM segmentations (PS3.3 A.51) as label maps: from the tags and bits of the file, frame by frame, by position.

Reading knows nothing of how `dicom_seg_write` makes a file, so that it can prove what that made. Stored frames need
not be all slices, and need not be in their order: each goes where its ImagePositionPatient says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError, WriteFailed
from unet_med.formats.atomic import replacing
from unet_med.formats.cielab import colour_of
from unet_med.formats.dicom_files import numbers, quietly, read_header, sop_class_name, text, transfer_syntax, whole
from unet_med.formats.dicom_place import Sheet, frame_of_reference_note, picture_grid, stack_of
from unet_med.formats.dicom_seg_pixels import RLE, StoredFrames
from unet_med.formats.dicom_seg_write import segmentation_object
from unet_med.formats.overlaps import Part, label_maps, plain_names
from unet_med.grid import Grid
from unet_med.provenance import Provenance
from unet_med.scan import PIXEL_UNITS, Scan, Source
from unet_med.segmentation import Code, Label, Segmentation, written_labels

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""
PLAIN_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
BACKGROUND = ("DCM", "125040")
LEFT_OUT = "#808080"  # of a segment that recommends no colour


@dataclass(frozen=True, eq=False)
class _Frame:
    """One stored frame: where it lies (None: not said), and the segment it belongs to (None in a label map)."""

    index: int
    sheet: Sheet | None
    segment: int | None


def read(path: Path, on: Scan | None = None) -> list[Segmentation]:
    """Reads a segmentation of type BINARY, LABELMAP, or FRACTIONAL whose values are only 0 and the maximum.

    Args:
        on: the scan onto whose grid it is pasted, by position. None: the grid that its own frames span, in which
            slices without a frame are empty.

    Returns:
        One label map; several where segments overlap, each segment whole in one of them. Label values are segment
        numbers. `source` is that of the scan, or the file.

    Raises:
        FileUnreadable: damaged, or no segmentation.
        ScanRefused: a type or a geometry that is not read; frames that do not lie on the voxels of the scan.
    """
    header = read_header(path, (), pixels=True)
    kind = _kind(header, path)
    frames = _frames(header, kind, path)
    sheets = [frame.sheet for frame in frames if frame.sheet is not None]
    units = "mm"
    if not sheets:
        grid, units = _unplaced(header, frames, on, path)
    elif on is not None:
        grid, units = on.grid, on.space_units
    else:
        grid = stack_of(sheets, str(path))
    note = frame_of_reference_note(text(header, "FrameOfReferenceUID"), on)
    source = on.source if on is not None else Source("dicom-seg", (path,))
    return [
        Segmentation(labels, grid, table, units, source, (note,) if note else ())
        for labels, table in label_maps(grid.shape, _parts(header, kind, frames, grid, path))
    ]


def write(
    segmentation: Segmentation,
    path: Path,
    *,
    kind: Literal["BINARY", "LABELMAP"],
    provenance: Provenance | None = None,
) -> None:
    """Writes a segmentation of a scan that was read from a DICOM series, and proves it: the file is read back from its
    tags and bits, and compared voxel by voxel, before it gets its name.

    Every label of the table becomes a segment, found or not: with kind BINARY numbered from 1 in the order of the
    table (and labels may overlap, see `Label.region`), with LABELMAP by its value.

    Args:
        provenance: of the result; names the algorithm in the file.

    Raises:
        WrongUse: the segmentation is of no DICOM series, or overlaps in a LABELMAP.
        ScanRefused: the series cannot be referred to, or its slices are not those of the segmentation.
        WriteFailed: the disk refuses, or the file did not read back as written. No file is left.
    """
    made = segmentation_object(segmentation, kind, provenance)
    with replacing(path) as temporary:
        with quietly():
            made.save_as(temporary, enforce_file_format=True)
        del made  # for many organs a copy of a hundred MB
        _prove(segmentation, kind, temporary, path)


def _prove(segmentation: Segmentation, kind: str, temporary: Path, path: Path) -> None:
    """Reads what was written by the reader of anybody's files, and compares."""
    try:
        header = read_header(temporary, (), pixels=True)
        frames = _frames(header, _kind(header, temporary), temporary)
        maps = label_maps(segmentation.grid.shape, _parts(header, kind, frames, segmentation.grid, temporary))
    except UnetMedError as error:
        raise WriteFailed(f"What was written could not be read back: {error.what}", where=path) from error
    labels = written_labels(segmentation)
    numbers = [label.value if kind == "LABELMAP" else n for n, label in enumerate(labels, start=1)]
    if any(label.region for label in labels):
        equal = all(
            np.array_equal(
                np.isin(segmentation.labels, label.region or (label.value,)),
                np.logical_or.reduce([found == number for found, _ in maps]),
            )
            for number, label in zip(numbers, labels, strict=True)
        )
    else:
        expected = np.zeros(int(segmentation.labels.max()) + 1, np.uint16)
        for number, label in zip(numbers, labels, strict=True):
            expected[label.value : label.value + 1] = number  # a label that does not occur has no place here
        equal = len(maps) == 1 and all(
            np.array_equal(maps[0][0][:, :, k], expected[segmentation.labels[:, :, k]])
            for k in range(segmentation.grid.shape[2])
        )
    if not equal:
        raise WriteFailed("The voxels did not read back as they were written; the file was removed.", where=path)


# -- the header -----------------------------------------------------------------------------------------------------


def _kind(header: Any, path: Path) -> str:
    sop_class = text(header, "SOPClassUID")
    if sop_class not in SOP_CLASSES:
        raise FileUnreadable(
            f"This is no DICOM segmentation, but {sop_class_name(sop_class) or 'an object without SOP class'}.",
            where=path,
        )
    kind = text(header, "SegmentationType") or ("LABELMAP" if sop_class == SOP_CLASSES[1] else "")
    bits = whole(header, "BitsAllocated")
    syntax = transfer_syntax(header)
    if bits is None or not text(header, "Rows") or "PixelData" not in header:
        raise FileUnreadable(
            "The segmentation ends before its pixels; the file is cut short or damaged.",
            where=path,
            advice="Export or copy it again.",
        )
    if kind not in ("BINARY", "LABELMAP", "FRACTIONAL") or bits not in {"BINARY": (1,), "FRACTIONAL": (8,)}.get(
        kind, (8, 16)
    ):
        raise ScanRefused(
            f"A segmentation of type {kind or '(not said)'} with {bits} bits a pixel is not read.",
            where=path,
            code="unsupported_object",
        )
    if syntax not in PLAIN_SYNTAXES and not (syntax == RLE and kind != "BINARY"):
        raise ScanRefused(
            f"The pixels are compressed in a way that is not read here: {sop_class_name(syntax)}.",
            where=path,
            advice="Have the archive send it uncompressed (Explicit VR Little Endian).",
            code="unsupported_object",
        )
    return kind


def _table(header: Any, kind: str) -> dict[int, Label]:
    """Segment number to label; the background that label maps describe is none."""
    described = [
        (found, item)
        for item in header.get("SegmentSequence") or []
        if (found := whole(item, "SegmentNumber")) is not None and found > 0
    ]
    described = [
        (found, item)
        for found, item in described
        if kind != "LABELMAP" or (code := _code(item, "SegmentedPropertyTypeCodeSequence")) is None
        or (code.scheme, code.value) != BACKGROUND
    ]  # fmt: skip
    names = plain_names(text(item, "SegmentLabel") for _, item in described)
    return {found: _label(found, name, item) for (found, item), name in zip(described, names, strict=True)}


def _label(value: int, name: str, item: Any) -> Label:
    lab = numbers(item, "RecommendedDisplayCIELabValue", 3)
    types = item.get("SegmentedPropertyTypeCodeSequence") or [None]
    return Label(
        value,
        name,
        colour_of([int(part) for part in lab]) if lab else LEFT_OUT,
        category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
        anatomy=_code(item, "SegmentedPropertyTypeCodeSequence"),
        laterality=_code(types[0], "SegmentedPropertyTypeModifierCodeSequence") if types[0] is not None else None,
    )


def _code(item: Any, sequence: str) -> Code | None:
    found = item.get(sequence) or []
    if not len(found):
        return None
    value = text(found[0], "CodeValue") or text(found[0], "LongCodeValue")
    return Code(text(found[0], "CodingSchemeDesignator"), value, text(found[0], "CodeMeaning")) if value else None


def _frames(header: Any, kind: str, path: Path) -> list[_Frame]:
    """What functional groups say of each frame: its own first, then those that all share."""
    own = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    count = whole(header, "NumberOfFrames") or 1
    if len(own) not in (0, count):
        raise ScanRefused(
            f"The file holds {count} frames, but describes {len(own)}.", where=path, code="unreadable_instance"
        )
    shared = (list(header.get("SharedFunctionalGroupsSequence") or []) or [None])[0]
    frames = []
    for index in range(count):
        groups = [group for group in (own[index] if own else None, shared) if group is not None]
        segment = None
        if kind != "LABELMAP":
            segment = next(
                (
                    found
                    for group in groups
                    for item in group.get("SegmentIdentificationSequence") or []
                    if (found := whole(item, "ReferencedSegmentNumber")) is not None
                ),
                None,
            )
            if segment is None:
                raise ScanRefused(
                    f"Frame {index + 1} does not say which segment it shows.", where=path, code="unreadable_instance"
                )
        frames.append(_Frame(index, _sheet(groups, header, path, index), segment))
    return frames


def _sheet(groups: Sequence[Any], header: Any, path: Path, index: int) -> Sheet | None:
    def found(sequence: str, tag: str, count: int) -> tuple[float, ...] | None:
        return next(
            (
                values
                for group in groups
                for item in group.get(sequence) or []
                if (values := numbers(item, tag, count)) is not None
            ),
            None,
        )

    position = found("PlanePositionSequence", "ImagePositionPatient", 3)
    if position is None:
        return None
    orientation = found("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = found("PixelMeasuresSequence", "PixelSpacing", 2)
    if orientation is None or spacing is None or min(spacing) <= 0:
        raise ScanRefused(
            f"Frame {index + 1} has a position, but no orientation or pixel spacing.",
            where=path,
            code="missing_geometry",
        )
    between = found("PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    thick = found("PixelMeasuresSequence", "SliceThickness", 1)
    return Sheet.from_dicom(
        position,
        orientation,
        spacing,
        rows=whole(header, "Rows") or 0,
        columns=whole(header, "Columns") or 0,
        step=abs(between[0]) if between else abs(thick[0]) if thick else None,
    )


def _unplaced(header: Any, frames: Sequence[_Frame], on: Scan | None, path: Path) -> tuple[Grid, str]:
    """The grid of a segmentation that says nothing of the patient: of one picture, which has no other slices."""
    shape = (whole(header, "Columns") or 0, whole(header, "Rows") or 0, 1)
    segments = [frame.segment for frame in frames]
    if len(set(segments)) < len(segments):
        raise ScanRefused("The frames do not say where they lie in the patient.", where=path, code="missing_geometry")
    if on is None:
        return picture_grid(shape), PIXEL_UNITS
    if on.grid.shape != shape:
        raise ScanRefused(
            f"The segmentation is one picture of {shape[0]} x {shape[1]} pixels; the scan has "
            f"{' x '.join(map(str, on.grid.shape))} voxels.",
            where=path,
            code="grids_differ",
        )
    return on.grid, on.space_units


# -- the pixels -----------------------------------------------------------------------------------------------------


def _parts(header: Any, kind: str, frames: Sequence[_Frame], grid: Grid, path: Path) -> Iterator[Part]:
    """Voxels of the grid: of each segment, or of all segments of a label map."""
    table = _table(header, kind)
    pixels = StoredFrames(header, kind, path)
    if kind == "LABELMAP":
        padding = whole(header, "PixelPaddingValue")
        where, values = [], []
        for frame in frames:
            picture = pixels.frame(frame.index)
            picture = np.where(picture == (padding if padding not in table else 0), 0, picture)
            present = np.zeros(1 << 16, bool)  # many times faster than numpy.unique
            present[picture] = True
            strange = set(np.flatnonzero(present).tolist()) - {0} - set(table)
            if strange:
                # A described background may have any number; one that is not described at all has no meaning.
                described = {whole(item, "SegmentNumber") for item in header.get("SegmentSequence") or []}
                if strange - described:
                    raise ScanRefused(
                        f"Frame {frame.index + 1} holds the value {min(strange - described)}, which no segment "
                        "describes.",
                        where=path,
                        code="unreadable_instance",
                    )
                picture = np.where(np.isin(picture, sorted(strange)), 0, picture)
            rows, columns = np.nonzero(picture)
            where.append(_where(frame, rows, columns, grid, path))
            values.append(picture[rows, columns])
        flat = np.concatenate(where) if where else np.zeros(0, np.intp)
        _once(flat, grid, path)
        yield Part(tuple(table.values()), flat, np.concatenate(values) if values else 0)
        return
    unknown = sorted({frame.segment for frame in frames if frame.segment is not None} - set(table))
    if unknown:
        raise ScanRefused(
            f"A frame shows segment {unknown[0]}, which is not described.", where=path, code="unreadable_instance"
        )
    for value, label in sorted(table.items()):
        places = [np.zeros(0, np.intp)]
        for frame in frames:
            if frame.segment == value:
                rows, columns = np.nonzero(pixels.frame(frame.index))
                places.append(_where(frame, rows, columns, grid, path))
        yield Part((label,), np.concatenate(places), value)


def _where(
    frame: _Frame, rows: NDArray[np.intp], columns: NDArray[np.intp], grid: Grid, path: Path
) -> NDArray[np.intp]:
    """Flat indices of the voxels on which pixels of a frame lie."""
    if not len(rows):
        return np.zeros(0, np.intp)
    if frame.sheet is None:
        return np.ravel_multi_index((columns, rows, np.zeros_like(rows)), grid.shape)
    return frame.sheet.voxels(rows, columns, grid, f"Frame {frame.index + 1}", path)


def _once(flat: NDArray[np.intp], grid: Grid, path: Path) -> None:
    marked = np.zeros(np.prod(grid.shape), bool)
    marked[flat] = True
    if marked.sum() < len(flat):
        raise ScanRefused("Two frames of the label map lie at one place.", where=path, code="repeated_position")
