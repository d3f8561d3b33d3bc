"""Batches: a pure function of seed and step; patches where they should lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from unet_med.card import GridPolicy
from unet_med_pipelines.training.augment import Augmentation, margins
from unet_med_pipelines.training.cache import CachedCase, labelled_places
from unet_med_pipelines.training.recipe import AugmentationRecipe, SamplingRecipe
from unet_med_pipelines.training.sampling import Batches, cut, window_start

ALL_3D = AugmentationRecipe.model_validate(
    {
        "affine": {"rotation": 15, "scale": 0.1, "shear": 0.05, "translation": 2},
        "flips": {"axes": [0, 1, 2]},
        "noise": {"probability": 0.5, "deviation": 0.1},
        "blur": {"probability": 0.5, "sigma": [0.5, 1.0]},
        "gamma": {"probability": 0.5, "gamma": [0.7, 1.5]},
        "brightness": {"probability": 0.5, "factor": 0.2, "shift": 0.1},
        "low_resolution": {"probability": 0.5, "zoom": [0.5, 0.9]},
    }
)
ALL_2D = AugmentationRecipe.model_validate(
    {
        **ALL_3D.model_dump(),
        "flips": {"axes": [0, 1]},
        "elastic": {"probability": 0.5, "spacing": 8, "magnitude": 2},
    }
)
NONE = AugmentationRecipe()


def stored(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> CachedCase:
    np.save(folder / f"{name}.image.npy", image.astype(np.float32))
    np.save(folder / f"{name}.labels.npy", labels.astype(np.uint8))
    np.save(folder / f"{name}.places.npy", labelled_places(labels.astype(np.uint8)))
    return CachedCase(folder / name, image.shape[1:], "mm")


def some_cases(folder: Path, shape: tuple[int, int, int], count: int = 3) -> list[CachedCase]:
    random = np.random.default_rng(0)
    cases = []
    for number in range(count):
        labels = np.zeros(shape, np.uint8)
        labels[2:5, 3:6, : max(1, shape[2] // 2)] = 1
        labels[5, 5, 0] = 2
        cases.append(stored(folder, f"case{number}", random.normal(size=(1, *shape)), labels))
    return cases


@pytest.mark.parametrize(("dimensions", "shape"), [(3, (14, 12, 10)), (2, (14, 12, 4))])
def test_batches_are_the_same_from_any_start_and_any_number_of_workers(
    tmp_path: Path, dimensions: int, shape: tuple[int, int, int]
) -> None:
    policy = GridPolicy(dimensions=dimensions, spacing=None, window=(8, 8, 8)[:dimensions])  # type: ignore[arg-type]
    augmentation = ALL_3D if dimensions == 3 else ALL_2D
    cases = some_cases(tmp_path, shape)
    batches = Batches(cases, policy, SamplingRecipe(batch=2), augmentation, seed=5)
    unbroken = [batches[step] for step in range(6)]
    again = Batches(cases, policy, SamplingRecipe(batch=2), augmentation, seed=5)
    workers = DataLoader(again, batch_size=None, sampler=range(3, 6), num_workers=2)
    for step, batch in zip(range(3, 6), workers, strict=True):
        assert torch.equal(batch["image"], unbroken[step]["image"])
        assert torch.equal(batch["labels"], unbroken[step]["labels"])
    assert unbroken[0]["image"].shape == (2, 1, *policy.window)
    assert unbroken[0]["labels"].shape == (2, 1, *policy.window)
    assert not torch.equal(unbroken[0]["image"], unbroken[3]["image"])
    other = Batches(cases, policy, SamplingRecipe(batch=2), augmentation, seed=6)
    assert not torch.equal(unbroken[0]["image"], other[0]["image"])


def test_every_case_once_an_epoch_in_a_new_order(tmp_path: Path) -> None:
    policy = GridPolicy(dimensions=3, spacing=None, window=(8, 8, 8))
    batches = Batches(some_cases(tmp_path, (9, 9, 9), 7), policy, SamplingRecipe(batch=2), NONE, seed=1)
    epochs = [[batches.case_of(epoch * 7 + n) for n in range(7)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_without_augmentation_a_patch_is_the_scan_in_the_middle_of_padding(tmp_path: Path) -> None:
    image = np.arange(3 * 4 * 8, dtype=np.float32).reshape(1, 3, 4, 8)
    case = stored(tmp_path, "a", image, np.ones((3, 4, 8)))
    policy = GridPolicy(dimensions=3, spacing=None, window=(8, 8, 8), padding=-7)
    batch = Batches([case], policy, SamplingRecipe(batch=1), NONE, seed=0)[0]
    # 8 - 3 = 5 voxels of padding: two before, three after. 8 - 4: two on each side.
    assert np.array_equal(batch["image"][0, 0, 2:5, 2:6].numpy(), image[0])
    assert batch["image"].numpy()[0, 0, :2].max() == batch["image"].numpy()[0, 0, 5:].max() == -7
    assert int(batch["labels"].sum()) == 3 * 4 * 8


def test_patches_around_structures_hold_them_and_structures_are_drawn_evenly(tmp_path: Path) -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[:, :20] = 1
    labels[39, 39, 39] = 2
    case = stored(tmp_path, "a", np.zeros((1, 40, 40, 40)), labels)
    random = np.random.default_rng(0)
    rare = 0
    for _ in range(400):
        start = window_start(case, (8, 8, 8), 1.0, random)
        patch = cut(case.labels, start, [at + 8 for at in start], 0)
        assert patch.any()
        rare += bool((patch == 2).any())
    assert 150 < rare < 250


@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_windows_stay_inside_scans_that_are_large_enough(
    shape: tuple[int, int, int], window: tuple[int, int, int], seed: int, share: float
) -> None:
    labels = np.zeros(shape, np.uint8)
    labels[-1, 0, -1] = 1
    case = CachedCase(Path("unused"), (1.0, 1.0, 1.0), "mm")
    case.__dict__.update(labels=labels, places=labelled_places(labels))
    start = window_start(case, window, share, np.random.default_rng(seed))
    for at, size, length in zip(start, window, shape, strict=True):
        if length >= size:
            assert 0 <= at <= length - size
        else:
            before, after = -at, at + size - length
            assert before in (after, after - 1)


@given(st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.integers(-8, 8)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_cut_is_indexing_where_there_are_voxels_and_padding_elsewhere(
    shape: tuple[int, int, int], low: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    array = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    patch = cut(array, low, [a + b for a, b in zip(low, size, strict=True)], 0)
    for index in np.ndindex(*size):
        at = tuple(a + b for a, b in zip(low, index, strict=True))
        inside = all(0 <= a < n for a, n in zip(at, shape, strict=True))
        assert patch[index] == (array[at] if inside else 0)


def test_places_are_ordered_and_few() -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[:15] = 1
    labels[20, 3, 4] = 3
    places = labelled_places(labels)
    assert len(places) == 4096 + 1
    assert places[-1].tolist() == [3, 20, 3, 4]
    assert (np.diff(places[:, 0]) >= 0).all()
    assert all(labels[tuple(place[1:])] == place[0] for place in places)
    assert labelled_places(np.zeros((2, 2, 2), np.uint8)).shape == (0, 4)


def test_image_and_labels_move_together() -> None:
    recipe = AugmentationRecipe.model_validate({"affine": ALL_3D.affine, "flips": ALL_3D.flips})
    window = (24, 24, 24)
    region = tuple(size + 2 * margin for size, margin in zip(window, margins(recipe, window), strict=True))
    labels = np.zeros(region, np.uint8)
    labels[12:24, 14:22, 10:20] = 1
    augmentation = Augmentation(recipe, window)
    for seed in range(5):
        image, moved = augmentation(labels[None].astype(np.float32), labels, seed)
        # A binary image resampled linearly and cut at one half is its nearest-neighbour resampling, up to the surface.
        assert (image[0] > 0.5).ne(moved[0] > 0).float().mean() < 0.02
        assert moved.any()


def test_an_untouched_patch_is_cut_out_exactly() -> None:
    recipe = AugmentationRecipe.model_validate({"affine": {"probability": 0}})
    image = np.random.default_rng(0).normal(size=(1, 12, 12, 12)).astype(np.float32)
    assert margins(recipe, (8, 8, 8)) == (2, 2, 2)
    patch, _ = Augmentation(recipe, (8, 8, 8))(image, np.zeros((12, 12, 12), np.uint8), 0)
    np.testing.assert_allclose(patch.numpy(), image[:, 2:10, 2:10, 2:10], atol=1e-5)
