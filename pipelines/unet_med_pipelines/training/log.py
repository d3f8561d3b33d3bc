"""The log of a run, twice: `log.csv` for people and figures, TensorBoard events for its viewer."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from unet_med.errors import WriteFailed
from unet_med.formats.atomic import replacing

COLUMNS = ("step", "seconds", "loss", "learning_rate")
"""Before one column of tuning Dice a label: "dice_<label>", and "dice_mean"."""


class TrainingLog:
    """Rows of numbers by step.

    Args:
        run: the run's folder.
        labels: names of the card's labels.
        step: where the run goes on; rows of later steps, from a sitting that was killed, are dropped.
    """

    def __init__(self, run: Path, labels: tuple[str, ...], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / "log.csv"
        self._columns = (*COLUMNS, *(f"dice_{label}" for label in labels), "dice_mean")
        kept = [row for row in read_log(self.path) if row["step"] <= step]
        with replacing(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows({**row, "step": int(row["step"])} for row in kept)
        self._file = self.path.open("a", newline="", encoding="utf-8", buffering=1)
        self._rows = csv.DictWriter(self._file, self._columns)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row; columns that are not in `values` stay empty."""
        try:
            self._rows.writerow({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        except OSError as problem:
            raise WriteFailed(f"The log cannot be written ({problem.strerror}).", where=self.path) from problem
        for name, value in values.items():
            if name != "seconds":
                # TensorBoard shows what has the same word before a slash in one group.
                self._board.add_scalar(name.replace("dice_", "tuning_dice/"), value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log, without their empty columns; none where there is no log yet. A row cut short by a kill
    is left out.
    """
    if not path.exists():
        return []
    rows: list[dict[str, float]] = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if None in row.values() or None in row:
                continue
            try:
                rows.append({name: float(value) for name, value in row.items() if value})
            except ValueError:
                continue
    return [row for row in rows if "step" in row]
