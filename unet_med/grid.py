"""Where the voxels of a scan lie in the patient: shape and affine, in RAS+ millimetres.

This is the only module that reasons about axes. Everything else asks a `Grid`, or carries a `Reorientation` that a grid
has made. Notation: (i, j, k) counts voxels from the CENTRE of the first one; (x, y, z) are millimetres, x growing to
the patient's Right, y to Anterior, z to Superior (RAS+, as in NIfTI-1). DICOM and ITK speak LPS (x and y negated); only
the modules that read and write those formats know that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Triple = tuple[int, int, int]
Floats = NDArray[np.float64]

AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
"""For each world axis, the letter of its negative and of its positive direction."""


@dataclass(frozen=True)
class Reorientation:
    """A permutation of the three voxel axes and flips of some of them: exact, and exactly undone.

    New axis `a` is old axis `order[a]`, reversed where `flips[a]`.
    """

    order: Triple
    flips: tuple[bool, bool, bool]

    @property
    def is_identity(self) -> bool:
        return self.order == (0, 1, 2) and not any(self.flips)

    def apply(self, array: Any) -> Any:
        """Reorders the LAST three axes of an array (..., I, J, K). NumPy arrays come back as views."""
        lead = array.ndim - 3
        array = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        return array[(..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))]

    def undo(self, array: Any) -> Any:
        """The inverse of `apply`."""
        return self.inverse.apply(array)

    @property
    def inverse(self) -> Reorientation:
        order = tuple(self.order.index(axis) for axis in range(3))
        return Reorientation(_triple(order), tuple(self.flips[axis] for axis in order))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and place of a regular (or unevenly sliced) stack of voxels.

    Args:
        shape: (I, J, K), each at least 1. A 2D picture has K = 1.
        affine: 4x4 float64; maps (i, j, k, 1), voxel centres, to RAS+ mm. Shear is legal (gantry tilt).
        slice_offsets: None for even spacing. Else K positions in mm of the slices along the third column of
            `affine`, counted from slice 0, strictly increasing; the column itself holds the mean step.

    Raises:
        ValueError: not three positive sizes, an affine that is not finite, singular, or whose last row is not
            (0, 0, 0, 1), offsets of the wrong count or order.
    """

    shape: Triple
    affine: Floats
    slice_offsets: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid needs three sizes of at least 1, not {tuple(self.shape)}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"an affine is a finite 4x4 matrix, not {affine.tolist()}")
        if not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise ValueError(f"the last row of an affine is (0, 0, 0, 1), not {affine[3].tolist()}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        # The volume of the voxel relative to a box of the same edges: free of units, so that microscopy passes, too.
        if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-4:
            raise ValueError(f"the affine is singular: {affine.tolist()}")
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)
        if self.slice_offsets is not None:
            offsets = tuple(float(value) for value in self.slice_offsets)
            if len(offsets) != shape[2] or len(offsets) < 2 or offsets[0] != 0 or not (np.diff(offsets) > 0).all():
                raise ValueError("slice offsets start at 0, increase strictly, and are as many as the slices")
            object.__setattr__(self, "slice_offsets", offsets)

    # -- asking ---------------------------------------------------------------------------------------------------

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxel centres along i, j and k (the mean one if slices are uneven)."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))

    @property
    def extent(self) -> tuple[float, float, float]:
        """Length in mm from the outer edge of the first voxel to that of the last, along i, j and k."""
        return _floats(n * step for n, step in zip(self.shape, self.spacing, strict=True))

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm3 (a mean where slices are uneven). Shear does not change it."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> str:
        """Nearest patient direction of growing i, j and k: "RAS", "LPS", "PSR" ..."""
        return orientation_of(self.affine)

    @property
    def shear_degrees(self) -> float:
        """How far the three axes are from being perpendicular: 0 for a box, the tilt angle for a tilted CT gantry."""
        unit = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = (unit[:, 0] @ unit[:, 1], unit[:, 0] @ unit[:, 2], unit[:, 1] @ unit[:, 2])
        return float(np.degrees(np.arcsin(np.clip(np.abs(cosines).max(), 0, 1))))

    def world(self, index: Any) -> Floats:
        """RAS+ mm of voxel indices (..., 3); fractions are allowed."""
        index = np.asarray(index, dtype=np.float64)
        if self.slice_offsets is not None:
            steps = np.asarray(self.slice_offsets) / self.spacing[2]
            index = np.concatenate(
                [index[..., :2], _extrapolate(index[..., 2:], np.arange(len(steps)), steps)], axis=-1
            )
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world: Any) -> Floats:
        """Fractional voxel indices (..., 3) of points (..., 3) in RAS+ mm. The inverse of `world`."""
        points = np.asarray(world, dtype=np.float64) - self.affine[:3, 3]
        index = points @ np.linalg.inv(self.affine[:3, :3]).T
        if self.slice_offsets is not None:
            steps = np.asarray(self.slice_offsets) / self.spacing[2]
            index = np.concatenate(
                [index[..., :2], _extrapolate(index[..., 2:], steps, np.arange(len(steps)))], axis=-1
            )
        return index

    @property
    def corners(self) -> Floats:
        """The centres of the eight corner voxels, (8, 3), RAS+ mm."""
        ends = [(0, n - 1) for n in self.shape]
        return self.world([(i, j, k) for i in ends[0] for j in ends[1] for k in ends[2]])

    def is_close(self, other: Grid, tolerance: float = 0.01) -> bool:
        """Whether both grids have the same shape and no voxel centre lies more than `tolerance` mm apart.

        Affine maps are farthest apart at a corner, so the corners (and every slice, where they are uneven) decide.
        """
        return self.shape == other.shape and self.distance(other) <= tolerance

    def distance(self, other: Grid) -> float:
        """The largest distance in mm between voxel centres of the same index; infinite if the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        if self.slice_offsets is None and other.slice_offsets is None:
            return float(np.linalg.norm(self.corners - other.corners, axis=1).max())
        i, j, k = self.shape
        index = np.array([(a, b, c) for a in (0, i - 1) for b in (0, j - 1) for c in range(k)])
        return float(np.linalg.norm(self.world(index) - other.world(index), axis=1).max())

    # -- deriving -------------------------------------------------------------------------------------------------

    def canonical(self) -> Reorientation:
        """The reorder that brings the axes nearest to RAS+. Unevenly sliced grids keep slices on the third axis."""
        return self.toward("RAS")

    def toward(self, codes: str) -> Reorientation:
        """The reorder whose result has axes nearest to the directions named, e.g. "RAS" or "LPS".

        Where slices are uneven the third axis stays the third; only flips are chosen then.
        """
        targets = np.array([_direction(letter) for letter in codes.upper()])
        if abs(np.linalg.det(targets)) != 1:
            raise ValueError(f"orientation codes name three different axes, such as RAS or LPS, not {codes!r}")
        cosines = targets @ (self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0))
        orders = [(0, 1, 2), (1, 0, 2)] if self.slice_offsets is not None else list(permutations(range(3)))
        # Of all pairings take the one with the largest sum of |cosines|; ties fall to the smaller permutation.
        best = max(orders, key=lambda order: round(sum(abs(cosines[a, order[a]]) for a in range(3)), 9))
        flips = tuple(bool(cosines[a, best[a]] < 0) for a in range(3))
        return Reorientation(_triple(best), flips)  # type: ignore[arg-type]

    def planes(self) -> Reorientation:
        """The reorder to columns, rows, slices of the acquired plane, each plane as a radiologist looks at it.

        Slices lie along the axis of length one, else along the axis whose spacing is clearly the largest (by a fifth),
        else along the third. In the plane, columns run to the patient's left (to the back where the plane is
        sagittal), rows to the back (to the feet where the plane is coronal or sagittal).
        """
        unit = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        through = self._slice_axis()
        inner = tuple(axis for axis in range(3) if axis != through)
        normal = np.cross(unit[:, inner[0]], unit[:, inner[1]])  # of the plane itself: a tilted stack steps askew
        columns, rows, slices = ("PIR", "LIA", "LPS")[int(np.abs(normal).round(9).argmax())]
        targets = np.array([_direction(columns), _direction(rows)])
        cosines = targets @ unit
        first, second = max(
            (inner, inner[::-1]), key=lambda pair: round(abs(cosines[0, pair[0]]) + abs(cosines[1, pair[1]]), 9)
        )
        flips = (cosines[0, first] < 0, cosines[1, second] < 0, _direction(slices) @ unit[:, through] < 0)
        return Reorientation((first, second, through), (bool(flips[0]), bool(flips[1]), bool(flips[2])))

    def _slice_axis(self) -> int:
        if self.slice_offsets is not None:
            return 2
        single = [axis for axis in range(3) if self.shape[axis] == 1]
        if len(single) == 1:
            return single[0]
        order = np.argsort(self.spacing)
        return int(order[2]) if self.spacing[order[2]] > 1.2 * self.spacing[order[1]] else 2

    def reorient(self, how: Reorientation) -> Grid:
        """The same voxels at the same places, counted in another order."""
        order, flips = how.order, how.flips
        matrix = self.affine[:3, [*order]].copy()
        first = [0, 0, 0]
        for axis in range(3):
            if flips[axis]:
                matrix[:, axis] *= -1
                first[order[axis]] = self.shape[order[axis]] - 1
        affine = np.eye(4)
        affine[:3, :3] = matrix
        affine[:3, 3] = self.world(first)
        offsets = self.slice_offsets
        if offsets is not None:
            if order[2] != 2:
                raise ValueError("unevenly spaced slices stay on the third axis")
            if flips[2]:
                offsets = tuple(offsets[-1] - value for value in reversed(offsets))
        return Grid(_triple(self.shape[axis] for axis in order), affine, offsets)

    def crop(self, start: Triple, stop: Triple) -> Grid:
        """The sub-grid of voxels start <= (i, j, k) < stop."""
        shape = _triple(b - a for a, b in zip(start, stop, strict=True))
        if min(start) < 0 or min(shape) < 1 or any(b > n for b, n in zip(stop, self.shape, strict=True)):
            raise ValueError(f"crop {start}..{stop} does not lie inside {self.shape}")
        affine = self.affine.copy()
        affine[:3, 3] = self.world(start)
        offsets = self.slice_offsets
        if offsets is not None:
            offsets = tuple(value - offsets[start[2]] for value in offsets[start[2] : stop[2]])
            if len(offsets) == 1:
                offsets = None
            else:
                affine[:3, 2] *= offsets[-1] / (len(offsets) - 1) / self.spacing[2]
        return Grid(shape, affine, offsets)

    def resized(self, shape: Triple) -> Grid:
        """Another number of voxels over the same field of view: outer voxel EDGES stay where they are.

        The new spacing is old * I / I' along each axis; uneven slices are not resized (ValueError).
        """
        if self.slice_offsets is not None and shape[2] != self.shape[2]:
            raise ValueError("unevenly spaced slices cannot be resized; resample them from their true positions")
        scale = np.array(self.shape) / np.array(shape)
        affine = self.affine.copy()
        affine[:3, :3] *= scale
        affine[:3, 3] += self.affine[:3, :3] @ ((scale - 1) / 2)
        return Grid(_triple(shape), affine, self.slice_offsets)

    @property
    def slice_positions(self) -> Floats:
        """Distance in mm of each slice's centre from the first one's, along the third axis, (K,)."""
        if self.slice_offsets is not None:
            return np.asarray(self.slice_offsets, dtype=np.float64)
        return np.arange(self.shape[2], dtype=np.float64) * self.spacing[2]

    def even_slices(self, count: int) -> Grid:
        """Another number of slices, evenly spaced over the same length along the third axis; outer edges stay.

        The outer slices of an uneven stack reach as far outwards as half of the step beside them.
        """
        if self.slice_offsets is None:
            return self.resized((*self.shape[:2], count))
        low, high = self.slice_edges
        unit = self.affine[:3, 2] / self.spacing[2]
        step = (high - low) / count
        affine = self.affine.copy()
        affine[:3, 2] = unit * step
        affine[:3, 3] = self.world((0, 0, 0)) + unit * (low + step / 2)
        return Grid((*self.shape[:2], count), affine)

    @property
    def slice_edges(self) -> tuple[float, float]:
        """Where the stack begins and ends along the third axis, in mm from the first slice's centre."""
        at = self.slice_positions
        steps = np.diff(at) if len(at) > 1 else np.array([self.spacing[2]])
        return float(at[0] - steps[0] / 2), float(at[-1] + steps[-1] / 2)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        same_slices = self.slice_offsets == other.slice_offsets
        return self.shape == other.shape and same_slices and bool(np.array_equal(self.affine, other.affine))

    __hash__ = None  # type: ignore[assignment]


def orientation_of(affine: Any) -> str:
    """The nearest patient direction of each voxel axis of a 4x4 (or 3x3) affine, each world axis used once."""
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    cosines = matrix / np.linalg.norm(matrix, axis=0)
    best = max(permutations(range(3)), key=lambda order: round(sum(abs(cosines[order[a], a]) for a in range(3)), 9))
    return "".join(AXIS_LETTERS[best[a]][int(cosines[best[a], a] >= 0)] for a in range(3))


def _direction(letter: str) -> Floats:
    for axis, pair in enumerate(AXIS_LETTERS):
        if letter in pair:
            return np.eye(3)[axis] * (1 if letter == pair[1] else -1)
    raise ValueError(f"an orientation is made of the letters R L A P S I, not {letter!r}")


def _extrapolate(at: Floats, known: Any, values: Any) -> Floats:
    """Piecewise linear interpolation that goes on in a straight line beyond both ends."""
    known, values = np.asarray(known, np.float64), np.asarray(values, np.float64)
    segment = np.clip(np.searchsorted(known, at, side="right") - 1, 0, len(known) - 2)
    slope = (values[segment + 1] - values[segment]) / (known[segment + 1] - known[segment])
    return np.asarray(values[segment] + (at - known[segment]) * slope, dtype=np.float64)


def _triple(values: Any) -> Triple:
    a, b, c = (int(value) for value in values)
    return (a, b, c)


def _floats(values: Any) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return (a, b, c)
