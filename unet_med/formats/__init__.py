"""Files <-> scans and segmentations. Which module reads and writes what is here; a module speaks each.

find_scans(path)      -> sources, without reading a pixel
examine(source)       -> what its headers tell, and whether it can be read
read_scan(source)     -> a scan with exact geometry, or a named refusal
read_segmentation     -> labels
write_segmentation    -> written beside its place, read back, compared, renamed
write_scan            -> the same for image data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError, WriteFailed, WrongUse
from unet_med.formats.atomic import replacing
from unet_med.formats.finding import FORMATS_READ, kind_of
from unet_med.formats.finding import Found as Found
from unet_med.formats.finding import find_scans as find_scans
from unet_med.formats.outline import Outline
from unet_med.formats.remarks import TOLERANCE, exactness
from unet_med.grid import Grid
from unet_med.provenance import Provenance
from unet_med.scan import Scan, Source
from unet_med.segmentation import Label, Segmentation

SUFFIXES: Mapping[str, str] = {
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "png": ".png",
    "dicom-seg": ".seg.dcm",
    "dicom-labelmap": ".labelmap.dcm",
    "rtstruct": ".rtstruct.dcm",
}
"""What `write_segmentation` can write, and the suffix of each."""

_MODULES = {"nifti": "nifti", "nrrd": "itk", "metaimage": "itk", "picture": "pictures", "dicom": "dicom_series"}
_WRITERS = {"nifti": "nifti", "nrrd": "itk", "png": "pictures"}
_DICOM_WRITERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "dicom-seg": ("dicom_seg", {"kind": "BINARY"}),
    "dicom-labelmap": ("dicom_seg", {"kind": "LABELMAP"}),
    "rtstruct": ("dicom_rtstruct", {}),
}
"""Objects that refer to the images they belong to: the module, and how it is called."""
_NAMES_WRITTEN = {"nifti": (".nii.gz", ".nii"), "nrrd": (".nrrd",), "png": (".png",)}
_DICOM_MASKS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "dicom_seg",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.66.7": "dicom_seg",  # Label Map Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.481.3": "dicom_rtstruct",  # RT Structure Set Storage
}
"""SOP classes of DICOM objects that are masks, and the module that reads each."""
_COLOURS = (
    "#e6550d", "#3182bd", "#31a354", "#756bb1", "#e7298a", "#1b9e77", "#d4b106", "#a6761d",
    "#17becf", "#d62728", "#9467bd", "#8c9a27", "#f781bf", "#4c78a8", "#b15928", "#66c2a5",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Examination:
    """What the headers of a source tell.

    Args:
        outline: grid, units and findings; None where it is refused.
        refusal: why `read_scan` refuses it; None where nothing in its headers stands against it.
    """

    source: Source
    outline: Outline | None
    refusal: UnetMedError | None


# -- reading ----------------------------------------------------------------------------------------------------------


def examine(source: Source, *, channels: int = 1) -> Examination:
    """What `read_scan` will make of a source, as far as headers tell: they are read and judged by the same code.

    Args:
        channels: as for `read_scan`.
    """
    try:
        outline: Outline = _module(source.kind).outline(source, channels)
    except UnetMedError as refusal:
        return Examination(source, None, refusal)
    return Examination(source, outline, None)


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


def read_segmentation(path: str | Path, *, on: Scan | None = None) -> Segmentation:
    """Reads a label map from any format that scans are read from, from a DICOM segmentation, or from a DICOM structure
    set (which needs `on`).

    Where a file names no labels they get the names label_1, label_2 ... and colours from a fixed list. Of a picture
    with a palette the stored numbers count, not their colours.

    Args:
        on: the scan that was segmented. The labels come back on exactly its grid, in its axis order.

    Raises:
        FileUnreadable: as for `read_scan`.
        ScanRefused: as for `read_scan`; values that are not whole numbers in 0..65535; `grids_differ`, where the voxels
            are not those of the scan; `segments_overlap`, where one label map has no room: see `read_segmentations`.
    """
    found = read_segmentations(path, on=on)
    if len(found) > 1:
        raise ScanRefused(
            f"The segments overlap: they need {len(found)} label maps, and one is asked for.",
            where=path,
            advice="In Python, read_segmentations gives them all.",
            code="segments_overlap",
        )
    return found[0]


def read_segmentations(path: str | Path, *, on: Scan | None = None) -> tuple[Segmentation, ...]:
    """As `read_segmentation`; structures that overlap come as several label maps, each structure whole in one."""
    path = Path(path)
    masks = _mask_module(path)
    if masks:
        return tuple(import_module(f"unet_med.formats.{masks}").read(path, on))
    source = _only_source(path)
    module = _module(source.kind)
    scan: Scan = module.read_labels(source) if source.kind == "picture" else module.read(source, 1)
    labels = _whole_numbers(scan.data[0], source)
    read = Segmentation(labels, scan.grid, _table(labels), scan.space_units, scan.source)
    return (read if on is None else _laid_on(read, on),)


def _mask_module(path: Path) -> str | None:
    if kind_of(path) or not path.is_file():
        return None
    dicom = import_module("unet_med.formats.dicom_files")
    if not dicom.is_dicom(path):
        return None
    return _DICOM_MASKS.get(dicom.text(dicom.read_header(path, ("SOPClassUID",)), "SOPClassUID"))


def _laid_on(read: Segmentation, on: Scan) -> Segmentation:
    """The same voxels in the axis order of the scan, where they are its voxels."""
    how = read.grid.toward(on.grid.orientation)
    grid = read.grid.reorient(how)
    if not grid.is_close(on.grid, TOLERANCE):
        shapes = [" x ".join(map(str, each.shape)) for each in (grid, on.grid)]
        far = grid.distance(on.grid)
        raise ScanRefused(
            f"The segmentation ({shapes[0]} voxels) does not lie on the voxels of the scan ({shapes[1]})"
            + (f": they are up to {far:.3g} mm apart." if far < float("inf") else "."),
            where=read.source.name,
            advice="Is this the scan that was segmented? Resample the segmentation onto it.",
            code="grids_differ",
        )
    return Segmentation(how.apply(read.labels), on.grid, read.table, on.space_units, on.source)


def _only_source(path: Path) -> Source:
    found = find_scans(path)
    if len(found.sources) == 1:
        return found.sources[0]
    if found.sources:
        raise _several(found.sources, path)
    if found.problems:
        raise found.problems[0]
    if found.objects:
        kinds = sorted(set(found.objects.values()))
        what = f"This DICOM file is no scan but a {kinds[0]}." if path.is_file() else "There is no scan in this folder."
        here = f"It holds DICOM objects of other kinds: {', '.join(kinds)}. " if path.is_dir() else ""
        raise FileUnreadable(what, where=path, advice=f"{here}Name the series of images that it was made from.")
    raise FileUnreadable("There is no scan in this folder.", where=path, advice=f"Read are {FORMATS_READ}.")


def _several(sources: Sequence[Source], path: Path) -> ScanRefused:
    stacks = len({source.series_uid for source in sources}) == 1 and all("stack" in source.header for source in sources)
    names = [source.header.get("stack") or source.description or Path(source.name).name for source in sources]
    shown = ("; " if stacks else ", ").join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return ScanRefused(
        f"There are {len(names)} {'stacks of slices in this series' if stacks else 'scans here'}, and one is needed: "
        f"{shown}.",
        where=path,
        advice="Name one of them." if not stacks else "Choose one of them; in Python, find_scans gives each.",
        code="several_stacks" if stacks else "several_series",
    )


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


def write_segmentation(
    segmentation: Segmentation, path: str | Path, format: str, *, provenance: Provenance | None = None
) -> None:
    """Writes the labels on their grid, and proves it: the file is read back and compared before it gets its name.

    Args:
        path: in a folder that exists; ends in the suffix of the format. An older file is replaced.
        format: a key of `SUFFIXES`.
        provenance: of the result; formats that name the algorithm (DICOM) take it from here.

    Raises:
        WrongUse: an unknown format, a suffix of another, several slices as PNG, DICOM for what was no DICOM.
        ScanRefused: `uneven_spacing`, where the grid has no true form in the format; images that no DICOM object can
            refer to.
        WriteFailed: the file could not be written, or did not read back as written. No file is left.
    """
    path = Path(path)
    if format in _DICOM_WRITERS:
        _check_name(path, format, (".dcm",))
        module, options = _DICOM_WRITERS[format]
        import_module(f"unet_med.formats.{module}").write(segmentation, path, provenance=provenance, **options)
    else:
        _write(segmentation.labels[np.newaxis], segmentation, path, format)


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
    if format not in _WRITERS:
        known = SUFFIXES if isinstance(thing, Segmentation) else [*_WRITERS, "dicom"]
        raise WrongUse(f'"{format}" is no format that can be written; these are: {", ".join(known)}.')
    _check_name(path, format, _NAMES_WRITTEN[format])
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


def _check_name(path: Path, format: str, suffixes: tuple[str, ...]) -> None:
    if not path.name.lower().endswith(suffixes):
        raise WrongUse(f"The name of a {format} file ends in {' or '.join(suffixes)}.", where=path)


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
