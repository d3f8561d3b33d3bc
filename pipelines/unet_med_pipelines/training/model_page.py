"""The card for people: README.md and LICENSE.txt of a model folder, written from what is on the card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unet_med.card import ModelCard, Scores
from unet_med_pipelines.training.recipe import Recipe


def model_page(card: ModelCard) -> str:
    """README.md in Markdown."""
    return "\n".join(_lines(card)) + "\n"


def licence_text(recipe: Recipe) -> str:
    """LICENSE.txt: the weights keep the licence of their data."""
    data = recipe.data
    return (
        f"The weights of {recipe.card.name} are licensed under {recipe.card.licence}.\n\n"
        f"They were trained on: {data.name}\n"
        f"Licence of these data: {data.licence}, {data.licence_url}\n\n"
        f"{data.attribution.strip()}\n\n"
        f"Please cite:\n{data.citation.strip()}\n"
    )


def _lines(card: ModelCard) -> Iterator[str]:
    yield f"# {card.name} {card.version}"
    yield ""
    yield card.summary.strip()
    yield ""
    yield f"    unet-med segment SCAN -m {card.name} -o OUT"
    if card.scores:
        yield from ("", "![Examples](examples.png)", "", "## How well it does", "")
        yield from _score_tables(card.scores)
        yield "White outlines in the picture were drawn by hand, coloured ones come from the model."
    yield from ("", "## What it is for", "", card.intended_use.strip(), "")
    yield from ("Research use only; not a medical device.", "", "## Limits", "")
    yield from (f"- {limit}" for limit in card.limits)
    yield from ("", "## What comes out", "", "| value | label | colour | code |", "| --- | --- | --- | --- |")
    for label in card.labels:
        code = label.anatomy
        written = f"{code.scheme} {code.value} ({code.meaning})" if code else ""
        yield f"| {label.value} | {label.name} | {label.colour} | {written} |"
    yield from ("", "## What goes in", "")
    for channel in card.channels:
        yield f"- {channel.name}: {channel.modality or 'any modality'}, {channel.units or 'arbitrary units'}"
    yield f"- {_grid_words(card)}"
    if card.field_of_view:
        view = card.field_of_view
        sizes = (" x ".join(f"{value:g}" for value in edge) for edge in (view.smallest, view.largest))
        yield f"- trained on fields of view from {' to '.join(sizes)} {view.unit}; a scan far outside is refused"
    if card.training:
        record = card.training
        counts = ", ".join(f"{len(patients)} {part}" for part, patients in record.split.items())
        yield from ("", "## How it was made", "")
        yield f"Trained on {record.data}: {record.cases} cases of {record.patients} patients (patients: {counts})."
        yield f"Weights of step {record.steps}; the run took {record.seconds / 60:.0f} minutes on {record.hardware}."
        yield f"Recipe: {record.recipe} (SHA-256 {record.recipe_sha256}). card.yaml names every patient's part."
        yield from ("", "![Learning curves](learning_curves.png)", "", "## Licence", "")
        yield f"Weights: {card.licence}. Data: {record.data_licence}. See LICENSE.txt."
        yield from ("", "Please cite:", "", record.citation.strip())


def _score_tables(all_scores: Sequence[Scores]) -> Iterator[str]:
    """One table for each group of cases; a pair of columns for each way of computing."""
    for measured_on in dict.fromkeys(scores.measured_on for scores in all_scores):
        group = [scores for scores in all_scores if scores.measured_on == measured_on]
        metrics = list(next(iter(group[0].metrics.values())))
        yield f"Measured on {group[0].cases} cases of {group[0].patients} patients ({measured_on})."
        yield ""
        titles = [f"{metric.replace('_', ' ').capitalize()} ({n})" for n in _letters(group) for metric in metrics]
        yield f"| label | {' | '.join(titles)} |"
        yield f"| --- |{' --- |' * len(titles)}"
        for label in group[0].metrics:
            values = [scores.metrics[label][metric] for scores in group for metric in metrics]
            yield f"| {label} | {' | '.join(f'{value:.3f}' for value in values)} |"
        yield ""
        yield from (f"({n}) {scores.settings}.  " for n, scores in zip(_letters(group), group, strict=True))
        yield ""


def _letters(group: Sequence[Scores]) -> str:
    return "abcdefgh"[: len(group)]


def _grid_words(card: ModelCard) -> str:
    grid = card.grid
    kind = "volumes" if grid.dimensions == 3 else "planes, slice by slice"
    spacing = " x ".join(f"{step:g}" for step in grid.spacing) + " mm" if grid.spacing else "as acquired"
    window = " x ".join(str(size) for size in grid.window)
    return f"{kind}; voxel spacing {spacing}; windows of {window} voxels"
