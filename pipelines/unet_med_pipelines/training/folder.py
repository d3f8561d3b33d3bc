"""The end of a run: scores on patients that nothing has seen, and the model folder that is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from unet_med.card import FieldOfView, ModelCard, Scores, TrainingRecord
from unet_med.formats.atomic import replacing
from unet_med.inference import Options, segment
from unet_med.model import Model
from unet_med.models import load_model, save_model
from unet_med_pipelines.training.cache import CachedCase
from unet_med_pipelines.training.case_list import Split, TrainingCase
from unet_med_pipelines.training.figures import Example, draw_examples, draw_learning_curves
from unet_med_pipelines.training.log import read_log
from unet_med_pipelines.training.model_page import licence_text, model_page
from unet_med_pipelines.training.progress import Report
from unet_med_pipelines.training.reading import read_case
from unet_med_pipelines.training.recipe import Recipe
from unet_med_pipelines.training.scores import CaseScore, mean_dice, pooled_dice, score_cases, write_scores


def write_model_folder(
    run: Path,
    recipe: Recipe,
    record: TrainingRecord,
    weights: Mapping[str, Tensor],
    training: Sequence[CachedCase],
    parts: Split,
    device: str,
    report: Report,
) -> Path:
    """Writes RUN/model and RUN/validation.csv.

    The weights are written first, rounded to fp16, and read back as any user would; what is scored is what is shipped.

    Args:
        run: the run's folder.
        recipe: of the run.
        record: for the card.
        weights: averaged weights, fp32.
        training: prepared training cases, for the field of view.
        parts: the split; its validation cases are read here for the first time since they were checked.
        device: where to compute.
        report: told "Validating" after every case.

    Returns:
        The model folder.
    """
    folder = run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    card = recipe.card.with_(field_of_view=field_of_view(training).model_dump(), training=record.model_dump())
    card = save_model(folder, card, [weights])
    if parts.validation:
        model = load_model(folder)
        scores, series = _validate(model, recipe, parts.validation, device, report)
        card = save_model(folder, card.with_(scores=[entry.model_dump() for entry in scores]), [weights])
        write_scores(run / "validation.csv", series)
        examples = _examples(model, recipe, parts.validation, next(iter(series.values())), device)
        if examples:
            draw_examples(examples, folder / "examples.png")
    draw_learning_curves(read_log(run / "log.csv"), card.table, folder / "learning_curves.png")
    for name, text in (("README.md", model_page(card)), ("LICENSE.txt", licence_text(recipe))):
        with replacing(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    return folder


def field_of_view(training: Sequence[CachedCase]) -> FieldOfView:
    """The extents of the training scans along the window's axes."""
    extents = np.array([case.extent for case in training])
    unit = "pixel" if any(case.unit == "pixel" for case in training) else "mm"
    smallest, largest = (tuple(edge.round(1).tolist()) for edge in (extents.min(axis=0), extents.max(axis=0)))
    return FieldOfView(unit=unit, smallest=smallest, largest=largest)  # type: ignore[arg-type]


def _validate(
    model: Model, recipe: Recipe, cases: Sequence[TrainingCase], device: str, report: Report
) -> tuple[list[Scores], dict[str, list[CaseScore]]]:
    """Scores for the card, without and with mirroring (where the card names axes for it), and those of each case."""
    entries: list[Scores] = []
    series: dict[str, list[CaseScore]] = {}
    plain = _options(device)
    ways = {"plain": plain, "flips": replace(plain, flips=True)} if recipe.card.inference.flips else {"plain": plain}
    for name, options in ways.items():
        note = "mirrored" if options.flips else "plain"

        def counted(done: int, total: int, note: str = note) -> None:
            report("Validating", done, total, note)

        scores = score_cases(model, cases, recipe, options, counted)
        by_case, by_patient = mean_dice(scores), pooled_dice(scores)
        series[name] = scores
        entries.append(
            Scores(
                measured_on=f"{recipe.data.name}: patients kept for validation, seen neither by training"
                " nor by the choice of a checkpoint",
                patients=len({case.patient for case in cases}),
                cases=len(cases),
                settings=_settings(model.card, options),
                metrics={
                    label: {
                        "dice": round(by_case[label], 4),
                        "dice_pooled_per_patient": round(by_patient[label], 4),
                    }
                    for label in by_case
                },
            )
        )
    return entries, series


def _options(device: str) -> Options:
    # Forced: a validation scan outside the field of view of the training scans is a case all the same, and counts.
    return Options(device=device, force=True)


def _settings(card: ModelCard, options: Options) -> str:
    mirrored = "mirror averaging" if options.flips else "no mirror averaging"
    return f"sliding window, overlap {card.inference.overlap:g}, {mirrored}; weights rounded to fp16 as shipped"


def _examples(
    model: Model, recipe: Recipe, cases: Sequence[TrainingCase], scores: Sequence[CaseScore], device: str
) -> list[Example]:
    """The best, the middle and the worst case by mean Dice over labels; fewer where there are fewer cases."""
    by_case = {case.name: mean_dice(s for s in scores if s.case == case.name)["mean"] for case in cases}
    ranked = sorted((case for case in cases if not np.isnan(by_case[case.name])), key=lambda case: -by_case[case.name])
    if not ranked:
        return []
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    examples: list[tuple[TrainingCase, Example]] = []
    for word, case in chosen.items():
        if case in (example_case for example_case, _ in examples):
            continue
        scan, reference = read_case(case, recipe)
        prediction = segment(scan, model, _options(device)).segmentations[0]
        title = f"{word} of {len(ranked)}: Dice {by_case[case.name]:.3f}"
        examples.append((case, Example(title, scan, prediction, reference)))
    return [example for _, example in examples]
