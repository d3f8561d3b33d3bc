"""Structures that may overlap, as the fewest label maps that first come, first served finds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.grid import Triple
from unet_med.segmentation import Label


@dataclass(frozen=True, eq=False)
class Part:
    """Voxels of one structure, or of several that are known not to overlap.

    Args:
        labels: the structures.
        where: flat C-order indices of voxels.
        values: the label value of each of these voxels, or one for all of them.
    """

    labels: tuple[Label, ...]
    where: NDArray[np.intp]
    values: Any


def label_maps(shape: Triple, parts: Iterable[Part]) -> list[tuple[NDArray[Any], tuple[Label, ...]]]:
    """Label maps (I, J, K), uint8 or uint16, each with its table; at least one. Each part is whole in one of them."""
    maps: list[tuple[NDArray[Any], list[Label]]] = [(np.zeros(shape, np.uint16), [])]
    for part in parts:
        roomy = next((each for each in maps if not each[0].reshape(-1)[part.where].any()), None)
        if roomy is None:
            roomy = (np.zeros(shape, np.uint16), [])
            maps.append(roomy)
        labels, table = roomy
        labels.reshape(-1)[part.where] = part.values
        table += part.labels
    return [
        (labels if max((label.value for label in table), default=0) > 255 else labels.astype(np.uint8), tuple(table))
        for labels, table in maps
    ]


def plain_names(names: Iterable[str]) -> list[str]:
    """Names as tables of labels have them: snake_case and unique. What has no Latin letter or digit is numbered."""
    plain: list[str] = []
    for number, name in enumerate(names, start=1):
        words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if not words or not words[0].isalpha():
            words = f"label_{words or number}"
        plain.append(words if words not in plain else f"{words}_{number}")
    return plain
