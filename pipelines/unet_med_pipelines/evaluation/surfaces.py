"""How far apart the surfaces of two masks lie.

Convention: that of DeepMind's surface-distance (Nikolov et al., arXiv:1809.04430, 2018). The surface runs between
voxels. Every 2x2x2 block of voxels that holds inside and outside is one surface element: its place is the block's
centre, its weight the area of the marching cubes triangles in it (MONAI's table). In a plane, blocks are 2x2 and the
weights are lengths of the contour. Outside of the image counts as outside of the mask, so that a mask that touches the
border is closed there. The other common convention, which counts boundary voxels, gives other numbers (on clinical
masks with 2.5 mm slices a larger HD95 and a smaller NSD): say which one a figure follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from unet_med_pipelines.evaluation.metrics import Mask

Floats = NDArray[np.float64]

TOLERANCE_SLACK = 1e-6
"""mm or pixels by which a distance may exceed the tolerance: the rounding of float32 spacings in file headers."""

NEAR = 400
"""Neighbours (about 4 voxels around) that are looked at in order of their distance before a search tree is built. Most
elements of two masks of one organ find their partner among the first few; the tree serves the strays."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces, from every element of each to the nearest element of the other.

    Args:
        from_prediction, from_reference: distances in the unit of the spacing, each in rising order.
        prediction_sizes, reference_sizes: area (in a plane: length) of the elements, in the same order.
    """

    from_prediction: Floats
    prediction_sizes: Floats
    from_reference: Floats
    reference_sizes: Floats

    def hausdorff(self, percent: float = 95) -> float:
        """The Hausdorff distance, made robust: the MAXIMUM of the two directed percentiles.

        A directed percentile is the smallest distance within which lie at least `percent` % of the surface, by area,
        that it starts from. (Some tools pool both directions and take one percentile, which can hide a defect of the
        smaller surface; this is not it.)
        """
        return max(
            _percentile(self.from_prediction, self.prediction_sizes, percent),
            _percentile(self.from_reference, self.reference_sizes, percent),
        )

    @property
    def average(self) -> float:
        """The average symmetric surface distance (ASSD): the mean over both surfaces pooled, by area."""
        distance = self.from_prediction @ self.prediction_sizes + self.from_reference @ self.reference_sizes
        return float(distance / self._size)

    def within(self, tolerance: float) -> float:
        """Normalised surface Dice (NSD): the share of both surfaces, by area, within `tolerance` of the other one."""
        near = tolerance + TOLERANCE_SLACK
        size = (
            self.prediction_sizes[self.from_prediction <= near].sum()
            + self.reference_sizes[self.from_reference <= near].sum()
        )
        return float(size / self._size)

    @property
    def _size(self) -> float:
        return float(self.prediction_sizes.sum() + self.reference_sizes.sum())


def surface_distances(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measures two masks of one shape, neither of them empty.

    Args:
        prediction, reference: boolean, (I, J, K) or, for a plane, (I, J).
        spacing: between neighbouring voxels along each axis, in mm or pixels; axes are taken as perpendicular.

    Raises:
        ValueError: shapes that differ, not as many spacings as axes (2 or 3), or an empty mask.
    """
    if prediction.shape != reference.shape or prediction.ndim != len(spacing) or prediction.ndim not in (2, 3):
        raise ValueError(
            f"two masks of 2 or 3 axes and a spacing for each, not {prediction.shape}, {reference.shape}, {spacing}"
        )
    if not prediction.any() or not reference.any():
        raise ValueError("an empty mask has no surface")
    box = _bounding_box(prediction | reference)
    steps = tuple(float(step) for step in spacing)
    table = element_sizes(steps)
    # NIfTI arrays come with the first axis running fastest. They are walked that way, too, transposed and not copied.
    order: Literal["F", "C"] = "F" if prediction.strides[0] < prediction.strides[-1] else "C"
    ours, theirs = (_surface(np.array(mask[box], order=order)) for mask in (prediction, reference))
    if order == "F":
        ours, theirs, steps = ours.T, theirs.T, steps[::-1]
    return SurfaceDistances(
        *_in_order(_nearest(ours > 0, theirs > 0, steps), table[ours[ours > 0]]),
        *_in_order(_nearest(theirs > 0, ours > 0, steps), table[theirs[theirs > 0]]),
    )


@lru_cache(maxsize=64)
def element_sizes(spacing: tuple[float, ...]) -> Floats:
    """The area (or length) of a surface element by its code: 256 numbers for three axes, 16 for two."""
    from monai.metrics.utils import get_code_to_measure_table

    table, _ = get_code_to_measure_table(spacing)
    sizes = np.asarray(table.numpy(), dtype=np.float64)
    sizes.flags.writeable = False
    return sizes


def _surface(mask: Mask) -> NDArray[np.uint8]:
    """For every 2x2x2 block, borders included, its code if the surface runs through it, else 0.

    The code is MONAI's: eight bits, the voxel of lowest indices highest, the last axis running fastest.
    """
    code = np.pad(mask, 1).view(np.uint8)
    for axis in reversed(range(mask.ndim)):
        first = code[(slice(None),) * axis + (slice(None, -1),)]
        second = code[(slice(None),) * axis + (slice(1, None),)]
        bits = 2 ** (mask.ndim - 1 - axis)
        code = (first << bits) | second
    code[code == 2 ** (2**mask.ndim) - 1] = 0
    return code


def _nearest(start: Mask, goal: Mask, spacing: tuple[float, ...]) -> Floats:
    """For every True of `start` (in C order) the distance to the nearest True of `goal`; both are C-contiguous.

    Exact: neighbours are tried nearest first, so the first hit is the nearest; what has none is left to the tree.
    """
    offsets, lengths = _neighbours(spacing)
    margins = [(int(n), int(n)) for n in np.abs(offsets).max(axis=0)]
    goals = np.pad(goal, margins)
    flat, shifts = goals.ravel(), offsets @ np.array(goals.strides)
    # A step to a neighbour shifts the whole array, which costs nothing: indices are kept, and the view moves.
    corner = -int(shifts.min())
    at = np.flatnonzero(np.pad(start, margins)) - corner
    found = np.full(len(at), np.inf)
    waiting = np.arange(len(at))
    for shift, length in zip(shifts.tolist(), lengths, strict=True):
        hit = flat[corner + shift :].take(at)
        if hit.any():
            found[waiting[hit]] = length
            waiting, at = waiting[~hit], at[~hit]
            if not len(waiting):
                return found
    tree = cKDTree(np.argwhere(goals) * spacing, balanced_tree=False, compact_nodes=False)
    strays = np.stack(np.unravel_index(at + corner, goals.shape), axis=1)
    found[waiting] = tree.query(strays * spacing)[0]
    return found


@lru_cache(maxsize=64)
def _neighbours(spacing: tuple[float, ...]) -> tuple[NDArray[np.int64], Floats]:
    """Steps to the nearest `NEAR` places of the lattice, nearest first, and how far each is."""
    # No place outside the cube of steps that is searched may be nearer than one that is listed.
    reach = [int(np.ceil(_ball(spacing) / step)) for step in spacing]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1)
    steps = steps.reshape(-1, len(spacing))
    lengths = np.linalg.norm(steps * spacing, axis=1)
    inside = lengths <= _ball(spacing)
    order = np.argsort(lengths[inside], kind="stable")
    return steps[inside][order], lengths[inside][order]


def _ball(spacing: tuple[float, ...]) -> float:
    """The radius of a ball (in a plane: disc) that holds about `NEAR` places of the lattice."""
    if len(spacing) == 2:
        return float(np.sqrt(NEAR * np.prod(spacing) / np.pi))
    return float(np.cbrt(NEAR * np.prod(spacing) * 3 / 4 / np.pi))


def _percentile(distances: Floats, sizes: Floats, percent: float) -> float:
    share = np.cumsum(sizes) / sizes.sum()
    return float(distances[min(int(np.searchsorted(share, percent / 100)), len(distances) - 1)])


def _in_order(distances: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(distances, kind="stable")
    return distances[order], sizes[order]


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)
