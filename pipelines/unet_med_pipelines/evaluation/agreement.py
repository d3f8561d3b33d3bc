"""Two label maps on one grid -> how well they agree, label by label, with a stated answer where a mask is empty.

both empty      nothing to agree about: every number is None, and the reason says so
one empty       the worst that can be: Dice, IoU and NSD 0, distances the diagonal of the image
no prediction   the same worst values, also where the reference is empty: failing must not pay
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_med.errors import ScanRefused
from unet_med.grid import Grid
from unet_med.segmentation import Label, Segmentation
from unet_med_pipelines.evaluation.metrics import Mask, Overlap
from unet_med_pipelines.evaluation.surfaces import surface_distances

MOST_SHEAR = 0.5
"""Degrees from perpendicular up to which surfaces are measured: 0.5 degrees are 1 % of a distance at most."""

THREADS = min(4, os.cpu_count() or 1)
"""Labels that are measured at the same time."""

BOTH_EMPTY = "in neither mask"

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Agreement:
    """One label of one case.

    Args:
        label: which.
        overlap: voxel counts.
        dice, iou, nsd: 0 to 1. None: undefined.
        hd95, assd: in `unit`. None: undefined.
        unit: "mm" or "pixel".
        reason: why numbers are missing, or the worst; empty otherwise.
    """

    label: Label
    overlap: Overlap
    unit: str
    dice: float | None = None
    iou: float | None = None
    hd95: float | None = None
    assd: float | None = None
    nsd: float | None = None
    reason: str = ""


def agreement(
    prediction: Segmentation, reference: Segmentation, table: Sequence[Label], tolerance: float
) -> list[Agreement]:
    """Compares two label maps.

    Args:
        table: the labels to compare, by value (or by their region's values).
        tolerance: of the normalised surface Dice, in mm, or in pixels where the reference has no mm.

    Raises:
        ScanRefused: grids that differ (code grids_differ), by shape or by more than 0.01 mm, or mm against pixels.
    """
    refuse_different_grids(prediction, reference)
    with ThreadPoolExecutor(THREADS) as threads:
        # NumPy lets go of the interpreter lock, so that threads do share the work.
        boxes = list(threads.map(_boxes, (prediction.labels, reference.labels)))
        return list(
            threads.map(lambda label: _one_label(label, prediction, reference, boxes, tolerance), table),
        )


def worst(label: Label, overlap: Overlap, far: float, unit: str, reason: str) -> Agreement:
    """The worst values that there are. Args: far: the image's `diagonal`."""
    return Agreement(label, overlap, unit, 0.0, 0.0, far, far, 0.0, reason)


def diagonal(grid: Grid) -> float:
    """The longest straight line in an image, from outer corner to outer corner, in the unit of the grid. Of a single
    slice the thickness does not count. No distance between two surfaces of the image is longer.
    """
    counts = np.array([n if axis in _wide_axes(grid) else 0 for axis, n in enumerate(grid.shape)])
    ends = [counts * signs for signs in product((1,), (1, -1), (1, -1))]
    return float(max(np.linalg.norm(grid.affine[:3, :3] @ end) for end in ends))


def refuse_different_grids(prediction: Segmentation, reference: Segmentation) -> None:
    """Raises ScanRefused, code grids_differ, unless both masks count the same voxels."""
    advice = "Compare masks on the grid of the reference; unet-med segment writes them on the grid of the scan."
    ours, theirs = prediction.grid, reference.grid
    if prediction.space_units != reference.space_units:
        what = f"the prediction is measured in {prediction.space_units}, the reference in {reference.space_units}."
    elif ours.shape != theirs.shape:
        what = f"the prediction has {_by(ours.shape)} voxels, the reference {_by(theirs.shape)}."
    elif not ours.is_close(theirs):
        distance = f"{ours.distance(theirs):.4g} {reference.space_units}"
        what = f"voxels of the prediction lie up to {distance} from those of the reference."
    else:
        return
    raise ScanRefused(what, where=prediction.source.name, advice=advice, code="grids_differ")


def why_no_surfaces(grid: Grid) -> str:
    """Why distances on this grid are not measured; empty where they are: on perpendicular axes, evenly spaced."""
    if grid.slice_offsets is not None:
        return "no distances: slices are unevenly spaced"
    if grid.shear_degrees > MOST_SHEAR:
        return f"no distances: axes are {grid.shear_degrees:.1f} degrees from perpendicular"
    return ""


def _one_label(
    label: Label,
    prediction: Segmentation,
    reference: Segmentation,
    boxes: Sequence[Mapping[int, Box]],
    tolerance: float,
) -> Agreement:
    unit, parts = reference.space_units, label.region or (label.value,)
    box = _union([own[part] for own in boxes for part in parts if part in own])
    if box is None:
        return Agreement(label, Overlap(0, 0, 0), unit, reason=BOTH_EMPTY)
    ours, theirs = (_mask(each.labels[box], parts) for each in (prediction, reference))
    overlap = Overlap.of(ours, theirs)
    if not overlap.prediction or not overlap.reference:
        reason = "in the reference only" if overlap.reference else "in the prediction only"
        return worst(label, overlap, diagonal(reference.grid), unit, reason)
    if why_not := why_no_surfaces(reference.grid):
        return Agreement(label, overlap, unit, overlap.dice, overlap.iou, reason=why_not)
    axes = _wide_axes(reference.grid)
    if len(axes) == 2:
        flat = next(axis for axis in range(3) if axis not in axes)
        ours, theirs = ours.squeeze(flat), theirs.squeeze(flat)
    distances = surface_distances(ours, theirs, [reference.grid.spacing[axis] for axis in axes])
    hd95, assd, nsd = distances.hausdorff(95), distances.average, distances.within(tolerance)
    return Agreement(label, overlap, unit, overlap.dice, overlap.iou, hd95, assd, nsd)


def _wide_axes(grid: Grid) -> tuple[int, ...]:
    """The axes that surfaces live in: all three, or two of a single slice, whose thickness is nobody's measurement."""
    for axis in (2, 1, 0):
        if grid.shape[axis] == 1:
            return tuple(other for other in range(3) if other != axis)
    return (0, 1, 2)


def _boxes(labels: NDArray[np.uint8 | np.uint16]) -> dict[int, Box]:
    """Label value -> the smallest box around it."""
    if labels.flags.f_contiguous:  # walked as it lies in memory: five times faster
        return {value: (box[2], box[1], box[0]) for value, box in _found(labels.T)}
    return dict(_found(labels))


def _found(labels: NDArray[np.uint8 | np.uint16]) -> list[tuple[int, Box]]:
    return [(value, box) for value, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None]


def _union(boxes: Sequence[Box]) -> Box | None:
    if not boxes:
        return None
    ends = [[(own[axis].start, own[axis].stop) for own in boxes] for axis in range(3)]
    i, j, k = (slice(min(start for start, _ in of), max(stop for _, stop in of)) for of in ends)
    return (i, j, k)


def _mask(labels: NDArray[np.uint8 | np.uint16], values: Sequence[int]) -> Mask:
    return labels == values[0] if len(values) == 1 else np.isin(labels, values)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
