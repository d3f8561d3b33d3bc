"""Batches of patches. What is in a batch depends on the seed and the number of its step, and on nothing else.

That is what lets a run that was killed go on as if it had not been: no generator has to be saved, batches may be made
by any number of processes, and a run may start at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unet_med.card import GridPolicy
from unet_med_pipelines.training.augment import Augmentation, margins
from unet_med_pipelines.training.cache import CachedCase
from unet_med_pipelines.training.recipe import AugmentationRecipe, SamplingRecipe

Index = tuple[int, int, int]

_EPOCH, _PATCH = 0, 1
"""Told apart in the seeds, so that the order of the cases and the choice of patches are drawn independently."""


class Batches(Dataset[dict[str, torch.Tensor]]):
    """`batches[step]` is the batch of that step: "image" (B, C, *window) float32, "labels" (B, 1, *window) uint8.

    Args:
        cases: prepared cases to train on.
        policy: the card's grid policy: window and padding. A window of a plane is cut from one slice.
        sampling: batch size and share of patches around labelled voxels.
        augmentation: what is done to patches.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        policy: GridPolicy,
        sampling: SamplingRecipe,
        augmentation: AugmentationRecipe,
        seed: int,
    ) -> None:
        self._cases = tuple(cases)
        self._policy = policy
        self._sampling = sampling
        self._seed = seed
        self._augmentation = Augmentation(augmentation, policy.window)
        self._window = _in_space(policy.window, 1)
        self._margin = _in_space(margins(augmentation, policy.window), 0)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        first = step * self._sampling.batch
        patches = [self._patch(step, number, first + number) for number in range(self._sampling.batch)]
        return {
            "image": torch.stack([image for image, _ in patches]),
            "labels": torch.stack([labels for _, labels in patches]),
        }

    def case_of(self, draw: int) -> int:
        """Which case the patch number `draw` of the whole run is cut from: each case once an epoch, in a new order."""
        epoch, position = divmod(draw, len(self._cases))
        return _order(self._seed, epoch, len(self._cases))[position]

    def _patch(self, step: int, number: int, draw: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = np.random.default_rng([self._seed, _PATCH, step, number])
        case = self._cases[self.case_of(draw)]
        start = window_start(case, self._window, self._sampling.foreground, random)
        low = tuple(at - margin for at, margin in zip(start, self._margin, strict=True))
        high = tuple(at + size + margin for at, size, margin in zip(start, self._window, self._margin, strict=True))
        image = cut(case.image, low, high, self._policy.padding)
        labels = cut(case.labels, low, high, 0)
        if self._policy.dimensions == 2:
            image, labels = image[..., 0], labels[..., 0]
        return self._augmentation(image, labels, int(random.integers(2**32)))


def window_start(case: CachedCase, window: Index, foreground: float, random: np.random.Generator) -> Index:
    """First voxel of a patch; negative along axes on which the case is smaller than the window.

    With the probability `foreground` the patch is centred on a voxel of a structure (each structure of the case is as
    likely as any other), as far as the edges of the scan allow; else it lies anywhere inside. Along an axis that is
    too short there is no choice: the scan lies in the middle of the padding, as at inference (see `unet_med.windows`).
    """
    shape = case.labels.shape
    around = len(case.places) > 0 and random.random() < foreground
    centre = _some_voxel(case.places, random) if around else None
    start = []
    for axis, (length, size) in enumerate(zip(shape, window, strict=True)):
        if length <= size:
            start.append(-((size - length) // 2))
        elif centre is not None:
            start.append(int(np.clip(centre[axis] - size // 2, 0, length - size)))
        else:
            start.append(int(random.integers(length - size + 1)))
    return (start[0], start[1], start[2])


def cut(array: NDArray[Any], low: Sequence[int], high: Sequence[int], padding: float) -> NDArray[Any]:
    """The box low <= index < high of the last three axes, which may reach outside: a copy, padded there."""
    shape = array.shape[-3:]
    inside: tuple[Any, ...] = (..., *(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, shape, strict=True)))
    before_after = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(low, high, shape, strict=True)]
    lead = array.ndim - 3
    widths = [(0, 0)] * lead + before_after
    return np.pad(array[inside], widths, constant_values=padding)


def _some_voxel(places: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
    """One of the places (N, 4) of labelled voxels: first a structure, then a voxel of it."""
    structures = np.unique(places[:, 0])
    structure = structures[random.integers(len(structures))]
    first, last = np.searchsorted(places[:, 0], (structure, structure + 1))
    return np.asarray(places[random.integers(first, last), 1:], dtype=np.int32)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, cases: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, _EPOCH, epoch]).permutation(cases).tolist())


def _in_space(values: Sequence[int], third: int) -> Index:
    """The sizes of a plane as those of a box one slice thick."""
    a, b, c = (*values, third)[:3]
    return (int(a), int(b), int(c))
