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
from unet_med_pipelines.training.case_list import TrainingCase
from unet_med_pipelines.training.reading import read_case
from unet_med_pipelines.training.recipe import Recipe

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CaseScore:
    """How well one label of one case was found, in voxels.

    Args:
        predicted, reference, common: voxels of the label in the prediction, in the reference, and in both.
    """

    case: str
    patient: str
    label: str
    predicted: int
    reference: int
    common: int

    @property
    def dice(self) -> float:
        """2 |A and B| / (|A| + |B|); not a number where both are empty (undefined, neither 0 nor 1)."""
        return _dice(self.common, self.predicted + self.reference)


def score_cases(
    model: Model, cases: Sequence[TrainingCase], recipe: Recipe, options: Options, progress: Progress
) -> list[CaseScore]:
    """One score a case and label, in the order of the cases. `progress(done, total)` counts cases; it may raise
    to stop.
    """
    scores = []
    for number, case in enumerate(cases):
        progress(number, len(cases))
        scan, reference = read_case(case, recipe)
        found = segment(scan, model, options).segmentations[0]
        for label in recipe.card.table:
            predicted, true = found.labels == label.value, reference.labels == label.value
            scores.append(
                CaseScore(
                    case.name,
                    case.patient,
                    label.name,
                    int(predicted.sum()),
                    int(true.sum()),
                    int((predicted & true).sum()),
                )
            )
    progress(len(cases), len(cases))
    return scores


def mean_dice(scores: Iterable[CaseScore]) -> dict[str, float]:
    """Label -> mean of the Dice of its cases, undefined ones left out; "mean" -> the mean over labels."""
    return _with_mean(_by_label(scores, lambda own: [score.dice for score in own]))


def pooled_dice(scores: Iterable[CaseScore]) -> dict[str, float]:
    """The same with one Dice a patient, from the voxels of all the patient's cases together: as if they were
    one scan.
    """

    def per_patient(own: list[CaseScore]) -> list[float]:
        patients = sorted({score.patient for score in own})
        of = {patient: [score for score in own if score.patient == patient] for patient in patients}
        return [
            _dice(sum(s.common for s in group), sum(s.predicted + s.reference for s in group)) for group in of.values()
        ]

    return _with_mean(_by_label(scores, per_patient))


def write_scores(path: Path, columns: Mapping[str, Sequence[CaseScore]]) -> None:
    """A table with a row a case and label; each named series of scores gets a column of Dice and one of voxels."""
    first = next(iter(columns.values()))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [name for series in columns for name in (f"dice_{series}", f"voxels_{series}")]
        writer.writerow(["case", "patient", "label", "voxels_reference", *names])
        for number, score in enumerate(first):
            row = [series[number] for series in columns.values()]
            values = [value for own in row for value in (f"{own.dice:.4f}", own.predicted)]
            writer.writerow([score.case, score.patient, score.label, score.reference, *values])


def _dice(common: int, total: int) -> float:
    return 2 * common / total if total else float("nan")


def _by_label(scores: Iterable[CaseScore], values: Callable[[list[CaseScore]], list[float]]) -> dict[str, float]:
    scores = list(scores)
    labels = dict.fromkeys(score.label for score in scores)
    return {label: _mean(values([score for score in scores if score.label == label])) for label in labels}


def _with_mean(by_label: dict[str, float]) -> dict[str, float]:
    return {**by_label, "mean": _mean(list(by_label.values()))}


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
