"""Files that appear whole or not at all.

What is written goes to a hidden name beside its place, is flushed to the disk, and is then renamed. Whoever looks at
the place sees the old file or the new one, never half of one, whatever happens in between.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unet_med.errors import UnetMedError, WriteFailed, WrongUse


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path` that becomes `path` when the block ends well.

    Its name is hidden and ends as that of `path` does, so that libraries see the same suffix. The folder must exist.

    Raises:
        WriteFailed: full disk, no permission, missing folder; nothing is left behind, an older `path` is as it was.
    """
    temporary = _beside(path)
    with _in_words(path):
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush_folder(path.parent)
        except BaseException:  # a KeyboardInterrupt leaves no rubbish either
            with suppress(OSError):
                temporary.unlink()
            raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new, empty folder beside `path` that becomes `path`, with all files in it, when the block ends well.

    Raises:
        WrongUse: `path` exists and is not an empty folder.
        WriteFailed: as for `replacing`.
    """
    with _in_words(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise WrongUse(
                "A new folder is to be written here, but something exists already.",
                where=path,
                advice="Name another folder, or empty this one.",
            )
        temporary = _beside(path)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            if path.exists():
                path.rmdir()  # Windows does not rename onto a folder, not even an empty one
            temporary.replace(path)
            _flush_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _beside(path: Path) -> Path:
    # The end of the name is enough for a suffix, and cannot exceed what file systems allow (255 bytes).
    return path.with_name(f".{secrets.token_hex(4)}.{path.name[-40:]}")


def _flush(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    """So that the new name, too, survives a power cut. Some systems cannot; the file is complete all the same."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except UnetMedError:  # some of them are OSErrors, and speak for themselves
        raise
    except OSError as error:
        what, advice = _explain(error, path)
        raise WriteFailed(what, where=path, advice=advice) from error


def _explain(error: OSError, path: Path) -> tuple[str, str | None]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; nothing was written.", "Free some space, or write to another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "There is no permission to write here.", "Choose a folder that you may write to."
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist.", "Create it first, or name another."
    if path.is_dir():
        return "A folder of this name is in the way of the file.", "Choose another name."
    return f"The file could not be written: {error.strerror or error}.", None
