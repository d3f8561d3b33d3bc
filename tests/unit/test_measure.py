"""Voxels and volumes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from unet_med import Grid, Label, Segmentation
from unet_med.measure import measure

TABLE = (Label(1, "a"), Label(2, "b"), Label(9, "both", region=(1, 2)))


def labels() -> np.ndarray:
    """Three voxels of 1 in slice 0, two of 2 in slice 3."""
    found = np.zeros((4, 4, 4), np.uint8)
    found[:3, 0, 0] = 1
    found[:2, 1, 3] = 2
    return found


def test_volumes_of_boxes_and_of_sheared_voxels() -> None:
    affine = np.array([[2, 0, 0, 0], [0, 5, 3, 0], [0, 0, 10, 0], [0, 0, 0, 1.0]])  # 100 mm3 whatever the shear
    a, b, both = measure(Segmentation(labels(), Grid((4, 4, 4), affine), TABLE))
    assert [(m.voxels, round(m.volume_ml or 0, 9)) for m in (a, b, both)] == [(3, 0.3), (2, 0.2), (5, 0.5)]


def test_uneven_slices_have_their_own_height() -> None:
    grid = Grid((4, 4, 4), np.diag((10, 10, 4, 1)), (0, 3, 6, 12))
    a, b, _ = measure(Segmentation(labels(), grid, TABLE))
    # Slice 0 is 3 mm high, slice 3 is 6 mm.
    assert (a.volume_ml, b.volume_ml) == pytest.approx((0.9, 1.2))


def test_pixels_have_no_millilitres_and_absent_labels_are_named() -> None:
    found = np.zeros((4, 4, 1), np.uint8)
    measured = measure(Segmentation(found, Grid((4, 4, 1), np.eye(4)), TABLE, "pixel"))
    assert [(m.label.name, m.voxels, m.volume_ml) for m in measured] == [
        ("a", 0, None),
        ("b", 0, None),
        ("both", 0, None),
    ]
