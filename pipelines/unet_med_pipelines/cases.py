"""What a user points at -> the list of cases: which scans belong together, and what each case is called."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError, WrongUse
from unet_med.formats import Found, find_scans
from unet_med.scan import Source
from unet_med_pipelines.case_names import hidden_parts, named, unique
from unet_med_pipelines.evaluation.pairing import BATCH_FOLDER, suffix_free
from unet_med_pipelines.records import RECORDS
from unet_med_pipelines.series_rule import SeriesRule

CHANNEL_NUMBER = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""nnU-Net's names: CASE_0000.nii.gz is the first channel of CASE, CASE_0001.nii.gz the second."""


@dataclass(frozen=True)
class Input:
    """One scan below an INPUT, or what was found in its place.

    Args:
        root: the INPUT as the user wrote it.
        source: the scan; None where there is a problem.
        problem: why something below the root cannot be read.
    """

    root: Path
    source: Source | None = None
    problem: UnetMedError | None = None


@dataclass(frozen=True)
class Case:
    """One patient's scan, or several that are the channels of one.

    Args:
        name: unique in its list, and a legal file name everywhere.
        inputs: one scan that holds all channels, or one for each channel, in the order of the card.
        paths: of each input, as the user wrote it, without what identifies a patient.
        hidden: what must not be shown -> what stands in its place; see `hide`.
        problem: why the case cannot be run; it fails with this reason.
    """

    name: str
    inputs: tuple[Source, ...]
    paths: tuple[str, ...] = ()
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)
    problem: UnetMedError | None = None

    def hide(self, text: str) -> str:
        """The text with parts of paths that hold the patient's name or id replaced."""
        for part in sorted(self.hidden, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", self.hidden[part], text, flags=re.IGNORECASE)
        return text


def find_inputs(paths: Sequence[Path]) -> tuple[Input, ...]:
    """All scans below some files and folders, each once, in the order given. The masks of a batch are no scans.

    Raises:
        WrongUse: a path that does not exist, or no scan below any.
    """
    found: list[Input] = []
    for path in paths:
        found += _below(path)
    inputs = tuple({_identity(each): each for each in reversed(found)}.values())[::-1]
    if paths and not inputs:
        raise WrongUse("There is no scan here.", where=", ".join(map(str, paths)), advice="Name a scan, or its folder.")
    return inputs


def inputs_in(found: Found, root: Path) -> list[Input]:
    """What was found below a root, without the masks of a batch."""
    inputs = [Input(root, source) for source in found.sources if not _is_result(source, root)]
    return inputs + [Input(root, problem=problem) for problem in found.problems]


def chosen(inputs: Sequence[Input], rules: Sequence[SeriesRule]) -> tuple[Input, ...]:
    """The inputs without the DICOM series that no rule fits; all of them where there is no rule.

    Raises:
        WrongUse: no series fits any rule.
    """
    if not rules:
        return tuple(inputs)
    kept = tuple(each for each in inputs if each.source is None or any(rule.fits(each.source) for rule in rules))
    series = sum(_is_series(each) for each in inputs)
    if not series or not any(_is_series(each) for each in kept):
        raise WrongUse(
            f"The rule of --series fits none of the {series} DICOM series here."
            if series
            else "--series chooses among DICOM series, and there is none here.",
            advice="`unet-med inspect` shows what there is.",
        )
    return kept


def cases_of(inputs: Sequence[Input], channels: Sequence[str], rules: Sequence[SeriesRule] = ()) -> list[Case]:
    """Which inputs belong together, and their names.

    Files CASE_0000, CASE_0001 ... are the channels of CASE where the card has several. Where it has one, CASE_0000 is
    CASE, unless there is a CASE_0001, too. A DICOM series is a case where the card has one channel; else channels are
    series of one study, each chosen by its rule.

    Args:
        channels: the names of the card's channels.
        rules: which series are meant; where the card has several channels, one for each.

    Raises:
        WrongUse: DICOM series for a card of several channels without as many rules, or several rules for one channel.
    """
    _check_rules(inputs, channels, rules)
    studies = [each for each in inputs if _is_series(each)] if len(channels) > 1 else []
    cases = _study_cases(studies, channels, rules)
    inputs = [each for each in inputs if each not in studies]
    groups: dict[object, list[tuple[Input, str | None]]] = {}
    numbered = {key for each in inputs if (key := _numbered(each))}
    for each in inputs:
        key = _numbered(each)
        if key is None:
            groups[id(each)] = [(each, None)]
        elif len(channels) > 1:
            groups.setdefault(key[:2], []).append((each, key[2]))
        else:
            alone = key[2] == "0000" and (*key[:2], "0001") not in numbered
            groups[id(each)] = [(each, "0000" if alone else None)]
    everyone = {value for each in (*inputs, *studies) if each.source for value in each.source.identity}
    for group in groups.values():
        first, _ = group[0]
        cases.append(_problem_case(first, everyone) if first.problem else _case(group, channels))
    return _with_unique_names(cases)


def read_table(table: Path, channels: Sequence[str]) -> list[Case]:
    """Cases from a CSV file: the column "case" and one for each channel of the card; paths are relative to the table.

    A row whose files are missing is a case that fails.

    Raises:
        WrongUse: a table that cannot be read, columns that are missing, a case without a name or named twice.
    """
    header, rows = _rows(table)
    if missing := [name for name in ("case", *channels) if name not in header]:
        raise WrongUse(
            f"The table has no column {_words(missing)}; its columns are {_words(header)}.",
            where=table,
            advice=f"It needs the column case, and one for each channel of the model: {', '.join(channels)}.",
        )
    cases = []
    for number, row in enumerate(rows, start=2):
        if not row["case"]:
            raise WrongUse(f"Row {number} has no name in the column case.", where=table)
        cases.append(_table_case(row, table, channels))
    if not cases:
        raise WrongUse("The table has no rows.", where=table)
    names = [row["case"] for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise WrongUse(f"Two rows have the name {_words(twice[:3])}.", where=table)
    return _with_unique_names(cases)


# -- inputs ---------------------------------------------------------------------------------------------------------


def _below(path: Path) -> list[Input]:
    try:
        found = find_scans(path)
    except FileUnreadable as problem:
        if not path.exists():
            raise WrongUse("There is no such file or folder.", where=path) from problem
        return [Input(path, problem=problem)]
    return inputs_in(found, path)


def _is_result(source: Source, root: Path) -> bool:
    """Whether a file is a mask of a batch below the root: so that a batch into its own input finds the same scans."""
    file = source.paths[0]
    return any(
        folder.name == BATCH_FOLDER and (folder.parent / RECORDS).is_dir()
        for folder in file.parents
        if folder != root and folder.is_relative_to(root)
    )


def _identity(each: Input) -> object:
    """Equal for the same files named in two ways."""
    if each.source is None:
        return str(each.problem)
    # Two stacks of one multi-frame file are frames of the same file.
    return frozenset(path.resolve() for path in each.source.paths), each.source.header.get("frames")


# -- cases ----------------------------------------------------------------------------------------------------------


def _numbered(each: Input) -> tuple[Path, str, str] | None:
    """Folder, case and channel of a file that is named as nnU-Net does."""
    if each.source is None or each.source.kind == "dicom":
        return None
    path = each.source.paths[0]
    match = CHANNEL_NUMBER.fullmatch(suffix_free(path.name))
    return (path.parent.resolve(), match["case"], match["channel"]) if match else None


def _case(group: Sequence[tuple[Input, str | None]], channels: Sequence[str]) -> Case:
    """One case of the inputs that belong together, each with its channel number where that is not part of the name."""
    group = sorted(group, key=lambda member: member[1] or "")
    first, number = group[0]
    sources = tuple(each.source for each, _ in group if each.source)
    name = _name(sources[0], first.root, _identity_of(sources), f"_{number}" if number else "")
    problem = (
        _incomplete([number for _, number in group], channels, sources[0]) if number and len(channels) > 1 else None
    )
    return _hiding(name, sources, problem)


def _is_series(each: Input) -> bool:
    return each.source is not None and each.source.kind == "dicom"


def _check_rules(inputs: Sequence[Input], channels: Sequence[str], rules: Sequence[SeriesRule]) -> None:
    if len(channels) == 1 and len(rules) > 1:
        raise WrongUse("The model reads one channel, and there are several rules.", advice="Give --series once.")
    if len(channels) > 1 and len(rules) != len(channels) and any(_is_series(each) for each in inputs):
        raise WrongUse(
            f"The model reads {len(channels)} channels, and a DICOM series is one; there are {len(rules)} rules that "
            "choose.",
            advice=f"Give --series {len(channels)} times, for {', '.join(channels)} in this order, or name the series "
            "of each case in a table with --cases.",
        )


def _study_cases(inputs: Sequence[Input], channels: Sequence[str], rules: Sequence[SeriesRule]) -> list[Case]:
    """A case for each study: of every channel the one series that its rule fits."""
    studies: dict[object, list[Input]] = {}
    for each in inputs:
        if each.source:
            # Without a UID the folder is the best grouping there is.
            studies.setdefault(each.source.header.get("study_uid") or each.source.paths[0].parent, []).append(each)
    cases = []
    for study in studies.values():
        members, problem = [], None
        for channel, rule in zip(channels, rules, strict=True):
            fitting = [each.source for each in study if each.source and rule.fits(each.source)]
            members += fitting[:1]
            if len(fitting) != 1:
                problem = problem or ScanRefused(
                    f'{len(fitting) or "No"} series of this study fit the rule for the channel "{channel}", where one '
                    "is needed.",
                    advice="Change that --series; `unet-med inspect` shows what there is.",
                    code="several_series" if fitting else "channel_count",
                )
        sources = tuple(members) or tuple(each.source for each in study[:1] if each.source)
        cases.append(_hiding(_name(sources[0], study[0].root, _identity_of(sources), ""), sources, problem))
    return cases


def _problem_case(each: Input, identity: Collection[str]) -> Case:
    """A place that could not be looked into, as a case that fails. Whose it is nobody knows: hide all that we know."""
    assert each.problem is not None
    place = Path(each.problem.where or each.root)
    with suppress(OSError):  # what may not be looked at
        if place.is_file():
            place = place.with_name(suffix_free(place.name))
    case = Case(named(place, each.root, identity), (), (), hidden_parts([place], identity), each.problem)
    return replace(case, paths=(case.hide(str(each.problem.where or each.root)),))


def _name(source: Source, root: Path, identity: Collection[str], ending: str) -> str:
    folder, path = root.parent if root.is_file() else root, source.paths[0]
    if source.kind == "dicom":
        return named(path.parent, folder, identity, (source.series_number, source.series_uid or path.name))
    return named(path.with_name(suffix_free(path.name).removesuffix(ending)), folder, identity)


def _hiding(name: str, sources: tuple[Source, ...], problem: UnetMedError | None) -> Case:
    hidden = hidden_parts((path for source in sources for path in source.paths), _identity_of(sources))
    case = Case(name, sources, (), hidden, problem)
    return replace(case, paths=tuple(case.hide(source.name) for source in sources))


def _identity_of(sources: Iterable[Source]) -> tuple[str, ...]:
    return tuple({value: None for source in sources for value in source.identity})


def _incomplete(numbers: Sequence[str | None], channels: Sequence[str], first: Source) -> ScanRefused | None:
    wanted = [f"{number:04}" for number in range(len(channels))]
    if list(numbers) == wanted:
        return None
    present = ", ".join(f"_{number}" for number in numbers)
    return ScanRefused(
        f"The model reads {len(channels)} channels ({', '.join(channels)}) as files _0000 to _{wanted[-1]}; "
        f"here are {present}.",
        where=first.paths[0].parent,
        advice="Add what is missing, or name the files of each case in a table with --cases.",
        code="channel_count",
    )


def _with_unique_names(cases: Sequence[Case]) -> list[Case]:
    keys: dict[str, None] = {}
    for case in cases:
        key = " ".join((*case.paths, *(str(path) for source in case.inputs for path in source.paths)))
        while key in keys:  # two rows of a table that name the same files
            key += "+"
        keys[key] = None
    names = unique([case.name for case in cases], list(keys))
    return [replace(case, name=name) for case, name in zip(cases, names, strict=True)]


# -- the table ------------------------------------------------------------------------------------------------------


def _rows(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            rows = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise WrongUse(
            f"The table of cases cannot be read ({type(problem).__name__}).",
            where=table,
            advice="It is a CSV file: text in UTF-8, columns parted by commas, their names in the first line.",
        ) from problem
    padding = [""] * len(header)
    return header, [dict(zip(header, row + padding, strict=False)) for row in rows]


def _table_case(row: Mapping[str, str], table: Path, channels: Sequence[str]) -> Case:
    sources: list[Source] = []
    problem: UnetMedError | None = None
    for channel in channels:
        try:
            sources.append(_only_scan(row[channel], table, channel))
        except UnetMedError as error:
            problem = problem or error
    name = named(Path(row["case"].replace("/", "_")), Path(), _identity_of(sources))
    return _hiding(name, tuple(sources), problem)


def _only_scan(cell: str, table: Path, channel: str) -> Source:
    if not cell:
        raise ScanRefused(f'The table names no file for the channel "{channel}".', where=table, code="channel_count")
    path = table.parent / cell
    found = find_scans(path)
    if found.problems:
        raise found.problems[0]
    if len(found.sources) != 1:
        raise ScanRefused(
            f"{len(found.sources) or 'No'} scans lie here, where the table needs one.",
            where=path,
            advice="Name the file, or the folder of one series.",
            code="several_series",
        )
    return found.sources[0]


def _words(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
