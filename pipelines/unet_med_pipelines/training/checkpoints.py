"""The state of a run on disk: the last one, from which the same command goes on exactly, and the best averaged
weights.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from unet_med.errors import FileUnreadable, WrongUse
from unet_med.formats.atomic import replacing

StateDict = dict[str, Any]


@dataclass
class State:
    """Everything that the next step depends on, and what a log would otherwise lose.

    Args:
        recipe_sha256, data_sha256: what the run belongs to.
        step: steps done.
        seconds: wall time of training so far, over all sittings.
        tuned: the step after which the tuning cases were looked at last.
        best_step, best_dice: the best of these looks.
        loss_sum, loss_count: losses since the last line of the log.
        network, average, optimiser, scaler: state dicts; filled when the state is saved.
    """

    recipe_sha256: str
    data_sha256: str
    step: int = 0
    seconds: float = 0.0
    tuned: int = 0
    best_step: int = 0
    best_dice: float = -1.0
    loss_sum: float = 0.0
    loss_count: int = 0
    network: StateDict = field(default_factory=dict, repr=False)
    average: StateDict = field(default_factory=dict, repr=False)
    optimiser: StateDict = field(default_factory=dict, repr=False)
    scaler: StateDict = field(default_factory=dict, repr=False)


class Checkpoints:
    """The folder `checkpoints` of a run."""

    def __init__(self, run: Path) -> None:
        self._folder = run / "checkpoints"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.last = self._folder / "last.pt"
        self.best = self._folder / "best.pt"

    def save(self, state: State) -> None:
        """Replaces the last checkpoint, in one move."""
        _save(_shallow(state), self.last)

    def save_best(self, average: StateDict) -> None:
        """Replaces the best averaged weights."""
        _save(average, self.best)

    def load(self, recipe_sha256: str, data_sha256: str) -> State | None:
        """The state to go on from; None where the run has not begun.

        Raises:
            WrongUse: the checkpoint was made with another recipe or other data.
            FileUnreadable: it is damaged.
        """
        if not self.last.exists():
            return None
        raw = _load(self.last)
        known = {item.name for item in fields(State)}
        if not isinstance(raw, dict) or set(raw) != known:
            raise FileUnreadable("This is not a checkpoint of a training run.", where=self.last, advice=_START_ANEW)
        state = State(**raw)
        for what, stored, now in (
            ("recipe", state.recipe_sha256, recipe_sha256),
            ("data", state.data_sha256, data_sha256),
        ):
            if stored != now:
                raise WrongUse(
                    f"This run was begun with another {what} (SHA-256 {stored[:12]}..., now {now[:12]}...),"
                    f" and has come to step {state.step}.",
                    where=self.last.parents[1],
                    advice=f"Put the {what} back to go on with it, or give a new folder with -o.",
                )
        return state

    def load_best(self) -> StateDict:
        """The best averaged weights."""
        weights: StateDict = _load(self.best)
        return weights


_START_ANEW = "Delete the run's folder to start anew."


def _save(content: Any, path: Path) -> None:
    # torch.save reports a full disk as a RuntimeError; written by ourselves it is an OSError that says so.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _load(path: Path) -> Any:
    try:
        # weights_only: a checkpoint holds tensors and numbers, and nothing in it is executed.
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as problem:
        raise FileUnreadable(
            f"The checkpoint cannot be read ({type(problem).__name__}).", where=path, advice=_START_ANEW
        ) from problem


def _shallow(state: State) -> dict[str, Any]:
    return {item.name: getattr(state, item.name) for item in fields(state)}


def to_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as plain tensors in memory order, wherever they were and however they lay."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
