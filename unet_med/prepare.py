"""From a scan to what a network sees, and back: a plan that is made once, followed, and undone.

    the scan's grid ── reorder ──▶ canonical ── crop ───▶ box ── resample ──▶ the model's spacing ── scale ──▶ network
                    ◀── undo ────            ◀── paste ──     ◀── restore ───                     ◀─ scores ──

Reordering is exact, so the 48 ways to store a scan give the same numbers from there on. Geometry is asked of `Grid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.card import GridPolicy, IntensityPolicy, ModelCard
from unet_med.errors import ScanRefused, WrongUse
from unet_med.grid import Grid, Reorientation, Triple
from unet_med.intensity import fill_non_finite, measure
from unet_med.resample import CUBIC, LINEAR, Matrix, apply, interpolating, resizing
from unet_med.scan import PIXEL_UNITS, Scan
from unet_med.segmentation import Segmentation

SLAB_VOXELS = 2**24
"""How many numbers a restored slab of scores holds at most (if one layer of voxels does not hold more): 64 MiB."""


@dataclass(frozen=True)
class Box:
    """A region in RAS+ mm: `low` and `high` are its corners (x, y, z)."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(np.isfinite((*self.low, *self.high))) or any(
            a >= b for a, b in zip(self.low, self.high, strict=True)
        ):
            raise WrongUse(
                f"The box {self} has no inside.", advice="A box is x0,x1,y0,y1,z0,z1 in mm, with x0 < x1 and so on."
            )

    @classmethod
    def parse(cls, text: str) -> Box:
        """From "x0,x1,y0,y1,z0,z1", RAS+ mm. Raises WrongUse."""
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != 6:
            raise WrongUse(
                f'"{text}" is not a box.', advice="A box is six numbers x0,x1,y0,y1,z0,z1 in mm (right, front, head)."
            )
        return cls((numbers[0], numbers[2], numbers[4]), (numbers[1], numbers[3], numbers[5]))

    def __str__(self) -> str:
        return ",".join(f"{value:g}" for pair in zip(self.low, self.high, strict=True) for value in pair)

    def within(self, grid: Grid) -> tuple[Triple, Triple]:
        """First and last-but-one index of the voxels of a grid whose centres lie in the box.

        Where the axes of the grid are askew to the patient's, the box grows to the voxel box around it.

        Raises:
            WrongUse: no voxel lies in it.
        """
        corners = grid.index(list(product(*zip(self.low, self.high, strict=True))))
        first = np.maximum(np.ceil(corners.min(axis=0) - 1e-6), 0).astype(int)
        stop = np.minimum(np.floor(corners.max(axis=0) + 1e-6) + 1, grid.shape).astype(int)
        if (first >= stop).any():
            edges = grid.corners
            place = ", ".join(
                f"{axis} {low:.0f} to {high:.0f}"
                for axis, low, high in zip("xyz", edges.min(axis=0), edges.max(axis=0), strict=True)
            )
            raise WrongUse(f"The box {self} holds no voxel: the scan lies at {place} mm.")
        return (int(first[0]), int(first[1]), int(first[2])), (int(stop[0]), int(stop[1]), int(stop[2]))


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to a grid, and how to undo it.

    Args:
        source: the scan's own grid.
        dimensions: 2 (planes, walked along the third axis) or 3.
        first: reorders the source: to nearest RAS, or to columns, rows, slices of the acquired plane.
        start, stop: the crop of the reordered grid.
        cropped: that crop.
        resampled: the same place at the model's spacing.
        second: reorders `resampled` to nearest RAS where `first` could not (uneven slices have to stay on the third
            axis until they are evened); else the identity.
        order: of the spline for images.
    """

    source: Grid
    dimensions: int
    first: Reorientation
    start: Triple
    stop: Triple
    cropped: Grid
    resampled: Grid
    second: Reorientation
    order: int

    @property
    def grid(self) -> Grid:
        """What the network works on, (X, Y, Z); planes are (columns, rows) at each Z."""
        return self.resampled.reorient(self.second)

    @property
    def extent(self) -> tuple[float, ...]:
        """Of the scan (or box) along the axes of the window, in mm, or pixels where the scan has no mm."""
        return self.grid.extent[: self.dimensions]

    def crop(self, array: Any) -> Any:
        """(..., I, J, K) on the source grid -> the box of it, reordered; a view."""
        return self.first.apply(array)[(..., *map(slice, self.start, self.stop))]

    def paste(self, array: NDArray[Any], fill: int) -> NDArray[Any]:
        """The inverse of `crop` for one volume; voxels outside the box get `fill`."""
        whole = np.full(self.source.reorient(self.first).shape, fill, array.dtype)
        whole[tuple(map(slice, self.start, self.stop))] = array
        return np.asarray(self.first.undo(whole))

    def forward(self, order: int) -> list[Matrix | None]:
        """For each axis of `cropped` the matrix that leads to `resampled`."""
        matrices = _resizings(self.cropped, self.resampled, order)
        if self._evens_slices:
            matrices[2] = interpolating(self.cropped.slice_positions, self._even_positions)
        return matrices

    def backward(self) -> list[Matrix | None]:
        """For each axis of `resampled` the matrix that leads back to `cropped`, linearly."""
        matrices = _resizings(self.resampled, self.cropped, LINEAR)
        if self._evens_slices:
            matrices[2] = interpolating(self._even_positions, self.cropped.slice_positions)
        return matrices

    @property
    def _evens_slices(self) -> bool:
        return self.cropped.slice_offsets is not None and self.resampled.slice_offsets is None

    @property
    def _even_positions(self) -> NDArray[np.float64]:
        """Where the slices of `resampled` lie, in mm from the first of `cropped`."""
        return self.cropped.slice_edges[0] + self.resampled.spacing[2] / 2 + self.resampled.slice_positions


def _resizings(here: Grid, there: Grid, order: int) -> list[Matrix | None]:
    pairs = zip(here.shape, there.shape, strict=True)
    return [None if n_in == n_out else resizing(n_in, n_out, order) for n_in, n_out in pairs]


def make_plan(scan: Scan, policy: GridPolicy, box: Box | None = None) -> Plan:
    """The plan for one scan; no voxel is touched.

    Raises:
        ScanRefused: the model needs millimetres and the scan has none (`unknown_spacing`).
        WrongUse: a box without voxels, or one in mm for a picture without them.
    """
    if scan.space_units == PIXEL_UNITS and policy.spacing is not None:
        raise ScanRefused(
            "The picture has no pixel size, and this model needs one.",
            where=scan.source.name,
            advice="Give the original DICOM or NIfTI file, or a model that works on pixels as acquired.",
            code="unknown_spacing",
        )
    if scan.space_units == PIXEL_UNITS and box is not None:
        raise WrongUse("A box is in mm, and this picture has no pixel size.", where=scan.source.name)
    first = scan.grid.planes() if policy.dimensions == 2 else scan.grid.canonical()
    reordered = scan.grid.reorient(first)
    start, stop = box.within(reordered) if box else ((0, 0, 0), reordered.shape)
    cropped = reordered.crop(start, stop)
    resampled = _at_spacing(cropped, policy)
    stays = policy.dimensions == 2 or resampled.slice_offsets is not None
    second = Reorientation((0, 1, 2), (False, False, False)) if stays else resampled.canonical()
    order = CUBIC if policy.interpolation == "cubic" else LINEAR
    return Plan(scan.grid, policy.dimensions, first, start, stop, cropped, resampled, second, order)


def _at_spacing(grid: Grid, policy: GridPolicy) -> Grid:
    """The same place at the model's spacing, to the nearest whole number of voxels; planes keep their slices."""
    if policy.spacing is None:
        return grid
    if policy.dimensions == 2:
        columns, rows = policy.spacing
        return grid.resized((_count(grid.extent[0], columns), _count(grid.extent[1], rows), grid.shape[2]))
    # The axes are nearest to R, A, S, unless slices are uneven: find which spacing is meant for each.
    order = grid.even_slices(grid.shape[2]).canonical().order
    i, j, k = (policy.spacing[order.index(axis)] for axis in range(3))
    low, high = grid.slice_edges
    even = grid.even_slices(_count(high - low, k))
    return even.resized((_count(grid.extent[0], i), _count(grid.extent[1], j), even.shape[2]))


def _count(length: float, step: float) -> int:
    return max(1, round(length / step))


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the network sees: (C, X, Y, Z) float32 on `plan.grid`."""

    data: NDArray[np.float32]
    plan: Plan


def prepare(scan: Scan, card: ModelCard, box: Box | None = None) -> Prepared:
    """Reorders, crops, resamples and scales a scan as the card says.

    Raises:
        ScanRefused: no finite voxel in the box (`non_finite_values`), or see `make_plan`.
        WrongUse: see `make_plan`.
    """
    plan = make_plan(scan, card.grid, box)
    channels = [_prepare_channel(channel, plan, card.intensity, scan) for channel in plan.crop(scan.data)]
    return Prepared(np.stack(channels), plan)


def _prepare_channel(values: NDArray[Any], plan: Plan, policy: IntensityPolicy, scan: Scan) -> NDArray[np.float32]:
    if not np.isfinite(values).any():
        raise ScanRefused("None of the voxels is a finite number.", where=scan.source.name, code="non_finite_values")
    slices = [measure(values[..., z], policy) for z in range(values.shape[2])] if policy.scope == "slice" else None
    scaling = None if slices else measure(values, policy)
    filled = fill_non_finite(np.array(values, dtype=np.float32, order="C"))
    result = plan.second.apply(apply(filled, plan.forward(plan.order)))
    if scaling:
        return scaling.apply(np.ascontiguousarray(result))
    assert slices is not None
    for z, own in enumerate(slices):
        result[..., z] = own.apply(result[..., z].copy())
    return np.ascontiguousarray(result)


def prepare_labels(segmentation: Segmentation, plan: Plan) -> NDArray[Any]:
    """Labels on `plan.grid`, for training: (X, Y, Z), dtype as given.

    Where the spacing changes, each label is interpolated linearly as a mask, and the largest share wins a voxel.
    """
    labels = plan.crop(segmentation.labels)
    matrices = plan.forward(LINEAR)
    if all(matrix is None for matrix in matrices):
        return np.ascontiguousarray(plan.second.apply(labels))
    best, winner = None, None
    for value in np.unique(labels):
        share = apply(labels == value, matrices)
        if best is None or winner is None:
            best, winner = share, np.full(share.shape, value, labels.dtype)
            continue
        more = share > best
        winner[more] = value
        best = np.maximum(best, share)
    return np.ascontiguousarray(plan.second.apply(winner))


def restore(scores: NDArray[np.float32], plan: Plan) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Scores (S, X, Y, Z) on `plan.grid` -> slabs (S, x, Y, Z) on `plan.cropped`, one after the other along its first
    axis, so that no more than a slab of them exists at once.
    """
    back = plan.second.undo(scores)
    through, *others = plan.backward()
    length = plan.cropped.shape[0]
    layer = len(scores) * plan.cropped.shape[1] * plan.cropped.shape[2]
    step = max(1, SLAB_VOXELS // layer)
    for first in range(0, length, step):
        rows = slice(first, min(first + step, length))
        if through is None:
            yield rows, apply(back[:, rows], (None, *others))
        else:
            used = np.flatnonzero(through[rows].any(axis=0))
            band = slice(int(used[0]), int(used[-1]) + 1)
            yield rows, apply(back[:, band], (through[rows, band], *others))
