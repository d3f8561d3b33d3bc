"""A folder of predictions against a folder of references: a score for every case and label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from unet_med.errors import ScanRefused, UnetMedError, WrongUse
from unet_med.formats import read_segmentation
from unet_med.segmentation import Label, Segmentation
from unet_med_pipelines.evaluation.agreement import BOTH_EMPTY, Agreement, agreement, diagonal, worst
from unet_med_pipelines.evaluation.metrics import Overlap
from unet_med_pipelines.evaluation.pairing import Pair, find_pairs

Progress = Callable[[int, int], None]

NO_PREDICTION = "no prediction"

SCORED, UNDEFINED, MISSING, REFUSED, UNREADABLE = "scored", "undefined", "missing", "refused", "unreadable"
"""scored: measured. undefined: the label is in neither mask. missing: no prediction, counted as the worst. refused: the
grids differ. unreadable: a file could not be read. The last two have no numbers."""

FAILED = (REFUSED, UNREADABLE)


@dataclass(frozen=True)
class Score:
    """One label of one case: a row of the table. `agreement` is None where the case could not be compared."""

    case: str
    patient: str | None
    label: Label
    status: str
    agreement: Agreement | None
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """All scores, by case and then label.

    Args:
        tolerance: of the normalised surface Dice, in mm (or pixels).
        extra: predictions that have no reference; not counted.
        failures: case -> why it could not be compared.
        unlisted: values that occur in masks but in no label of the table; not scored.
    """

    scores: tuple[Score, ...]
    tolerance: float
    extra: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    unlisted: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Case:
    """What is known of a case before all labels are known: `found` by label value, `table` the labels of its files,
    `far` and `unit` the worst distance.
    """

    name: str
    status: str
    reason: str = ""
    found: Mapping[int, Agreement] = field(default_factory=dict)
    table: tuple[Label, ...] = ()
    far: float = float("nan")
    unit: str = ""


def evaluate(
    predictions: Path,
    references: Path,
    *,
    table: Sequence[Label] | None = None,
    label_map: Mapping[int, int] | None = None,
    tolerance: float = 1.0,
    case_key: str | None = None,
    patient_of: Callable[[str], str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores every reference; a case that fails does not stop the others.

    Args:
        predictions, references: folders (or two files); see `pairing.find_pairs` for how names are matched.
        table: the labels to score; None: every value that occurs anywhere.
        label_map: value in the reference files -> label value, e.g. {255: 1}.
        tolerance: of the normalised surface Dice, in mm, or in pixels for pictures without a pixel size.
        case_key: see `pairing.find_pairs`.
        patient_of: case name -> patient, where scores are to be pooled.
        progress: called with (done, total) cases.

    Raises:
        WrongUse, FileUnreadable: see `pairing.find_pairs`; also a tolerance that is negative.
    """
    if not tolerance >= 0:
        raise WrongUse(f"a tolerance is 0 or more, not {tolerance}.")
    pairs = find_pairs(predictions, references, case_key)
    patients = {pair.name: patient_of(pair.name) for pair in pairs.cases} if patient_of else {}
    cases = []
    for number, pair in enumerate(pairs.cases):
        if progress:
            progress(number, len(pairs.cases))
        cases.append(_compare(pair, table, label_map or {}, tolerance))
    if progress:
        progress(len(pairs.cases), len(pairs.cases))
    # References come first in each table: where files name their labels, theirs are the names.
    seen: dict[int, Label] = {}
    for label in (label for case in cases for label in case.table):
        seen.setdefault(label.value, label)
    labels = table if table is not None else [seen[value] for value in sorted(seen)]
    listed = {part for label in labels for part in label.region or (label.value,)}
    return Evaluation(
        tuple(_score(case, label, patients.get(case.name)) for case in cases for label in labels),
        tolerance,
        pairs.extra,
        {case.name: case.reason for case in cases if case.status in FAILED}
        | {Path(problem.where or "a file").name: problem.what for problem in pairs.problems},
        tuple(sorted(seen.keys() - listed)),
    )


def _compare(pair: Pair, table: Sequence[Label] | None, label_map: Mapping[int, int], tolerance: float) -> _Case:
    try:
        reference = _mapped(read_segmentation(pair.reference.paths[0]), label_map)
    except UnetMedError as problem:
        return _Case(pair.name, UNREADABLE, f"reference: {problem.what}")
    far, unit = diagonal(reference.grid), reference.space_units
    labels = table or reference.table
    if pair.prediction is None:
        counts = {label: Overlap(0, reference.voxels(label), 0) for label in labels}
        found = {label.value: worst(label, counts[label], far, unit, NO_PREDICTION) for label in labels}
        return _Case(pair.name, MISSING, NO_PREDICTION, found, reference.table, far, unit)
    try:
        prediction = read_segmentation(pair.prediction.paths[0])
    except UnetMedError as problem:
        return _Case(pair.name, UNREADABLE, f"prediction: {problem.what}", table=reference.table)
    known = {label.value for label in reference.table}
    both = (*reference.table, *(label for label in prediction.table if label.value not in known))
    try:
        measured = agreement(prediction, reference, table or both, tolerance)
    except ScanRefused as problem:
        return _Case(pair.name, REFUSED, problem.what, table=both)
    return _Case(pair.name, SCORED, "", {each.label.value: each for each in measured}, both, far, unit)


def _score(case: _Case, label: Label, patient: str | None) -> Score:
    if case.status in FAILED:
        return Score(case.name, patient, label, case.status, None, case.reason)
    found = case.found.get(label.value)
    if found is None and case.status == MISSING:
        found = worst(label, Overlap(0, 0, 0), case.far, case.unit, NO_PREDICTION)
    elif found is None:
        found = Agreement(label, Overlap(0, 0, 0), case.unit, reason=BOTH_EMPTY)
    status = UNDEFINED if found.dice is None else case.status
    return Score(case.name, patient, label, status, found, found.reason)


def _mapped(segmentation: Segmentation, label_map: Mapping[int, int]) -> Segmentation:
    """Values replaced as the map says; other values stay."""
    if not label_map:
        return segmentation
    lookup = np.arange(65536, dtype=np.uint16)
    for old, new in label_map.items():
        lookup[old] = new
    values = sorted({int(lookup[label.value]) for label in segmentation.table} - {0})
    return replace(
        segmentation,
        labels=lookup[segmentation.labels],
        table=tuple(Label(value, f"label_{value}") for value in values),
    )
