"""Which prediction belongs to which reference: by the name of the file, without its suffix, below the folder given.

`unet-med segment` joins folders by "__" (`a/b.nii.gz` becomes `a__b`), so both spellings are one name here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unet_med.errors import UnetMedError, WrongUse
from unet_med.formats import find_scans
from unet_med.scan import Source

BATCH_FOLDER = "segmentations"
"""Where a batch keeps its masks; naming the folder above is enough."""


@dataclass(frozen=True)
class Pair:
    """A case to be scored: its name (folders joined by "__"), its reference, and the prediction if there is one."""

    name: str
    reference: Source
    prediction: Source | None


@dataclass(frozen=True)
class Pairs:
    """All cases in the order of their names; names of predictions without a reference; files that cannot be read."""

    cases: tuple[Pair, ...]
    extra: tuple[str, ...]
    problems: tuple[UnetMedError, ...]


def find_pairs(predictions: Path, references: Path, case_key: str | None = None) -> Pairs:
    """Matches files by name. Two single files make one pair, whatever they are called.

    A prediction that lies in no folder is matched by the bare file name of a reference in a folder, if just one has it.

    Args:
        case_key: a regular expression for the suffix-free path below each folder ("a/b"); what it captures (else what
            it matches) is the name. None: the whole path.

    Raises:
        FileUnreadable: a folder or file that does not exist.
        WrongUse: no reference, two of one name, an expression that is wrong or matches nothing, or no pair at all.
    """
    pattern = None if case_key is None else _compiled(case_key)
    if (predictions / BATCH_FOLDER).is_dir():
        predictions = predictions / BATCH_FOLDER
    theirs, ours = find_scans(references), find_scans(predictions)
    if not theirs.sources:
        raise WrongUse("there is no mask here.", where=references, advice="Name the folder of reference masks.")
    if predictions.is_file() and references.is_file():
        pair = Pair(_joined(suffix_free(references.name)), theirs.sources[0], ours.sources[0])
        return Pairs((pair,), (), ())
    by_name = _by_name(theirs.sources, references, pattern)
    found = _by_name(ours.sources, predictions, pattern)
    chosen = {name: name for name in by_name if name in found} | _by_bare_name(by_name, found)
    if not chosen:
        raise WrongUse(_no_pair(by_name, found), where=predictions, advice="See --case-key for names that differ.")
    used = set(chosen.values())
    cases = (Pair(name, by_name[name], found[chosen[name]] if name in chosen else None) for name in sorted(by_name))
    return Pairs(
        tuple(cases),
        tuple(name for name in sorted(found) if name not in used),
        (*theirs.problems, *ours.problems),
    )


def suffix_free(name: str) -> str:
    """A file name without its suffix: a.b.nii.gz -> a.b, c.png -> c."""
    stem = name[:-3] if name.lower().endswith(".gz") else name
    return stem.rpartition(".")[0] or stem


def _by_name(sources: Iterable[Source], root: Path, pattern: re.Pattern[str] | None) -> dict[str, Source]:
    """Name -> source. One case in several formats counts once, the first format in alphabetical order."""
    named: dict[str, tuple[Path, Source]] = {}
    for source in sorted(sources, key=lambda source: source.paths):
        place = _place(source, root)
        name = _joined(_key(place.as_posix(), pattern))
        if name not in named:
            named[name] = (place, source)
        elif named[name][0] != place:
            raise WrongUse(
                f'two files have the name "{name}": {named[name][0].as_posix()} and {place.as_posix()}.',
                where=root,
                advice="Each case needs a name of its own.",
            )
    return {name: source for name, (_, source) in named.items()}


def _place(source: Source, root: Path) -> Path:
    """The suffix-free path of a file, or the folder of a series, below the folder that was named."""
    path = source.paths[0]
    base = root if root.is_dir() else root.parent
    if len(source.paths) > 1 and source.kind == "dicom":
        return path.parent.relative_to(base)
    return path.with_name(suffix_free(path.name)).relative_to(base)


def _key(place: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return place
    match = pattern.search(place)
    if match is None:
        raise WrongUse(f'the case key "{pattern.pattern}" does not match "{place}".')
    return "_".join(group for group in match.groups() if group) if pattern.groups else match.group()


def _joined(place: str) -> str:
    return place.replace("/", "__")


def _by_bare_name(references: Iterable[str], predictions: Iterable[str]) -> dict[str, str]:
    taken = set(references)
    bare: dict[str, list[str]] = {}
    for name in taken:
        bare.setdefault(name.rpartition("__")[2], []).append(name)
    return {bare[name][0]: name for name in predictions if name not in taken and len(bare.get(name, ())) == 1}


def _no_pair(references: Iterable[str], predictions: Iterable[str]) -> str:
    first = next(iter(sorted(predictions)), None)
    if first is None:
        return "there is no mask here."
    return f'no prediction has the name of a reference: "{first}" is one of these, "{min(references)}" one of those.'


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as problem:
        raise WrongUse(f'"{pattern}" is not a regular expression: {problem}.') from problem
