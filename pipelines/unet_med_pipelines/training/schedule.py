"""The learning rate, and the running average of the weights, as functions of the step."""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi

import torch
from torch import Tensor, nn

from unet_med_pipelines.training.recipe import ScheduleRecipe

POLY_POWER = 0.9
"""Exponent of the polynomial schedule, as in nnU-Net (Isensee et al., Nature Methods 18, 2021)."""


def learning_rate_factor(step: int, recipe: ScheduleRecipe) -> float:
    """What the learning rate of a step (counted from 0) is multiplied with.

    It rises in equal parts over the warm-up steps, is 1 right after them, and falls towards `final` at the last step.
    """
    if step < recipe.warm_up:
        return (step + 1) / (recipe.warm_up + 1)
    done = (step - recipe.warm_up) / (recipe.steps - recipe.warm_up)
    falling = (1 + cos(pi * done)) / 2 if recipe.shape == "cosine" else (1 - done) ** POLY_POWER
    return recipe.final + (1 - recipe.final) * falling


def weight_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameters for AdamW: decay shrinks kernels, but neither biases nor the scales of normalisation."""
    kernels = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Moves the averaged weights towards those of the network, in place.

    Early on the average follows faster, or it would still hold the random start: the decay of step t is at most
    (1 + t) / (10 + t).
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(_floats(average)), [tensor.detach() for tensor in _floats(network)], weight)
    for kept, now in zip(average.buffers(), network.buffers(), strict=True):
        if not kept.is_floating_point():
            kept.copy_(now)


def _floats(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from (buffer for buffer in module.buffers() if buffer.is_floating_point())
