"""Model cards for tests, and networks so simple that their masks can be worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unet_med.card import ModelCard
from unet_med.model import Model


def make_card(dimensions: int = 3, **changes: Any) -> ModelCard:
    """A card with the labels low (1) and high (2), 8-voxel windows, as acquired, values as they are."""
    fields: dict[str, Any] = {
        "name": "test_model",
        "version": "1.0.0",
        "summary": "For tests.",
        "intended_use": "Tests.",
        "limits": [],
        "licence": "CC0-1.0",
        "labels": [
            {"value": 1, "name": "low", "colour": "#0000ff"},
            {"value": 2, "name": "high", "colour": "#ff0000"},
        ],
        "channels": [{"name": "image"}],
        "grid": {"dimensions": dimensions, "spacing": None, "window": [8] * dimensions, "interpolation": "linear"},
        "intensity": {"scale": "none"},
        "network": {"encoder": "plain", "widths": [2, 4]},
    }
    return ModelCard.model_validate({**fields, **changes})


class Thresholds(torch.nn.Module):
    """Scores of a pixel from its own value: background below 1, low from 1 to 2, high above 2."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, *window) -> (B, 3, *window)."""
        value = image[:, :1]
        return torch.cat((1 - value, torch.where(value < 2, value - 1, 3 - value), 2 * value - 4 + (value > 2)), dim=1)


def thresholds(dimensions: int = 3, **changes: Any) -> Model:
    """The model of `Thresholds`."""
    return Model(make_card(dimensions, **changes), (Thresholds(),))
