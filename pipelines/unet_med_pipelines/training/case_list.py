"""Which files of a data folder make a case, whose patient it is, and which part of the split it falls into."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_med.errors import FileUnreadable, WrongUse
from unet_med_pipelines.training.recipe import CASE, DataRecipe, PatientTable, SplitRecipe


@dataclass(frozen=True)
class TrainingCase:
    """One labelled case.

    Args:
        name: what `{case}` stood for in its paths.
        patient: its patient key.
        images: one file (or DICOM folder) a channel, or one for all.
        label: the label file.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class Split:
    """The cases of each part. No patient is in two of them."""

    training: tuple[TrainingCase, ...]
    tuning: tuple[TrainingCase, ...]
    validation: tuple[TrainingCase, ...]

    @property
    def patients(self) -> dict[str, list[str]]:
        """Part -> patient keys, sorted."""
        parts = {"training": self.training, "tuning": self.tuning, "validation": self.validation}
        return {part: sorted({case.patient for case in cases}) for part, cases in parts.items()}


def find_training_cases(recipe: DataRecipe, folder: Path) -> tuple[TrainingCase, ...]:
    """The cases of a data folder, sorted by name.

    Raises:
        FileUnreadable: there is no such folder, or no such table in it.
        WrongUse: no case at all; else every image without a label, label without an image, ambiguous name and case
            without a patient, together in one message.
    """
    if not folder.is_dir():
        raise FileUnreadable("There is no such folder.", where=folder, advice="Name the data folder with --data.")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.name.startswith("."))
    problems: list[str] = []
    images = [_by_case(pattern, paths, problems) for pattern in recipe.images]
    labels = _by_case(recipe.labels, paths, problems)
    names = sorted({name for found in (*images, labels) for name in found})
    if not any(images):
        raise WrongUse(
            f"No file matches {' or '.join(repr(pattern) for pattern in recipe.images)}.",
            where=folder,
            advice="Check --data and the recipe's data.images.",
        )
    for name in names:
        missing = [pattern for pattern, found in zip(recipe.images, images, strict=True) if name not in found]
        problems += [f"{name}: no image {pattern.replace(CASE, name)}" for pattern in missing]
        if name not in labels:
            problems.append(f"{name}: no label {recipe.labels.replace(CASE, name)}")
    whole = [name for name in names if name in labels and all(name in found for found in images)]
    patients = _patients(recipe, folder, {name: images[0][name] for name in whole}, problems)
    if problems:
        raise data_problems(problems, folder)
    return tuple(
        TrainingCase(name, patients[name], tuple(folder / found[name] for found in images), folder / labels[name])
        for name in whole
    )


def split(cases: Sequence[TrainingCase], recipe: SplitRecipe) -> Split:
    """Shares out the PATIENTS.

    Patients are ordered by the SHA-256 of seed and key, so that the order is the same everywhere and for ever and does
    not depend on which other patients there are; the first of them are kept for validation, the next for tuning.

    Raises:
        WrongUse: a part that should have patients would have none.
    """
    patients = sorted({case.patient for case in cases}, key=lambda key: _rank(recipe.seed, key))
    counts = (round(recipe.validation * len(patients)), round(recipe.tuning * len(patients)))
    validation = set(patients[: counts[0]])
    tuning = set(patients[counts[0] : sum(counts)])
    if (recipe.validation and not validation) or (recipe.tuning and not tuning) or sum(counts) >= len(patients):
        raise WrongUse(
            f"{len(patients)} patients cannot be shared out as {recipe.validation:g} for validation and"
            f" {recipe.tuning:g} for tuning: a part would be empty.",
            advice="Change the recipe's split, or add patients.",
        )
    return Split(
        training=tuple(case for case in cases if case.patient not in validation | tuning),
        tuning=tuple(case for case in cases if case.patient in tuning),
        validation=tuple(case for case in cases if case.patient in validation),
    )


def data_problems(problems: Sequence[str], folder: Path) -> WrongUse:
    """One error for everything that is wrong with a data folder, a line each."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return WrongUse(f"The data have {count}, and nothing was trained:{lines}", where=folder)


def _by_case(pattern: str, paths: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Case name -> path, for the paths that a pattern matches."""
    pieces = [(r"(?P<case>.+)", CASE), (r"[^/]*", "*"), (r"[^/]", "?")]
    expression = re.escape(pattern)
    for regular, written in pieces:
        expression = expression.replace(re.escape(written), regular)
    found: dict[str, str] = {}
    for path in paths:
        match = re.fullmatch(expression, path)
        if match and match["case"] in found:
            problems.append(f"{match['case']}: two files match {pattern}: {found[match['case']]} and {path}")
        elif match:
            found[match["case"]] = path
    return found


def _patients(recipe: DataRecipe, folder: Path, images: dict[str, str], problems: list[str]) -> dict[str, str]:
    """Case name -> patient key; what cannot be told goes to `problems`."""
    if recipe.patient is None:
        return {name: name for name in images}
    if isinstance(recipe.patient, PatientTable):
        table = _read_table(recipe.patient, folder / recipe.patient.table)
        problems += [f"{name}: not in {recipe.patient.table}" for name in images if not table.get(name)]
        return {name: table[name] for name in images if table.get(name)}
    patients = {}
    for name, path in images.items():
        match = re.search(recipe.patient, path)
        key = match and (match[1] if match.re.groups else match[0])
        if key:
            patients[name] = key
        else:
            problems.append(f"{name}: the patient pattern {recipe.patient} is not found in {path}")
    return patients


def _read_table(columns: PatientTable, path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            known = reader.fieldnames or []
            for column in (columns.case, columns.patient):
                if column not in known:
                    raise WrongUse(f"There is no column {column!r}; columns are {', '.join(known)}.", where=path)
            return {row[columns.case]: row[columns.patient] for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise FileUnreadable(f"The table cannot be read ({type(problem).__name__}).", where=path) from problem


def _rank(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()
