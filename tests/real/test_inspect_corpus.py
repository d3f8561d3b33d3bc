"""`examine` says of every difficult scan what `read_scan` then does, and says it quickly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unet_med import Source, find_scans, read_scan
from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError
from unet_med.formats import examine
from unet_med_pipelines import cli

DAMAGE = {"unreadable", "unreadable_instance"}
"""Voxels that are cut short or damaged are seen when they are read."""
AT_THE_END = {"data_after_end"}


@pytest.fixture(scope="module")
def sources(shared_data: Path) -> list[Source]:
    corpus = shared_data / "scan-corpus"
    folders = [*sorted((corpus / "dicom").iterdir()), corpus / "nifti"]
    return [source for folder in folders for source in find_scans(folder).sources]


def code(error: UnetMedError) -> str:
    return error.code if isinstance(error, ScanRefused) else "unreadable"


def contradiction(source: Source) -> str | None:
    """What `examine` and `read_scan` say differently of a source; None where they agree."""
    seen = examine(source)
    try:
        scan = read_scan(source)
    except (ScanRefused, FileUnreadable) as error:
        if seen.refusal is None and seen.outline is not None:
            later = {*seen.outline.undecided, *DAMAGE}
            return None if code(error) in later else f"seen as usable, refused as {code(error)}: {error}"
        assert seen.refusal is not None
        if str(error) == str(seen.refusal):
            return None
        return f"{seen.refusal} / {error}"
    if seen.outline is None:
        return f"seen as {seen.refusal}, and was read"
    outline = seen.outline
    told = [finding for finding in scan.findings if finding in outline.findings]
    more = {finding.code for finding in scan.findings if finding not in outline.findings}
    for name, same in {
        "grid": outline.grid.distance(scan.grid) == 0 and outline.grid.slice_offsets == scan.grid.slice_offsets,
        "channels": outline.channels == len(scan.channels),
        "units": outline.units == scan.units,
        "space units": outline.space_units == scan.space_units,
        "modality": outline.modality == scan.modality,
        "findings": tuple(told) == outline.findings,
        f"findings of voxels {more}": more <= {*outline.undecided, *AT_THE_END},
    }.items():
        if not same:
            return f"{name} differ"
    return None


def test_headers_tell_what_reading_does(sources: list[Source]) -> None:
    assert len(sources) > 150
    wrong = {f"{source.name} {source.header.get('stack', '')}": contradiction(source) for source in sources}
    assert not {name: what for name, what in wrong.items() if what}


def test_the_whole_corpus_is_inspected_in_seconds_without_a_word_too_wide(shared_data: Path) -> None:
    corpus = shared_data / "scan-corpus"
    began = time.process_time()
    result = CliRunner().invoke(cli.app, ["inspect", str(corpus)], env={"COLUMNS": "80", "TERM": "dumb"})
    assert time.process_time() - began < 20
    assert result.exit_code == 1  # some are refused
    assert result.exception is None or isinstance(result.exception, SystemExit)
    too_wide = [line for line in result.stdout.splitlines() if len(line) > 80 and " " in line.strip()]
    assert not too_wide
    assert result.stderr == ""
    assert "DICOM, but no scans: " in result.stdout


def test_faults_are_told_apart(sources: list[Source]) -> None:
    codes = [code(refusal) for source in sources if (refusal := examine(source).refusal)]
    assert len(set(codes)) >= 10
    assert codes.count("unreadable") < len(codes) / 2
