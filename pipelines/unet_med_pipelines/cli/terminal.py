"""How a command speaks to a person: paragraphs as wide as the terminal, colour only where it is seen."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TextIO

import typer


def say(
    text: str, heading: str = "", *, colour: str | None = None, indent: int = 0, stream: TextIO | None = None
) -> None:
    """One paragraph. Long paths stay whole, to be copied.

    Args:
        heading: what the paragraph begins with, in bold and in `colour`.
        indent: columns that all lines but the first are moved in.
        stream: where to; None is stderr.
    """
    stream = stream or sys.stderr
    text = textwrap.fill(
        heading + text,
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        text = typer.style(heading, fg=colour, bold=True) + text.removeprefix(heading)
    typer.echo(text, file=stream)
