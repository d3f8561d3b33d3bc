"""Several scans of one patient as the channels of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unet_med.errors import ScanRefused
from unet_med.grid import Grid
from unet_med.resample import onto
from unet_med.scan import Finding, Scan, Severity

TOLERANCE = 0.01
"""mm: grids that differ by no more are the same."""


def join_channels(scans: Sequence[Scan], names: Sequence[str], *, align: bool = False) -> Scan:
    """One scan with a channel from each, on the grid of the first.

    Args:
        scans: one channel each, in the order of the model's card.
        names: a name for each channel.
        align: interpolate channels of another grid onto the first one's (trilinear; where a channel has no data it
            gets its smallest value). For scans of one session, whose coordinates mean the same place in the patient.

    Returns:
        float32 where a channel was aligned, else the common type of all. Findings of all channels are kept; a modality
        is declared where all declare the same one.

    Raises:
        ScanRefused: another number of scans than names (`channel_count`), a scan with several channels
            (`too_many_channels`), grids that differ without `align` (`grids_differ`).
    """
    if len(scans) != len(names):
        raise ScanRefused(
            f"{len(scans)} images for {len(names)} channels ({', '.join(names)}).",
            where=scans[0].source.name if scans else None,
            code="channel_count",
        )
    first = scans[0]
    findings = [finding for scan in scans for finding in scan.findings]
    channels = []
    for scan, name in zip(scans, names, strict=True):
        if len(scan.data) != 1:
            raise ScanRefused(
                f'The image of channel "{name}" has {len(scan.data)} channels of its own.',
                where=scan.source.name,
                code="too_many_channels",
            )
        if scan.grid.is_close(first.grid, TOLERANCE) and scan.space_units == first.space_units:
            channels.append(scan.data[0])
            continue
        if not align or scan.space_units != first.space_units:
            raise _refusal(scan, first, name)
        # Beyond the edge of a channel nothing is known; its smallest value is what lies around a patient.
        outside = float(np.nanmin(np.where(np.isfinite(scan.data[0]), scan.data[0], np.nan)))
        channels.append(onto(scan.data[0], scan.grid, first.grid, outside))
        findings.append(
            Finding(
                "resampled_to_match",
                Severity.REPAIRED,
                f'Channel "{name}" lay on another grid ({_words(scan.grid)}).',
                f"Interpolated onto that of {names[0]} ({_words(first.grid)}).",
            )
        )
    modalities = {scan.modality for scan in scans}
    paths = tuple(path for scan in scans for path in scan.source.paths)
    identity = tuple(dict.fromkeys(part for scan in scans for part in scan.source.identity))
    return Scan(
        np.stack(channels),
        first.grid,
        first.units if len({scan.units for scan in scans}) == 1 else "arbitrary",
        first.space_units,
        modalities.pop() if len(modalities) == 1 else None,
        tuple(names),
        replace(first.source, paths=paths, identity=identity),
        tuple(dict.fromkeys(findings)),
    )


def _refusal(scan: Scan, first: Scan, name: str) -> ScanRefused:
    if scan.space_units != first.space_units:
        what, advice = f"is measured in {scan.space_units}, the first in {first.space_units}", None
    else:
        apart = f"; voxels lie up to {scan.grid.distance(first.grid):.3g} mm apart" * (
            scan.grid.shape == first.grid.shape
        )
        what = f"lies on another grid than the first: {_words(scan.grid)} against {_words(first.grid)}{apart}"
        advice = "If both were acquired in one session, --align interpolates it onto the first."
    return ScanRefused(f'Channel "{name}" {what}.', where=scan.source.name, advice=advice, code="grids_differ")


def _words(grid: Grid) -> str:
    shape = " x ".join(map(str, grid.shape))
    return f"{shape} voxels of {' x '.join(f'{step:.4g}' for step in grid.spacing)} mm"
