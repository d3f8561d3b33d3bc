"""DICOM files inside zip archives, by paths that go through the archive: `study.zip/series 3/IM0001`.

Nothing is unpacked to the disk: a member is read where it lies, so that no name in an archive can reach outside it.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import BinaryIO, cast

from unet_med.errors import FileUnreadable

SUFFIX = ".zip"
MOST_MEMBERS = 100_000
LARGEST_MEMBER = 1 << 31
LARGEST_TOTAL = 1 << 35
"""Bytes. A few kilobytes can claim to expand to any size; what no study reaches is refused before it is expanded."""

BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What `zipfile` raises for damage, for an unknown compression and for encrypted members."""


def members(archive: Path) -> list[Path]:
    """The files in an archive, hidden ones left out, as paths that `opened` understands.

    Raises:
        FileUnreadable: no zip archive, damaged, encrypted, too large, or with names that lead outside it.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
    except OSError as error:
        raise FileUnreadable(f"The archive cannot be opened ({error.strerror or error}).", where=archive) from error
    except BROKEN as error:
        raise FileUnreadable(
            "The file is named like a zip archive, but is none, or is damaged.", where=archive, advice="Copy it again."
        ) from error
    fault = _fault(entries)
    if fault:
        raise FileUnreadable(fault, where=archive, advice="Unpack it yourself if you trust it, and name the folder.")
    names = [PurePosixPath(entry.filename) for entry in entries]
    return [archive / name for name in names if not any(part.startswith((".", "__MACOSX")) for part in name.parts)]


def _fault(entries: list[zipfile.ZipInfo]) -> str | None:
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_MEMBERS:
        return f"The archive holds {len(entries)} files; more than {MOST_MEMBERS} are not looked at."
    if total > LARGEST_TOTAL or any(entry.file_size > LARGEST_MEMBER for entry in entries):
        return (
            f"The archive would expand to {total / 1e9:.1f} GB; at most {LARGEST_TOTAL / 1e9:.0f} GB, and "
            f"{LARGEST_MEMBER / 1e9:.1f} GB for a file, are read."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        return "The archive is encrypted."
    if any(S_ISLNK(entry.external_attr >> 16) for entry in entries):
        return "The archive holds links; these may lead anywhere."
    if any(entry.filename.startswith("/") or ".." in PurePosixPath(entry.filename).parts for entry in entries):
        return 'The archive holds names that lead outside it ("..", or an absolute path).'
    return None


def opened(path: Path, *, whole: bool = False) -> BinaryIO:
    """Opens a file, or a member of an archive, for reading.

    Args:
        whole: all of it will be read. A member is then expanded at once, and its check sum compared.

    Raises:
        OSError: as for any file. What is read from a member may raise what is in `BROKEN`.
    """
    archive = archive_of(path)
    if archive is None:
        if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
            raise IsADirectoryError(0, "it is no file", str(path))
        return path.open("rb")
    file, entry = _member(path, archive)
    try:
        return BytesIO(file.read(entry)) if whole else cast(BinaryIO, file.open(entry))
    except BROKEN as error:
        raise OSError(0, "damaged in the archive", str(path)) from error


def size_of(path: Path) -> int:
    """Bytes of a file, or of a member of an archive once it is expanded."""
    archive = archive_of(path)
    return path.stat().st_size if archive is None else _member(path, archive)[1].file_size


def archive_of(path: Path) -> Path | None:
    """The archive that a path goes through; None for a file that lies in a folder."""
    return next((parent for parent in path.parents if parent.suffix.lower() == SUFFIX and parent.is_file()), None)


def _member(path: Path, archive: Path) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    status = archive.stat()
    try:
        file, entries = _directory(archive, status.st_mtime_ns, status.st_size, os.getpid())
        return file, entries[PurePosixPath(path.relative_to(archive).as_posix())]
    except BROKEN as error:
        raise OSError(0, "the archive is damaged", str(archive)) from error
    except KeyError:
        raise FileNotFoundError(2, "there is no such file in the archive", str(path)) from None


@lru_cache(maxsize=2)
def _directory(
    archive: Path, changed: int, size: int, process: int
) -> tuple[zipfile.ZipFile, dict[PurePosixPath, zipfile.ZipInfo]]:
    """An open archive and its table of contents, which takes as long to read as the archive has members.

    The process is part of the key because a forked one would share, and move, the place in the open file.
    """
    file = zipfile.ZipFile(archive)
    return file, {PurePosixPath(entry.filename): entry for entry in file.infolist()}
