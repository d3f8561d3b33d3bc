"""What can go wrong, as a small tree of exceptions.

    UnetMedError
    ├── ScanRefused    (ValueError)  this scan cannot be used as it is
    ├── FileUnreadable (OSError)     these bytes are not what their name or header says
    ├── ModelRefused   (ValueError)  a card, weights file or model folder that cannot be trusted
    ├── WrongUse       (ValueError)  options that contradict each other or the input
    ├── WriteFailed    (OSError)     a result could not be written, or did not read back as written
    └── Cancelled                    the caller asked to stop; nothing is wrong

Each carries three sentences for a person: what is wrong, where (a file, a series, a key), and what to do about it.
"""

from __future__ import annotations

from os import PathLike


class UnetMedError(Exception):
    """An error that is explained to the user in one paragraph.

    Args:
        what: what is wrong, with the value seen and the value expected.
        where: the file, series or key it concerns; None where there is just one candidate.
        advice: what to do about it; None where nothing can be done.
    """

    def __init__(self, what: str, *, where: str | PathLike[str] | None = None, advice: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.advice = advice
        place = f"{self.where}: " if self.where else ""
        super().__init__(" ".join(part for part in (f"{place}{what}", advice) if part))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (data-loading workers); keyword-only fields need help there.
        return _rebuild, (type(self), self.what, self.where, self.advice)

    def __str__(self) -> str:
        # OSError has a __str__ of its own that would hide the message.
        return str(self.args[0])


class ScanRefused(UnetMedError, ValueError):
    """The scan was read, but cannot be used as it is. `code` is the finding's: see `unet_med.scan.FINDING_CODES`."""

    def __init__(
        self,
        what: str,
        *,
        where: str | PathLike[str] | None = None,
        advice: str | None = None,
        code: str = "refused",
    ) -> None:
        super().__init__(what, where=where, advice=advice)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.advice, self.code)


class FileUnreadable(UnetMedError, OSError):
    """The file is missing, empty, cut short, or not of the format that it claims."""


class ModelRefused(UnetMedError, ValueError):
    """A model folder whose card, weights or hashes do not fit together."""


class WrongUse(UnetMedError, ValueError):
    """The caller asked for something that makes no sense; the command line exits with 2."""


class WriteFailed(UnetMedError, OSError):
    """A result could not be written completely; no partial file is left behind."""


class Cancelled(UnetMedError):
    """Raised by a progress callback to stop between two windows."""

    def __init__(self, what: str = "Stopped on request.", **fields: str | None) -> None:
        super().__init__(what, **fields)


def _rebuild(
    kind: type[UnetMedError], what: str, where: str | None, advice: str | None, code: str | None = None
) -> UnetMedError:
    if code is not None:
        return kind(what, where=where, advice=advice, code=code)  # type: ignore[call-arg]
    return kind(what, where=where, advice=advice)
