"""What lies at a path, and what would be made of it: every scan by its headers, with what is wrong and what is done.

No voxel is read. Nothing that comes out of here holds a patient's name or id; descriptions of series are free text that
somebody typed, so they are for the screen and stay out of what is written down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.errors import FileUnreadable, UnetMedError, WrongUse
from unet_med.formats import Examination, examine, find_scans
from unet_med.formats.outline import Outline
from unet_med.scan import Finding, Severity
from unet_med_pipelines.case_names import holds, short_hash
from unet_med_pipelines.cases import Case, cases_of, chosen, inputs_in
from unet_med_pipelines.series_rule import SeriesRule

USABLE, REPAIRED, REFUSED, UNREADABLE = VERDICTS = ("usable", "repaired", "refused", "unreadable")


@dataclass(frozen=True, eq=False)
class Entry:
    """A scan that was looked at, or a place that could not be.

    Args:
        case: what `unet-med segment` would make of it; it knows what of paths and messages is to be hidden.
        examination: what the headers tell; None where there is a problem in place of a scan.
    """

    case: Case
    examination: Examination | None

    @property
    def outline(self) -> Outline | None:
        return self.examination.outline if self.examination else None

    @property
    def problem(self) -> UnetMedError | None:
        """Why it cannot be used."""
        return self.examination.refusal if self.examination else self.case.problem

    @property
    def verdict(self) -> str:
        if self.problem is not None:
            return UNREADABLE if isinstance(self.problem, FileUnreadable) else REFUSED
        return REPAIRED if any(finding.severity == Severity.REPAIRED for finding in self.findings) else USABLE

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.outline.findings if self.outline else ()

    @property
    def place(self) -> str:
        """Path of the file, or folder of the series, as it may be shown."""
        return self.case.paths[0]

    @property
    def folder(self) -> str:
        """The folder that holds the file or the series, as it may be shown."""
        if self.examination is None:
            return self.case.hide(str(Path(self.problem.where or ".").parent)) if self.problem else "."
        return self.case.hide(str(self.examination.source.paths[0].parent))

    @property
    def description(self) -> str:
        """Of the series, for the screen: without words that are part of the patient's name or id."""
        if self.examination is None:
            return ""
        source = self.examination.source
        words = self.case.hide(source.description).split()
        return " ".join(short_hash(word) if holds(word, source.identity) else word for word in words)

    @property
    def stack(self) -> str:
        """What tells it from the other stacks of its series; "" where it is the only one."""
        return self.case.hide(str(self.examination.source.header.get("stack", ""))) if self.examination else ""

    @property
    def reason(self) -> str:
        """Why it cannot be used, and which file of it is meant; "" where it can be."""
        if self.problem is None:
            return ""
        own = self.examination.source.name if self.examination else self.problem.where
        where = "" if self.problem.where in (None, own) else f"{Path(str(self.problem.where)).name}: "
        return self.case.hide(where + self.problem.what)

    @property
    def advice(self) -> str:
        return self.case.hide(self.problem.advice or "") if self.problem else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, always with the same keys."""
        source = self.examination.source if self.examination else None
        return {
            "path": self.place,
            "case": self.case.name if source else None,
            "verdict": self.verdict,
            "kind": source.kind if source else None,
            "files": len(source.paths) if source else 1,
            "modality": source.modality if source else None,
            "series_number": source.series_number if source else None,
            "series_uid": source.series_uid if source else None,
            "stack": self.stack or None,
            **_geometry(self.outline),
            "findings": [
                {key: self.case.hide(text) for key, text in finding.as_dict().items()} for finding in self.findings
            ],
            "undecided": list(self.outline.undecided) if self.outline else [],
            "refusal": {"code": code_of(self.problem), "message": self.reason, "advice": self.advice}
            if self.problem
            else None,
        }


@dataclass(frozen=True, eq=False)
class Inspection:
    """What lies at a path.

    Args:
        path: as the user wrote it.
        entries: scans in the order of their paths, then what could not be looked at.
        left_out: how many series the rule left out.
        other_objects: kinds of DICOM objects that are no scans, and how many of each there are.
    """

    path: Path
    entries: tuple[Entry, ...]
    left_out: int
    other_objects: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """How many entries have each verdict."""
        found = Counter(entry.verdict for entry in self.entries)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def all_usable(self) -> bool:
        return bool(self.entries) and all(entry.problem is None for entry in self.entries)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; no patient's name or id, and no free text of the headers."""
        return {
            "format": 1,
            "counts": {**self.counts, "left_out": self.left_out},
            "scans": [entry.as_dict() for entry in self.entries],
            "other_objects": dict(self.other_objects),
        }


def inspect(path: Path, rule: SeriesRule | None = None) -> Inspection:
    """Looks at all scans in a file or below a folder.

    Args:
        rule: of the DICOM series only those are looked at that it fits.

    Raises:
        WrongUse: nothing at the path, no scan and no DICOM at all, or a rule that fits no series.
    """
    try:
        found = find_scans(path)
    except FileUnreadable as problem:
        if not path.exists():
            raise WrongUse("There is no such file or folder.", where=path) from problem
        raise
    every = inputs_in(found, path)
    if not (every or found.objects):
        raise WrongUse("There is no scan here.", where=path, advice="Name a scan, or its folder.")
    inputs = chosen(every, [rule] if rule else [])
    # Seen as inputs of a model with one channel, each is a case.
    cases = cases_of(inputs, ("image",))
    entries = [
        Entry(case, examine(each.source) if each.source else None) for each, case in zip(inputs, cases, strict=True)
    ]
    kinds = Counter(found.objects.values())
    return Inspection(path, tuple(entries), len(every) - len(inputs), dict(sorted(kinds.items())))


def code_of(problem: UnetMedError) -> str:
    """The finding's code of a refusal; "unreadable" for bytes that are not what they claim to be."""
    return str(getattr(problem, "code", UNREADABLE))


def _geometry(outline: Outline | None) -> dict[str, Any]:
    keys = ("shape", "spacing", "space_units", "orientation", "left_handed", "affine", "slice_offsets", "channels")
    if outline is None:
        return dict.fromkeys((*keys, "units"))
    grid = outline.grid
    values = (
        list(grid.shape),
        [float(f"{step:.9g}") for step in grid.spacing],
        outline.space_units,
        grid.orientation,
        is_left_handed(outline),
        grid.affine.tolist(),
        None if grid.slice_offsets is None else list(grid.slice_offsets),
        outline.channels,
    )
    return {**dict(zip(keys, values, strict=True)), "units": outline.units}


def is_left_handed(outline: Outline) -> bool:
    """Whether voxels are counted in a mirrored order, as in half of all NIfTI files; exact, and kept."""
    return bool(np.linalg.det(outline.grid.affine[:3, :3]) < 0)
