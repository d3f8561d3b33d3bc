"""What the card asks for on the whole mask: largest pieces, holes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_med.card import ModelCard


def postprocess(labels: NDArray[Any], card: ModelCard) -> NDArray[Any]:
    """Applies the card's `postprocess`, in the order of its fields there.

    A piece is what hangs together through the faces of voxels. Volumes are taken whole; what a model of planes has made
    is taken slice by slice, as the model saw it.

    Args:
        labels: (X, Y, Z), with planes along Z where the model is one of planes. Changed in place.

    Returns:
        The same array.
    """
    wanted = card.postprocess
    value_of = {label.name: label.value for label in card.labels}
    pieces = [labels] if card.grid.dimensions == 3 else [labels[..., z] for z in range(labels.shape[2])]
    for piece in pieces:
        if wanted.joint_largest_component:
            piece[_small(piece > 0)] = 0
        for name in wanted.largest_component:
            piece[_small(piece == value_of[name])] = 0
        for name in wanted.fill_holes:
            holes = ndimage.binary_fill_holes(piece == value_of[name]) & (piece == 0)
            piece[holes] = value_of[name]
    return labels


def _small(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All voxels of a mask that are not in its largest piece; of equally large ones the first in memory order stays."""
    found, count = ndimage.label(mask)
    if count < 2:
        return np.zeros_like(mask)
    sizes = np.bincount(found.ravel())
    largest = 1 + int(sizes[1:].argmax())
    return np.asarray(mask & (found != largest))
