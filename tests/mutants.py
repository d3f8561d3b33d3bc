"""Real scans, damaged a little and on purpose: everything that is done to one follows from a seed and a number.

A mutant is a copy of a case of the scan corpus with one of its files changed: bits, bytes, tags, or the place of a
slice.
"""

from __future__ import annotations

import gzip
import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

STEADY = 0.001  # mm
"""Series whose slices lie this evenly tell a change by itself, not one on top of their own unevenness."""

SMALLEST, SMALL, LARGEST = 0.0105, 0.03, 30.0
"""mm: how far the corner of a slice is moved. More than 0.01 mm is to be told; half of all moves are near that."""

HEADER = 4096
"""Bytes: half of all changes fall into so many at the start of a file, where the tags are."""


@dataclass(frozen=True)
class Mutant:
    """A damaged copy.

    Args:
        path: what is to be read: a folder, or a NIfTI file.
        origin: that, undamaged.
        kind: which damage it is: a key of `DAMAGES`.
        words: the file and what was done to it.
        moved: mm by which the slice was moved; None where something else was done.
    """

    path: Path
    origin: Path
    kind: str
    words: str
    moved: float | None = None


def make(corpus: Path, seed: int, number: int, scratch: Path) -> Mutant:
    """The mutant that `seed` and `number` stand for.

    Args:
        corpus: the folder with `dicom/` (a folder a case) and `nifti/` (a file a case).
        scratch: an empty folder.
    """
    chance = random.Random(f"{seed} {number}")
    kind = chance.choices(list(DAMAGES), [weight for weight, _ in DAMAGES.values()])[0]
    if kind == "a slice moved":
        origin = chance.choice(steady_series(corpus))
    else:
        cases = nifti_files(corpus) if kind in NIFTI_ONLY or chance.random() < NIFTI_SHARE else dicom_folders(corpus)
        origin = chance.choice(cases)
    path = scratch / origin.name
    if origin.is_dir():
        shutil.copytree(origin, path, copy_function=shutil.copyfile)
        victim = chance.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    else:
        for file in origin.parent.glob(f"{origin.name.split('.')[0]}.*"):  # an .img goes with its .hdr
            shutil.copyfile(file, scratch / file.name)
        victim = path
    words, moved = DAMAGES[kind][1](victim, chance)
    return Mutant(path, origin, kind, f"{origin.name}/{victim.name}: {words}", moved)


# -- the cases ------------------------------------------------------------------------------------------------------


@cache
def dicom_folders(corpus: Path) -> tuple[Path, ...]:
    return tuple(sorted((corpus / "dicom").iterdir()))


@cache
def nifti_files(corpus: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in (corpus / "nifti").iterdir() if file.suffix != ".img"))


@cache
def steady_series(corpus: Path) -> tuple[Path, ...]:
    """Folders of one series of three slices or more, parallel, of equal spacing and evenly spaced by their raw tags."""
    return tuple(folder for folder in dicom_folders(corpus) if _is_steady(folder))


def _is_steady(folder: Path) -> bool:
    headers = [_parsed(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    if len(headers) < 3 or any(one is None or _corners(one) is None or "NumberOfFrames" in one for one in headers):
        return False
    same = ("SeriesInstanceUID", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "FrameOfReferenceUID")
    if any(len({str(one.get(tag)) for one in headers}) > 1 for tag in same) or headers[0].get("SamplesPerPixel") != 1:
        return False
    if min(float(part) for part in headers[0].PixelSpacing) <= 0:
        return False
    places = np.array([_corners(one)[0] for one in headers])
    along = places @ np.cross(*np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3))
    steps = np.diff(places[np.argsort(along)], axis=0)
    return bool(np.ptp(steps, axis=0).max() < STEADY and np.abs(steps).max() > 0.1)


def _parsed(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(file, force=True)
            return header if "Rows" in header else None
        except Exception:  # what is no DICOM raises nearly anything
            return None


def _corners(header: Dataset) -> Any:
    """The places of the four corner pixels, mm, (4, 3); None where tags do not tell."""
    try:
        place = np.array(header.ImagePositionPatient, float)
        row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = (float(part) for part in header.PixelSpacing)
        right = row * between_columns * (header.Columns - 1)
        down = column * between_rows * (header.Rows - 1)
    except (AttributeError, TypeError, ValueError):
        return None
    return np.array([place, place + right, place + down, place + right + down])


# -- damage to bytes ------------------------------------------------------------------------------------------------

Told = tuple[str, float | None]


def _flip_bits(file: Path, chance: random.Random) -> Told:
    data = bytearray(file.read_bytes())
    count = chance.choice((1, 1, 2, 4, 16, 64))
    for _ in range(count if data else 0):
        data[_somewhere(len(data), chance)] ^= 1 << chance.randrange(8)
    file.write_bytes(data)
    return f"{count} bits flipped", None


def _truncate(file: Path, chance: random.Random) -> Told:
    data = file.read_bytes()
    length = _somewhere(len(data), chance) if data else 0
    file.write_bytes(data[:length])
    return f"cut at byte {length} of {len(data)}", None


def _blank(file: Path, chance: random.Random) -> Told:
    data = bytearray(file.read_bytes())
    start = _somewhere(len(data), chance) if data else 0
    end = min(len(data), start + chance.choice((1, 4, 16, 256, 4096, 65536)))
    filler = chance.choice((0, 255))
    data[start:end] = bytes([filler]) * (end - start)
    file.write_bytes(data)
    return f"bytes {start} to {end} of {len(data)} set to {filler}", None


def _cut_out(file: Path, chance: random.Random) -> Told:
    data = bytearray(file.read_bytes())
    start = _somewhere(len(data), chance) if data else 0
    end = min(len(data), start + chance.choice((1, 2, 8, 100, 5000)))
    del data[start:end]
    file.write_bytes(data)
    return f"bytes {start} to {end} cut out", None


def _somewhere(length: int, chance: random.Random) -> int:
    return chance.randrange(min(length, HEADER) if chance.random() < 0.5 else length)


# -- damage to tags -------------------------------------------------------------------------------------------------


def _delete_tag(file: Path, chance: random.Random) -> Told:
    def delete(places: list[tuple[Dataset, DataElement]]) -> str:
        inside, element = chance.choice(places)
        del inside[element.tag]
        return f"{_name(element)} deleted"

    return _with_tags(file, chance, delete)


def _swap_tags(file: Path, chance: random.Random) -> Told:
    """The values of two tags, of one type as a rule: nothing in the file is malformed, and much is untrue."""

    def swap(places: list[tuple[Dataset, DataElement]]) -> str:
        _, one = chance.choice(places)
        kin = [element for _, element in places if element is not one and element.VR == one.VR]
        other = chance.choice(kin) if kin and chance.random() < 0.8 else chance.choice(places)[1]
        one._value, other._value = other._value, one._value
        return f"{_name(one)} and {_name(other)} swapped"

    return _with_tags(file, chance, swap)


def _change_tag(file: Path, chance: random.Random) -> Told:
    def change(places: list[tuple[Dataset, DataElement]]) -> str:
        _, element = chance.choice([place for place in places if place[1].VR not in ("SQ", "OB", "OW")])
        numbers: list[Any] = [0, 1, 2, 7, 255, 65535]
        words: list[Any] = ["", "0", "-1", "1e9", "nan", "-inf", "1,5", "x" * 16, "1\\2", "1\\2\\3\\4\\5\\6", "\0", "ä"]
        value = chance.choice(numbers if element.VR in ("US", "SS", "UL", "SL") else words)
        element._value = value
        return f"{_name(element)} set to {value!r}"

    return _with_tags(file, chance, change)


def _with_tags(file: Path, chance: random.Random, act: Callable[[list[tuple[Dataset, DataElement]]], str]) -> Told:
    header = _parsed(file)
    if header is None:
        return _flip_bits(file, chance)
    # Values that the standard does not allow are the point, so nothing on the way may mend or refuse them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            places = list(_elements(header))
            words = act(places)
            pydicom.dcmwrite(file, header, enforce_file_format=False)
        except Exception:  # some values cannot be written at all, and the copy is damaged in another way
            return _flip_bits(file, chance)
    return words, None


def _elements(header: Dataset) -> Any:
    for element in header:
        yield header, element
        if element.VR == "SQ" and isinstance(element.value, Sequence):
            for item in element.value:
                yield from _elements(item)


def _name(element: DataElement) -> str:
    return element.keyword or str(element.tag)


# -- a slice moved --------------------------------------------------------------------------------------------------


def _move_slice(file: Path, chance: random.Random) -> Told:
    """Position, orientation or pixel spacing of one file, or two of them, by a known distance at its worst corner."""
    header = _parsed(file)
    before = _corners(header)
    ways = chance.choice((("along",), ("aside",), ("position",), ("turned",), ("spaced",), ("position", "turned")))
    target = SMALLEST * (chance.choice((SMALL, LARGEST)) / SMALLEST) ** chance.random()
    for way in ways:
        _MOVES[way](header, target / len(ways) ** 0.5, chance)
    moved = float(np.linalg.norm(_corners(header) - before, axis=1).max())
    if moved < SMALLEST:  # two moves may take each other back
        return _move_slice(file, chance)
    pydicom.dcmwrite(file, header, enforce_file_format=False)
    return f"moved by {moved:.4f} mm ({' and '.join(ways)})", moved


def _axes(header: Dataset) -> Any:
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    return row, column, np.cross(row, column)


def _direction(chance: random.Random) -> Any:
    vector = np.array([chance.gauss(0, 1) for _ in range(3)])
    return vector / np.linalg.norm(vector)


def _shift(header: Dataset, by: Any) -> None:
    header.ImagePositionPatient = [f"{part:.10g}" for part in np.array(header.ImagePositionPatient, float) + by]


def _along(header: Dataset, size: float, chance: random.Random) -> None:
    _shift(header, chance.choice((-size, size)) * _axes(header)[2])


def _aside(header: Dataset, size: float, chance: random.Random) -> None:
    row, column, _ = _axes(header)
    angle = chance.uniform(0, 2 * np.pi)
    _shift(header, size * (np.cos(angle) * row + np.sin(angle) * column))


def _anywhere(header: Dataset, size: float, chance: random.Random) -> None:
    _shift(header, size * _direction(chance))


def _turn(header: Dataset, size: float, chance: random.Random) -> None:
    corners = _corners(header) - _corners(header)[0]
    axis = _direction(chance)
    reach = float(np.linalg.norm(np.cross(axis, corners), axis=1).max())
    angle = 2 * np.arcsin(min(1.0, size / (2 * reach)))
    turned = [
        vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + axis * (axis @ vector) * (1 - np.cos(angle))
        for vector in _axes(header)[:2]
    ]
    header.ImageOrientationPatient = [f"{part:.10g}" for part in np.concatenate(turned)]


def _space(header: Dataset, size: float, chance: random.Random) -> None:
    rows, columns = chance.choice(((1, 0), (0, 1), (0.5**0.5, 0.5**0.5)))
    down, right = (float(part) for part in header.PixelSpacing)
    down += rows * size / (header.Rows - 1)
    right += columns * size / (header.Columns - 1)
    header.PixelSpacing = [f"{down:.10g}", f"{right:.10g}"]


_MOVES = {"along": _along, "aside": _aside, "position": _anywhere, "turned": _turn, "spaced": _space}


# -- damage inside a packed NIfTI -----------------------------------------------------------------------------------


def _nifti_field(file: Path, chance: random.Random) -> Told:
    """A header field gets another's bytes, or odd ones; a packed file is packed again, with the right checksum."""
    packed = file.read_bytes().startswith(b"\x1f\x8b")
    try:
        data = bytearray(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
    except Exception:  # some cases are damaged gzip streams to begin with
        return _flip_bits(file, chance)
    if len(data) < 348:
        return _flip_bits(file, chance)
    size = chance.choice((2, 4))
    here, there = (chance.randrange(0, 348 // size) * size for _ in range(2))
    other = chance.choice((bytes(data[there : there + size]), b"\xff" * size, bytes(size), chance.randbytes(size)))
    data[here : here + size] = other
    file.write_bytes(gzip.compress(bytes(data), 1) if packed else data)
    return f"header bytes {here} to {here + size} set to {other.hex()}", None


NIFTI_SHARE = 0.15
NIFTI_ONLY = {"a header field changed"}
DAMAGES: dict[str, tuple[int, Callable[[Path, random.Random], Told]]] = {
    "bits flipped": (4, _flip_bits),
    "cut short": (2, _truncate),
    "bytes blanked": (2, _blank),
    "bytes cut out": (1, _cut_out),
    "a tag deleted": (3, _delete_tag),
    "tags swapped": (3, _swap_tags),
    "a tag changed": (3, _change_tag),
    "a slice moved": (5, _move_slice),
    "a header field changed": (2, _nifti_field),
}
"""What is done, how often as a share, and by whom. Tags are those of DICOM; a NIfTI file gets flipped bits instead."""
