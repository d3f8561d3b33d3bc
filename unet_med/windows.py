"""The sliding window: a network that sees little at once, walked over a scan.

Every voxel gets the mean of the scores of all windows that hold it, weighted by a Gaussian around the middle of each
window: near its edges a network sees too little. Tiles, padding and weights are those of MONAI's
`sliding_window_inference` (mode "gaussian", constant padding), which a test holds this module against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, product
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unet_med.backends import Backend
from unet_med.card import GridPolicy
from unet_med.grid import Triple

SIGMA = 0.125
"""Of the Gaussian weight, as a share of the window; nnU-Net's and MONAI's value."""
SMALLEST_WEIGHT = 1e-3
BATCH_VOXELS = 2**18
"""Windows are given to the network several at once, up to this many voxels together; fewer, larger ones alone."""

Progress = Callable[[int, int], None]
"""(windows done, windows in all). May raise `unet_med.errors.Cancelled`."""


def predict(
    data: NDArray[np.float32],
    backends: Sequence[Backend],
    policy: GridPolicy,
    *,
    overlap: float,
    flips: Sequence[int] = (),
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Scores of a whole prepared scan.

    Args:
        data: (C, X, Y, Z). With a 2D policy every plane (X, Y) at each Z is a picture of its own.
        backends: one a fold; their scores are averaged.
        policy: window and padding.
        overlap: share of a window that the next one covers again, in [0, 1).
        flips: axes of the window; scores are averaged over all combinations of mirroring them.
        progress: told after every batch of windows.

    Returns:
        (S, X, Y, Z): raw scores, before softmax or sigmoid.
    """
    flat = policy.dimensions == 2
    window = _in_space(policy.window)
    shape = _triple(data.shape[1:])
    before = _triple((max(size - length, 0)) // 2 for size, length in zip(window, shape, strict=True))
    padded = torch.from_numpy(_pad(data, window, before, policy.padding))
    starts = list(tiles(_triple(padded.shape[1:]), window, overlap))
    weight = importance(window)
    mirrored = [axes for count in range(len(flips) + 1) for axes in combinations(flips, count)]

    total = torch.zeros(0)
    weights = torch.zeros(padded.shape[1:] if not flat else (*padded.shape[1:3], 1))
    batch_size = max(1, BATCH_VOXELS // prod(window))
    for first in range(0, len(starts), batch_size):
        places = [_place(start, window) for start in starts[first : first + batch_size]]
        batch = torch.stack([padded[(slice(None), *place)] for place in places])
        scores = _mean_scores(batch[..., 0] if flat else batch, backends, mirrored)
        if not len(total):
            total = torch.zeros(scores.shape[1], *padded.shape[1:])
        for place, own in zip(places, scores[..., None] if flat else scores, strict=True):
            total[(slice(None), *place)] += own * weight
            if not flat or place[2].start == 0:  # planes have the same windows in each slice
                weights[place] += weight
        if progress:
            progress(min(first + batch_size, len(starts)), len(starts))
    total /= weights
    inside = tuple(slice(low, low + length) for low, length in zip(before, shape, strict=True))
    return total[(slice(None), *inside)].numpy()


def tiles(shape: Triple, window: Triple, overlap: float) -> Iterator[Triple]:
    """First voxels of the windows, in order: evenly stepped along each axis, the last one moved back to fit in."""
    yield from (
        _triple(start) for start in product(*(_starts(n, size, overlap) for n, size in zip(shape, window, strict=True)))
    )


def _starts(length: int, size: int, overlap: float) -> list[int]:
    # Truncation meets products such as 10 * (1 - 0.9) = 0.99...98; MONAI's steps are these, and so are ours.
    step = size if size >= length else max(1, int(size * (1 - overlap)))
    return [min(start, length - size) for start in range(0, max(length - size, 0) + step, step)]


def importance(window: Triple) -> Tensor:
    """The weight of each voxel of a window: 1 in the middle, falling to the edges, never below `SMALLEST_WEIGHT`."""
    weight = torch.ones(())
    for size in window:
        at = torch.arange(size) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(-(at**2) / (2 * (SIGMA * size) ** 2))
    return weight.clamp(min=max(float(weight.min()), SMALLEST_WEIGHT))


def _mean_scores(batch: Tensor, backends: Sequence[Backend], mirrored: Sequence[tuple[int, ...]]) -> Tensor:
    total: Tensor | float = 0.0
    for backend in backends:
        for axes in mirrored:
            turned = [axis + 2 for axis in axes]
            total = total + (backend(batch.flip(turned)).flip(turned) if turned else backend(batch))
    assert isinstance(total, Tensor)
    return total / (len(backends) * len(mirrored))


def _pad(data: NDArray[np.float32], window: Triple, before: Triple, value: float) -> NDArray[np.float32]:
    """Grown to the window where it is smaller, evenly on both sides (one more behind where that is odd)."""
    widths = [(0, 0)]
    for low, size, length in zip(before, window, data.shape[1:], strict=True):
        widths.append((low, max(size - length, 0) - low))
    if not any(map(any, widths)):
        return np.ascontiguousarray(data)
    return np.pad(data, widths, constant_values=np.float32(value))


def _place(start: Triple, window: Triple) -> tuple[slice, slice, slice]:
    x, y, z = (slice(low, low + size) for low, size in zip(start, window, strict=True))
    return (x, y, z)


def _in_space(window: Sequence[int]) -> Triple:
    """The window of a plane is one slice thick."""
    return _triple((*window, 1)[:3])


def _triple(values: Iterable[int]) -> Triple:
    a, b, c = values
    return (int(a), int(b), int(c))
