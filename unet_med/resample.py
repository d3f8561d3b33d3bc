"""Another number of samples along an axis, as one small matrix: resampling is a matrix product an axis.

Interpolation by splines is linear in the samples, so what it does to one axis is a matrix, and what it does to a
volume is three of them. The matrix is what `scipy.ndimage.zoom` makes of the identity: spline, prefilter and edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_med.grid import Grid

Matrix = NDArray[np.float32]
"""(samples out, samples in)."""

CUBIC, LINEAR = 3, 1
"""Orders of the spline."""


@lru_cache(maxsize=64)
def resizing(n_in: int, n_out: int, order: int) -> Matrix:
    """The matrix that makes `n_out` samples of `n_in` over the same length: outer EDGES of the samples stay.

    Beyond the outer samples the signal goes on as its last value. Equals `scipy.ndimage.zoom` with mode "nearest" and
    grid_mode (and so `skimage.transform.resize` with mode "edge", no clipping, no anti-aliasing).

    Args:
        n_in, n_out: numbers of samples, at least 1.
        order: `CUBIC` or `LINEAR`.
    """
    matrix = ndimage.zoom(np.eye(n_in), (n_out / n_in, 1), order=order, mode="nearest", grid_mode=True)
    return _read_only(matrix)


def interpolating(known: NDArray[Any], wanted: NDArray[Any]) -> Matrix:
    """The matrix that reads samples at the positions `known` (strictly increasing) at the positions `wanted`, linearly.

    Beyond the outer samples the signal goes on as its last value.
    """
    return _read_only(np.stack([np.interp(wanted, known, row) for row in np.eye(len(known))], axis=1))


def apply(array: Any, matrices: Sequence[Matrix | None]) -> NDArray[np.float32]:
    """Resamples the last three axes.

    Args:
        array: (..., X, Y, Z), real numbers.
        matrices: for X, Y and Z; None leaves an axis as it is.

    Returns:
        (..., X', Y', Z') float32; the array itself where nothing is to be done to a float32 array.
    """
    result = np.asarray(array, dtype=np.float32)
    shrinking_first = sorted(
        (axis for axis in range(3) if matrices[axis] is not None), key=lambda axis: _growth(matrices[axis])
    )
    for axis in shrinking_first:
        result = _along(result, matrices[axis], axis)
    return result


def onto(array: NDArray[Any], grid: Grid, target: Grid, outside: float) -> NDArray[np.float32]:
    """A volume (I, J, K) on `grid`, read at the voxel centres of another grid by trilinear interpolation.

    Args:
        outside: the value of voxels whose centre lies beyond the outermost voxel edges of `grid`.
    """
    result = np.empty(target.shape, np.float32)
    limits = np.array(grid.shape) - 0.5
    for k in range(target.shape[2]):  # a slice at a time: coordinates take three times eight bytes a voxel
        index = np.moveaxis(np.indices((*target.shape[:2], 1)), 0, -1)[..., 0, :] + (0, 0, k)
        at = grid.index(target.world(index))
        read = ndimage.map_coordinates(array, np.moveaxis(at, -1, 0), order=1, mode="nearest", output=np.float32)
        inside = ((at >= -0.5 - 1e-6) & (at <= limits + 1e-6)).all(axis=-1)
        result[:, :, k] = np.where(inside, read, np.float32(outside))
    return result


def _growth(matrix: Matrix | None) -> float:
    return 1.0 if matrix is None else matrix.shape[0] / matrix.shape[1]


def _along(array: NDArray[np.float32], matrix: Matrix | None, axis: int) -> NDArray[np.float32]:
    """Axis 0, 1, 2 count from the left of the last three. Written so that each is one call of the matrix product."""
    assert matrix is not None
    if axis == 2:
        return np.asarray(array @ matrix.T)
    if axis == 1:
        return np.asarray(matrix @ array)
    lead, (x, y, z) = array.shape[:-3], array.shape[-3:]
    return np.asarray(matrix @ array.reshape(*lead, x, y * z)).reshape(*lead, len(matrix), y, z)


def _read_only(matrix: NDArray[Any]) -> Matrix:
    result = np.ascontiguousarray(matrix, dtype=np.float32)
    result.flags.writeable = False
    return result
