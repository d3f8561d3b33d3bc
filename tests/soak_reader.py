"""A child process that reads mutants and says what came of each; one that crashes or hangs takes nothing else along.

    echo NUMBER | python tests/soak_reader.py CORPUS SEED

repeats one. Requests are numbers, a line each; replies are lines of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from mutants import Mutant, make
from unet_med.errors import ScanRefused, UnetMedError
from unet_med.formats import examine, find_scans, read_scan
from unet_med.scan import Finding, Scan

MEMORY = 2 << 30
"""Bytes that this process, and each of its decoders, may ask for."""

SECONDS = 20
"""Of computing, that a mutant may take; by the clock it is more on a machine that is busy with other things."""

SEEN_LATER = ("unreadable", "unreadable_instance")
"""Damage that shows when voxels are read."""


def main() -> None:
    corpus, seed = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")  # a warning that leaks would stand on the user's terminal
    replies = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile() as words:
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
        for line in sys.stdin:
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + SECONDS, resource.RLIM_INFINITY))
            reply = _answer(corpus, seed, int(line))
            sys.stdout.flush()
            if os.fstat(words.fileno()).st_size:
                words.seek(0)
                reply["faults"].append(f"printed: {words.read()[-500:].decode(errors='replace')}")
                words.truncate(0)
                words.seek(0)
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def _answer(corpus: Path, seed: int, number: int) -> dict[str, Any]:
    kind, words = "none", "not made"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            mutant = make(corpus, seed, number, Path(scratch))
            kind, words = mutant.kind, mutant.words
            codes, faults = _judge(mutant)
        except BaseException:  # whatever it is, it would have ended the user's run
            codes, faults = ["failed"], [traceback.format_exc()[-3000:]]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"number": number, "kind": kind, "words": words, "codes": codes, "faults": faults, "memory": memory}


def _judge(mutant: Mutant) -> tuple[list[str], list[str]]:
    """The code of each answer ("read" for a scan), and what is wrong with any of them."""
    codes, faults, errors = _read_all(mutant.path)
    if mutant.moved is not None:
        faults += _untold(mutant)
    secrets = _identities(mutant.origin)
    for error in errors:
        said = f"{error.what} {error.advice or ''}".lower()
        faults += [f"names the patient: {error.what}" for secret in secrets if secret in said]
    return codes, faults


def _read_all(path: Path) -> tuple[list[str], list[str], list[UnetMedError]]:
    try:
        found = find_scans(path)
    except UnetMedError as error:
        return [_code(error)], [], [error]
    codes, faults, errors = [_code(problem) for problem in found.problems], [], list(found.problems)
    for source in found.sources:
        seen = examine(source)
        try:
            scan = read_scan(source)
        except UnetMedError as error:
            codes.append(_code(error))
            errors.append(error)
            if seen.refusal is None and seen.outline and _code(error) not in (*seen.outline.undecided, *SEEN_LATER):
                faults.append(f"examine lets pass what read_scan refuses as {_code(error)}: {error.what}")
            continue
        codes.append("read")
        if seen.refusal is not None or seen.outline is None:
            faults.append(f"examine refuses what read_scan reads: {seen.refusal}")
        elif seen.outline.grid.distance(scan.grid) > 0:
            faults.append("examine sees another grid than read_scan")
    return codes or ["nothing there"], faults, errors


def _code(error: UnetMedError) -> str:
    return error.code if isinstance(error, ScanRefused) else "unreadable"


def _untold(mutant: Mutant) -> list[str]:
    """A slice was moved: that is refused, or told with its size in a finding that the series did not have before."""
    before = _undamaged(mutant.origin)
    after = _as_one(mutant.path)
    if isinstance(before, str):  # not readable even when nothing is wrong with its geometry
        return []
    if isinstance(after, str):
        return []
    new = [finding for finding in after.findings if _told(finding) not in {_told(old) for old in before.findings}]
    if any(any(letter.isdigit() for letter in finding.message) for finding in new):
        return []
    return [f"moved by {mutant.moved:.4f} mm, and read without a word of it"]


def _told(finding: Finding) -> tuple[str, str]:
    return finding.code, finding.message


@cache
def _undamaged(path: Path) -> Scan | str:
    return _as_one(path)


def _as_one(path: Path) -> Scan | str:
    try:
        return read_scan(path)
    except UnetMedError as error:
        return _code(error)


@cache
def _identities(origin: Path) -> frozenset[str]:
    """Names and ids that the undamaged case holds, in lower case; short ones stand in other words by chance."""
    try:
        sources = find_scans(origin).sources
    except UnetMedError:
        return frozenset()
    return frozenset(name.lower() for source in sources for name in source.identity if len(name) > 4)


if __name__ == "__main__":
    main()
