"""How a batch shows its progress: two bars on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unet_med_pipelines import batch

PLAIN_INTERVAL = 15.0
"""Seconds between lines where the output is no terminal (a log file, a cluster)."""
NAME_WIDTH = 28
"""Columns of a case's name; with bar, count and time left a line fits into 80."""


@contextmanager
def shown(console: Console) -> Iterator[batch.Progress]:
    """Progress of a batch on a console; the bars are gone when it ends."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=60) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._cases = bars.add_task("[bold]" + "cases".ljust(NAME_WIDTH), total=None)
        self._windows = bars.add_task(" " * NAME_WIDTH, total=None, visible=False)

    def case(self, name: str, done: int, total: int) -> None:
        self._bars.update(self._cases, completed=done, total=total)
        self._bars.reset(self._windows, total=None, visible=bool(name), description=_fitted(name))

    def windows(self, done: int, total: int) -> None:
        self._bars.update(self._windows, completed=done, total=total)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()
        self._place = ""

    def case(self, name: str, done: int, total: int) -> None:
        self._place = f"case {done + 1}/{total} {name}"
        self._say(self._place if name else f"case {total}/{total} done")

    def windows(self, done: int, total: int) -> None:
        if done < total:
            self._say(f"{self._place}: window {done}/{total}")

    def _say(self, line: str) -> None:
        if time.monotonic() - self._last >= PLAIN_INTERVAL:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
            self._last = time.monotonic()


def _fitted(name: str) -> str:
    """The end of a long name tells more than its beginning: folders come first."""
    short = name if len(name) <= NAME_WIDTH else "..." + name[3 - NAME_WIDTH :]
    return escape(short.ljust(NAME_WIDTH))
