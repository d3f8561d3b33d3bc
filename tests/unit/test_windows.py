"""The sliding window, held against MONAI's, and against what a mean of windows must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from unet_med.card import GridPolicy
from unet_med.errors import Cancelled
from unet_med.windows import importance, predict, tiles


def policy(*window: int, padding: float = 0.0) -> GridPolicy:
    return GridPolicy(dimensions=len(window), spacing=None, window=window, padding=padding)


def network(windows: Tensor) -> Tensor:
    """Two scores that depend on the voxel, on its place in the window, and on the rest of the window."""
    place = torch.arange(windows[0, 0].numel()).reshape(windows.shape[2:]) / 100
    mean = windows.mean(dim=tuple(range(1, windows.ndim)), keepdim=True)
    return torch.cat((windows[:, :1] * 2 + place, mean - windows[:, :1] ** 2), dim=1)


sizes = st.tuples(*[st.integers(1, 14)] * 3)


@settings(deadline=None, max_examples=60)
@given(sizes, st.tuples(*[st.integers(2, 8)] * 3), st.sampled_from([0.0, 0.25, 0.5, 0.7]), st.sampled_from([0.0, -3.0]))
def test_volumes_are_monais(
    shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float, padding: float
) -> None:
    data = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    ours = predict(data, [network], policy(*window, padding=padding), overlap=overlap)
    theirs = sliding_window_inference(
        torch.from_numpy(data)[None], window, 3, network, overlap, mode="gaussian", cval=padding
    )
    np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(sizes, st.tuples(*[st.integers(2, 8)] * 2), st.sampled_from([0.0, 0.5]))
def test_planes_are_monais_one_by_one(shape: tuple[int, int, int], window: tuple[int, int], overlap: float) -> None:
    data = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    ours = predict(data, [network], policy(*window), overlap=overlap)
    for z in range(shape[2]):
        plane = torch.from_numpy(data[None, ..., z])
        theirs = sliding_window_inference(plane, window, 1, network, overlap, mode="gaussian")
        np.testing.assert_allclose(ours[..., z], theirs[0].numpy(), atol=1e-4)


def test_tiles_by_hand() -> None:
    assert [start[0] for start in tiles((10, 1, 1), (4, 1, 1), 0.5)] == [0, 2, 4, 6]
    assert [start[0] for start in tiles((9, 1, 1), (4, 1, 1), 0.0)] == [0, 4, 5]
    assert [start[0] for start in tiles((4, 1, 1), (4, 1, 1), 0.9)] == [0]


def test_weights_fall_towards_the_edges_and_stay_above_nothing() -> None:
    weight = importance((9, 9, 9))
    assert float(weight[4, 4, 4]) == 1
    assert float(weight[0, 0, 0]) == pytest.approx(1e-3)
    assert torch.equal(weight, weight.flip((0, 1, 2)))


def test_mirroring_averages_over_all_combinations() -> None:
    """A network that gives each voxel its index along the first axis: mirrored too, all voxels get the mean index."""

    def index(windows: Tensor) -> Tensor:
        place = torch.arange(windows.shape[2], dtype=torch.float32).reshape(1, 1, -1, 1, 1)
        return place.expand(windows.shape).clone()

    data = np.zeros((1, 4, 4, 4), np.float32)
    plain = predict(data, [index], policy(4, 4, 4), overlap=0)
    assert plain[0, :, 0, 0].tolist() == [0, 1, 2, 3]
    assert np.unique(predict(data, [index], policy(4, 4, 4), overlap=0, flips=(0, 2))).tolist() == [1.5]


def test_folds_are_averaged() -> None:
    data = np.ones((1, 3, 3, 3), np.float32)
    one, three = (lambda windows: windows * 1, lambda windows: windows * 3)
    assert np.unique(predict(data, [one, three], policy(4, 4, 4), overlap=0.5)).tolist() == [2]


def test_progress_counts_windows_and_may_stop() -> None:
    data = np.zeros((1, 8, 8, 8), np.float32)
    told: list[tuple[int, int]] = []
    predict(data, [network], policy(4, 4, 4), overlap=0, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (8, 8)

    def stop(done: int, total: int) -> None:
        raise Cancelled()

    with pytest.raises(Cancelled):
        predict(data, [network], policy(4, 4, 4), overlap=0, progress=stop)
