"""How well two masks of one structure agree, counted in voxels.

An agreement that nobody can state is not a number: where both masks are empty these functions give nan, which must
never be averaged as 0 or as 1. Distances between surfaces are in `unet_med_pipelines.evaluation.surfaces`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Voxels of one structure in the prediction, in the reference, and in both. Overlaps of several cases add up
    to the overlap of the cases taken as one (pooling).
    """

    prediction: int
    reference: int
    common: int

    @classmethod
    def of(cls, prediction: Mask, reference: Mask) -> Overlap:
        """Counts two masks of one shape; ValueError where shapes differ or an array is not boolean."""
        for mask in (prediction, reference):
            if mask.dtype != np.bool_:
                raise ValueError(f"masks are boolean arrays, not {mask.dtype}")
        if prediction.shape != reference.shape:
            raise ValueError(f"masks of one shape are compared, not {prediction.shape} with {reference.shape}")
        return cls(
            int(np.count_nonzero(prediction)),
            int(np.count_nonzero(reference)),
            int(np.count_nonzero(prediction & reference)),
        )

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(self.prediction + other.prediction, self.reference + other.reference, self.common + other.common)

    @property
    def dice(self) -> float:
        """2 |P and R| / (|P| + |R|) (Dice 1945); nan where both are empty."""
        total = self.prediction + self.reference
        return 2 * self.common / total if total else float("nan")

    @property
    def iou(self) -> float:
        """|P and R| / |P or R|, the Jaccard index; nan where both are empty."""
        union = self.prediction + self.reference - self.common
        return self.common / union if union else float("nan")


def dice(prediction: Mask, reference: Mask) -> float:
    """The Dice coefficient of two boolean arrays of one shape, any number of axes: 0 (apart) to 1 (equal); nan where
    both are empty. Raises ValueError where shapes differ or an array is not boolean.
    """
    return Overlap.of(prediction, reference).dice


def iou(prediction: Mask, reference: Mask) -> float:
    """Intersection over union; otherwise as `dice`."""
    return Overlap.of(prediction, reference).iou
