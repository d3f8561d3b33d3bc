"""What lies at a path: files and DICOM series that are scans, found without reading a pixel."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from unet_med.errors import FileUnreadable, UnetMedError
from unet_med.scan import Source

_KINDS: Mapping[str, str] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".img": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".png": "picture",
    ".tif": "picture",
    ".tiff": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".bmp": "picture",
}
FORMATS_READ = "NIfTI (.nii, .nii.gz, .hdr/.img), NRRD, MetaImage, PNG, TIFF, JPEG, BMP and DICOM"
_NEVER_SCANS = {".csv", ".json", ".log", ".md", ".pdf", ".raw", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zraw"}
"""Not looked into when a folder is searched. Other files may be DICOM, which has no certain suffix."""


@dataclass(frozen=True)
class Found:
    """What lies at a path: scans, what could not be looked at, and DICOM objects that are no scans, with their kind."""

    sources: tuple[Source, ...]
    problems: tuple[UnetMedError, ...]
    objects: Mapping[Path, str] = field(default_factory=dict)


def find_scans(path: str | Path) -> Found:
    """The scans in a file or in a folder and all that is below it. No pixel is read.

    In a folder, hidden names and files of other kinds are passed over, links are followed, and DICOM files are put
    together to series over the whole tree. A header with its image file is one source, named by the header.

    Raises:
        FileUnreadable: there is nothing at the path, or a file that is no scan.
    """
    path = Path(path)
    problems: list[UnetMedError] = []
    try:
        path.stat()
    except OSError as error:
        raise FileUnreadable(f"The file or folder cannot be opened ({error.strerror}).", where=path) from error
    # A DICOMDIR may be stale, so the folder that it is the index of is searched instead.
    root = path.parent if path.name.upper() == "DICOMDIR" and path.is_file() else path
    files = list(_walk(root, problems, set())) if root.is_dir() else [path]
    sources: list[Source] = []
    unnamed = []
    for file in files:
        kind = kind_of(file)
        try:
            if kind:
                sources += [Source(kind, (_header_of(file),))] if _stands_for_itself(file, files) else []
            elif file.suffix.lower() == ".zip":
                unnamed += import_module("unet_med.formats.dicom_archive").members(file)
            elif file is path or file.suffix.lower() not in _NEVER_SCANS:
                unnamed.append(file)
        except UnetMedError as problem:
            problems.append(problem)
    objects: Mapping[Path, str] = {}
    if unnamed:
        found, more = import_module("unet_med.formats.dicom_find").find_series(unnamed)
        sources += found
        problems += more
        used = {file for source in found for file in source.paths} | {Path(str(problem.where)) for problem in more}
        rest = [file for file in unnamed if file not in used]
        objects = import_module("unet_med.formats.dicom_files").other_objects(rest)
    if files == [path] and not (sources or problems or objects):
        raise FileUnreadable(
            "This is not a scan of a format that is read.", where=path, advice=f"Read are {FORMATS_READ}."
        )
    return Found(tuple(_ordered(sources)), tuple(problems), objects)


def _ordered(sources: Sequence[Source]) -> list[Source]:
    """By path; the stacks of a series stay together, in their own order."""
    first: dict[object, tuple[str, ...]] = {}
    for source in sources:
        parts = min(source.paths).parts
        first[_series(source)] = min(parts, first.get(_series(source), parts))
    return sorted(sources, key=lambda source: first[_series(source)])


def _series(source: Source) -> object:
    return (source.series_uid, source.identity) if "stack" in source.header else source.paths


def _walk(folder: Path, problems: list[UnetMedError], seen: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back to a folder that was here already
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(folder.iterdir())
    except OSError as error:
        problems.append(FileUnreadable(f"The folder cannot be opened ({error.strerror}).", where=folder))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            mode = entry.stat().st_mode
            if stat.S_ISREG(mode):
                entry.open("rb").close()
        except OSError as error:  # no permission, or a link that leads nowhere
            problems.append(FileUnreadable(f"It cannot be opened ({error.strerror}).", where=entry))
            continue
        if stat.S_ISDIR(mode):
            yield from _walk(entry, problems, seen)
        elif stat.S_ISREG(mode):  # opening a pipe would wait for ever
            yield entry


def kind_of(file: Path) -> str | None:
    """`Source.kind` by the suffix of a file; None for a suffix that is not in the table, as of most DICOM files."""
    name = file.name.lower()
    return next((kind for suffix, kind in _KINDS.items() if name.endswith(suffix)), None)


def _header_of(file: Path) -> Path:
    """The .hdr of an .img; any other file itself."""
    if file.suffix.lower() != ".img":
        return file
    for suffix in (".hdr", ".HDR"):
        if file.with_suffix(suffix).is_file():
            return file.with_suffix(suffix)
    raise FileUnreadable(
        f"The header of this image file, {file.with_suffix('.hdr').name}, is not beside it.",
        where=file,
        advice="Copy both files into one folder.",
    )


def _stands_for_itself(file: Path, files: list[Path]) -> bool:
    """False for an .img that is found by its .hdr."""
    return file.suffix.lower() != ".img" or len(files) == 1 or _header_of(file) not in files
