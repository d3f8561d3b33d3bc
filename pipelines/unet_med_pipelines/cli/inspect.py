"""`unet-med inspect`: every scan at a path, what is wrong with it, and what would be done about it."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_med_pipelines.cli.terminal import say

if TYPE_CHECKING:
    from unet_med.formats.outline import Outline
    from unet_med_pipelines.inspection import Entry, Inspection

INDENT = 14
"""Columns before what is said of a scan."""
COLOURS = {"usable": "green", "repaired": "yellow", "refused": "red", "unreadable": "red"}
KINDS = {"nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage", "picture": "picture"}


def command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, a folder of DICOM series, a tree of scans.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
    series: Annotated[
        str | None,
        typer.Option("--series", metavar="RULE", help="Look only at these DICOM series; see `unet-med segment -h`."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    """Tell of every scan where its voxels lie, and what is wrong with it.

    Headers are judged by the code that `unet-med segment` reads them with, so
    that both say the same: used as it is, used after a repair that is named,
    or refused with the reason. No voxel is read; what only voxels can tell is
    listed as open.

    Parts of paths that hold a patient's name or id are shown as eight
    hexadecimal digits. Series descriptions are shown on the screen, and left
    out of JSON.

    The exit code is 0 when every scan can be used, 1 when one is refused or
    cannot be read, 2 when the command makes no sense.
    """
    from unet_med_pipelines.inspection import inspect
    from unet_med_pipelines.series_rule import SeriesRule

    inspection = inspect(path, SeriesRule.parse(series) if series else None)
    if as_json:
        typer.echo(json.dumps(inspection.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print(inspection)
    if not inspection.all_usable:
        raise typer.Exit(1)


def _print(inspection: Inspection) -> None:
    ordered = sorted(inspection.entries, key=lambda entry: entry.folder)
    for folder, entries in groupby(ordered, key=lambda entry: entry.folder):
        say("", folder, stream=sys.stdout)
        for entry in entries:
            _print_entry(entry)
        typer.echo()
    _print_total(inspection)


def _print_entry(entry: Entry) -> None:
    """A paragraph for the scan, one for its grid, and one for each thing there is to say about it."""
    from unet_med_pipelines.inspection import code_of

    outline = entry.outline
    paragraphs = [_facts(outline)] if outline else []
    hide = entry.case.hide
    paragraphs += [f"{finding.code}: {hide(f'{finding.message} {finding.action}')}" for finding in entry.findings]
    if outline and outline.undecided:
        paragraphs.append(f"open until its voxels are read: {', '.join(outline.undecided)}")
    if entry.problem:
        code = code_of(entry.problem)
        paragraphs.append(f"{'' if code == entry.verdict else f'{code}: '}{entry.reason} {entry.advice}")
    heading = f"  {entry.verdict}".ljust(INDENT)
    say(_title(entry), heading, colour=COLOURS[entry.verdict], indent=INDENT, stream=sys.stdout)
    for paragraph in paragraphs:
        say(paragraph, " " * INDENT, indent=INDENT, stream=sys.stdout)


def _title(entry: Entry) -> str:
    if entry.examination is None:
        return Path(entry.place).name
    source = entry.examination.source
    if source.kind != "dicom":
        return f"{Path(entry.place).name} ({KINDS.get(source.kind, source.kind)})"
    number = "" if source.series_number is None else f" {source.series_number}"
    parts = (
        f"{source.modality or 'no modality'}, series{number}",
        f'"{entry.description}"' if entry.description else "",
        entry.stack,
        f"{len(source.paths)} file{'s' * (len(source.paths) != 1)}",
    )
    return ", ".join(part for part in parts if part)


def _facts(outline: Outline) -> str:
    from unet_med_pipelines.inspection import is_left_handed

    grid = outline.grid
    mm = " x ".join(f"{step:.4g}" for step in grid.spacing) + " mm" if outline.space_units == "mm" else "no voxel size"
    parts = (
        " x ".join(map(str, grid.shape)) + " voxels",
        f"{mm} on average" if grid.slice_offsets is not None else mm,
        grid.orientation + (" (left-handed)" if is_left_handed(outline) else ""),
        "" if outline.units == "arbitrary" else outline.units,
        "" if outline.channels == 1 else f"{outline.channels} channels",
    )
    return ", ".join(part for part in parts if part)


def _print_total(inspection: Inspection) -> None:
    counts = [f"{count} {verdict}" for verdict, count in inspection.counts.items() if count]
    if inspection.left_out:
        counts.append(f"{inspection.left_out} left out by the rule")
    say("", ", ".join(counts) or "no scan", stream=sys.stdout)
    if inspection.other_objects:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in inspection.other_objects.items())
        say(kinds, "DICOM, but no scans: ", indent=2, stream=sys.stdout)
