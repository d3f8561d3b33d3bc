"""`unet-med models` and `unet-med models show NAME`: what there is, and what is in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from unet_med.card import ModelCard, Scores
    from unet_med.models import ListedModel

app = typer.Typer(help="List the models that segment, or look into one.", invoke_without_command=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback()
def command(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that this installation knows by name."""
    if context.invoked_subcommand is not None:
        return
    from unet_med.models import list_models

    listed = list_models()
    if as_json:
        _print_json([_summary(model) for model in listed])
    elif not listed:
        typer.echo("No models are installed. `unet-med train` makes one; `-m FOLDER` uses it.")
    else:
        _print(_list_table(listed))
        typer.echo("unet-med models show NAME tells all about one.")


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or a model folder.")],
    as_json: AsJson = False,
) -> None:
    """Print a model's card, and its network stage by stage."""
    from unet_med.architecture import describe
    from unet_med.card import ModelCard
    from unet_med.models import CARD, find_model
    from unet_med.models.folder import empty_network

    folder = find_model(model)
    card = ModelCard.read(folder / CARD)
    architecture = describe(empty_network(folder / CARD, card), card.grid.window)
    if as_json:
        _print_json({"folder": str(folder), "card": card.model_dump(mode="json"), "architecture": asdict(architecture)})
        return
    _print(*_card_page(card))
    typer.echo(f"\nThe network, {card.network.encoder} encoder, on one window (channels x sizes):\n")
    typer.echo(str(architecture))


def validation_dice(card: ModelCard) -> float | None:
    """The mean Dice of the first scores on the card that have one."""
    for scores in card.scores:
        dice = scores.metrics.get("mean", {}).get("dice")
        if dice is not None:
            return dice
    return None


def _summary(model: ListedModel) -> dict[str, Any]:
    card = model.card
    return {
        "name": model.name,
        "folder": str(model.folder),
        "dimensions": card.grid.dimensions,
        "modalities": sorted(card.modalities),
        "labels": [label.name for label in card.labels],
        "weight_bytes": model.weight_bytes,
        "licence": card.licence,
        "validation_dice": validation_dice(card),
    }


def _list_table(listed: list[ListedModel]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("model", no_wrap=True, style="bold")
    table.add_column("sees")
    table.add_column("labels", overflow="fold")
    table.add_column("MiB", justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("Dice", justify="right", no_wrap=True)
    for model in listed:
        dice = validation_dice(model.card)
        table.add_row(
            model.name,
            f"{model.card.grid.dimensions}D {'/'.join(sorted(model.card.modalities)) or 'any'}",
            _some([label.name for label in model.card.labels]),
            f"{model.weight_bytes / 2**20:.1f}",
            model.card.licence,
            "" if dice is None else f"{dice:.3f}",
        )
    table.caption = "Dice: mean over labels, on patients that training never saw"
    table.caption_justify = "left"
    return table


def _some(names: list[str], most: int = 6) -> str:
    """One a line; of many only the first, and how many more there are."""
    if len(names) <= most:
        return "\n".join(names)
    return "\n".join((*names[: most - 1], f"and {len(names) - most + 1} more"))


def _card_page(card: ModelCard) -> list[RenderableType]:
    """The card as a page: facts with their names at the left, then a table for each set of scores."""
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(ratio=1)
    for name, value in (
        ("for", card.intended_use),
        ("limits", "\n".join(f"- {limit}" for limit in card.limits)),
        ("labels", _labels(card)),
        ("channels", _channels(card)),
        ("grid", _grid(card)),
        ("intensities", _intensities(card)),
        ("field of view", _field_of_view(card)),
        ("inference", _inference(card)),
        ("afterwards", _postprocess(card)),
        ("trained on", _training(card)),
        ("licence", card.licence),
        ("weights", "\n".join(f"{weights.file}  sha256 {weights.sha256[:16]}..." for weights in card.weights)),
    ):
        if value:
            facts.add_row(name, value if isinstance(value, Text) else Text(value))
    title = Text.assemble((card.name, "bold"), f" {card.version}\n{card.summary}\n")
    page: list[RenderableType] = [title, facts]
    for scores in card.scores:
        cases = f"{scores.cases} cases of {scores.patients} patients"
        page += [Text.assemble(("\nscores", "bold"), f" on {scores.measured_on}: {cases}; {scores.settings}\n")]
        page += [_scores_table(scores)]
    return page


def _labels(card: ModelCard) -> Text:
    from rich.text import Text

    lines = []
    for label in card.labels:
        code = f" ({label.anatomy.meaning}, {label.anatomy.scheme} {label.anatomy.value})" if label.anatomy else ""
        lines.append(Text.assemble(f"{label.value} ", ("\N{BLACK SQUARE}", label.colour), f" {label.name}{code}"))
    return Text("\n").join(lines)


def _channels(card: ModelCard) -> str:
    return "\n".join(
        ", ".join(part for part in (channel.name, channel.modality, channel.units) if part) for channel in card.channels
    )


def _grid(card: ModelCard) -> str:
    grid = card.grid
    kind = "volumes, axes nearest to R, A, S" if grid.dimensions == 3 else "planes, slice by slice"
    spacing = "spacing as acquired" if grid.spacing is None else f"{_by(grid.spacing)} mm"
    return f"{kind}; {spacing}; window {_by(grid.window)} voxels"


def _intensities(card: ModelCard) -> str:
    policy = card.intensity
    parts = []
    if policy.clip_percentiles:
        parts.append("clipped to percentiles {:g} to {:g}".format(*policy.clip_percentiles))
    if policy.clip_values:
        parts.append("clipped to {:g} to {:g}".format(*policy.clip_values))
    parts.append(
        {
            "zscore": "scaled to mean 0 and deviation 1",
            "unit": "scaled to 0 to 1",
            "fixed": f"minus {policy.mean}, divided by {policy.deviation}",
            "none": "as they are",
        }[policy.scale]
    )
    return ", ".join(parts) + (", each slice by itself" if policy.scope == "slice" else "")


def _field_of_view(card: ModelCard) -> str:
    field = card.field_of_view
    return "" if field is None else f"{_by(field.smallest)} to {_by(field.largest)} {field.unit}"


def _inference(card: ModelCard) -> str:
    plan = card.inference
    axes = "none" if not plan.flips else ", ".join(str(axis) for axis in plan.flips)
    return f"windows overlap by {plan.overlap:.0%}; axes that --flips mirrors: {axes}"


def _postprocess(card: ModelCard) -> str:
    wanted = card.postprocess
    parts = []
    if wanted.joint_largest_component:
        parts.append("largest piece of all labels together")
    if wanted.largest_component:
        parts.append(f"largest piece of {', '.join(wanted.largest_component)}")
    if wanted.fill_holes:
        parts.append(f"holes filled in {', '.join(wanted.fill_holes)}")
    return "; ".join(parts)


def _training(card: ModelCard) -> str:
    record = card.training
    if record is None:
        return ""
    parts = ", ".join(f"{len(patients)} {part}" for part, patients in record.split.items())
    return (
        f"{record.data} ({record.data_licence}), {record.cases} cases of {record.patients} patients"
        f"{f' ({parts})' if parts else ''}; "
        f"{record.steps} steps in {record.seconds / 60:.0f} minutes on {record.hardware}\n{record.citation}"
    )


def _scores_table(scores: Scores) -> Table:
    from rich import box
    from rich.table import Table

    metrics = list(dict.fromkeys(metric for values in scores.metrics.values() for metric in values))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("label")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for label, values in scores.metrics.items():
        table.add_row(label, *(f"{values[metric]:.3f}" if metric in values else "" for metric in metrics))
    return table


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _print(*parts: RenderableType) -> None:
    from rich.console import Console

    Console(highlight=False).print(*parts, sep="\n")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
