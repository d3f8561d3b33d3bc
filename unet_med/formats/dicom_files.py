"""DICOM files as they lie in folders and archives: which files are DICOM, and what their headers say.

Only headers are read here, never pixels. Content decides, not the suffix: clinical exports name files IM000001 as
readily as scan.dcm. Everything that pydicom raises or warns about stays in this module and in `dicom_pixels`.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_med.errors import FileUnreadable
from unet_med.formats.dicom_archive import BROKEN, opened


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM: it has the mark `DICM`, or is a data set without preamble that names its SOP class.

    Raises:
        FileUnreadable: the file cannot be opened.
    """
    try:
        with opened(path) as file:
            start = file.read(132)
    except IsADirectoryError:
        return False
    except (OSError, *BROKEN) as error:
        raise FileUnreadable(f"The file cannot be opened ({_reason(error)}).", where=path) from error
    if start[128:] == b"DICM":
        return True
    # A bare data set begins with group 2 or 8, little endian; asking that first spares parsing every other file.
    if start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    try:
        return bool(text(read_header(path, ("SOPClassUID",)), "SOPClassUID"))
    except FileUnreadable:
        return False


def other_objects(files: Sequence[Path]) -> dict[Path, str]:
    """The kinds of DICOM objects that these files are: "Segmentation Storage" ... What is no DICOM is left out."""
    kinds = {}
    for path in files:
        try:
            if is_dicom(path):
                header = read_header(path, ("SOPClassUID",))
                # A DICOMDIR names its class in the file meta information only.
                uid = text(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")
                kinds[path] = sop_class_name(uid) or "object of no declared kind"
        except FileUnreadable:
            continue
    return kinds


# -- headers ------------------------------------------------------------------------------------------------------


def read_header(path: Path, tags: Sequence[Any], *, pixels: bool = False) -> Any:
    """The named tags of a file, as a pydicom data set; with `pixels` the pixel data, too.

    Raises:
        FileUnreadable: it cannot be opened, or is not DICOM.
    """
    import pydicom

    try:
        with quietly(), opened(path, whole=pixels) as file:
            return pydicom.dcmread(file, force=True, stop_before_pixels=not pixels, specific_tags=list(tags))
    except OSError as error:
        raise FileUnreadable(f"The file cannot be opened ({_reason(error)}).", where=path) from error
    except Exception as error:  # damaged bytes make pydicom raise nearly anything: struct.error, KeyError, zlib.error
        raise FileUnreadable(
            f"The file cannot be parsed as DICOM ({type(error).__name__}); it is damaged or cut short.",
            where=path,
            advice="Export or copy it again.",
        ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or "damaged in the archive")


@contextmanager
def quietly() -> Iterator[None]:
    """Silences pydicom's warnings and log about odd headers; what matters of that becomes a finding or an error."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def value(header: Any, tag: str | int) -> Any:
    """The value of a tag; None where it is absent, empty, or cannot be converted to its type."""
    if tag not in header:  # most of those that are asked for; the rest of this costs thousands of files seconds
        return None
    with quietly():
        try:
            found = header.get(tag)
            # A tag that is asked for by number comes as an element.
            found = found.value if isinstance(tag, int) and found is not None else found
        except Exception:  # values are converted on access, and a damaged one raises whatever its parser does
            return None
    return None if found is None or found == "" else found


def text(header: Any, tag: str | int) -> str:
    """The value of a tag as text without blanks around it; "" where it is absent. Several values are joined by \\."""
    found = value(header, tag)
    if found is None:
        return ""
    parts = [found] if isinstance(found, str) or not isinstance(found, Sequence) else found
    return "\\".join(str(part).strip() for part in parts).replace("\0", "")


def numbers(header: Any, tag: str | int, count: int) -> tuple[float, ...] | None:
    """The value of a tag as `count` finite numbers, or None."""
    found = value(header, tag)
    if found is None:
        return None
    parts = [found] if isinstance(found, str) or not isinstance(found, Sequence) else list(found)
    try:
        result = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return result if len(result) == count and all(math.isfinite(part) for part in result) else None


def number(header: Any, tag: str | int) -> float | None:
    """The value of a tag as one finite number, or None."""
    found = numbers(header, tag, 1)
    return None if found is None else found[0]


def whole(header: Any, tag: str | int) -> int | None:
    """The value of a tag as a whole number, or None."""
    found = number(header, tag)
    return int(found) if found is not None and found == int(found) else None


def transfer_syntax(header: Any) -> str:
    """The transfer syntax UID; for a data set without file meta information that which it was parsed by."""
    declared = text(header.file_meta, "TransferSyntaxUID")
    if declared:
        return declared
    implicit, little = header.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def sop_class_name(uid: str) -> str:
    """The name of a SOP class or transfer syntax in the standard, or the UID where it is not in there."""
    import pydicom

    with quietly():
        return str(pydicom.uid.UID(uid).name)
