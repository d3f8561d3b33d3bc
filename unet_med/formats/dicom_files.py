"""DICOM files as they lie in folders: which files are DICOM, what their headers say, and which belong together.

Only headers are read here, never pixels. Content decides, not the suffix: clinical exports name files IM000001 as
readily as scan.dcm. Everything that pydicom raises or warns about stays in this module and in `dicom_pixels`.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from unet_med.errors import FileUnreadable, UnetMedError
from unet_med.scan import Source

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

NO_SCANS = (
    "1.2.840.10008.1.3.10",  # DICOMDIR
    "1.2.840.10008.5.1.4.1.1.66",  # Raw Data, registrations, fiducials, SEGMENTATIONS and the like
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.88",  # structured reports
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose: has rows and columns, but is no scan
    "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set
)
"""SOP classes (PS3.6, table A-1) that are no scans; what begins with one of these and a dot belongs to it."""

SERIES_TAGS = (
    "SOPClassUID",
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PatientName",
    "PatientID",
    "Rows",
    "Columns",
)


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM: it has the mark `DICM`, or is a data set without preamble that names its SOP class.

    Raises:
        FileUnreadable: the file cannot be opened.
    """
    try:
        if not path.is_file():  # opening a named pipe would wait for ever
            return False
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise FileUnreadable(f"The file cannot be opened ({error.strerror}).", where=path) from error
    if start[128:] == b"DICM":
        return True
    # A bare data set begins with group 2 or 8, little endian; asking that first spares parsing every other file.
    if start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    try:
        return bool(text(read_header(path, ("SOPClassUID",)), "SOPClassUID"))
    except FileUnreadable:
        return False


def find_series(files: Sequence[Path]) -> tuple[list[Source], list[UnetMedError]]:
    """Groups files into series by SeriesInstanceUID (and patient), wherever in the tree they lie.

    Files that are no DICOM, and DICOM objects that are no scans (reports, segmentations, structure sets, DICOMDIR),
    are left out quietly.

    Returns:
        One Source a series, sorted by folder and series number, its paths sorted by name; and a FileUnreadable for
        each file that says by mark or suffix that it is DICOM and cannot be read as such.
    """
    members: list[tuple[tuple[str, ...], Path, Any]] = []
    problems: list[UnetMedError] = []
    for path in sorted(files):
        try:
            header = _scan_header(path)
        except FileUnreadable as problem:
            problems.append(problem)
            continue
        if header is not None:
            # A series of two patients is a mix-up. Without a UID the folder is the best grouping there is.
            uid = text(header, "SeriesInstanceUID") or f"in {path.parent}"
            members.append(((uid, text(header, "PatientID")), path, header))
    members.sort(key=lambda member: (member[0], member[1]))
    unreadable = [Path(problem.where) for problem in problems if problem.where]
    sources = [
        _source([path for _, path, _ in group], group[0][2], unreadable)
        for group in (list(found) for _, found in groupby(members, key=lambda member: member[0]))
    ]
    sources.sort(key=lambda source: (source.paths[0].parent, source.series_number or 0, source.paths[0]))
    return sources, problems


def _scan_header(path: Path) -> Any:
    """The header of a file that holds an image; None for what is no scan."""
    if not is_dicom(path):
        if path.suffix.lower() in DICOM_SUFFIXES:
            empty = path.is_file() and path.stat().st_size == 0
            raise FileUnreadable(
                f"The file is named like DICOM, but {'is empty' if empty else 'holds no DICOM data'}.", where=path
            )
        return None
    header = read_header(path, SERIES_TAGS)
    # A DICOMDIR names its class in the file meta information only.
    sop_class = text(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")
    if any(f"{sop_class}.".startswith(f"{other}.") for other in NO_SCANS):
        return None
    if whole(header, "Rows") and whole(header, "Columns"):
        return header
    if not sop_class or "Image Storage" in sop_class_name(sop_class):
        raise FileUnreadable(
            "The file is marked as DICOM, but its header ends before it says what image it holds; it is cut short or "
            "damaged.",
            where=path,
            advice="Export or copy it again.",
        )
    return None


def _source(paths: list[Path], header: Any, unreadable: list[Path]) -> Source:
    modality = text(header, "Modality")
    folders = {path.parent for path in paths}
    return Source(
        "dicom",
        tuple(paths),
        modality=None if modality in ("", "OT") else modality,  # OT, "other", declares nothing
        description=text(header, "SeriesDescription"),
        series_uid=text(header, "SeriesInstanceUID") or None,
        series_number=whole(header, "SeriesNumber"),
        # Nobody can tell whether a broken file beside a series is one of its slices: its reader says so.
        header={"unreadable_beside": sum(path.parent in folders for path in unreadable)},
        identity=tuple(name for name in (text(header, "PatientName"), text(header, "PatientID")) if name),
    )


# -- headers ------------------------------------------------------------------------------------------------------


def read_header(path: Path, tags: Sequence[Any], *, pixels: bool = False) -> Any:
    """The named tags of a file, as a pydicom data set; with `pixels` the pixel data, too.

    Raises:
        FileUnreadable: it cannot be opened, or is not DICOM.
    """
    import pydicom

    try:
        with quietly():
            return pydicom.dcmread(path, force=True, stop_before_pixels=not pixels, specific_tags=list(tags))
    except OSError as error:
        raise FileUnreadable(f"The file cannot be opened ({error.strerror or error}).", where=path) from error
    except Exception as error:  # damaged bytes make pydicom raise nearly anything: struct.error, KeyError, zlib.error
        raise FileUnreadable(
            f"The file cannot be parsed as DICOM ({type(error).__name__}); it is damaged or cut short.",
            where=path,
            advice="Export or copy it again.",
        ) from error


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
