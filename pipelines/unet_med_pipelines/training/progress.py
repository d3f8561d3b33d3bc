"""What a run tells while it works, and two ways to show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report = Callable[[str, int, int, str], None]
"""(what is being done, done, total, a short note such as the loss). May raise `unet_med.errors.Cancelled`."""

PLAIN_INTERVAL = 15.0
"""Seconds between lines where the output is no terminal."""


def silent(stage: str, done: int, total: int, note: str) -> None:
    """Shows nothing."""


@contextmanager
def shown(console: Console) -> Iterator[Report]:
    """Bars with the time left on a terminal; elsewhere (a log file, a batch system) a plain line now and then."""
    if console.is_terminal:
        with _bars(console) as report:
            yield report
    else:
        yield _plain_lines(console)


@contextmanager
def _bars(console: Console) -> Iterator[Report]:
    columns = (
        TextColumn("[bold]{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[note]}"),
    )
    # Speed is estimated over the last minute, so that the time left does not jump with every validation.
    with Progress(*columns, console=console, speed_estimate_period=60) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, completed=done, note=note)
                return
            if done == 0:
                progress.reset(tasks[stage], total=total)
            progress.update(tasks[stage], completed=done, total=total, note=note)

        yield report


def _plain_lines(console: Console) -> Report:
    began: dict[str, tuple[float, int]] = {}
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if stage not in began or done == 0:
            began[stage] = (now, done)
        elif now - last[stage] < PLAIN_INTERVAL and done < total:
            return
        last[stage] = now
        start, first = began[stage]
        left = (now - start) / (done - first) * (total - done) if done > first else None
        rest = f", {_clock(left)} left" if left else ""
        console.print(f"{stage} {done}/{total}{rest}{f', {note}' if note else ''}", highlight=False, soft_wrap=True)

    return report


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
