"""Whole-volume scores of a model on labelled cases, through the same `segment` as everybody."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_med.formats.atomic import replacing
from unet_med.inference import Options, segment
from unet_med.model import Model
from unet_med_pipelines.evaluation.metrics import Overlap
from unet_med_pipelines.training.case_list import TrainingCase
from unet_med_pipelines.training.reading import read_case
from unet_med_pipelines.training.recipe import Recipe

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CaseScore:
    """How well one label of one case was found."""

    case: str
    patient: str
    label: str
    overlap: Overlap


def score_cases(
    model: Model, cases: Sequence[TrainingCase], recipe: Recipe, options: Options, progress: Progress
) -> list[CaseScore]:
    """One score a case and label, in the order of the cases. `progress(done, total)` counts cases; it may raise
    to stop.
    """
    scores: list[CaseScore] = []
    for number, case in enumerate(cases):
        progress(number, len(cases))
        scan, reference = read_case(case, recipe)
        found = segment(scan, model, options).segmentations[0]
        scores += [
            CaseScore(
                case.name,
                case.patient,
                label.name,
                Overlap.of(found.labels == label.value, reference.labels == label.value),
            )
            for label in recipe.card.table
        ]
    progress(len(cases), len(cases))
    return scores


def mean_dice(scores: Iterable[CaseScore]) -> dict[str, float]:
    """Label -> mean of the Dice of its cases, undefined ones left out; "mean" -> the mean over labels."""
    return _with_mean(_by_label(scores, lambda own: [score.overlap.dice for score in own]))


def pooled_dice(scores: Iterable[CaseScore]) -> dict[str, float]:
    """The same with one Dice a patient, from the voxels of all the patient's cases together: as if they were
    one scan.
    """

    def per_patient(own: list[CaseScore]) -> list[float]:
        pooled: dict[str, Overlap] = {}
        for score in own:
            pooled[score.patient] = pooled.get(score.patient, Overlap(0, 0, 0)) + score.overlap
        return [overlap.dice for overlap in pooled.values()]

    return _with_mean(_by_label(scores, per_patient))


def write_scores(path: Path, columns: Mapping[str, Sequence[CaseScore]]) -> None:
    """A table with a row a case and label; each named series of scores gets a column of Dice and one of voxels."""
    first = next(iter(columns.values()))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [name for series in columns for name in (f"dice_{series}", f"voxels_{series}")]
        writer.writerow(["case", "patient", "label", "voxels_reference", *names])
        for number, score in enumerate(first):
            row = [series[number].overlap for series in columns.values()]
            values = [value for overlap in row for value in (f"{overlap.dice:.4f}", overlap.prediction)]
            writer.writerow([score.case, score.patient, score.label, score.overlap.reference, *values])


def _by_label(scores: Iterable[CaseScore], values: Callable[[list[CaseScore]], list[float]]) -> dict[str, float]:
    scores = list(scores)
    labels = dict.fromkeys(score.label for score in scores)
    return {label: _mean(values([score for score in scores if score.label == label])) for label in labels}


def _with_mean(by_label: dict[str, float]) -> dict[str, float]:
    return {**by_label, "mean": _mean(list(by_label.values()))}


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
