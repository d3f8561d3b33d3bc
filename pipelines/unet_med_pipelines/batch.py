"""Many cases with one model: where the results lie, which model fits, and the run itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from unet_med.errors import WriteFailed, WrongUse
from unet_med.formats import SUFFIXES
from unet_med.formats.atomic import replacing
from unet_med.models import list_models
from unet_med_pipelines.cases import Case, Input
from unet_med_pipelines.evaluation.pairing import BATCH_FOLDER
from unet_med_pipelines.records import RECORDS, Record, write_measurements
from unet_med_pipelines.run_case import Task, mask_path, run_case


class Progress(Protocol):
    """What a batch tells while it works. Any of them may raise `unet_med.errors.Cancelled`."""

    def case(self, name: str, done: int, total: int) -> None:
        """`done` cases are through, and the next one begins; at the very end `name` is empty."""

    def windows(self, done: int, total: int) -> None:
        """Of the case that runs."""


def fitting_model(inputs: Sequence[Input]) -> str:
    """The one known model that was made for the modality that the scans declare.

    Raises:
        WrongUse: a scan that declares none (only DICOM does), no model that fits, or several.
    """
    listed = list_models()
    advice = f"Name a model with -m: {', '.join(model.name for model in listed)}." if listed else "Name one with -m."
    sources = [each.source for each in inputs if each.source]
    silent = [source for source in sources if source.modality is None]
    if silent or not sources:
        raise WrongUse(
            "The model cannot be chosen from the scan: this file does not say which modality it is.",
            where=silent[0].name if silent and silent[0].kind != "dicom" else None,  # its path may name the patient
            advice=advice,
        )
    modalities = {source.modality for source in sources}
    words = " and ".join(sorted(str(modality) for modality in modalities))
    fitting = [model.name for model in listed if modalities <= model.card.modalities]
    if len(fitting) != 1:
        which = f"Several models are made for {words}: {', '.join(fitting)}." if fitting else f"No model fits {words}."
        raise WrongUse(which, advice=advice)
    return fitting[0]


def formats_of(names: Sequence[str]) -> tuple[str, ...]:
    """The formats that were asked for, each once. Raises WrongUse for one that masks are not written in."""
    for name in names:
        if name not in SUFFIXES:
            raise WrongUse(f'Masks are not written as "{name}".', advice=f"Formats: {', '.join(SUFFIXES)}.")
    return tuple(dict.fromkeys(names))


def make_out(out: Path) -> None:
    """Makes the folder of results and sees that it can be written to.

    Raises:
        WrongUse: a file of that name.
        WriteFailed: no permission, full disk.
    """
    if out.exists() and not out.is_dir():
        raise WrongUse("The results need a folder, and this is a file.", where=out, advice="Name another with -o.")
    try:
        for folder in (out / BATCH_FOLDER, out / RECORDS):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise WriteFailed(
            f"The folder of results cannot be made ({problem.strerror}).", where=out, advice="Name another with -o."
        ) from problem
    probe = out / RECORDS / ".probe"
    with replacing(probe) as temporary:
        temporary.write_bytes(b"can it be written?")
    probe.unlink()


def run_batch(cases: Sequence[Case], task: Task, progress: Progress, *, debug: bool = False) -> Iterator[Record]:
    """Runs case after case, handing out the record of each; one that fails stops no other. The table comes last.

    Stopped by Ctrl-C or by `progress`, it leaves what is done, and nothing of the case that ran.

    Args:
        cases: from `cases_of` or `read_table`.
        task: `task.out` was made by `make_out`.
        debug: see `run_case`.

    Raises:
        WrongUse: a mask would be written over an input.
        WriteFailed: the table cannot be written; the records are there.
        Cancelled: from `progress`.
    """
    _spare_inputs(cases, task)
    try:
        for done, case in enumerate(cases):
            progress.case(case.name, done, len(cases))
            yield run_case(case, task, progress.windows, debug=debug)
        progress.case("", len(cases), len(cases))
    finally:
        write_measurements(task.out)


def _spare_inputs(cases: Sequence[Case], task: Task) -> None:
    """A case begins by removing its old masks; an input must not be among them."""
    files = {path.resolve(): path for case in cases for source in case.inputs for path in source.paths}
    for case in cases:
        for format in SUFFIXES:
            place = mask_path(task.out, case.name, format).resolve()
            if place in files:
                raise WrongUse("The mask would take the place of its scan.", where=files[place], advice="Change -o.")
