"""Scaling of values, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cards import make_card
from unet_med import Scan
from unet_med.card import IntensityPolicy
from unet_med.intensity import fill_non_finite, measure
from unet_med.prepare import prepare


def scaled(values: list[float], **policy: object) -> list[float]:
    array = np.array(values, np.float32)
    scaling = measure(array, IntensityPolicy.model_validate(policy))
    return scaling.apply(fill_non_finite(array.copy())).tolist()


def test_each_scale_by_hand() -> None:
    assert scaled([1, 3], scale="zscore") == [-1, 1]
    assert scaled([2, 4, 6], scale="unit") == [0, 0.5, 1]
    assert scaled([10, 30], scale="fixed", mean=20, deviation=5) == [-2, 2]
    assert scaled([5, -5], scale="none") == [5, -5]


def test_limits_come_before_the_statistics() -> None:
    assert scaled([-2000, 0, 100, 3000], clip_values=(-100, 100), scale="unit") == [0, 0.5, 1, 1]
    # 0..100: percentiles 10 and 90 are 10 and 90.
    values = scaled(list(range(101)), clip_percentiles=(10, 90), scale="unit")
    assert (values[0], values[10], values[50], values[90], values[100]) == (0, 0, 0.5, 1, 1)


def test_a_constant_image_is_only_centred() -> None:
    assert scaled([7, 7, 7], scale="zscore") == [0, 0, 0]
    assert scaled([7, 7], scale="unit") == [0, 0]
    assert scaled([5000, 6000], clip_values=(0, 100), scale="unit") == [0, 0]


def test_what_is_no_number_counts_in_no_statistic() -> None:
    nan, inf = float("nan"), float("inf")
    assert scaled([1, 3, nan, inf, -inf], scale="zscore") == [-1, 1, -1, 1, -1]


def test_integers_keep_their_precision() -> None:
    values = np.array([2**24, 2**24 + 2], np.int32)
    assert measure(values, IntensityPolicy(scale="zscore")).shift == pytest.approx(2**24 + 1)


def test_slices_are_scaled_one_by_one_where_the_card_says_so() -> None:
    volume = np.stack([np.array([[1.0, 3], [3, 1]]), np.array([[100.0, 300], [100, 300]])], axis=-1)
    card = make_card(2, intensity={"scope": "slice", "scale": "zscore"})
    scan = Scan.from_array(volume, np.diag((-1, -1, 1, 1)))
    assert prepare(scan, card).data[0].tolist() == [[[-1, -1], [1, 1]], [[1, -1], [-1, 1]]]
    with pytest.raises(ValueError, match="is for planes"):
        make_card(3, intensity={"scope": "slice"})
