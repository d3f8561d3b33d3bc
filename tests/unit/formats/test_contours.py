"""Outlines and pixels: values counted by hand, and drawing undone by filling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from unet_med.formats.contours import combined, filled, outlines


def ring(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, np.float64)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return ring((left, top), (right, top), (right, bottom), (left, bottom))


def area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2))


def test_a_box_along_pixel_edges_holds_its_pixels() -> None:
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:7] = True
    np.testing.assert_array_equal(filled(box(1.5, 0.5, 6.5, 3.5), (6, 8)), expected)


def test_fractions_of_a_pixel_count() -> None:
    # Centres 2 and 3 lie between 1.9 and 3.1; rounded to whole pixels the outline would not differ from 2.4 to 2.6.
    assert filled(box(1.9, 1.9, 3.1, 3.1), (6, 6)).sum() == 4
    assert filled(box(2.1, 1.9, 2.9, 3.1), (6, 6)).sum() == 0


def test_edges_through_centres_belong_to_one_side() -> None:
    left, right = box(1, 1, 3, 3), box(3, 1, 5, 3)
    one, other = filled(left, (6, 6)), filled(right, (6, 6))
    assert one.sum() == other.sum() == 4  # 2 x 2 units of area, and as many centres
    assert not (one & other).any()
    assert (one | other).sum() == filled(box(1, 1, 5, 3), (6, 6)).sum()


def test_a_triangle_holds_the_centres_below_its_slope() -> None:
    # x + y < 4.5 in the upper left corner: 5 + 4 + 3 + 2 + 1 centres.
    assert filled(ring((-0.5, -0.5), (5, -0.5), (-0.5, 5)), (9, 9)).sum() == 15


def test_what_lies_outside_of_the_picture_is_cut_off() -> None:
    assert filled(box(-100, -100, 100, 100), (3, 4)).all()
    assert not filled(box(50, 50, 100, 100), (3, 4)).any()
    assert filled(box(-9, 0.5, 0.5, 9), (3, 4)).sum() == 2


@pytest.mark.parametrize("seed", range(20))
def test_filling_agrees_with_another_even_odd_rule(seed: int) -> None:
    """Outlines that cross themselves included; no corner lies on a centre, where conventions differ."""
    corners = np.random.default_rng(seed).uniform(-2, 14, (7, 2)) + 1e-3
    expected = grid_points_in_poly((12, 12), corners[:, ::-1], binarize=True)
    np.testing.assert_array_equal(filled(corners, (12, 12)), expected)


def test_an_outline_inside_of_another_is_a_hole() -> None:
    inside, crossing = combined([box(0.5, 0.5, 9.5, 9.5), box(3.5, 3.5, 6.5, 6.5)], (12, 12))
    assert (int(inside.sum()), crossing) == (81 - 9, 0)


def test_an_island_in_a_hole_is_inside() -> None:
    rings = [box(3.5, 3.5, 8.5, 8.5), box(0.5, 0.5, 10.5, 10.5), box(5.5, 5.5, 6.5, 6.5)]
    inside, crossing = combined(rings, (12, 12))
    assert (int(inside.sum()), crossing) == (100 - 25 + 1, 0)


def test_outlines_side_by_side_add_up() -> None:
    inside, crossing = combined([box(0.5, 0.5, 3.5, 3.5), box(3.5, 0.5, 5.5, 3.5)], (12, 12))
    assert (int(inside.sum()), crossing) == (15, 0)


def test_outlines_that_cross_are_told_with_their_size() -> None:
    _, crossing = combined([box(0.5, 0.5, 5.5, 5.5), box(3.5, 3.5, 8.5, 8.5)], (12, 12))
    assert crossing == 4


def test_a_keyhole_is_a_hole() -> None:
    keyhole = ring(
        *((0.5, 0.5), (9.5, 0.5), (9.5, 9.5), (0.5, 9.5), (0.5, 4.5), (3.5, 4.5)),
        *((3.5, 6.5), (6.5, 6.5), (6.5, 3.5), (3.5, 3.5), (3.5, 4.5), (0.5, 4.5)),
    )
    assert filled(keyhole, (12, 12)).sum() == 81 - 9


def test_a_box_is_drawn_with_four_corners() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (drawn,) = outlines(mask)
    assert sorted(map(tuple, drawn.tolist())) == [(1.5, 0.5), (1.5, 3.5), (6.5, 0.5), (6.5, 3.5)]


def test_pixels_that_touch_at_a_corner_are_drawn_apart() -> None:
    drawn = outlines(np.eye(3, dtype=bool))
    assert [len(each) for each in drawn] == [4, 4, 4]
    assert [area(each) for each in drawn] == [1, 1, 1]


def test_nothing_is_drawn_around_nothing() -> None:
    assert outlines(np.zeros((3, 4), bool)) == []


@pytest.mark.parametrize("share", [0.2, 0.5, 0.75, 0.95])
def test_drawing_is_undone_by_filling(share: float) -> None:
    """Random pixels make every kind of hole, island and corner."""
    random = np.random.default_rng(int(100 * share))
    for _ in range(100):
        shape = tuple(random.integers(1, 16, 2))
        mask = random.random(shape) < share
        drawn = outlines(mask)
        inside, crossing = combined(drawn, shape)
        np.testing.assert_array_equal(inside, mask)
        assert crossing == 0
        assert len(drawn) == ndimage.label(mask)[1]  # one outline a piece, holes cut open
        assert sum(area(each) for each in drawn) == mask.sum()  # a channel has no area


def test_drawn_outlines_fill_alike_by_another_rule() -> None:
    """Readers of structure sets are not ours."""
    mask = np.zeros((20, 24), bool)
    mask[2:18, 3:22] = True
    mask[5:9, 6:10] = mask[11:15, 6:9] = mask[6:12, 14:19] = False
    (drawn,) = outlines(mask)
    np.testing.assert_array_equal(grid_points_in_poly(mask.shape, drawn[:, ::-1], binarize=True), mask)
