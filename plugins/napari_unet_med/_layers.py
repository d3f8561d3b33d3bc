"""How a scan lies in a napari layer, and back.

napari shows the last two axes as rows and columns and moves through the first. So the axes are reordered, never
resampled, to slices, rows, columns: slices toward the head, rows toward the back, columns toward the patient's left,
as a radiologist sees an axial slice. The layer's `scale` holds the spacing. Its `affine` stays empty: napari slices
along data axes only, and fails to draw an affine that permutes axes. The true affine and the scan lie in `metadata`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med import Grid, Scan

SCAN = "scan"
"""Key of a layer's metadata: the Scan that it shows."""
AFFINE = "affine"
"""Key of a layer's metadata: 4x4, voxel index (i, j, k) of the scan to RAS+ mm."""


def to_layer(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """(..., I, J, K) in the order of `grid` -> (..., slices, rows, columns); a view."""
    return np.swapaxes(grid.toward("LPS").apply(array), -1, -3)


def from_layer(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """The inverse of `to_layer`."""
    return np.asarray(grid.toward("LPS").undo(np.swapaxes(array, -1, -3)))


def layer_shape(grid: Grid) -> tuple[int, ...]:
    """(slices, rows, columns) of a layer that shows this grid."""
    return grid.reorient(grid.toward("LPS")).shape[::-1]


def layer_arguments(scan: Scan) -> dict[str, Any]:
    """Keyword arguments that a layer on this scan needs: place, size, and the way back."""
    shown = scan.grid.reorient(scan.grid.toward("LPS"))
    return {
        "scale": shown.spacing[::-1],
        "units": (scan.space_units,) * 3,
        "axis_labels": tuple(shown.orientation[::-1]),
        "metadata": {SCAN: scan, AFFINE: scan.grid.affine},
    }
