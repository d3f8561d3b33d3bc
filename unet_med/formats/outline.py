"""What the headers of a scan tell, before a voxel is read."""

from __future__ import annotations

from dataclasses import dataclass

from unet_med.grid import Grid
from unet_med.scan import Finding


@dataclass(frozen=True, eq=False)
class Outline:
    """A scan without its voxels. Reading the same source gives the same grid, units and findings, and maybe more.

    Args:
        grid: place and size of the voxels, RAS+ mm.
        channels: how many values a voxel there will be.
        units: meaning of the values.
        space_units: "mm" or "pixel", as in `Scan`.
        modality: declared by the file, else None.
        findings: what headers tell.
        undecided: codes of findings that this file may still get, or be refused for, once its voxels are read.
    """

    grid: Grid
    channels: int = 1
    units: str = "arbitrary"
    space_units: str = "mm"
    modality: str | None = None
    findings: tuple[Finding, ...] = ()
    undecided: tuple[str, ...] = ()
