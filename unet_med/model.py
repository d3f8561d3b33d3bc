"""A model: a card, and the networks that it describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_med.card import ModelCard

Network = Callable[[Any], Any]
"""(B, C, *window) -> scores (B, S, *window): raw, before softmax or sigmoid. In practice a torch module."""


@dataclass(frozen=True, eq=False)
class Model:
    """A card and its networks, one a fold; their scores are averaged.

    The trainer wraps the module that it is training in one, too, so that validation runs the same path as everybody.
    """

    card: ModelCard
    networks: tuple[Network, ...]
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError("a model needs at least one network")
