"""The text headers of NRRD and MetaImage files: what ITK does not tell of them.

NRRD: https://teem.sourceforge.net/nrrd/format.html, MetaImage: https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unet_med.errors import FileUnreadable

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "\u00b5m": 0.001, "micron": 0.001, "microns": 0.001}
_PATIENT_SPACES = (
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
)
_LONGEST = 1 << 20
"""Bytes: a header that goes on for longer is none."""


@dataclass(frozen=True)
class TextHeader:
    """What a header says beside the image.

    Args:
        fields: names (in lower case) and values, as written.
        units: the units of length that it names, in lower case.
        sized: whether it gives the size of a voxel.
        unplaced: what is missing for the place of the voxels in the patient, in words; empty if nothing is.
        data: the file that holds the voxels, and the byte at which they begin there; None if there are several files.
        packing: how voxels are stored: "raw", "gzip", "zlib" or "other".
    """

    fields: Mapping[str, str]
    units: tuple[str, ...]
    sized: bool
    unplaced: str
    data: tuple[Path, int] | None
    packing: str


def read_nrrd_header(path: Path) -> TextHeader:
    """The header of a .nrrd or .nhdr file.

    Raises:
        FileUnreadable: no NRRD, or the file of its data is missing.
    """
    lines, end = _lines(path, lambda line: not line)
    if not lines or not lines[0].startswith("NRRD000"):
        raise _not("NRRD", path)
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            # "name: value" is a field of the format, "name:=value" one that a program has added.
            fields[name.strip().lower()] = value.removeprefix("=").strip()
    space = fields.get("space", "").lower()
    unplaced = [name for name in ("space", "space directions", "space origin") if name not in fields]
    if space and space not in _PATIENT_SPACES:
        unplaced = [f"a space that is the patient's, instead of {space!r}"]
    encoding = fields.get("encoding", "raw").lower()
    packing = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(encoding, "other")
    units = set(fields.get("space units", "").lower().replace('"', " ").split()) - {"???"}
    file = fields.get("data file", fields.get("datafile"))
    sized = "space directions" in fields or "spacings" in fields
    return TextHeader(fields, tuple(sorted(units)), sized, " and ".join(unplaced), _data(path, file, end), packing)


def read_metaimage_header(path: Path) -> TextHeader:
    """The header of a .mha or .mhd file.

    Raises:
        FileUnreadable: no MetaImage, or the file of its data is missing.
    """
    lines, end = _lines(path, lambda line: line.lower().startswith("elementdatafile"))
    fields = {}
    for line in lines:
        name, _, value = line.partition("=")
        fields[name.strip().lower()] = value.strip()
    if not {"ndims", "dimsize", "elementtype", "elementdatafile"} <= fields.keys():
        raise _not("MetaImage", path)
    parts = {
        "a direction": ("transformmatrix", "rotation", "orientation"),
        "an offset": ("offset", "position", "origin"),
    }
    unplaced = [part for part, names in parts.items() if not any(name in fields for name in names)]
    packed = fields.get("compresseddata", "false").lower() == "true"
    text = fields.get("binarydata", "true").lower() == "false"
    packing = "zlib" if packed else "other" if text else "raw"
    units = {fields.get("distanceunits", "").lower()} - {"", "?"}
    file = fields["elementdatafile"]
    data = _data(path, None if file.upper() == "LOCAL" else file, end)
    sized = "elementspacing" in fields or "elementsize" in fields
    return TextHeader(fields, tuple(sorted(units)), sized, " and ".join(unplaced), data, packing)


def _lines(path: Path, is_last: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines up to the last one of the header, and the number of bytes they take."""
    lines: list[str] = []
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise FileUnreadable("The file is empty.", where=path, advice="Copy or download it again.")
            file.seek(0)
            while file.tell() < _LONGEST and (line := file.readline(_LONGEST)):
                lines.append(line.decode("utf-8", errors="replace").rstrip("\r\n"))
                if is_last(lines[-1]):
                    break
            return lines, file.tell()
    except FileUnreadable:
        raise
    except OSError as error:
        raise FileUnreadable(f"The file cannot be opened ({error.strerror}).", where=path) from error


def _data(path: Path, name: str | None, end: int) -> tuple[Path, int] | None:
    if name is None:
        return path, end
    if name.upper().startswith("LIST") or "%" in name:
        return None
    file = path.parent / name.split(" ")[0] if not (path.parent / name).is_file() else path.parent / name
    if not file.is_file():
        raise FileUnreadable(
            f"This header belongs to a file of voxels, {name}, which is not there.",
            where=path,
            advice="Copy both files into one folder.",
        )
    return file, 0


def _not(format: str, path: Path) -> FileUnreadable:
    return FileUnreadable(
        f"This is no {format} file: it does not begin with the header of one.",
        where=path,
        advice="If it is of another format, give it the suffix of that format.",
    )
