"""How values are scaled for a network: measured on the scan as it is, applied after resampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.card import IntensityPolicy

SMALLEST_DEVIATION = 1e-8
"""Below it an image counts as constant, and is only centred."""


@dataclass(frozen=True)
class Scaling:
    """(clip(value, low, high) - shift) / divisor."""

    low: float
    high: float
    shift: float
    divisor: float

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """In place, where it can be."""
        values = np.clip(values, self.low, self.high, out=values)
        values -= np.float32(self.shift)
        values /= np.float32(self.divisor)
        return values


def measure(values: NDArray[Any], policy: IntensityPolicy) -> Scaling:
    """The scaling of one channel, from its finite voxels.

    Args:
        values: any shape, at least one finite.
        policy: the card's.
    """
    finite = np.asarray(values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1))
    low, high = -np.inf, np.inf
    if policy.clip_percentiles:
        low, high = (float(limit) for limit in np.percentile(finite, policy.clip_percentiles))
    if policy.clip_values:
        low, high = max(low, policy.clip_values[0]), min(high, policy.clip_values[1])
        high = max(low, high)  # a scan that lies wholly beyond the values of the card
    clipped = np.clip(finite.astype(np.float64), low, high)
    if policy.scale == "zscore":
        shift, divisor = float(clipped.mean()), float(clipped.std())
    elif policy.scale == "unit":
        shift, divisor = float(clipped.min()), float(clipped.max() - clipped.min())
    elif policy.scale == "fixed":
        assert policy.mean is not None
        assert policy.deviation is not None
        shift, divisor = policy.mean, policy.deviation
    else:
        shift, divisor = 0.0, 1.0
    return Scaling(low, high, shift, divisor if divisor > SMALLEST_DEVIATION else 1.0)


def fill_non_finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """NaN and -Inf become the smallest finite value, +Inf the largest, in place: resampling would spread them."""
    bad = ~np.isfinite(values)
    if bad.any():
        finite = values[~bad]
        values[bad & ~(values == np.inf)] = finite.min()
        values[values == np.inf] = finite.max()
    return values
