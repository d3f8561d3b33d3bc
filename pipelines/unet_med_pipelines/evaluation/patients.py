"""Which patient a case is of: from its name, or from a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

from unet_med.errors import FileUnreadable, WrongUse

PatientOf = Callable[[str], str]


def by_pattern(pattern: str) -> PatientOf:
    """The first group of a regular expression (else the whole match) in the case's name is the patient.

    Raises:
        WrongUse: not a regular expression; and from the function returned, where a case does not match.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as problem:
        raise WrongUse(f'the patient key "{pattern}" is not a regular expression: {problem}.') from problem

    def patient_of(case: str) -> str:
        match = compiled.search(case)
        if match is None:
            raise WrongUse(f'the patient key "{pattern}" does not match the case "{case}".')
        return next((group for group in match.groups() if group), match.group())

    return patient_of


def by_table(path: Path) -> PatientOf:
    """A CSV file with the columns case and patient; folders in a case's name may be written a/b or a__b.

    Raises:
        FileUnreadable: no such file, or not text.
        WrongUse: a column is missing, or a case has no patient or two; and from the function returned, where a case is
            not in the table.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise FileUnreadable(f"The table cannot be read ({problem.__class__.__name__}).", where=path) from problem
    if absent := {"case", "patient"} - set(columns):
        raise WrongUse(
            f"the table has no column {' and no column '.join(sorted(absent))}; its columns are {', '.join(columns)}.",
            where=path,
        )
    patients: dict[str, str] = {}
    for row in rows:
        case, patient = _name(row["case"] or ""), row["patient"] or ""
        if not patient or patients.setdefault(case, patient) != patient:
            raise WrongUse(f'the case "{case}" has no patient, or two.', where=path)

    def patient_of(case: str) -> str:
        if case not in patients:
            raise WrongUse(f'the case "{case}" is not in the table.', where=path, advice="Add a row for it.")
        return patients[case]

    return patient_of


def _name(case: str) -> str:
    return case.strip().replace("\\", "/").replace("/", "__")
