"""From scores to labels, and how certain that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.card import ModelCard


def decide(scores: NDArray[np.float32], card: ModelCard) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Labels and certainty of each voxel.

    softmax: the highest score wins; the first map is background. sigmoid: each label is there where its score is above
    0 (a probability above one half); of several the last on the card wins, so nested regions stand from the outside in.

    Args:
        scores: (S, ...), raw, averaged over windows, flips and folds.
        card: labels and activation.

    Returns:
        labels (...), uint8 or uint16 as the card's values need; certainty (...), uint8: the probability of what was
        decided, 255 for 1. Under sigmoid the least certain of the labels counts.
    """
    values = np.array([0, *(label.value for label in card.labels)], dtype=label_type(card))
    if card.inference.activation == "softmax":
        labels = values[scores.argmax(axis=0)]
        sure = 1 / np.exp(scores - scores.max(axis=0)).sum(axis=0)
    else:
        labels = np.zeros(scores.shape[1:], values.dtype)
        for value, score in zip(values[1:], scores, strict=True):
            labels[score > 0] = value
        sure = 1 / (1 + np.exp(-np.abs(scores).min(axis=0)))
    return labels, np.rint(sure * 255).astype(np.uint8)


def label_type(card: ModelCard) -> type[np.uint8] | type[np.uint16]:
    """The smallest type that holds the card's values."""
    return np.uint8 if max(label.value for label in card.labels) < 256 else np.uint16
