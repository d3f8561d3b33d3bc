"""`unet-med evaluate`: predicted masks and reference masks in, a table of scores out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from unet_med.segmentation import Label
    from unet_med_pipelines.evaluation.patients import PatientOf
    from unet_med_pipelines.evaluation.scores import Evaluation
    from unet_med_pipelines.evaluation.tables import Summary

NAMED = 10
"""Names that are listed before "and 12 more"."""


def command(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Folder of predicted masks (or of a finished batch), or one mask.",
            show_default=False,
        ),
    ],
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="Folder of reference masks, or one mask.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="CSV", help="The table to write, a row for every case and label.")
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="Labels to score. Else every value found.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Score the labels of this model's card instead.")
    ] = None,
    label_map: Annotated[
        str | None, typer.Option(metavar="FROM=TO,...", help="Values of the reference files to replace: 255=1.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Of the surface Dice, in mm; in pixels for pictures without a pixel size.")
    ] = 1.0,
    case_key: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="What names the case in a file's path, if not all of it."),
    ] = None,
    patient_key: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="What names the patient in a case's name: pools scores."),
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(metavar="CSV", help="The same from a table with the columns case and patient.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    """Score masks against references: Dice, HD95, surface distance, surface Dice.

    One row for every case and label. HD95 is the maximum of both directions.

    A missing prediction counts as the worst value. What is undefined (a label
    in neither mask) stays empty and out of the means.

    Masks on different grids are refused; the exit code is then 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from unet_med_pipelines.evaluation.scores import evaluate
    from unet_med_pipelines.evaluation.tables import pool, summarise, summarise_patients, write_patients, write_scores

    table, mapping = _table(labels, model), _label_map(label_map)
    patient_of = _patient_of(patient_key, patients)
    notes = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task("cases", total=None)
        scores = evaluate(
            predictions,
            references,
            table=table,
            label_map=mapping,
            tolerance=tolerance,
            case_key=case_key,
            patient_of=patient_of,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    write_scores(out, scores)
    summaries, pooled = summarise(scores), pool(scores)
    if pooled:
        write_patients(out.with_name(f"{out.stem}_patients.csv"), pooled)
    _print_summary(Console(highlight=False), [*summaries, *summarise_patients(pooled)])
    _say(notes, scores)
    if scores.failures:
        raise typer.Exit(1)


def _table(labels: str | None, model: str | None) -> Sequence[Label] | None:
    from unet_med.errors import WrongUse

    if labels and model:
        raise WrongUse("--labels and --model both name the labels.", advice="Give one of them.")
    if model:
        from unet_med.card import ModelCard
        from unet_med.models import CARD, find_model

        return ModelCard.read(find_model(model) / CARD).table
    return _labels(labels) if labels else None


def _labels(text: str) -> list[Label]:
    from unet_med.errors import WrongUse
    from unet_med.segmentation import Label

    table = []
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not name or not value.isdecimal() or not 1 <= int(value) <= 65535:
            raise WrongUse(f'"{part}" in --labels is not NAME=VALUE with a value from 1 to 65535.')
        table.append(Label(int(value), name))
    if len({label.value for label in table}) < len(table) or len({label.name for label in table}) < len(table):
        raise WrongUse(f'--labels "{text}" has a name or a value twice.')
    return table


def _label_map(text: str | None) -> dict[int, int]:
    from unet_med.errors import WrongUse

    mapping = {}
    for part in text.split(",") if text else ():
        old, _, new = (piece.strip() for piece in part.partition("="))
        if not (old.isdecimal() and new.isdecimal() and max(int(old), int(new)) <= 65535):
            raise WrongUse(f'"{part}" in --label-map is not FROM=TO, two values from 0 to 65535.')
        mapping[int(old)] = int(new)
    return mapping


def _patient_of(pattern: str | None, table: Path | None) -> PatientOf | None:
    from unet_med.errors import WrongUse
    from unet_med_pipelines.evaluation.patients import by_pattern, by_table

    if pattern and table:
        raise WrongUse("--patient-key and --patients both name the patients.", advice="Give one of them.")
    if pattern:
        return by_pattern(pattern)
    return by_table(table) if table else None


def _print_summary(console: Console, summaries: Iterable[Summary]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("label", overflow="fold", style="bold")
    table.add_column("metric", overflow="fold")
    for heading in ("mean", "median", "sd", "n", "undefined", "missing"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [row for row in summaries if row.metric != "iou"]  # Dice tells the same; the file has both
    order = list(dict.fromkeys(row.label for row in rows))
    label = None
    for row in sorted(rows, key=lambda row: order.index(row.label)):
        numbers = ("" if value is None else f"{value:.3f}" for value in (row.mean, row.median, row.sd))
        counts = (str(count) for count in (row.n, row.undefined, row.missing))
        table.add_row(row.label if row.label != label else "", row.metric, *numbers, *counts)
        label = row.label
    console.print(table)


def _say(console: Console, scores: Evaluation) -> None:
    """What a reader of the table should know, each in a line."""
    from unet_med_pipelines.evaluation.scores import MISSING

    missing = list(dict.fromkeys(score.case for score in scores.scores if score.status == MISSING))
    if missing:
        console.print(f"Cases without a prediction, counted as the worst: {_some(missing)}", soft_wrap=True)
    if scores.extra:
        console.print(f"Predictions without a reference, not counted: {_some(scores.extra)}", soft_wrap=True)
    if scores.unlisted:
        values = _some([str(value) for value in scores.unlisted])
        console.print(f"Values in the masks that are no label of the table, not scored: {values}", soft_wrap=True)
    for case, reason in scores.failures.items():
        console.print(f"Not scored: {case}: {reason}", soft_wrap=True, style="red")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
