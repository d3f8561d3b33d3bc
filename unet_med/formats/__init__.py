"""Files <-> scans and segmentations. The table of formats is here; a module speaks each.

find_scans(path)      -> sources, without reading a pixel
read_scan(source)     -> a scan with exact geometry, or a named refusal
read_segmentation     -> labels
write_segmentation    -> written beside its place, read back, compared, renamed
write_scan            -> the same for image data
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError, WriteFailed, WrongUse
from unet_med.formats.atomic import replacing
from unet_med.formats.remarks import exactness
from unet_med.grid import Grid
from unet_med.scan import Scan, Source
from unet_med.segmentation import Label, Segmentation

SUFFIXES: Mapping[str, str] = {"nifti": ".nii.gz", "nrrd": ".nrrd", "png": ".png"}
"""What `write_segmentation` can write, and the suffix of each."""

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
_MODULES = {"nifti": "nifti", "nrrd": "itk", "metaimage": "itk", "picture": "pictures", "dicom": "dicom_series"}
_WRITERS = {"nifti": "nifti", "nrrd": "itk", "png": "pictures"}
_NAMES_WRITTEN = {"nifti": (".nii.gz", ".nii"), "nrrd": (".nrrd",), "png": (".png",)}
_FORMATS_READ = "NIfTI (.nii, .nii.gz, .hdr/.img), NRRD, MetaImage, PNG, TIFF, JPEG, BMP and DICOM"
_NEVER_SCANS = {".csv", ".json", ".log", ".md", ".pdf", ".raw", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zraw"}
"""Not looked into when a folder is searched. Other files may be DICOM, which has no certain suffix."""

_COLOURS = (
    "#e6550d", "#3182bd", "#31a354", "#756bb1", "#e7298a", "#1b9e77", "#d4b106", "#a6761d",
    "#17becf", "#d62728", "#9467bd", "#8c9a27", "#f781bf", "#4c78a8", "#b15928", "#66c2a5",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What lies at a path: scans, and what could not be looked at."""

    sources: tuple[Source, ...]
    problems: tuple[UnetMedError, ...]


# -- finding ----------------------------------------------------------------------------------------------------------


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
    if path.is_dir():
        files = list(_walk(path, problems, set()))
    elif _kind(path) is None and not _is_dicom(path):
        raise FileUnreadable(
            "This is not a scan of a format that is read.", where=path, advice=f"Read are {_FORMATS_READ}."
        )
    else:
        files = [path]
    sources, series = [], []
    for file in files:
        kind = _kind(file)
        try:
            if kind:
                sources += [Source(kind, (_header_of(file),))] if _stands_for_itself(file, files) else []
            elif file is path or (file.suffix.lower() not in _NEVER_SCANS and _is_dicom(file)):
                series.append(file)
        except UnetMedError as problem:
            problems.append(problem)
    if series:
        found, more = import_module("unet_med.formats.dicom_files").find_series(series)
        sources += found
        problems += more
    return Found(tuple(sorted(sources, key=lambda source: min(source.paths).parts)), tuple(problems))


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


def _kind(file: Path) -> str | None:
    name = file.name.lower()
    return next((kind for suffix, kind in _KINDS.items() if name.endswith(suffix)), None)


def _is_dicom(file: Path) -> bool:
    return bool(import_module("unet_med.formats.dicom_files").is_dicom(file))


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


# -- reading ----------------------------------------------------------------------------------------------------------


def read_scan(source: str | Path | Source, *, channels: int = 1) -> Scan:
    """Reads a scan.

    Args:
        source: a file, a folder that holds exactly one scan, or a source from `find_scans`.
        channels: how many values a voxel the caller's model reads. A file with another number is refused; a colour
            picture has three, and counts as one where they are equal.

    Returns:
        Read-only data (C, I, J, K) in the order of the file, with what is worth mentioning in `Scan.findings`.

    Raises:
        FileUnreadable: missing, empty, damaged, or not of the format that it claims.
        ScanRefused: read, but of no use as it is; the code says why.
    """
    one = source if isinstance(source, Source) else _only_source(Path(source))
    scan: Scan = _module(one.kind).read(one, channels)
    return scan


def read_segmentation(path: str | Path) -> Segmentation:
    """Reads a label map from any format that scans are read from.

    Labels get the names label_1, label_2 ... and colours from a fixed list. Of a picture with a palette the stored
    numbers count, not their colours.

    Raises:
        FileUnreadable: as for `read_scan`.
        ScanRefused: as for `read_scan`; and values that are not whole numbers in 0..65535.
    """
    source = _only_source(Path(path))
    module = _module(source.kind)
    scan: Scan = module.read_labels(source) if source.kind == "picture" else module.read(source, 1)
    labels = _whole_numbers(scan.data[0], source)
    return Segmentation(labels, scan.grid, _table(labels), scan.space_units, scan.source)


def _only_source(path: Path) -> Source:
    found = find_scans(path)
    if len(found.sources) == 1:
        return found.sources[0]
    if found.sources:
        names = [source.description or Path(source.name).name for source in found.sources]
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise ScanRefused(
            f"There are {len(names)} scans here, and one is needed: {shown}.",
            where=path,
            advice="Name one of them.",
            code="several_series",
        )
    if found.problems:
        raise found.problems[0]
    raise FileUnreadable("There is no scan in this folder.", where=path, advice=f"Read are {_FORMATS_READ}.")


def _module(kind: str) -> ModuleType:
    return import_module(f"unet_med.formats.{_MODULES[kind]}")


def _whole_numbers(values: NDArray[Any], source: Source) -> NDArray[Any]:
    """(I, J, K) as uint8, or uint16 if there are values above 255; a slice at a time, to save memory."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8, order="K")
    highest = 0
    for k in range(values.shape[2]):
        plane = values[:, :, k]
        low, high = plane.min(), plane.max()
        if not (low >= 0 and high <= 65535) or (plane.dtype.kind == "f" and (plane != np.trunc(plane)).any()):
            raise ScanRefused(
                f"Labels are whole numbers from 0 to 65535; this file holds values such as {_strange(plane):g}.",
                where=source.name,
                advice="Is this the scan instead of its mask, or a map of probabilities?",
            )
        highest = max(highest, int(high))
    return values.astype(np.uint8 if highest < 256 else np.uint16, order="K")


def _strange(plane: NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):
        strange = ~((plane >= 0) & (plane <= 65535) & (plane == np.trunc(plane)))
    return float(plane[strange][0])


def _table(labels: NDArray[Any]) -> tuple[Label, ...]:
    present = np.zeros(65536, bool)
    for k in range(labels.shape[2]):
        present[labels[:, :, k]] = True
    values = [int(value) for value in np.flatnonzero(present) if value]
    return tuple(Label(value, f"label_{value}", _COLOURS[n % len(_COLOURS)]) for n, value in enumerate(values))


# -- writing ----------------------------------------------------------------------------------------------------------


def write_segmentation(segmentation: Segmentation, path: str | Path, format: str) -> None:
    """Writes the labels on their grid, and proves it: the file is read back and compared before it gets its name.

    Args:
        path: in a folder that exists; ends in the suffix of the format. An older file is replaced.
        format: a key of `SUFFIXES`.

    Raises:
        WrongUse: an unknown format, a suffix of another, several slices as PNG.
        ScanRefused: `uneven_spacing`, where the grid has no true form in the format.
        WriteFailed: the file could not be written, or did not read back as written. No file is left.
    """
    _write(segmentation.labels[np.newaxis], segmentation, Path(path), format)


def write_scan(scan: Scan, path: str | Path, format: str) -> None:
    """Writes image data as `write_segmentation` writes labels; "dicom" makes a new folder with a file for each slice.

    Raises:
        As for `write_segmentation`. WrongUse, too, for values that the format cannot hold.
    """
    if format == "dicom":
        import_module("unet_med.formats.dicom_series").write(scan, Path(path))
    else:
        _write(scan.data, scan, Path(path), format)


def _write(data: NDArray[Any], thing: Scan | Segmentation, path: Path, format: str) -> None:
    if format not in SUFFIXES:
        raise WrongUse(f'"{format}" is no format that can be written; these are: {", ".join(SUFFIXES)}.')
    if not path.name.lower().endswith(_NAMES_WRITTEN[format]):
        suffixes = " or ".join(_NAMES_WRITTEN[format])
        raise WrongUse(f"The name of a {format} file ends in {suffixes}.", where=path)
    if thing.grid.slice_offsets is not None:
        raise ScanRefused(
            f"The slices are unevenly spaced, which {format} cannot say.",
            where=thing.source.name,
            advice="Resample it onto evenly spaced slices first.",
            code="uneven_spacing",
        )
    module = import_module(f"unet_med.formats.{_WRITERS[format]}")
    with replacing(path) as temporary:
        module.write(data, thing.grid, temporary, space_units=thing.space_units, source=thing.source)
        _prove(data, thing.grid if format != "png" else None, temporary, path)  # a picture holds no place


def _prove(data: NDArray[Any], grid: Grid | None, temporary: Path, path: Path) -> None:
    """Reads what was written, and compares."""
    try:
        source = _only_source(temporary)
        back: Scan = _module(source.kind).read(source, len(data))
    except UnetMedError as error:
        raise WriteFailed(f"What was written could not be read back: {error.what}", where=path) from error
    placed = grid is None or back.grid.is_close(grid, exactness(grid))
    equal = back.data.shape == data.shape and all(
        np.array_equal(back.data[c, :, :, k], data[c, :, :, k], equal_nan=data.dtype.kind == "f")
        for c in range(len(data))
        for k in range(data.shape[3])
    )
    if not (placed and equal):
        what = "voxels" if placed else "geometry"
        raise WriteFailed(f"The {what} did not read back as they were written; the file was removed.", where=path)
