"""train(): from a recipe and a data folder to a model folder. The steps of a run, top to bottom."""

from __future__ import annotations

from pathlib import Path

from unet_med.card import TrainingRecord
from unet_med.errors import WriteFailed, WrongUse
from unet_med.formats.atomic import replacing
from unet_med.network import UNet
from unet_med.provenance import package_versions
from unet_med_pipelines.training.cache import Gathered, gather
from unet_med_pipelines.training.case_list import Split, find_training_cases, split
from unet_med_pipelines.training.checkpoints import Checkpoints, State, to_cpu
from unet_med_pipelines.training.fit import fit
from unet_med_pipelines.training.folder import write_model_folder
from unet_med_pipelines.training.hardware import Hardware, choose_hardware
from unet_med_pipelines.training.progress import Report, silent
from unet_med_pipelines.training.recipe import Recipe, sha256_of


def train(recipe: Path, data: Path, out: Path, *, device: str = "auto", progress: Report = silent) -> Path:
    """Trains a model, or goes on with a run that was stopped or killed.

    The same command with the same folder continues from its last checkpoint, to the same weights (on a CPU, to the
    bit) as a run that was never interrupted. Of a run that is finished only the model folder is made again.

    Args:
        recipe: YAML: see `unet_med_pipelines.training.recipe.Recipe`.
        data: the folder that the recipe's patterns start from. Only read.
        out: the run's folder: cache/, checkpoints/, log.csv, tensorboard/, validation.csv and model/ go there.
        device: "auto", "cpu", "cuda" or "mps".
        progress: called as (what, done, total, note); it may raise `unet_med.errors.Cancelled` to stop.

    Returns:
        The model folder, OUT/model.

    Raises:
        WrongUse: a recipe, data or a run folder that do not fit together, with everything that is wrong.
        FileUnreadable, WriteFailed: files.
        Cancelled: stopped on request; a checkpoint has been written.
    """
    plan = Recipe.read(recipe)
    check_network(plan, recipe)
    hardware = choose_hardware(device, plan.precision)
    parts = split(find_training_cases(plan.data, data), plan.split)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise WriteFailed(f"The folder cannot be made ({problem.strerror}).", where=out) from problem
    gathered = gather(parts, plan, data, out / "cache", lambda done, total: progress("Reading", done, total, ""))

    state = Checkpoints(out).load(sha256_of(recipe), gathered.sha256) or State(sha256_of(recipe), gathered.sha256)
    with replacing(out / "recipe.yaml") as path:
        path.write_bytes(recipe.read_bytes())
    if state.step < plan.schedule.steps:
        state = fit(plan, gathered, parts, out, state, hardware, progress)
    else:
        progress("Training", state.step, state.step, "finished before; only the model folder is made again")

    weights = Checkpoints(out).load_best() if plan.checkpoint.keep == "best" else to_cpu(state.average)
    record = training_record(recipe, plan, gathered, parts, state, hardware)
    return write_model_folder(out, plan, record, weights, gathered.training, parts, hardware.device, progress)


def check_network(plan: Recipe, where: Path) -> None:
    """Raises WrongUse where the card's network cannot be built, or does not fit the window."""
    try:
        divisor = UNet.from_card(plan.card).divisor
    except ValueError as problem:
        raise WrongUse(f"card.network: {problem}", where=where) from problem
    window = plan.card.grid.window
    if window == divisor or any(size % step for size, step in zip(window, divisor, strict=True)):
        raise WrongUse(
            f"card.grid.window {list(window)} does not fit the network: sizes must be multiples of {list(divisor)},"
            " and larger.",
            where=where,
        )


def training_record(
    recipe: Path, plan: Recipe, gathered: Gathered, parts: Split, state: State, hardware: Hardware
) -> TrainingRecord:
    """What the card says about how the weights were made."""
    return TrainingRecord(
        recipe=recipe.name,
        recipe_sha256=state.recipe_sha256,
        data=plan.data.name,
        data_licence=plan.data.licence,
        citation=plan.data.citation,
        patients=len(parts.patients["training"]),
        cases=len(parts.training),
        steps=state.step if plan.checkpoint.keep == "last" else state.best_step,
        seconds=round(state.seconds, 1),
        hardware=hardware.describe(),
        versions=package_versions(),
        split=parts.patients,
    )
