"""DICOM files of a folder tree, put together to series, and series to stacks. Only headers are read here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError
from unet_med.formats.dicom_archive import size_of
from unet_med.formats.dicom_files import is_dicom, read_header, sop_class_name, text, whole
from unet_med.formats.dicom_instance import INSTANCE_TAGS, Instance, instances_of
from unet_med.formats.dicom_split import stacks_of
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

HEADER_TAGS = (
    *INSTANCE_TAGS,
    "StudyInstanceUID",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PatientName",
    "PatientID",
)


def find_series(files: Sequence[Path]) -> tuple[list[Source], list[UnetMedError]]:
    """Groups files into series by SeriesInstanceUID (and patient), wherever in the tree they lie; series into stacks.

    Files that are no DICOM, and DICOM objects that are no scans (reports, segmentations, structure sets, DICOMDIR),
    are left out quietly.

    Returns:
        One Source a stack, sorted by folder and series number, its paths sorted by name. Where a series holds several,
        `header["stack"]` tells each from the others in words, and `header["frames"]` names the frames of multi-frame
        files that belong to it. And a FileUnreadable for each file that says by mark or suffix that it is DICOM and
        cannot be read as such.
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
    found = [
        _sources([(path, header) for _, path, header in series], unreadable)
        for _, series in groupby(members, key=lambda member: member[0])
    ]
    found.sort(key=lambda stacks: (stacks[0].paths[0].parent, stacks[0].series_number or 0, stacks[0].paths[0]))
    return [source for stacks in found for source in stacks], problems


def _scan_header(path: Path) -> Any:
    """The header of a file that holds an image; None for what is no scan."""
    if not is_dicom(path):
        if path.suffix.lower() in DICOM_SUFFIXES:
            empty = size_of(path) == 0
            raise FileUnreadable(
                f"The file is named like DICOM, but {'is empty' if empty else 'holds no DICOM data'}.", where=path
            )
        return None
    header = read_header(path, HEADER_TAGS)
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


def _sources(series: Sequence[tuple[Path, Any]], unreadable: list[Path]) -> list[Source]:
    paths, header = [path for path, _ in series], series[0][1]
    try:
        images = [one for path, each in series for one in instances_of(each, path)]
        stacks = stacks_of(images)
    except (ScanRefused, FileUnreadable):  # whoever reads the series is told
        return [_source(paths, header, unreadable, ())]
    if len(stacks) < 2:
        return [_source(paths, header, unreadable, images)]
    return [
        _source(paths, header, unreadable, stack.images, f"stack {n + 1} of {len(stacks)}: {stack.words}")
        for n, stack in enumerate(stacks)
    ]


def _source(
    paths: list[Path], header: Any, unreadable: list[Path], images: Sequence[Instance], stack: str = ""
) -> Source:
    modality = text(header, "Modality")
    kept: dict[str, Any] = {"study_uid": text(header, "StudyInstanceUID")}
    if images:  # as they were looked at: headers of thousands of files need not be parsed twice
        kept["images"] = tuple(images)
    if stack:
        paths = list(dict.fromkeys(one.path for one in images))
        kept["stack"] = stack
        if any(one.frame is not None for one in images):
            kept["frames"] = tuple((paths.index(one.path), one.frame or 0) for one in images)
    folders = {path.parent for path in paths}
    # Nobody can tell whether a broken file beside a series is one of its slices: its reader says so.
    kept["unreadable_beside"] = sum(path.parent in folders for path in unreadable)
    return Source(
        "dicom",
        tuple(paths),
        modality=None if modality in ("", "OT") else modality,  # OT, "other", declares nothing
        description=text(header, "SeriesDescription"),
        series_uid=text(header, "SeriesInstanceUID") or None,
        series_number=whole(header, "SeriesNumber"),
        header=kept,
        identity=tuple(name for name in (text(header, "PatientName"), text(header, "PatientID")) if name),
    )
