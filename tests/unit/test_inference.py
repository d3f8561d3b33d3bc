"""segment(): masks on exactly the grid of their scan, with a network whose answer is known."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cards import Thresholds, make_card, thresholds
from unet_med import Box, Grid, Options, Scan, segment
from unet_med.card import GridPolicy
from unet_med.errors import Cancelled, ScanRefused, WrongUse
from unet_med.grid import Reorientation
from unet_med.model import Model
from unet_med.network import UNet
from unet_med.prepare import make_plan, prepare, prepare_labels, restore
from unet_med.segmentation import Segmentation

WAYS = [Reorientation(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


def volume(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Smooth values from 0 to 3."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5, mode="nearest")
    spread = noise.max() - noise.min()
    return (3 * (noise - noise.min()) / (spread or 1)).astype(np.float32)


def truth(values: NDArray[Any]) -> NDArray[Any]:
    return np.where(values > 2, 2, np.where(values > 1, 1, 0))


def oblique(angle: float = 0.3, spacing: tuple[float, ...] = (1.2, 0.9, 2.5)) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    affine[:3, 3] = (3, -40, 100)
    return affine


def labels_of(scan: Scan, model: Model, **options: Any) -> NDArray[Any]:
    result = segment(scan, model, Options(**options))
    (mask,) = result.segmentations
    assert mask.grid is scan.grid
    assert result.certainty.shape == scan.grid.shape
    return mask.labels


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 20)] * 3), st.sampled_from(WAYS), st.floats(-0.7, 0.7))
def test_a_mask_lies_where_its_voxels_are(shape: tuple[int, int, int], how: Reorientation, angle: float) -> None:
    """Thresholds need no neighbours: at the scan's own spacing the mask is known voxel by voxel."""
    values = volume(*shape)
    grid = Grid(shape, oblique(angle)).reorient(how)
    scan = Scan(how.apply(values)[np.newaxis], grid)
    np.testing.assert_array_equal(labels_of(scan, thresholds()), how.apply(truth(values)))
    np.testing.assert_array_equal(labels_of(scan, thresholds(2)), how.apply(truth(values)))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_48_ways_to_store_a_scan_give_one_mask(dimensions: int) -> None:
    """A random U-Net sees neighbours and sides; resampled to another spacing; bit for bit."""
    card = make_card(
        dimensions,
        grid={"dimensions": dimensions, "spacing": [1.5] * dimensions, "window": [8] * dimensions},
        intensity={"scale": "zscore"},
    )
    torch.manual_seed(1)
    model = Model(card, (UNet.from_card(card),))
    values, grid = volume(14, 11, 9), Grid((14, 11, 9), oblique(spacing=(1.2, 0.9, 3.5)))
    expected = segment(Scan(values[np.newaxis], grid), model)
    assert len(np.unique(expected.segmentations[0].labels)) > 1
    for how in WAYS:
        found = segment(Scan(how.apply(values)[np.newaxis], grid.reorient(how)), model)
        np.testing.assert_array_equal(how.undo(found.segmentations[0].labels), expected.segmentations[0].labels)
        np.testing.assert_array_equal(how.undo(found.certainty), expected.certainty)


def ball(grid: Grid, centre: tuple[float, float, float], radius: float) -> NDArray[np.float32]:
    """3 inside, 0 outside, a voxel's share at the surface; of a grid that may be uneven."""
    places = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.clip((radius - np.linalg.norm(places - centre, axis=-1)) + 1.5, 0, 3).astype(np.float32)


TILTED = np.array([[-0.8, 0, 0, 20], [0, -0.8, 0.9, -5], [0, 0, 2.5, 0], [0, 0, 0, 1]])
UNEVEN = tuple(np.cumsum([0, 2, 2, 3, 2, 5, 2, 2, 2, 3, 2, 2, 2, 2]).tolist())
STEP = UNEVEN[-1] / 13


@pytest.mark.parametrize(
    "grid",
    [
        Grid((40, 40, 14), TILTED),
        Grid(
            (40, 40, 14), np.array([[-1, 0, 0, 20], [0, -1, 0, 20], [0, 0, UNEVEN[-1] / 13, 0], [0, 0, 0, 1]]), UNEVEN
        ),
        Grid(
            (40, 40, 14), np.array([[0, 0, UNEVEN[-1] / 13, -16], [-1, 0, 0, 20], [0, -1, 0, 35], [0, 0, 0, 1]]), UNEVEN
        ),
    ],
    ids=["tilted", "uneven axial", "uneven sagittal"],
)
def test_a_ball_in_a_stack_that_is_no_box_keeps_its_place_and_volume(grid: Grid) -> None:
    centre = grid.world((np.array(grid.shape) - 1) / 2)
    values = ball(grid, tuple(centre), 9)
    model = thresholds(grid={"dimensions": 3, "spacing": [1, 1, 1], "window": [24, 24, 24], "interpolation": "linear"})
    inside = segment(Scan(values[np.newaxis], grid), model).segmentations[0].labels > 0
    expected = values > 1
    assert 2 * (inside & expected).sum() / (inside.sum() + expected.sum()) > 0.97
    np.testing.assert_allclose(
        grid.world(np.argwhere(inside)).mean(axis=0), grid.world(np.argwhere(expected)).mean(axis=0), atol=0.3
    )


def test_the_network_sees_ras_even_where_slices_are_uneven() -> None:
    """Sagittal slices at uneven places: the last axis of what the network sees must be the head's, not the slices'."""
    affine = np.array([[0, 0, 4.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    grid = Grid((30, 20, 4), affine, (0, 3, 6, 12))
    scan = Scan(np.zeros((1, 30, 20, 4), np.float32), grid)
    plan = make_plan(scan, GridPolicy(dimensions=3, spacing=(2, 1, 1), window=(8, 8, 8)))
    assert plan.grid.orientation == "RAS"
    assert plan.grid.shape == (8, 30, 20)  # 16.5 mm in steps of about 2
    assert plan.grid.spacing == pytest.approx((16.5 / 8, 1, 1))


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 4.0])] * 3), st.sampled_from(WAYS)
)
def test_restoring_a_straight_line_gives_it_back(
    shape: tuple[int, int, int], spacing: tuple[float, ...], how: Reorientation
) -> None:
    """Scores that rise linearly in space are restored to exactly that rise, up to half a voxel from the edges."""
    grid = Grid(shape, oblique(spacing=(1, 1.3, 2.1))).reorient(how)
    scan = Scan(np.zeros((1, *grid.shape), np.float32), grid)
    plan = make_plan(scan, GridPolicy(dimensions=3, spacing=spacing, window=(8, 8, 8)))
    here = plan.grid.world(np.moveaxis(np.indices(plan.grid.shape), 0, -1))
    scores = np.moveaxis(here, -1, 0).astype(np.float32)
    restored = np.empty((3, *plan.cropped.shape), np.float32)
    for rows, slab in restore(scores, plan):
        restored[:, rows] = slab
    there = np.moveaxis(plan.cropped.world(np.moveaxis(np.indices(plan.cropped.shape), 0, -1)), -1, 0)
    index = plan.resampled.index(np.moveaxis(there, 0, -1))
    within = ((index >= -1e-6) & (index <= np.array(plan.resampled.shape) - 1 + 1e-6)).all(axis=-1)
    np.testing.assert_allclose(restored[:, within], there[:, within], atol=1e-3)


def test_slabs_are_pieces_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    card = make_card(grid={"dimensions": 3, "spacing": [2, 2, 2], "window": [8, 8, 8]})
    scan = Scan.from_array(volume(13, 9, 7), oblique())
    plan = prepare(scan, card).plan
    scores = np.random.default_rng(1).normal(size=(3, *plan.grid.shape)).astype(np.float32)
    (_, whole), *none = restore(scores, plan)
    assert not none
    monkeypatch.setattr("unet_med.prepare.SLAB_VOXELS", 3 * 9 * 7 * 2)
    slabs = list(restore(scores, plan))
    assert len(slabs) == 7
    np.testing.assert_allclose(np.concatenate([slab for _, slab in slabs], axis=1), whole, atol=1e-5)


def test_labels_for_training_follow_their_image() -> None:
    scan = Scan.from_array(volume(20, 18, 16), oblique())
    card = make_card(grid={"dimensions": 3, "spacing": [1, 1, 1], "window": [8, 8, 8], "interpolation": "linear"})
    prepared = prepare(scan, card)
    labels = truth(scan.data[0]).astype(np.uint8)
    there = prepare_labels(Segmentation(labels, scan.grid, card.table), prepared.plan)
    assert there.shape == prepared.data.shape[1:]
    assert (there == truth(prepared.data[0])).mean() > 0.93
    same = make_card()
    kept = prepare_labels(Segmentation(labels, scan.grid, card.table), prepare(scan, same).plan)
    np.testing.assert_array_equal(kept, scan.grid.canonical().apply(labels))


# -- box -------------------------------------------------------------------------------------------------------------


def test_a_box_is_in_mm_and_nothing_outside_it_is_labelled() -> None:
    scan = Scan.from_array(np.full((10, 10, 10), 3.0, np.float32), np.diag((-2.0, 2, 2, 1)))
    labels = labels_of(scan, thresholds(), box=Box.parse("-9,-3,4,8,0,2"))
    # x = -2 i in -9..-3: i 2, 3, 4. y = 2 j in 4..8: j 2, 3, 4. z = 2 k in 0..2: k 0, 1.
    expected = np.zeros((10, 10, 10), int)
    expected[2:5, 2:5, 0:2] = 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d,e,f", "2,1,0,1,0,1", "0,nan,0,1,0,1"])
def test_a_box_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="box"):
        Box.parse(text)


def test_a_box_beside_the_scan_is_refused_with_the_place_of_the_scan() -> None:
    scan = Scan.from_array(volume(5, 5, 5), np.eye(4))
    with pytest.raises(WrongUse, match="the scan lies at x 0 to 4, y 0 to 4, z 0 to 4 mm"):
        segment(scan, thresholds(), Options(box=Box.parse("50,60,0,4,0,4")))


# -- what the card says to the scan ----------------------------------------------------------------------------------


def refusal(scan: Scan, model: Model, **options: Any) -> str:
    with pytest.raises(ScanRefused) as caught:
        segment(scan, model, Options(**options))
    return caught.value.code


def codes(scan: Scan, model: Model, **options: Any) -> set[str]:
    return {finding.code for finding in segment(scan, model, Options(**options)).findings}


def test_another_modality_is_refused_unless_forced() -> None:
    model = thresholds(channels=[{"name": "image", "modality": "MR"}])
    scan = Scan.from_array(volume(8, 8, 8), np.eye(4), modality="CT")
    assert refusal(scan, model) == "modality_mismatch"
    assert "forced" in codes(scan, model, force=True)
    assert codes(Scan.from_array(volume(8, 8, 8), np.eye(4), modality="MR"), model) == set()
    assert codes(Scan.from_array(volume(8, 8, 8), np.eye(4)), model) == {"modality_not_declared"}


def test_a_field_of_view_far_outside_is_refused_unless_boxed_or_forced() -> None:
    field = {"unit": "mm", "smallest": [10, 10, 10], "largest": [20, 20, 20]}
    model = thresholds(field_of_view=field)
    scan = Scan.from_array(volume(40, 20, 20), np.eye(4))
    assert refusal(scan, model) == "field_of_view"
    assert "forced" in codes(scan, model, force=True)
    assert codes(scan, model, box=Box.parse("0,18,-1,30,-1,30")) == set()
    assert codes(Scan.from_array(volume(30, 30, 5), np.eye(4)), model) == set()  # 1.5 times, and half: just inside
    assert refusal(Scan.from_array(volume(30, 30, 4), np.eye(4)), model) == "field_of_view"


def test_a_field_of_view_in_pixels_is_compared_in_pixels() -> None:
    model = thresholds(2, field_of_view={"unit": "pixel", "smallest": [20, 20], "largest": [20, 20]})
    assert codes(Scan.from_array(volume(20, 20, 2), np.diag((0.3, 0.3, 8, 1))), model) == set()
    assert refusal(Scan.from_array(volume(40, 20, 2), np.diag((0.3, 0.3, 8, 1))), model) == "field_of_view"


def test_a_picture_without_a_pixel_size_and_a_model_in_mm_do_not_meet() -> None:
    picture = Scan(volume(8, 8, 1)[np.newaxis], Grid((8, 8, 1), np.diag((-1, -1, 1, 1))), space_units="pixel")
    model = thresholds(2, grid={"dimensions": 2, "spacing": [1, 1], "window": [8, 8]})
    assert refusal(picture, model) == "unknown_spacing"
    mask = segment(picture, thresholds(2)).segmentations[0]
    assert mask.space_units == "pixel"
    assert mask.volume_ml(mask.table[0]) is None


def test_the_number_of_channels_must_fit() -> None:
    scan = Scan.from_array(np.zeros((2, 4, 4, 4), np.float32), np.eye(4))
    assert refusal(scan, thresholds()) == "channel_count"
    assert refusal(scan, thresholds(), force=True) == "channel_count"


def test_values_that_are_no_numbers_do_not_spread() -> None:
    values = volume(9, 9, 9)
    spoilt = values.copy()
    spoilt[4, 4, 4] = np.nan
    model = thresholds(grid={"dimensions": 3, "spacing": [0.7, 0.7, 0.7], "window": [8, 8, 8]})
    with_hole, without = (
        segment(Scan.from_array(v, np.eye(4)), model).segmentations[0].labels for v in (spoilt, values)
    )
    far = np.ones(values.shape, bool)
    far[1:8, 1:8, 1:8] = False  # a spline reaches a few voxels
    np.testing.assert_array_equal(with_hole[far], without[far])
    nothing = Scan.from_array(np.full((4, 4, 4), np.nan, np.float32), np.eye(4))
    assert refusal(nothing, thresholds()) == "non_finite_values"


def test_an_image_without_anything_in_it_says_so() -> None:
    scan = Scan.from_array(np.zeros((6, 6, 6), np.uint8), np.eye(4))
    assert codes(scan, thresholds()) == {"constant_image", "empty_result"}


def test_coarse_voxels_are_worth_a_note() -> None:
    model = thresholds(grid={"dimensions": 3, "spacing": [1, 1, 1], "window": [8, 8, 8]})
    assert codes(Scan.from_array(volume(8, 8, 3), np.diag((1, 1, 6, 1))), model) == {"spacing_unusual"}


# -- options ---------------------------------------------------------------------------------------------------------


def test_the_result_says_what_really_ran() -> None:
    card = make_card(inference={"overlap": 0.25, "flips": [0, 2]})
    scan = Scan.from_array(volume(12, 8, 8), np.eye(4))
    provenance = segment(scan, Model(card, (Thresholds(),)), Options(device="cpu", flips=True)).provenance
    assert provenance.options == {
        "device": "cpu",
        "precision": "fp32",
        "overlap": 0.25,
        "flips": [0, 2],
        "box": None,
        "force": False,
    }
    assert provenance.windows == 2
    assert set(provenance.seconds) == {"check", "prepare", "predict", "restore", "postprocess"}
    assert provenance.versions["torch"] == torch.__version__


def test_words_that_are_no_device_or_precision_are_refused() -> None:
    scan = Scan.from_array(volume(8, 8, 8), np.eye(4))
    for options in (Options(device="tpu"), Options(precision="fp8")):
        with pytest.raises(WrongUse):
            segment(scan, thresholds(), options)
    with pytest.raises(WrongUse, match="overlap"):
        Options(overlap=1.0)


def test_bf16_gives_nearly_the_same_mask() -> None:
    card = make_card(intensity={"scale": "zscore"})
    torch.manual_seed(0)
    model = Model(card, (UNet.from_card(card),))
    scan = Scan.from_array(volume(16, 16, 16), np.eye(4))
    exact, rough = (labels_of(scan, model, device="cpu", precision=precision) for precision in ("fp32", "bf16"))
    assert (exact == rough).mean() > 0.95
    half = segment(scan, model, Options(device="cpu", precision="fp16"))
    assert [finding.code for finding in half.findings] == ["precision_reduced"]
    np.testing.assert_array_equal(half.segmentations[0].labels, rough)


def test_progress_may_stop_between_windows() -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled()

    with pytest.raises(Cancelled):
        segment(Scan.from_array(volume(8, 8, 8), np.eye(4)), thresholds(), progress=stop)
