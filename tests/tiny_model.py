"""Models that load in milliseconds: U-Nets of two stages with random weights, for tests of what surrounds a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from unet_med.card import ModelCard
from unet_med.models import save_model
from unet_med.network import UNet


def tiny_card(dimensions: int = 3, channels: Sequence[str] = ("image",), **changes: Any) -> ModelCard:
    """Two labels, MR, 1 mm voxels (planes: as acquired); `changes` replace top-level keys of the card."""
    card = {
        "name": "tiny",
        "version": "1.0.0",
        "summary": "Random weights.",
        "intended_use": "Tests.",
        "limits": ["Finds nothing."],
        "licence": "CC0-1.0",
        "labels": [
            {"value": 1, "name": "one", "colour": "#e6550d"},
            {"value": 2, "name": "two", "colour": "#3182bd"},
        ],
        "channels": [{"name": name, "modality": "MR"} for name in channels],
        "grid": {
            "dimensions": dimensions,
            "spacing": [1, 1, 1] if dimensions == 3 else None,
            "window": [16] * dimensions,
        },
        "intensity": {"scale": "zscore"},
        "network": {"encoder": "plain", "widths": [4, 8]},
        "inference": {"flips": [0]},
    }
    return ModelCard.model_validate({**card, **changes})


def save_tiny(folder: Path, card: ModelCard) -> Path:
    """The folder, as a model with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_model(folder, card, [UNet.from_card(card).state_dict()])
    return folder
