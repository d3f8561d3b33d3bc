"""Dice and intersection over union on masks small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unet_med_pipelines.evaluation.metrics import Overlap, dice, iou

# P = {0, 1, 2}, R = {2, 3}: |P| = 3, |R| = 2, in common {2}, together {0, 1, 2, 3}.
P = np.array([1, 1, 1, 0, 0], dtype=bool)
R = np.array([0, 0, 1, 1, 0], dtype=bool)
EMPTY = np.zeros(5, dtype=bool)


def test_overlap_of_two_short_rows() -> None:
    assert dice(P, R) == pytest.approx(2 * 1 / (3 + 2))
    assert iou(P, R) == pytest.approx(1 / 4)
    assert dice(R, P) == dice(P, R)
    assert dice(P, P) == iou(P, P) == 1


def test_one_empty_mask_is_the_worst_and_two_are_undefined() -> None:
    assert dice(P, EMPTY) == dice(EMPTY, P) == iou(P, EMPTY) == 0
    assert math.isnan(dice(EMPTY, EMPTY))
    assert math.isnan(iou(EMPTY, EMPTY))


def test_pooling_counts_voxels_and_not_cases() -> None:
    # 3, 2, 1 voxels of the pair above and 1, 0, 0 of a second case: 2 * 1 / (4 + 2), not the mean of 0.4 and 0.
    pooled = Overlap.of(P, R) + Overlap.of(np.array([True]), np.array([False]))
    assert pooled == Overlap(prediction=4, reference=2, common=1)
    assert pooled.dice == pytest.approx(1 / 3)


def test_masks_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dice(P, R[:4])
    # 0/255 masks would count wrongly if they were taken bit by bit.
    with pytest.raises(ValueError, match="boolean"):
        dice(P, R.astype(np.uint8))
