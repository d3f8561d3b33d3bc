"""A stack of DICOM images, files or frames of a file, as one `Scan`: geometry exact, or its fault named.

Slices are ordered by their position along the normal of their plane; instance numbers, file names and slice locations
order nothing. Voxel axes: i counts columns, j rows, k slices ascending along the normal, row x column direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats.dicom_decoder import stored_pixels
from unet_med.formats.dicom_instance import Instance, read_instances
from unet_med.formats.dicom_pixels import value_type
from unet_med.formats.dicom_stack import common_plane, place_slices, same_places, what_varies
from unet_med.formats.dicom_write import write
from unet_med.formats.outline import Outline
from unet_med.scan import Finding, Scan, Severity, Source

__all__ = ["outline", "read", "write"]

IDENTITY = (1.0, 0.0)


def read(source: Source, channels: int = 1) -> Scan:
    """Reads one stack of grey images.

    Args:
        source: the files of one stack, as `find_series` gives them, in any order. Where some of their frames belong to
            it only, `source.header["frames"]` names these: pairs of (index into `source.paths`, frame from 0).
        channels: how many channels the caller needs; a series has one.

    Returns:
        A scan of data (1, I, J, K), read-only. Values are rescaled slice by slice; they stay whole numbers where every
        slope and intercept is one, else they are float32. Uneven slices have their positions in `grid.slice_offsets`.
        `source.paths` are in the order of the slices; of multi-frame files `source.header["frames"]` is in that order.

    Raises:
        ScanRefused: with the code of the fault.
        FileUnreadable: a file of the series cannot be opened or parsed.
    """
    plan, groups = _planned(source, channels)
    copies = _duplicates(groups, source.name)
    slices = [group[0] for group in groups]
    data, padded = _values(slices)
    return Scan(
        data,
        plan.grid,
        units=plan.units,
        modality=plan.modality,
        source=_in_order(source, slices),
        findings=(*copies, *plan.findings, *_about_padding(padded)),
    )


def outline(source: Source, channels: int = 1) -> Outline:
    """What `read` will say of a stack by its headers alone; it refuses what `read` refuses by them."""
    return _planned(source, channels)[0]


def _planned(source: Source, channels: int) -> tuple[Outline, list[list[Instance]]]:
    """All that headers decide: the outline, and the images of each slice in order."""
    where = source.name
    if channels != 1:
        raise ScanRefused(
            f"A DICOM series has one channel, but {channels} are needed.",
            where=where,
            advice="Give one series for each channel.",
            code="channel_count",
        )
    images = _with_rescale(_images(source), where)
    plane = common_plane(images, where)
    groups = same_places(images, plane, where)
    slices = [group[0] for group in groups]
    grid, findings = place_slices(slices, plane, where)
    undecided = ["duplicate_slice", "repeated_position"] if len(slices) < len(images) else []
    undecided += ["padding_values"] if any(one.padding for one in slices) else []
    plan = Outline(
        grid,
        units=slices[0].units,
        modality=source.modality,
        findings=(*findings, *_notes(source, slices)),
        undecided=tuple(undecided),
    )
    return plan, groups


def _images(source: Source) -> list[Instance]:
    parsed = source.header.get("images", ())
    if parsed and {one.path for one in parsed} == set(source.paths):
        return list(parsed)
    chosen = source.header.get("frames")
    images: list[Instance] = []
    for n, path in enumerate(source.paths):
        wanted = None if chosen is None else {frame for file, frame in chosen if file == n}
        images += read_instances(path, wanted)
    if not images:
        raise FileUnreadable("The series holds no files.", where=source.name)
    return images


def _in_order(source: Source, slices: Sequence[Instance]) -> Source:
    if all(one.frame is None for one in slices):
        return replace(source, paths=tuple(one.path for one in slices))
    paths = tuple(dict.fromkeys(one.path for one in slices))
    frames = tuple((paths.index(one.path), one.frame or 0) for one in slices)
    return replace(source, paths=paths, header={**source.header, "frames": frames})


def _with_rescale(images: Sequence[Instance], where: str) -> list[Instance]:
    """The images with a slope and an intercept each; where no file has them, stored values are the values."""
    without = [one for one in images if one.rescale is None]
    others = {one.rescale for one in images} - {None, IDENTITY}
    if without and others:
        raise ScanRefused(
            f"{len(without)} of {len(images)} images have no rescale (slope and intercept), the others do; their "
            "values cannot be compared.",
            where=where,
            code="invalid_rescale",
        )
    if len({one.inverted for one in images}) > 1:
        raise ScanRefused(
            "Some slices are MONOCHROME1 (bright means low), others MONOCHROME2; their values cannot be compared.",
            where=where,
            code="monochrome1",
        )
    return [replace(one, rescale=one.rescale or IDENTITY) for one in images]


def _duplicates(groups: Sequence[Sequence[Instance]], where: str) -> list[Finding]:
    """Notes that equal copies are left out; different images at one place are refused, since nobody can choose."""
    crowded = [group for group in groups if len(group) > 1]
    if not crowded:
        return []
    for group in crowded:
        if len({one.rescale for one in group}) > 1 or not _equal_pixels(group):
            varying = what_varies([one for crowd in crowded for one in crowd])
            raise ScanRefused(
                f"{sum(map(len, groups))} images lie at {len(groups)} position{'s' * (len(groups) > 1)}: different "
                "images share one place. "
                + (f"They differ in {varying}." if varying else "No tag that is known to tell them apart does."),
                where=where,
                advice="Put the images of one echo, phase, weighting or time into a folder of their own.",
                code="repeated_position",
            )
    extra = sum(len(group) - 1 for group in crowded)
    return [
        Finding(
            "duplicate_slice",
            Severity.REPAIRED,
            f"{extra} image{'' if extra == 1 else 's'} repeat{'s' if extra == 1 else ''} a slice with equal position "
            "and equal pixels.",
            "Each slice is used once.",
        )
    ]


def _equal_pixels(images: Sequence[Instance]) -> bool:
    pixels = stored_pixels(images)
    first = next(pixels)
    return all(np.array_equal(first, other) for other in pixels)


def _values(slices: Sequence[Instance]) -> tuple[NDArray[Any], int]:
    """Data (1, I, J, K), filled slice by slice, and the number of voxels that are marked as padding."""
    rescales = [one.rescale or IDENTITY for one in slices]
    kind = value_type([(one.bits, one.signed) for one in slices], rescales)
    volume: NDArray[Any] | None = None
    padded = 0
    for k, (one, stored) in enumerate(zip(slices, stored_pixels(slices), strict=True)):
        if volume is None:  # only now: the first file has shown that its size is no damaged number
            volume = np.empty((len(slices), one.rows, one.columns), kind)
        if one.padding is not None:
            padded += int(((stored >= one.padding[0]) & (stored <= one.padding[1])).sum())
        slope, intercept = rescales[k]
        volume[k] = stored if (slope, intercept) == IDENTITY else stored * np.float64(slope) + intercept
    assert volume is not None
    return volume.transpose(2, 1, 0)[np.newaxis], padded


def _about_padding(padded: int) -> list[Finding]:
    if not padded:
        return []
    return [
        Finding(
            "padding_values",
            Severity.NOTE,
            f"{padded} voxels are marked as padding: the scanner measured nothing there.",
            "Their values are kept as they are.",
        )
    ]


def _notes(source: Source, slices: Sequence[Instance]) -> list[Finding]:
    notes = []
    if slices[0].inverted:
        notes.append(
            Finding(
                "monochrome1",
                Severity.NOTE,
                "The files ask to be shown inverted (MONOCHROME1): bright means low.",
                "Values are used as stored.",
            )
        )
    stack = source.header.get("stack")
    if stack:
        notes.append(
            Finding(
                "several_stacks",
                Severity.NOTE,
                f"The series holds several stacks of slices; this is {stack}.",
                "Only this one is used.",
            )
        )
    # Of one stack among several nobody counts the images.
    promised = set() if stack else {one.in_acquisition for one in slices} - {None}
    if len(promised) == 1 and (count := promised.pop()) is not None and count > len(slices) > 1:
        notes.append(
            Finding(
                "missing_slice",
                Severity.NOTE,
                f"The header counts {count} images in the acquisition (ImagesInAcquisition); here are {len(slices)}.",
                "What is here is used; slices may be missing at an end.",
            )
        )
    if not slices[0].frame_of_reference:
        notes.append(
            Finding(
                "missing_frame_of_reference",
                Severity.NOTE,
                "The files name no frame of reference, so nothing says that other series share their coordinates.",
                "Positions count within this series.",
            )
        )
    uids = [one.uid for one in slices if one.uid and one.frame is None]
    if len(set(uids)) < len(uids):
        notes.append(
            Finding(
                "duplicate_uid",
                Severity.NOTE,
                f"{len(uids)} images have {len(set(uids))} different SOP instance UIDs between them.",
                "They are told apart by file and position.",
            )
        )
    beside = int(source.header.get("unreadable_beside", 0))
    if beside:
        notes.append(
            Finding(
                "unreadable_instance",
                Severity.NOTE,
                f"{beside} file{'' if beside == 1 else 's'} in the same folder cannot be read as DICOM.",
                "If they belong to this series, slices are missing.",
            )
        )
    return notes
