"""A plain DICOM series, one file a slice, as one `Scan`: geometry exact, or its fault named.

Slices are ordered by their position along the normal of their plane; instance numbers, file names and slice locations
order nothing. Voxel axes: i counts columns, j rows, k slices ascending along the normal, row x column direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats.dicom_instance import Instance, read_instance
from unet_med.formats.dicom_pixels import stored_pixels, value_type
from unet_med.formats.dicom_stack import common_plane, place_slices, same_places, what_varies
from unet_med.formats.dicom_write import write
from unet_med.scan import Finding, Scan, Severity, Source

__all__ = ["read", "write"]

IDENTITY = (1.0, 0.0)


def read(source: Source, channels: int = 1) -> Scan:
    """Reads a series of single-frame grey images.

    Args:
        source: the files of one series, as `find_series` gives them, in any order.
        channels: how many channels the caller needs; a series has one.

    Returns:
        A scan of data (1, I, J, K), read-only. Values are rescaled slice by slice; they stay whole numbers where every
        slope and intercept is one, else they are float32. Uneven slices have their positions in `grid.slice_offsets`.
        `source.paths` are in the order of the slices.

    Raises:
        ScanRefused: with the code of the fault.
        FileUnreadable: a file of the series cannot be opened or parsed.
    """
    where = source.name
    if channels != 1:
        raise ScanRefused(
            f"A DICOM series has one channel, but {channels} are needed.",
            where=where,
            advice="Give one series for each channel.",
            code="channel_count",
        )
    instances = [read_instance(path) for path in source.paths]
    if not instances:
        raise FileUnreadable("The series holds no files.", where=where)
    plane = common_plane(instances, where)
    rescales = _rescales(instances, where)
    groups = same_places(instances, plane, where)
    copies = _duplicates(groups, rescales, where)
    slices = [group[0] for group in groups]
    grid, findings = place_slices(slices, plane, where)
    kind = value_type([(one.bits, one.signed) for one in slices], [rescales[one.path] for one in slices])
    data, padding = _values(slices, rescales, kind)
    notes = [*copies, *findings, *_notes(source, slices, padding)]
    return Scan(
        data,
        grid,
        units=slices[0].units,
        modality=source.modality,
        source=replace(source, paths=tuple(one.path for one in slices)),
        findings=tuple(notes),
    )


def _rescales(instances: Sequence[Instance], where: str) -> dict[Path, tuple[float, float]]:
    """Slope and intercept of each file; where no file has them, stored values are the values."""
    without = [one for one in instances if one.rescale is None]
    others = {one.rescale for one in instances} - {None, IDENTITY}
    if without and others:
        raise ScanRefused(
            f"{len(without)} of {len(instances)} files have no rescale (slope and intercept), the others do; their "
            "values cannot be compared.",
            where=where,
            code="unit_scaling_ignored",
        )
    if len({one.inverted for one in instances}) > 1:
        raise ScanRefused(
            "Some slices are MONOCHROME1 (bright means low), others MONOCHROME2; their values cannot be compared.",
            where=where,
            code="monochrome1",
        )
    return {one.path: one.rescale or IDENTITY for one in instances}


def _duplicates(
    groups: Sequence[Sequence[Instance]], rescales: dict[Path, tuple[float, float]], where: str
) -> list[Finding]:
    """Notes that equal copies are left out; different images at one place are refused, since nobody can choose."""
    crowded = [group for group in groups if len(group) > 1]
    if not crowded:
        return []
    for group in crowded:
        first = group[0]
        pixels = stored_pixels(first.path)
        for other in group[1:]:
            if rescales[other.path] != rescales[first.path] or not np.array_equal(stored_pixels(other.path), pixels):
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
            f"{extra} file{'' if extra == 1 else 's'} repeat{'s' if extra == 1 else ''} a slice with equal position "
            "and equal pixels.",
            "Each slice is used once.",
        )
    ]


def _values(
    slices: Sequence[Instance], rescales: dict[Path, tuple[float, float]], kind: np.dtype[Any]
) -> tuple[NDArray[Any], int]:
    """Data (1, I, J, K), filled slice by slice, and the number of voxels that are marked as padding."""
    volume: NDArray[Any] | None = None
    padded = 0
    for k, one in enumerate(slices):
        stored = stored_pixels(one.path)
        if volume is None:  # only now: the first file has shown that its size is no damaged number
            volume = np.empty((len(slices), one.rows, one.columns), kind)
        if one.padding is not None:
            padded += int(((stored >= one.padding[0]) & (stored <= one.padding[1])).sum())
        slope, intercept = rescales[one.path]
        volume[k] = stored if (slope, intercept) == IDENTITY else stored * np.float64(slope) + intercept
    assert volume is not None
    return volume.transpose(2, 1, 0)[np.newaxis], padded


def _notes(source: Source, slices: Sequence[Instance], padded: int) -> list[Finding]:
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
    if padded:
        notes.append(
            Finding(
                "padding_values",
                Severity.NOTE,
                f"{padded} voxels are marked as padding: the scanner measured nothing there.",
                "Their values are kept as they are.",
            )
        )
    promised = {one.in_acquisition for one in slices} - {None}
    if len(promised) == 1 and (count := promised.pop()) is not None and count > len(slices) > 1:
        notes.append(
            Finding(
                "missing_slice",
                Severity.NOTE,
                f"The header counts {count} images in the acquisition (ImagesInAcquisition); here are {len(slices)}.",
                "What is here is used; slices may be missing at an end.",
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
