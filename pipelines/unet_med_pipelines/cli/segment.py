"""`unet-med segment`: scans in; masks, records and measurements out."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_med_pipelines.cli.terminal import say

if TYPE_CHECKING:
    from unet_med_pipelines.records import Record

WIDTH = 14
"""Columns of the words before the lines of the summary."""


def command(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder for the results; made if missing.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", help="Files, folders of DICOM series, trees with many scans."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="MODEL", help="A name that `unet-med models` lists, or a model folder."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--format",
            metavar="FORMAT",
            help="nifti, nrrd, png; for DICOM series dicom-seg, dicom-labelmap, rtstruct. May be given several times. "
            "Else PNG for pictures, NIfTI for volumes.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where to compute: auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="Of the network's numbers: auto, fp32, bf16 or fp16.")
    ] = "auto",
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of a window that the next one covers again: 0 to below 1."),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Average over mirrored windows: often better, several times slower.")
    ] = False,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="BOX",
            help="Segment only there: x0,x1,y0,y1,z0,z1 in mm, where right, front and head are positive.",
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Instead of INPUT: a table with the column case, and one for each channel."),
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            "--series",
            metavar="RULE",
            help="Segment only these DICOM series: modality=MR,description=T1.*,slices>=20 (see above).",
        ),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Interpolate channels on other grids onto that of the first.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where modality or field of view do not fit the model.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    """Segment scans: a mask on exactly the grid of each, and how it came about.

    INPUT is a file, a folder with DICOM series, a tree with many scans, or
    several of these. Channels in files of their own belong together by their
    names, as in nnU-Net (CASE_0000.nii.gz, CASE_0001.nii.gz ...), or by a
    table: --cases.

    --series chooses among the DICOM series. RULE is a list of conditions,
    parted by commas, that all hold: modality=MR (or CT|MR), description=REGEX,
    number=3 (the series number), uid=UID, stack=REGEX (of what `unet-med
    inspect` says of a stack), slices>=20. With != instead of = a series is
    left out; slices takes =, >= and <=. For a model of several channels
    --series is given once for each, and a study is one case.

    OUT/segmentations holds the masks, OUT/records what was read, done and
    found, OUT/measurements.csv the volumes. A case that is run again replaces
    its files.

    The exit code is 0 when all cases are done, 1 when some failed, 2 when the
    command makes no sense.
    """
    from rich.console import Console

    from unet_med.backends.pytorch import choose
    from unet_med.card import ModelCard
    from unet_med.errors import Cancelled
    from unet_med.inference import Options
    from unet_med.models import CARD, find_model, load_model
    from unet_med.prepare import Box
    from unet_med_pipelines.batch import fitting_model, formats_of, make_out, run_batch
    from unet_med_pipelines.cases import cases_of, chosen, find_inputs, read_table
    from unet_med_pipelines.progress import shown
    from unet_med_pipelines.run_case import Task
    from unet_med_pipelines.series_rule import SeriesRule

    console = Console(stderr=True, highlight=False)
    _check_use(inputs, cases, model, series)
    rules = [SeriesRule.parse(rule) for rule in series or []]
    options = Options(device, precision, overlap, flips, Box.parse(box) if box else None, force)
    choose(device, precision)  # a device that is not there would fail case after case
    found = chosen(find_inputs(inputs or []), rules)
    folder = find_model(model or fitting_model(found))
    channels = [channel.name for channel in ModelCard.read(folder / CARD).channels]
    listed = read_table(cases, channels) if cases else cases_of(found, channels, rules)
    wanted = formats_of(formats or [])
    make_out(out)
    with console.status(f"loading {folder.name}"):
        task = Task(load_model(folder), out, options, wanted, align)

    records: list[Record] = []
    try:
        with _terminated_like_interrupted(), shown(console) as progress:
            for record in run_batch(listed, task, progress, debug=debug):
                records.append(record)
    except (Cancelled, KeyboardInterrupt):
        _summarise(records, len(listed), out)
        raise typer.Exit(130) from None
    _summarise(records, len(listed), out)
    if any(record.failure for record in records):
        raise typer.Exit(1)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """A cluster stops a job by SIGTERM: the case that runs is to leave nothing behind then, either."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_use(
    inputs: Sequence[Path] | None, cases: Path | None, model: str | None, series: Sequence[str] | None
) -> None:
    from unet_med.errors import WrongUse

    if bool(inputs) == bool(cases):
        raise WrongUse(
            "INPUT and --cases both name the scans." if cases else "There is nothing to segment.",
            advice="Give INPUT, or a table with --cases.",
        )
    if cases and series:
        raise WrongUse("--series chooses among INPUT; a table names its series itself.", advice="Leave out --series.")
    if cases and not model:
        raise WrongUse("A table of cases needs a model, whose channels are its columns.", advice="Name one with -m.")


def _summarise(records: Sequence[Record], total: int, out: Path) -> None:
    """What came of it: each failure with its reason, numbers, places, and what is worth a look."""
    from unet_med.scan import FINDING_CODES
    from unet_med_pipelines.evaluation.pairing import BATCH_FOLDER
    from unet_med_pipelines.records import MEASUREMENTS, RECORDS

    failed = [record for record in records if record.failure]
    for record in failed:
        say(str(record.failure), f"Failed: {record.case}: ", colour="red")
    done, rest = len(records) - len(failed), total - len(records)
    say("", f"{done} done, {len(failed)} failed" + (f", {rest} not done when stopped" if rest else ""))
    places = {"masks": BATCH_FOLDER, "measurements": MEASUREMENTS, "records": RECORDS}
    for name, place in places.items():
        if done or place == RECORDS:
            typer.echo(f"{name:<{WIDTH}}{out / place}", err=True)  # not wrapped: a path is there to be copied
    codes = Counter(finding.code for record in records for finding in record.findings)
    for number, (code, count) in enumerate(codes.most_common()):
        heading = f"{'' if number else 'noted':<{WIDTH}}"
        say(f"{count} x {code}: {FINDING_CODES[code]}", heading, indent=WIDTH)
