"""`unet-med train`: a recipe and a data folder in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[
        Path, typer.Argument(help="The recipe, a YAML file (see configs/training/).", metavar="RECIPE.yaml")
    ],
    data: Annotated[Path, typer.Option("--data", help="Folder that the recipe's file patterns start from.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run; the model comes to lie in OUT/model.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    """Train a model; the same command goes on with a run that was stopped or killed."""
    from rich.console import Console

    from unet_med_pipelines.training.progress import shown
    from unet_med_pipelines.training.trainer import train

    console = Console(stderr=True)
    with shown(console) as report:
        folder = train(recipe, data, out, device=device, progress=report)
    typer.echo(folder)
