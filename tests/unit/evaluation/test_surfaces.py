"""Surface distances on masks small enough for paper, and against implementations that the package does not call."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.metrics import compute_surface_dice
from scipy import ndimage

from unet_med_pipelines.evaluation.surfaces import SurfaceDistances, element_sizes, surface_distances

SHAPE = (6, 7, 5)
masks = arrays.arrays(np.bool_, SHAPE).filter(np.any)
spacings = st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 2.5])] * 3)


def volume(*voxels: tuple[int, int, int], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_two_voxels_three_apart() -> None:
    # One voxel has a surface element at each of its eight corners. Voxels (1,2,2) and (4,2,2) have corners at
    # i = 0.5, 1.5 and at i = 3.5, 4.5, all with the same j and k. Half of the corners of the first find a partner 2
    # steps away (1.5 -> 3.5), half 3 steps (0.5 -> 3.5); the other way round it is the same.
    found = surface_distances(volume((1, 2, 2)), volume((4, 2, 2)), (0.5, 1, 1))
    assert found.from_prediction.tolist() == found.from_reference.tolist() == [1.0] * 4 + [1.5] * 4
    assert found.hausdorff(50) == 1.0
    assert found.hausdorff(95) == found.hausdorff(100) == 1.5
    assert found.average == pytest.approx(1.25)
    assert found.within(0.9) == 0
    assert found.within(1.0) == pytest.approx(0.5)
    assert found.within(1.5) == 1


def test_spacing_of_the_third_axis_decides_there() -> None:
    # The same along k with slices 2.5 apart: corners are 2 and 3 slices from each other.
    found = surface_distances(volume((2, 2, 0)), volume((2, 2, 3)), (1, 1, 2.5))
    assert found.from_prediction.tolist() == [5.0] * 4 + [7.5] * 4


def test_hausdorff_is_the_larger_direction_and_not_the_pooled_percentile() -> None:
    # Prediction: 97 of 100 equal elements at 0, three at 10. Reference: nine of ten at 0, one at 4.
    # Directed: 95 of 100 lie at 0 -> 0; 9.5 of 10 needs the last -> 4. Maximum 4.
    # Pooled: 104.5 of 110 -> the 105th of 106 zeros -> 0.
    found = SurfaceDistances(np.array([0.0] * 97 + [10.0] * 3), np.ones(100), np.array([0.0] * 9 + [4.0]), np.ones(10))
    assert found.hausdorff(95) == 4
    # Mean over both surfaces pooled: (3 * 10 + 1 * 4) / 110, not the mean of 0.3 and 0.4.
    assert found.average == pytest.approx(34 / 110)


def test_elements_count_by_their_area() -> None:
    found = SurfaceDistances(np.array([0.0, 2.0]), np.array([3.0, 1.0]), np.array([1.0]), np.array([4.0]))
    assert found.within(0.5) == pytest.approx(3 / 8)
    assert found.average == pytest.approx((1 * 2 + 4 * 1) / 8)


def test_contours_in_a_plane() -> None:
    # One pixel: four corners, each cut off by half a diagonal. Pixels (1,1) and (1,3): corners at j = 0.5, 1.5 and at
    # j = 2.5, 3.5.
    prediction, reference = np.zeros((3, 5), bool), np.zeros((3, 5), bool)
    prediction[1, 1] = reference[1, 3] = True
    found = surface_distances(prediction, reference, (1.0, 2.0))
    assert found.from_prediction.tolist() == [2.0, 2.0, 4.0, 4.0]
    assert found.prediction_sizes.tolist() == pytest.approx([math.hypot(1, 2) / 2] * 4)


def test_area_of_a_corner_and_of_a_wall() -> None:
    # Code 1: one voxel of eight; a triangle between the middles of three edges of a box 1 x 1 x 2 mm:
    # corners (0.5,0,0), (0,0.5,0), (0,0,1): half of |(-0.5,0.5,0) x (-0.5,0,1)| = |(0.5, 0.5, 0.25)| / 2 = 0.375.
    # Code 15: the four voxels of one side of the first axis; a wall 1 x 2 mm.
    sizes = element_sizes((1.0, 1.0, 2.0))
    assert sizes[1] == pytest.approx(0.375)
    assert sizes[15] == pytest.approx(2.0)
    assert sizes[0] == sizes[255] == 0


def test_the_border_of_the_image_closes_a_mask() -> None:
    # The same two boxes in the corner of the image and away from it.
    near, far = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    near[:3, :3, :3] = far[:4, :3, :3] = True
    at_border = surface_distances(near, far, (1, 1, 1))
    inside = surface_distances(np.roll(near, 3, (0, 1, 2)), np.roll(far, 3, (0, 1, 2)), (1, 1, 1))
    assert at_border.average == inside.average > 0


@settings(max_examples=40, deadline=None)
@given(masks, masks, st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.8, 2.5)]), st.booleans())
def test_the_order_in_memory_changes_nothing(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...], both: bool
) -> None:
    expected = surface_distances(first, second, spacing)
    found = surface_distances(np.asfortranarray(first), np.asfortranarray(second) if both else second, spacing)
    assert found.from_prediction == pytest.approx(expected.from_prediction)
    assert found.average == pytest.approx(expected.average)
    assert found.within(1) == pytest.approx(expected.within(1))


def test_masks_without_a_surface_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        surface_distances(volume((1, 1, 1)), volume(), (1, 1, 1))
    with pytest.raises(ValueError, match="spacing"):
        surface_distances(volume((1, 1, 1)), volume((1, 1, 1)), (1, 1))


@settings(max_examples=40, deadline=None)
@given(masks, spacings)
def test_a_mask_lies_on_itself(mask: np.ndarray, spacing: tuple[float, ...]) -> None:
    found = surface_distances(mask, mask, spacing)
    assert found.hausdorff(100) == found.average == 0
    assert found.within(0) == 1


@settings(max_examples=40, deadline=None)
@given(masks, masks, spacings)
def test_both_ways_round_it_is_the_same(first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...]) -> None:
    one, other = surface_distances(first, second, spacing), surface_distances(second, first, spacing)
    assert one.hausdorff() == other.hausdorff()
    assert one.average == pytest.approx(other.average)
    assert one.within(1) == pytest.approx(other.within(1))


@settings(max_examples=40, deadline=None)
@given(masks, masks, spacings, st.tuples(*[st.integers(0, 9)] * 3))
def test_moving_both_changes_nothing(
    first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...], step: tuple[int, int, int]
) -> None:
    room = [(n, 9 - n) for n in step]
    still = surface_distances(first, second, spacing)
    moved = surface_distances(np.pad(first, room), np.pad(second, room), spacing)
    assert np.array_equal(still.from_prediction, moved.from_prediction)
    assert np.array_equal(still.reference_sizes, moved.reference_sizes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), spacings)
def test_distances_equal_a_distance_transform(seed: int, spacing: tuple[float, ...]) -> None:
    """Sparse and far apart, so that the neighbours of the first steps and the search tree both have their part."""
    random = np.random.default_rng(seed)
    first, second = np.zeros((2, 40, 30, 12), bool)
    for mask, place in ((first, (0, 0, 0)), (second, random.integers(0, (20, 15, 6)))):
        box = tuple(slice(n, n + 14) for n in place)
        mask[box] = random.random(mask[box].shape) < random.choice([0.002, 0.2])
        mask[tuple(place)] = True
    found = surface_distances(first, second, spacing)
    ours, theirs = block_edges(first), block_edges(second)
    to_theirs = ndimage.distance_transform_edt(~theirs, sampling=spacing)
    assert found.from_prediction == pytest.approx(np.sort(to_theirs[ours]))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns of its own call
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1.0, 1.0, 1.0), (0.7, 0.9, 2.5)]))
def test_agrees_with_monai(seed: int, spacing: tuple[float, ...]) -> None:
    """MONAI's surface Dice with subvoxels follows the same convention, by another road (a distance transform)."""
    random = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(random.standard_normal((24, 20, 12)), 2) for _ in range(2)]
    first, second = (np.pad(field > np.quantile(field, 0.8), 3) for field in (noise[0], noise[0] + 0.5 * noise[1]))
    found = surface_distances(first, second, spacing)
    pair = [torch.from_numpy(mask)[None, None] for mask in (first, second)]
    expected = compute_surface_dice(
        *pair, class_thresholds=[1.3], include_background=True, spacing=spacing, use_subvoxels=True
    )
    assert found.within(1.3) == pytest.approx(float(expected), abs=1e-4)


def block_edges(mask: np.ndarray) -> np.ndarray:
    """2x2x2 blocks that hold inside and outside: the largest and the smallest of eight shifted copies differ."""
    padded = np.pad(mask, 1)
    corners = [padded[i : i - 1 or None, j : j - 1 or None, k : k - 1 or None] for i, j, k in np.ndindex(2, 2, 2)]
    return np.any(corners, axis=0) & ~np.all(corners, axis=0)
