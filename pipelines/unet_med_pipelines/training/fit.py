"""The training loop: batches in, averaged weights out; may be stopped or killed anywhere and goes on where it was."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from unet_med.errors import Cancelled, UnetMedError
from unet_med.inference import Options
from unet_med.model import Model
from unet_med_pipelines.training.cache import Gathered
from unet_med_pipelines.training.case_list import Split
from unet_med_pipelines.training.checkpoints import Checkpoints, State, to_cpu
from unet_med_pipelines.training.hardware import Hardware
from unet_med_pipelines.training.log import TrainingLog
from unet_med_pipelines.training.progress import Report
from unet_med_pipelines.training.recipe import Recipe
from unet_med_pipelines.training.sampling import Batches
from unet_med_pipelines.training.scores import mean_dice, score_cases
from unet_med_pipelines.training.trainee import Trainee

LOG_EVERY = 10
"""Steps between rows of the log; a row holds the mean loss since the one before."""


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
    labels = tuple(label.name for label in recipe.card.labels)
    batches = Batches(gathered.training, recipe.card.grid, recipe.sampling, recipe.augmentation, recipe.seed)
    with _stop_signals() as stopped, TrainingLog(run, labels, state.step) as log:

        def report_or_stop(stage: str, done: int, total: int, note: str) -> None:
            report(stage, done, total, note)
            if stopped():
                raise Cancelled()

        sitting = _Sitting(recipe, parts, run, state, hardware, log, report_or_stop)
        try:
            sitting.tune_if_due()
            for batch in _loader(batches, state.step, recipe, hardware):
                sitting.step(batch)
        except Cancelled as stop:
            sitting.save()
            raise Cancelled(
                f"Stopped after step {state.step} of {recipe.schedule.steps}; the same command goes on from there.",
                where=str(run),
            ) from stop
    return state


class _Sitting:
    """One stretch of a run, from its start or a checkpoint to its end or a stop: what follows upon each step."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Split,
        run: Path,
        state: State,
        hardware: Hardware,
        log: TrainingLog,
        report: Report,
    ) -> None:
        self._recipe, self._parts, self._run, self._state = recipe, parts, run, state
        self._hardware, self._log, self._report = hardware, log, report
        self._checkpoints = Checkpoints(run)
        self._trainee = Trainee(recipe, hardware)
        if state.step:
            self._trainee.load_from(state)
        self._began = time.monotonic() - state.seconds

    def step(self, batch: dict[str, Any]) -> None:
        """Learns from one batch, then logs, tunes and saves where it is time for that."""
        state, steps = self._state, self._recipe.schedule.steps
        state.loss_sum += self._trainee.step(state.step, batch)
        state.loss_count += 1
        state.step += 1
        loss = state.loss_sum / state.loss_count
        if not math.isfinite(loss):
            raise UnetMedError(
                f"The loss was not a finite number at step {state.step}.",
                where=self._run,
                advice="Lower the learning rate, or set the precision to fp32.",
            )
        self._report("Training", state.step, steps, f"loss {loss:.4f}")
        if state.step % LOG_EVERY == 0 or state.step == steps:
            rate = self._trainee.learning_rate(state.step - 1)
            self._log.write(state.step, {"seconds": self._seconds(), "loss": loss, "learning_rate": rate})
            state.loss_sum, state.loss_count = 0.0, 0
        self.tune_if_due()
        if state.step % self._recipe.checkpoint.every == 0 or state.step == steps:
            self.save()

    def tune_if_due(self) -> None:
        """Looks at the tuning cases where it is time for that and this step's look has not been taken yet."""
        state, every = self._state, self._recipe.tune_every
        if not every or not state.step or state.step % every or state.tuned == state.step:
            return
        model = Model(self._recipe.card, (self._trainee.average,))
        options = Options(device=self._hardware.device)
        scores = score_cases(
            model,
            self._parts.tuning,
            self._recipe,
            options,
            lambda done, total: self._report("Tuning", done, total, f"step {state.step}"),
        )
        dice = mean_dice(scores)
        self._log.write(state.step, {f"dice_{name}": value for name, value in dice.items()})
        state.tuned = state.step
        mean = 0.0 if math.isnan(dice["mean"]) else dice["mean"]
        if mean > state.best_dice:
            state.best_dice, state.best_step = mean, state.step
            self._checkpoints.save_best(to_cpu(self._trainee.average.state_dict()))
        self.save()

    def save(self) -> None:
        """Replaces the last checkpoint."""
        self._state.seconds = self._seconds()
        self._trainee.save_into(self._state)
        self._checkpoints.save(self._state)

    def _seconds(self) -> float:
        return time.monotonic() - self._began


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
