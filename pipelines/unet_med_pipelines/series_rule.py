"""Which DICOM series of a study are meant: a rule such as `modality=MR,description=T1,slices>=20`.

A rule is a list of conditions, all of which hold for a series that is meant:

    modality=MR           the declared modality; also !=
    description=T1.*      somewhere in the series description, as a regular expression; also !=
    stack=echo            somewhere in the words that tell a stack from the others of its series; also !=
    slices>=20            how many slices; also <= and =
    number=3              the series number; also !=
    uid=1.2.840...        the SeriesInstanceUID; also !=

Upper and lower case are one. `modality=CT|MR` means one of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from unet_med.errors import WrongUse
from unet_med.formats import examine
from unet_med.scan import Source

GRAMMAR = (
    "A rule is a list of conditions, parted by commas: modality=MR, description=REGEX, stack=REGEX, number=3, "
    "uid=UID (each also with != instead of =), slices>=20, slices<=200, slices=20."
)

_TEXTS: dict[str, Callable[[Source], str]] = {
    "modality": lambda source: source.modality or "",
    "description": lambda source: source.description,
    "stack": lambda source: str(source.header.get("stack", "")),
    "number": lambda source: "" if source.series_number is None else str(source.series_number),
    "uid": lambda source: source.series_uid or "",
}
_SEARCHED = ("description", "stack")
_SLICES = "slices"
_PARTS = re.compile(r",(?=\s*(?:\w+\s*(?:!=|>=|<=|=)|$))")
"""Commas before a condition or the end: one in a regular expression, such as \\d{1,3}, parts nothing."""
_CONDITION = re.compile(r"\s*(?P<name>\w+)\s*(?P<sign>!=|>=|<=|=)\s*(?P<value>.+?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """One comparison. `name` is one of those above, `sign` is =, !=, >= or <=."""

    name: str
    sign: str
    value: str

    def fits(self, source: Source) -> bool:
        """Whether it holds for a series. Counting slices reads the headers of the series, the others read nothing."""
        if self.name == _SLICES:
            count, wanted = _slices(source), int(self.value)
            return {"=": count == wanted, ">=": count >= wanted, "<=": count <= wanted}[self.sign]
        text = _TEXTS[self.name](source)
        if self.name in _SEARCHED:
            same = re.search(self.value, text, re.IGNORECASE) is not None
        else:
            same = text.casefold() in [value.strip().casefold() for value in self.value.split("|")]
        return same == (self.sign == "=")


@dataclass(frozen=True)
class SeriesRule:
    """Conditions that all hold for a series that is meant."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> SeriesRule:
        """From the words of the command line.

        Raises:
            WrongUse: with the grammar.
        """
        return cls(tuple(_condition(part, text) for part in _PARTS.split(text)))

    def fits(self, source: Source) -> bool:
        """Whether a DICOM series is meant. Other files are no series: a rule does not speak of them."""
        if source.kind != "dicom":
            return True
        ordered = sorted(self.conditions, key=lambda condition: condition.name == _SLICES)  # what costs most comes last
        return all(condition.fits(source) for condition in ordered)


def _condition(part: str, rule: str) -> Condition:
    match = _CONDITION.fullmatch(part)
    if match is None:
        raise WrongUse(f'"{part.strip()}" in the rule "{rule}" is no condition.', advice=GRAMMAR)
    name, sign, value = match["name"].lower(), match["sign"], match["value"]
    signs = ("=", ">=", "<=") if name == _SLICES else ("=", "!=")
    if name not in (*_TEXTS, _SLICES):
        raise WrongUse(f'"{name}" in the rule "{rule}" is nothing that a series is chosen by.', advice=GRAMMAR)
    if sign not in signs:
        raise WrongUse(f'"{name}" is compared by {" or ".join(signs)}, not by {sign}.', advice=GRAMMAR)
    if name == _SLICES and not value.isdecimal():
        raise WrongUse(f'"{value}" is no number of slices.', advice=GRAMMAR)
    if name in _SEARCHED:
        try:
            re.compile(value)
        except re.error as error:
            raise WrongUse(
                f'"{value}" is no regular expression ({error.msg}).',
                advice="Put a backslash before characters that are meant as they stand, such as ( or +.",
            ) from error
    return Condition(name, sign, value)


def _slices(source: Source) -> int:
    """Slices of the volume; where there is none, the files: a series that is refused is to be told, not left out."""
    outline = examine(source).outline
    return outline.grid.shape[2] if outline else len(source.paths)
