"""Two label maps on one grid: worst values, undefined values, and grids that do not fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from unet_med.errors import ScanRefused
from unet_med.grid import Grid
from unet_med.segmentation import Label, Segmentation
from unet_med_pipelines.evaluation.agreement import Agreement, agreement, diagonal

A, B, C = Label(1, "a"), Label(2, "b"), Label(3, "c")
SHAPE = (10, 8, 6)
GRID = Grid(SHAPE, np.diag([1.0, 2.0, 2.5, 1]))
# Outer edges: 10 x 1, 8 x 2, 6 x 2.5 mm.
DIAGONAL = math.sqrt(10**2 + 16**2 + 15**2)


def label_map(grid: Grid = GRID, units: str = "mm", **boxes: tuple[slice, slice, slice]) -> Segmentation:
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for name, box in boxes.items():
        labels[box] = {"a": 1, "b": 2, "c": 3}[name]
    return Segmentation(labels, grid, (A, B, C), units)


def box(i: int, j: int, k: int, size: int = 2) -> tuple[slice, slice, slice]:
    return (slice(i, i + size), slice(j, j + size), slice(k, k + size))


def by_name(found: list[Agreement]) -> dict[str, Agreement]:
    return {each.label.name: each for each in found}


def test_a_label_in_neither_mask_is_undefined() -> None:
    found = by_name(agreement(label_map(a=box(0, 0, 0)), label_map(a=box(0, 0, 0)), (A, C), 1))["c"]
    assert (found.dice, found.iou, found.hd95, found.assd, found.nsd) == (None,) * 5
    assert found.reason == "in neither mask"


@pytest.mark.parametrize(("swapped", "reason"), [(False, "in the prediction only"), (True, "in the reference only")])
def test_a_label_in_one_mask_is_the_worst(swapped: bool, reason: str) -> None:
    pair = (label_map(a=box(0, 0, 0)), label_map())
    (found,) = agreement(*(reversed(pair) if swapped else pair), (A,), 1)
    assert (found.dice, found.iou, found.nsd) == (0, 0, 0)
    assert found.hd95 == found.assd == pytest.approx(DIAGONAL)
    assert found.reason == reason


def test_numbers_of_a_shifted_box() -> None:
    # A box of 2 x 2 x 2 voxels shifted by one voxel of 2 mm along j: 4 of 8 voxels in common, Dice 0.5, IoU 4 / 12.
    # Surface elements of the prediction stand at j = 1.5, 2.5, 3.5 (3 x 3 x 3 block centres less the middle one), those
    # of the reference at j = 2.5, 3.5, 4.5. The sheet of nine at 1.5 is 2 mm from the reference's first sheet;
    # all others coincide but for the middle one at 3.5, which the reference lacks: 1 mm along i.
    ours, theirs = label_map(b=box(4, 2, 2)), label_map(b=box(4, 3, 2))
    (found,) = agreement(ours, theirs, (B,), 1.9)
    assert found.dice == 0.5
    assert found.iou == pytest.approx(1 / 3)
    assert found.hd95 == pytest.approx(2.0)
    assert found.nsd is not None
    assert 0.5 < found.nsd < 1
    (generous,) = agreement(ours, theirs, (B,), 2.0)
    assert generous.nsd == 1


def test_labels_are_measured_each_by_itself() -> None:
    ours, theirs = label_map(a=box(0, 0, 0), b=box(4, 4, 2)), label_map(a=box(0, 0, 0), b=box(0, 4, 2))
    found = by_name(agreement(ours, theirs, (A, B, C), 1))
    assert found["a"].dice == 1
    assert found["a"].hd95 == 0
    assert found["b"].dice == 0
    # Boxes 4 voxels of 1 mm apart: the far sheet of each lies 4 mm from the near one of the other.
    assert found["b"].hd95 == pytest.approx(4.0)


def test_a_region_is_the_union_of_its_parts() -> None:
    whole = Label(9, "whole", region=(1, 2))
    ours, theirs = label_map(a=box(0, 0, 0), b=box(2, 0, 0)), label_map(b=box(0, 0, 0), a=box(2, 0, 0))
    assert agreement(ours, theirs, (whole,), 1)[0].dice == 1
    assert agreement(ours, theirs, (A,), 1)[0].dice == 0


def test_a_single_slice_is_a_plane_and_its_thickness_no_distance() -> None:
    grid = Grid((10, 8, 1), np.diag([1.0, 2.0, 99.0, 1]))
    first = label_map(grid, a=(slice(2, 4), slice(2, 4), slice(0, 1)))
    second = label_map(grid, a=(slice(2, 4), slice(3, 5), slice(0, 1)))
    (found,) = agreement(first, second, (A,), 1)
    assert found.hd95 == pytest.approx(2.0)
    assert diagonal(grid) == pytest.approx(math.hypot(10, 16))


def test_pictures_are_measured_in_pixels() -> None:
    grid = Grid((10, 8, 1), np.diag([-1.0, -1.0, 1.0, 1]))
    picture = label_map(grid, "pixel", a=(slice(2, 4), slice(2, 4), slice(0, 1)))
    (found,) = agreement(picture, picture, (A,), 1)
    assert found.unit == "pixel"
    with pytest.raises(ScanRefused, match="pixel"):
        agreement(picture, replace(picture, space_units="mm"), (A,), 1)


def test_distances_need_perpendicular_even_axes() -> None:
    tilted = GRID.affine.copy()
    tilted[1, 2] = 2.5 * math.tan(math.radians(10))
    uneven = Grid(SHAPE, GRID.affine, (0, 2.5, 5, 7.5, 10, 12.6))
    for grid, reason in ((Grid(SHAPE, tilted), "10.0 degrees"), (uneven, "unevenly spaced")):
        (found,) = agreement(label_map(grid, a=box(0, 0, 0)), label_map(grid, a=box(1, 0, 0)), (A,), 1)
        assert found.dice == 0.5
        assert (found.hd95, found.assd, found.nsd) == (None, None, None)
        assert reason in found.reason


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Grid((10, 8, 5), GRID.affine), "10 x 8 x 5"),
        (Grid(SHAPE, np.diag([-1.0, 2.0, 2.5, 1])), "lie up to"),
        (Grid(SHAPE, GRID.affine + np.eye(4, k=3) * 0.02), "0.02 mm"),
    ],
    ids=["shape", "mirrored", "shifted"],
)
def test_masks_on_different_grids_are_refused(other: Grid, message: str) -> None:
    with pytest.raises(ScanRefused, match=message) as caught:
        agreement(label_map(other), label_map(), (A,), 1)
    assert caught.value.code == "grids_differ"


def test_rounding_of_a_header_is_no_other_grid() -> None:
    noisy = Grid(SHAPE, GRID.affine + np.eye(4, k=3) * 1e-5)
    (found,) = agreement(label_map(noisy, a=box(0, 0, 0)), label_map(a=box(0, 0, 0)), (A,), 1)
    assert found.dice == 1


def test_the_diagonal_of_a_sheared_image_is_its_longest() -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1])
    affine[0, 1] = -1.0  # the second axis leans to the left: (1,-1) leads from corner to corner
    # corners 4 * (1,0,0), 4 * (-1,1,0), 2 * (0,0,1): (4,0) - (-4,4) = (8,-4), then 2 along k.
    assert diagonal(Grid((4, 4, 2), affine)) == pytest.approx(math.sqrt(64 + 16 + 4))
