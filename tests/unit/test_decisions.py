"""Scores to labels, and labels to tidier labels, on grids small enough to see."""

from __future__ import annotations

import numpy as np
import pytest

from cards import make_card
from unet_med.decide import decide
from unet_med.postprocess import postprocess


def test_the_highest_score_wins_and_its_probability_is_the_certainty() -> None:
    scores = np.log(np.array([[0.6, 0.1, 0.25], [0.3, 0.8, 0.25], [0.1, 0.1, 0.5]], np.float32))
    labels, certainty = decide(scores, make_card())
    assert labels.tolist() == [0, 1, 2]
    assert certainty.tolist() == [153, 204, 128]  # 0.6, 0.8 and 0.5 of 255
    assert labels.dtype == certainty.dtype == np.uint8


def test_nested_regions_stand_from_the_outside_in() -> None:
    card = make_card(inference={"activation": "sigmoid"})
    scores = np.array([[-2, 3, 3, -3], [-1, -1, 4, 0.5]], np.float32)
    labels, certainty = decide(scores, card)
    assert labels.tolist() == [0, 1, 2, 2]
    assert certainty.tolist() == [round(255 / (1 + np.exp(-value))) for value in (1, 1, 3, 0.5)]


def test_large_scores_do_not_overflow() -> None:
    labels, certainty = decide(np.array([[1000.0], [-1000], [999]], np.float32), make_card())
    assert (labels.tolist(), certainty.tolist()) == ([0], [186])  # 1 / (1 + 1/e)


def test_values_above_255_need_two_bytes() -> None:
    card = make_card(
        labels=[
            {"value": 300, "name": "a", "colour": "#0000ff"},
            {"value": 2, "name": "b", "colour": "#0000ff"},
        ]
    )
    labels, _ = decide(np.array([[0.0], [1], [0]], np.float32), card)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [300]


def line(text: str) -> np.ndarray:
    """Digits as labels along the first axis, (N, 1, 1)."""
    return np.array([int(digit) for digit in text], np.uint8).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("1101022201", {"largest_component": ["low"]}, "1100022200"),
        ("1101022201", {"largest_component": ["low", "high"]}, "1100022200"),
        ("1122011102", {"joint_largest_component": True}, "1122000000"),
        ("0000", {"joint_largest_component": True, "largest_component": ["low"]}, "0000"),
        ("1101", {}, "1101"),
    ],
)
def test_only_the_largest_piece_stays(before: str, wanted: dict[str, object], after: str) -> None:
    labels = postprocess(line(before), make_card(postprocess=wanted))
    assert "".join(map(str, labels[:, 0, 0])) == after


def ring() -> np.ndarray:
    """A 5 x 5 square of label 1 with a hole of background and a voxel of label 2 in it, in each of three slices."""
    labels = np.zeros((7, 7, 3), np.uint8)
    labels[1:6, 1:6] = 1
    labels[2:5, 2:5] = 0
    labels[3, 3] = 2
    return labels


def test_holes_are_filled_and_other_labels_kept() -> None:
    plane = postprocess(ring(), make_card(2, postprocess={"fill_holes": ["low"]}))
    assert (plane[2:5, 2:5, 1] == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]).all()
    assert plane[0].max() == 0
    # In space the hole is a tunnel, open at both ends.
    volume = postprocess(ring(), make_card(3, postprocess={"fill_holes": ["low"]}))
    assert (volume == ring()).all()


def test_planes_keep_a_piece_each() -> None:
    labels = np.zeros((6, 1, 2), np.uint8)
    labels[:3, 0, 0] = 1
    labels[5, 0, 1] = 1
    flat = postprocess(labels.copy(), make_card(2, postprocess={"largest_component": ["low"]}))
    assert flat.sum() == 4
    space = postprocess(labels.copy(), make_card(3, postprocess={"largest_component": ["low"]}))
    assert space.sum() == 3
