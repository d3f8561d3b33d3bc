"""`unet-med`: one module a command.

The modules of the commands import nothing but typer until they run, so that `unet-med --help` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from unet_med_pipelines.cli import evaluate, inspect, models, segment, train
from unet_med_pipelines.cli.terminal import say

app = typer.Typer(
    name="unet-med",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment", short_help="Segment scans: a mask on the grid of each.")(segment.command)
app.command("inspect", short_help="Tell what is wrong with scans before segmenting them.")(inspect.command)
app.add_typer(models.app, name="models")
app.command("train", short_help="Train a model on labelled scans.")(train.command)
app.command("evaluate", short_help="Score masks against references.")(evaluate.command)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"unet-med {version('unet-med')}")
        raise typer.Exit


@app.callback()
def command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Segment medical scans with U-Nets, and train the U-Nets that do it.

    For research only: unet-med is not a medical device and must not be used
    for diagnosis or treatment.
    """


def main() -> None:
    """The program: runs a command, and says in one paragraph what went wrong.

    Exit code: 0 done; 1 something failed; 2 the command makes no sense; 130 stopped (Ctrl-C).
    """
    from unet_med.errors import Cancelled, ModelRefused, UnetMedError, WrongUse

    debug = "--debug" in sys.argv
    if not debug:
        # What a library warns of is for its programmers; what a user should know comes as a finding or an error.
        warnings.simplefilter("ignore")
    try:
        app()
    except Cancelled as stopped:
        say(str(stopped))
        sys.exit(130)
    except UnetMedError as error:
        if debug:
            raise
        say(str(error), "Error: ", colour="red")
        sys.exit(2 if isinstance(error, WrongUse | ModelRefused) else 1)
    except MemoryError:
        if debug:
            raise
        say("The memory of this machine is not enough for that.", "Error: ", colour="red")
        sys.exit(1)
    except Exception as bug:
        if debug:
            raise
        say(
            f"This is a mistake in unet-med itself ({type(bug).__name__}). Please report it; --debug shows where.",
            "Error: ",
            colour="red",
        )
        sys.exit(1)
