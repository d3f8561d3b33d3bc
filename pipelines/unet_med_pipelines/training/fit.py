"""The training loop: batches in, averaged weights out; may be stopped or killed anywhere and goes on where it was."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from unet_med.errors import Cancelled, UnetMedError
from unet_med.inference import Options
from unet_med.model import Model
from unet_med.network import UNet
from unet_med_pipelines.training.cache import Gathered
from unet_med_pipelines.training.case_list import Split
from unet_med_pipelines.training.checkpoints import Checkpoints, State, to_cpu
from unet_med_pipelines.training.hardware import Hardware
from unet_med_pipelines.training.log import TrainingLog
from unet_med_pipelines.training.losses import make_loss
from unet_med_pipelines.training.progress import Report
from unet_med_pipelines.training.recipe import Recipe
from unet_med_pipelines.training.sampling import Batches
from unet_med_pipelines.training.schedule import learning_rate_factor, update_average, weight_groups
from unet_med_pipelines.training.scores import mean_dice, score_cases

LOG_EVERY = 10
"""Steps between rows of the log; a row holds the mean loss since the one before."""


class Trainee:
    """The network in training with all that changes at a step: weights, their average, and the optimiser.

    Args:
        recipe: of the run.
        hardware: where it runs.

    Attributes:
        network: as Fabric wraps it.
        average: a plain `UNet` in eval mode on the same device, holding the running average of the weights.
    """

    def __init__(self, recipe: Recipe, hardware: Hardware) -> None:
        self._recipe, self._hardware = recipe, hardware
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = UNet.from_card(recipe.card)
        optimiser = torch.optim.AdamW(
            weight_groups(network, recipe.optimiser.weight_decay), lr=recipe.optimiser.learning_rate
        )
        self.average: nn.Module = hardware.fabric.to_device(deepcopy(network).eval().requires_grad_(False))
        self.network, self._optimiser = hardware.fabric.setup(network, optimiser)
        self._loss = make_loss(recipe.loss)

    def step(self, number: int, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One step on one batch; step numbers count from 0. Returns the loss, still on the device."""
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
        return loss.detach()

    def learning_rate(self, step: int) -> float:
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


def fit(
    recipe: Recipe,
    gathered: Gathered,
    parts: Split,
    run: Path,
    state: State,
    hardware: Hardware,
    report: Report,
) -> State:
    """Trains from `state` to the last step of the recipe.

    Args:
        recipe: of the run.
        gathered: prepared training cases.
        parts: the split; only its tuning cases are read here.
        run: the run's folder: checkpoints, log.csv and tensorboard go there.
        state: a fresh one, or a checkpoint.
        hardware: where it runs.
        report: told "Training" after every step and "Tuning" after every tuning case.

    Returns:
        The state after the last step.

    Raises:
        Cancelled: stopped by SIGINT or SIGTERM, or by `report`; a checkpoint of the last whole step has been written.
        UnetMedError: the loss is no longer a number.
    """
    trainee = Trainee(recipe, hardware)
    if state.step:
        trainee.load_from(state)
    checkpoints = Checkpoints(run)
    began = time.monotonic() - state.seconds
    steps = recipe.schedule.steps

    def save() -> None:
        state.seconds = time.monotonic() - began
        trainee.save_into(state)
        checkpoints.save(state)

    labels = tuple(label.name for label in recipe.card.labels)
    with _stop_signals() as stopped, TrainingLog(run, labels, state.step) as log:

        def tune() -> None:
            """Looks at the tuning cases if it is time, and the state does not hold this look yet."""
            due = recipe.tune_every and state.step and state.step % recipe.tune_every == 0
            if not due or state.tuned == state.step:
                return
            dice = _tuning_dice(recipe, trainee, parts, hardware, partial(_unless, stopped, report, "Tuning"))
            log.write(state.step, {f"dice_{name}": value for name, value in dice.items()})
            state.tuned = state.step
            mean = 0.0 if math.isnan(dice["mean"]) else dice["mean"]
            if mean > state.best_dice:
                state.best_dice, state.best_step = mean, state.step
                checkpoints.save_best(to_cpu(trainee.average.state_dict()))
            save()

        try:
            tune()
            batches = Batches(gathered.training, recipe.card.grid, recipe.sampling, recipe.augmentation, recipe.seed)
            for number, batch in zip(
                range(state.step, steps), _loader(batches, state.step, recipe, hardware), strict=True
            ):
                loss = trainee.step(number, batch)
                state.step = number + 1
                # .item() waits for the device; on a CPU there is nothing to wait for.
                state.loss_sum += loss.item()
                state.loss_count += 1
                mean = state.loss_sum / state.loss_count
                if not math.isfinite(mean):
                    raise UnetMedError(
                        f"The loss was not a finite number at step {state.step}.",
                        where=run,
                        advice="Lower the learning rate, or set the precision to fp32.",
                    )
                _unless(stopped, report, "Training", state.step, steps, f"loss {mean:.4f}")
                if state.step % LOG_EVERY == 0 or state.step == steps:
                    seconds = time.monotonic() - began
                    rate = trainee.learning_rate(number)
                    log.write(state.step, {"seconds": seconds, "loss": mean, "learning_rate": rate})
                    state.loss_sum, state.loss_count = 0.0, 0
                tune()
                if state.step % recipe.checkpoint.every == 0 or state.step == steps:
                    save()
        except Cancelled as stop:
            save()
            raise Cancelled(
                f"Stopped after step {state.step} of {steps}; the same command goes on from there.", where=str(run)
            ) from stop
    return state


def _tuning_dice(
    recipe: Recipe, trainee: Trainee, parts: Split, hardware: Hardware, progress: Callable[..., None]
) -> dict[str, float]:
    """Mean Dice a label of the averaged weights on the tuning cases."""
    model = Model(recipe.card, (trainee.average,))
    options = Options(device=hardware.device)
    return mean_dice(score_cases(model, parts.tuning, recipe, options, lambda done, total: progress(done, total, "")))


def _loader(batches: Batches, start: int, recipe: Recipe, hardware: Hardware) -> DataLoader[dict[str, Any]]:
    """The batches of all steps from `start` on, in order, made ahead of time by the recipe's workers."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, recipe.schedule.steps),
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        pin_memory=hardware.device == "cuda",
        worker_init_fn=_leave_signals_to_parent if recipe.workers else None,
    )


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker goes when its parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unless(stopped: Callable[[], bool], report: Report, stage: str, done: int, total: int, note: str) -> None:
    report(stage, done, total, note)
    if stopped():
        raise Cancelled()


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a question that is asked between steps. A second signal acts as it always did."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
