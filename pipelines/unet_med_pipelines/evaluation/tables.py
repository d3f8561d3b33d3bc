"""Scores as tables: one row a case and label, what they come to per label, and pooled per patient.

An undefined number is an empty cell. It is left out of every mean and counted beside it, never taken as 0 or 1.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_med.formats.atomic import replacing
from unet_med_pipelines.evaluation.metrics import Overlap
from unet_med_pipelines.evaluation.scores import FAILED, MISSING, Evaluation, Score


@dataclass(frozen=True)
class Metric:
    """A column of numbers: `name` with its unit ("hd95_mm"), `field` of an Agreement, and the `unit` of the cases that
    it is for (None: all).
    """

    name: str
    field: str
    unit: str | None

    def of(self, score: Score) -> float | None:
        """The number of a row; None where it is undefined or the case failed."""
        found = score.agreement
        if found is None or (self.unit is not None and found.unit != self.unit):
            return None
        value: float | None = getattr(found, self.field)
        return value

    def concerns(self, score: Score) -> bool:
        """Whether the row could have this number at all: pictures in pixels have no HD95 in mm."""
        return score.agreement is None or self.unit in (None, score.agreement.unit)


@dataclass(frozen=True)
class Summary:
    """One metric of one label over all cases.

    Args:
        mean, median, sd: over the cases that have a number, missing predictions as the worst; None where none has, and
            the standard deviation (of a sample, n - 1) where just one has.
        n: numbers that went in. undefined: cases without a number. missing: those of the n that had no prediction.
        failed: cases that could not be compared, in none of the others.
    """

    label: str
    metric: str
    mean: float | None
    median: float | None
    sd: float | None
    n: int
    undefined: int
    missing: int
    failed: int


@dataclass(frozen=True)
class PatientScore:
    """One label of one patient, the voxels of all the patient's cases together, as if they were one scan.

    Args:
        cases: how many went in; a missing prediction counts as an empty one.
        failed: how many could not be compared and are left out.
        dice: None where neither side has the label.
    """

    patient: str
    label: str
    cases: int
    missing: int
    failed: int
    overlap: Overlap
    dice: float | None


def metrics(evaluation: Evaluation) -> tuple[Metric, ...]:
    """The columns of numbers: distances in every unit that occurs."""
    units = dict.fromkeys(score.agreement.unit for score in evaluation.scores if score.agreement)
    distances = [
        Metric(name, field, unit)
        for unit in units
        for name, field in (
            (f"hd95_{unit}", "hd95"),
            (f"assd_{unit}", "assd"),
            (f"nsd_{evaluation.tolerance:g}{unit}", "nsd"),
        )
    ]
    return (Metric("dice", "dice", None), Metric("iou", "iou", None), *distances)


def summarise(evaluation: Evaluation) -> list[Summary]:
    """Every metric of every label, labels in the order of the table."""
    labels = dict.fromkeys(score.label.name for score in evaluation.scores)
    columns = metrics(evaluation)
    return [
        _summary(label, metric, [score for score in evaluation.scores if score.label.name == label])
        for label in labels
        for metric in columns
    ]


def pool(evaluation: Evaluation) -> list[PatientScore]:
    """Per patient and label; nothing where patients are not known."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in evaluation.scores:
        if score.patient is not None:
            groups.setdefault((score.patient, score.label.name), []).append(score)
    return [_pooled(patient, label, group) for (patient, label), group in groups.items()]


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """One row a case and label; CSV in UTF-8, units in the names of the columns. Raises WriteFailed."""
    columns = metrics(evaluation)
    with_patients = any(score.patient is not None for score in evaluation.scores)
    header = [
        "case",
        *(["patient"] if with_patients else []),
        "label",
        "value",
        "status",
        *(metric.name for metric in columns),
        "voxels_prediction",
        "voxels_reference",
        "voxels_common",
        "reason",
    ]
    _write(path, header, (_row(score, columns, with_patients) for score in evaluation.scores))


def write_patients(path: Path, scores: Sequence[PatientScore]) -> None:
    """One row a patient and label. Raises WriteFailed."""
    header = ["patient", "label", "cases", "missing", "failed", "dice"]
    header += ["voxels_prediction", "voxels_reference", "voxels_common"]
    _write(
        path,
        header,
        ([s.patient, s.label, s.cases, s.missing, s.failed, _cell(s.dice), *_counts(s.overlap)] for s in scores),
    )


def _row(score: Score, columns: Sequence[Metric], with_patients: bool) -> list[object]:
    counts: list[object] = ["", "", ""]
    if score.agreement is not None:
        counts = _counts(score.agreement.overlap)
        if score.status == MISSING:
            counts[0] = counts[2] = ""
    return [
        score.case,
        *([score.patient] if with_patients else []),
        score.label.name,
        score.label.value,
        score.status,
        *(_cell(metric.of(score)) for metric in columns),
        *counts,
        score.reason,
    ]


def summarise_patients(scores: Sequence[PatientScore]) -> list[Summary]:
    """The pooled Dice of every label over patients. `n`, `undefined`, `missing` and `failed` count patients."""
    labels = dict.fromkeys(score.label for score in scores)
    return [_over_patients(label, [score for score in scores if score.label == label]) for label in labels]


def _summary(label: str, metric: Metric, scores: Sequence[Score]) -> Summary:
    compared = [score for score in scores if score.status not in FAILED and metric.concerns(score)]
    values = [value for score in compared if (value := metric.of(score)) is not None]
    missing = sum(score.status == MISSING for score in compared)
    failed = sum(score.status in FAILED for score in scores)
    return Summary(label, metric.name, *_middle(values), len(values), len(compared) - len(values), missing, failed)


def _over_patients(label: str, scores: Sequence[PatientScore]) -> Summary:
    values = [score.dice for score in scores if score.dice is not None]
    missing, failed = (sum(map(bool, counts)) for counts in ([s.missing for s in scores], [s.failed for s in scores]))
    return Summary(label, "dice_pooled", *_middle(values), len(values), len(scores) - len(values), missing, failed)


def _middle(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean, median, standard deviation."""
    if not values:
        return None, None, None
    return float(np.mean(values)), float(np.median(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _pooled(patient: str, label: str, scores: Sequence[Score]) -> PatientScore:
    compared = [score.agreement for score in scores if score.agreement is not None]
    overlap = sum((each.overlap for each in compared), Overlap(0, 0, 0))
    defined = overlap.prediction + overlap.reference > 0
    missing = sum(score.status == MISSING for score in scores)
    failed = len(scores) - len(compared)
    return PatientScore(patient, label, len(compared), missing, failed, overlap, overlap.dice if defined else None)


def _counts(overlap: Overlap) -> list[object]:
    return [overlap.prediction, overlap.reference, overlap.common]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
