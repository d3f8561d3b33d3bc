"""What readers of several formats have to say in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import ScanRefused
from unet_med.grid import Grid
from unet_med.scan import Finding, Severity

TOLERANCE = 0.01
"""mm: places that differ by no more are the same; what differs by more is at least a note with its size."""


def about_grid(grid: Grid) -> Iterator[Finding]:
    """Notes on shear and on single slices.

    A left-handed voxel order (half of all NIfTI files: LAS) is no finding: it is exact, nothing is done about it, and
    a note on every second file teaches people not to read notes.
    """
    drift = float(np.sin(np.radians(grid.shear_degrees)) * max(grid.extent))
    if drift > TOLERANCE:
        yield Finding(
            "sheared",
            Severity.NOTE,
            f"The axes are {grid.shear_degrees:.3g} degrees from perpendicular, up to {drift:.3g} mm across the scan.",
            "Kept exactly.",
        )
    if 1 in grid.shape:
        axis = grid.shape.index(1)
        yield Finding(
            "single_slice",
            Severity.NOTE,
            f"One slice only (axis {'ijk'[axis]}); its thickness is taken to be its step, {grid.spacing[axis]:.4g} mm.",
        )


def about_values(data: NDArray[Any]) -> Iterator[Finding]:
    """A note on NaN and infinite values. `data`: any shape; it is looked at a slice at a time to save memory."""
    if data.dtype.kind == "f":
        count = sum(int((~np.isfinite(data[..., k])).sum()) for k in range(data.shape[-1]))
        if count:
            share = 100 * count / data.size
            yield Finding(
                "non_finite_values",
                Severity.NOTE,
                f"{count} values ({share:.2g} %) are NaN or infinite.",
                "Kept in the data.",
            )


def about_undecided(floating: bool) -> tuple[str, ...]:
    """What `about_values` may find in a file whose values are, or are not, floating point numbers."""
    return ("non_finite_values",) if floating else ()


def check_channels(count: int, channels: int, where: str | PathLike[str]) -> None:
    """Sees that a file holds as many values a voxel as the caller's model reads.

    Raises:
        ScanRefused: `too_many_channels` where one is needed, `channel_count` for any other mismatch.
    """
    if count == channels:
        return
    if channels == 1:
        raise ScanRefused(
            f"The file holds {count} values a voxel (time points or channels), and one is needed.",
            where=where,
            advice="Save the one that is meant as a file of its own, or use a model that reads as many.",
            code="too_many_channels",
        )
    raise ScanRefused(
        f"The file holds {count} channel{'s' * (count > 1)}, and {channels} are needed.",
        where=where,
        code="channel_count",
    )


def colour_channels(
    data: NDArray[Any], channels: int, where: str | PathLike[str]
) -> tuple[NDArray[Any], tuple[Finding, ...]]:
    """A colour image (..., 3) as (C, ...): three channels for a model that reads three, grey where all are equal.

    Raises:
        ScanRefused: `colour_image` where one channel is needed and the colours differ, else `channel_count`.
    """
    check_colour(channels, False, where)
    if channels == 3:
        return np.moveaxis(data, -1, 0), ()
    grey = data[..., 0]
    if not (np.array_equal(grey, data[..., 1]) and np.array_equal(grey, data[..., 2])):
        raise ScanRefused(
            "This is a colour image, and one grey value a voxel is needed.",
            where=where,
            advice="Convert it to grey in the way that fits its meaning; there is no single right one.",
            code="colour_image",
        )
    finding = Finding(
        "colour_as_grey", Severity.NOTE, "A colour image whose three channels are equal.", "Read as grey."
    )
    return np.ascontiguousarray(grey.T).T[np.newaxis], (finding,)


def check_colour(channels: int, transparent: bool, where: str | PathLike[str]) -> tuple[int, tuple[str, ...]]:
    """How many channels a colour image can give, and the codes that hang on its values.

    Args:
        transparent: it has an alpha channel.

    Raises:
        ScanRefused: `channel_count`, if neither one channel nor three are needed.
    """
    if channels not in (1, 3):
        raise ScanRefused(
            f"A colour image has 3 channels, and {channels} are needed.", where=where, code="channel_count"
        )
    return channels, ("colour_as_grey",) * (channels == 1) + ("colour_image",) * (channels == 1 or transparent)


def channel_names(count: int) -> tuple[str, ...]:
    return ("image",) if count == 1 else tuple(f"channel {n}" for n in range(count))


def opaque(colours: NDArray[Any], where: str | PathLike[str]) -> NDArray[Any]:
    """Colours (..., 3 or 4) without their fourth channel, where that hides nothing.

    Raises:
        ScanRefused: `colour_image`, if some of it is transparent.
    """
    if colours.shape[-1] == 4 and colours[..., 3].min() < np.iinfo(colours.dtype).max:
        raise ScanRefused(
            "Parts of this image are transparent; which values they have is anybody's guess.",
            where=where,
            advice="Save it without an alpha channel.",
            code="colour_image",
        )
    return colours[..., :3]


def exactness(grid: Grid) -> float:
    """How far, in mm, a grid may move by being written: a thousandth of a mm, or of the smallest voxel."""
    return 0.001 * min(1.0, *grid.spacing)
