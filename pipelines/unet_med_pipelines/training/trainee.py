"""The network in training, with all that changes at a step."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from unet_med.network import UNet
from unet_med_pipelines.training.checkpoints import State
from unet_med_pipelines.training.hardware import Hardware
from unet_med_pipelines.training.losses import make_loss
from unet_med_pipelines.training.recipe import Recipe
from unet_med_pipelines.training.schedule import learning_rate_factor, update_average, weight_groups


class Trainee:
    """Weights, their running average, and the optimiser.

    Args:
        recipe: of the run; its seed decides the first weights.
        hardware: where it runs.

    Attributes:
        network: the `UNet` as Fabric wraps it.
        average: a plain `UNet` in eval mode on the same device, holding the running average of the weights.
    """

    def __init__(self, recipe: Recipe, hardware: Hardware) -> None:
        self._recipe, self._hardware = recipe, hardware
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = UNet.from_card(recipe.card)
        # Channels beside each other in memory: a step of bf16 on a CPU takes half the time.
        layout = torch.channels_last_3d if network.dimensions == 3 else torch.channels_last
        network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs leave this form out
        optimiser = torch.optim.AdamW(
            weight_groups(network, recipe.optimiser.weight_decay), lr=recipe.optimiser.learning_rate
        )
        self.average: nn.Module = hardware.fabric.to_device(deepcopy(network).eval().requires_grad_(False))
        self.network, self._optimiser = hardware.fabric.setup(network, optimiser)
        self._loss = make_loss(recipe.loss)

    def step(self, number: int, batch: dict[str, Tensor]) -> float:
        """One step on one batch; step numbers count from 0. Returns the loss."""
        recipe, fabric = self._recipe, self._hardware.fabric
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(number)
        batch = fabric.to_device(batch)
        loss = self._loss(self.network(batch["image"]), batch["labels"].float())
        self._optimiser.zero_grad(set_to_none=True)
        fabric.backward(loss)
        # An overflow in fp16 is the scaler's business: it skips the step.
        fabric.clip_gradients(self.network, self._optimiser, max_norm=recipe.optimiser.clip, error_if_nonfinite=False)
        self._optimiser.step()
        update_average(self.average, self.network.module, number, recipe.ema)
        return float(loss.detach())

    def learning_rate(self, step: int) -> float:
        """Of a step, counted from 0."""
        return self._recipe.optimiser.learning_rate * learning_rate_factor(step, self._recipe.schedule)

    def save_into(self, state: State) -> None:
        """Puts weights and optimiser into a state, by reference."""
        state.network, state.average = self.network.module.state_dict(), self.average.state_dict()
        state.optimiser = self._optimiser.state_dict()
        state.scaler = self._hardware.scaler.state_dict() if self._hardware.scaler else {}

    def load_from(self, state: State) -> None:
        """Takes weights and optimiser from a state."""
        self.network.module.load_state_dict(state.network)
        self.average.load_state_dict(state.average)
        self._optimiser.load_state_dict(state.optimiser)
        if self._hardware.scaler and state.scaler:
            self._hardware.scaler.load_state_dict(state.scaler)
