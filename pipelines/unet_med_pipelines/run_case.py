"""One case: read, segment, measure, write, and record it. Whatever goes wrong fails this case and no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unet_med.channels import join_channels
from unet_med.errors import Cancelled, UnetMedError
from unet_med.formats import SUFFIXES, read_scan, write_segmentation
from unet_med.inference import Options, segment
from unet_med.measure import measure
from unet_med.model import Model
from unet_med.scan import Finding, Scan
from unet_med_pipelines.cases import Case
from unet_med_pipelines.evaluation.pairing import BATCH_FOLDER
from unet_med_pipelines.records import (
    Failure,
    Record,
    describe_input,
    describe_scan,
    record_path,
    sha256,
    write_record,
)

Progress = Callable[[int, int], None]

BUG = "bug"
"""The kind of failure that is no fault of the input."""


@dataclass(frozen=True)
class Task:
    """What is done to every case of a batch.

    Args:
        out: the folder of results; its folders exist.
        formats: of the masks; none: PNG for a picture, NIfTI for a volume.
        align: interpolate channels of another grid onto the first one's.
    """

    model: Model
    out: Path
    options: Options = field(default_factory=Options)
    formats: tuple[str, ...] = ()
    align: bool = False


def run_case(case: Case, task: Task, progress: Progress | None = None, *, debug: bool = False) -> Record:
    """Runs a case and writes its record, last of all. Files of an earlier run of the case are replaced.

    Args:
        progress: called with (windows done, windows in all); may raise `Cancelled`.
        debug: let what is a mistake of the program itself (and no fault of the input) through.

    Returns:
        The record: done, or failed with the reason. The files of a failed case are removed.

    Raises:
        Cancelled, KeyboardInterrupt: nothing of the case is left behind.
    """
    seconds: dict[str, float] = {}
    try:
        forget(case.name, task.out)
        if case.problem:
            raise case.problem
        record = _run(case, task, progress, seconds)
        write_record(task.out, record)
        return record
    except (Cancelled, KeyboardInterrupt):
        _discard(case, task)
        raise
    except Exception as error:
        _discard(case, task)
        failure = _in_words(error, case)
        if debug and failure.kind == BUG:
            raise
    failed = Record(case.name, _inputs(case), _asked(task.options), seconds=seconds, failure=failure)
    with suppress(UnetMedError):  # on a full disk there is no room for a record either; the caller has it
        write_record(task.out, failed)
    return failed


def mask_path(out: Path, case: str, format: str) -> Path:
    return out / BATCH_FOLDER / f"{case}{SUFFIXES[format]}"


def forget(case: str, out: Path) -> None:
    """Removes the files of a case: the record first, so that no half of a case ever looks done."""
    record_path(out, case).unlink(missing_ok=True)
    for format in SUFFIXES:
        mask_path(out, case, format).unlink(missing_ok=True)


def _run(case: Case, task: Task, progress: Progress | None, seconds: dict[str, float]) -> Record:
    with _timed("read", seconds):
        scan = _read(case, task)
    result = segment(scan, task.model, task.options, progress)
    seconds |= result.provenance.seconds
    (mask,) = result.segmentations
    with _timed("write", seconds):
        outputs = []
        for format in task.formats or (_fitting_format(scan),):
            path = mask_path(task.out, case.name, format)
            write_segmentation(mask, path, format, provenance=result.provenance)
            outputs.append({"path": path.relative_to(task.out).as_posix(), "format": format, "sha256": sha256([path])})
    return Record(
        case.name,
        _inputs(case),
        {**result.provenance.options, "align": task.align},
        describe_scan(scan),
        tuple(_hidden(finding, case) for finding in result.findings),
        measure(mask),
        tuple(outputs),
        result.provenance,
        seconds,
    )


def _read(case: Case, task: Task) -> Scan:
    channels = [channel.name for channel in task.model.card.channels]
    if len(case.inputs) == 1:
        return read_scan(case.inputs[0], channels=len(channels))
    return join_channels([read_scan(source) for source in case.inputs], channels, align=task.align)


def _fitting_format(scan: Scan) -> str:
    return "png" if scan.source.kind == "picture" and scan.grid.shape[2] == 1 else "nifti"


def _inputs(case: Case) -> tuple[dict[str, Any], ...]:
    if not case.inputs:
        return tuple({"path": path} for path in case.paths)
    return tuple(describe_input(source, path) for source, path in zip(case.inputs, case.paths, strict=True))


def _asked(options: Options) -> dict[str, Any]:
    return {**asdict(options), "box": str(options.box) if options.box else None}


def _hidden(finding: Finding, case: Case) -> Finding:
    return replace(finding, message=case.hide(finding.message), action=case.hide(finding.action))


def _discard(case: Case, task: Task) -> None:
    with suppress(OSError):
        forget(case.name, task.out)


# -- failures -------------------------------------------------------------------------------------------------------


def _in_words(error: Exception, case: Case) -> Failure:
    if isinstance(error, UnetMedError):
        where = f"{case.hide(error.where)}: " if error.where else ""
        advice = case.hide(error.advice) if error.advice else None
        return Failure(getattr(error, "code", type(error).__name__), where + case.hide(error.what), advice)
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return Failure(
            "MemoryError",
            "The memory of this machine is not enough for this scan.",
            "Cut out a region with --box, or use a machine with more memory.",
        )
    if isinstance(error, OSError):
        return Failure("OSError", f"A file could not be read or written ({error.strerror or type(error).__name__}).")
    return Failure(
        BUG,
        f"This is a mistake in unet-med itself ({type(error).__name__}).",
        "Please report it; --debug shows where.",
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Torch reports a full GPU by a type of its own, a full main memory by a RuntimeError."""
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


@contextmanager
def _timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - began, 4)
