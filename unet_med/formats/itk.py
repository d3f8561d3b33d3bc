"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) <-> scans, through ITK.

Only here are ITK's conventions known: points in LPS (x and y negated against RAS), arrays with the axes reversed. ITK
keeps a shear in both formats, which tests hold it to. What it passes over without a word is looked up in the text of
the header: geometry that is missing, units of length, compressed data that are damaged.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError
from unet_med.formats import gzipped
from unet_med.formats.outline import Outline
from unet_med.formats.remarks import TOLERANCE, about_grid, about_undecided, about_values, channel_names, check_channels
from unet_med.formats.text_headers import MM_PER_UNIT, TextHeader, read_metaimage_header, read_nrrd_header
from unet_med.grid import Grid
from unet_med.scan import PIXEL_UNITS, Finding, Scan, Severity, Source

_LEVEL = 2
_LPS = np.diag((-1.0, -1.0, 1.0))
_SPACE_UNITS = "unet-med space units"
"""Key in a NRRD file of ours whose lengths are counted in pixels; ITK writes a size of 1 in any case."""


def read(source: Source, channels: int = 1) -> Scan:
    """Reads one file, or a header with the file of its data.

    Args:
        source: its path is the .nrrd, .nhdr, .mha or .mhd file.
        channels: how many values a voxel the caller's model reads.

    Returns:
        Data (C, I, J, K) of the type that is stored.

    Raises:
        FileUnreadable: not of its format, damaged, cut short, or without its data file.
        ScanRefused: complex values, more than three dimensions of space, another number of values than `channels`,
            a geometry that cannot be used.
    """
    path = source.paths[0]
    reader, header, outline = _look(source, channels)
    if header.packing == "zlib" and header.data is not None:
        _see_that_length_is_true(reader, header, header.data, path)
    try:
        with _silently():
            image = reader.Execute()
    except RuntimeError as error:
        raise _explained(str(error), path) from error
    data = _channels_first(image)
    return Scan(
        data,
        outline.grid,
        space_units=outline.space_units,
        channels=channel_names(len(data)),
        source=Source(source.kind, source.paths),
        findings=(*outline.findings, *about_values(data)),
    )


def outline(source: Source, channels: int = 1) -> Outline:
    """What `read` will say of a file by its header alone; it refuses what `read` refuses by it."""
    return _look(source, channels)[2]


def _look(source: Source, channels: int) -> tuple[sitk.ImageFileReader, TextHeader, Outline]:
    """Looks through a header: ITK's reader of the file, the text of its header, and what that comes to."""
    path = source.paths[0]
    nrrd = source.kind == "nrrd"
    header = read_nrrd_header(path) if nrrd else read_metaimage_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        with _silently(), _without_stderr():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _explained(str(error), path) from error
    _see_that_data_are_there(reader, header, path)
    count, shape = _layout(reader, path)
    check_channels(count, channels, path)
    scale, findings = _unit(header)
    stated = header.fields.get("space directions")
    if stated is not None and stated.count("(") < min(reader.GetDimension(), 3):
        raise _explained("spacing", path)  # ITK would make it 1 mm, without a word
    grid = _grid(reader, shape, scale, path)
    findings += _about_header(header, reader, grid, scale)
    sized = header.sized and header.fields.get(_SPACE_UNITS) != PIXEL_UNITS
    if not sized:
        message = "The header gives no size of a voxel."
        findings.append(Finding("no_pixel_spacing", Severity.NOTE, message, "Lengths are counted in voxels."))
    told = Outline(
        grid,
        count,
        space_units="mm" if sized else PIXEL_UNITS,
        findings=tuple(findings),
        undecided=about_undecided("float" in sitk.GetPixelIDValueAsString(reader.GetPixelID())),
    )
    return reader, header, told


def write(data: NDArray[Any], grid: Grid, path: Path, *, space_units: str, source: Source) -> None:
    """Writes (C, I, J, K) as a NRRD file in LPS, compressed; several channels become values of one voxel.

    A shear is written as it is: the format holds any three directions.

    Args:
        path: ends in .nrrd.
        source: not looked at; a NRRD file holds nothing of it.
    """
    stored: dict[str, np.dtype[Any]] = {"bool": np.dtype("u1"), "float16": np.dtype("f4")}
    values = data.astype(stored.get(data.dtype.name, data.dtype).newbyteorder("="), copy=False).T
    image = sitk.GetImageFromArray(values if len(data) > 1 else values[..., 0], isVector=len(data) > 1)
    image.SetSpacing(grid.spacing)
    image.SetOrigin((_LPS @ grid.affine[:3, 3]).tolist())
    image.SetDirection((_LPS @ grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    if space_units == PIXEL_UNITS:
        image.SetMetaData(_SPACE_UNITS, PIXEL_UNITS)
    path.touch()  # ITK does not say why it cannot write; this says it, where it is the folder's fault
    try:
        with _silently():
            sitk.WriteImage(image, str(path), True, _LEVEL, imageIO="NrrdImageIO")
    except RuntimeError as error:
        raise OSError(errno.EIO, "ITK could not write it (is the disk full?)") from error


def _see_that_data_are_there(reader: sitk.ImageFileReader, header: TextHeader, path: Path) -> None:
    """ITK asks for memory before it looks."""
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise ScanRefused("The voxels are complex, not plain numbers.", where=path, code="unsupported_data_type")
    if header.data is None:
        return
    wanted = _wanted(reader)
    file, start = header.data
    held = file.stat().st_size - start
    if header.packing in ("gzip", "zlib"):
        held *= gzipped.LARGEST_RATIO
    if header.packing != "other" and held < wanted:
        raise _too_short(reader, wanted, path)


def _wanted(reader: sitk.ImageFileReader) -> int:
    """Bytes of all voxels."""
    return math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * _bytes_of(reader.GetPixelID())


def _see_that_length_is_true(
    reader: sitk.ImageFileReader, header: TextHeader, data: tuple[Path, int], path: Path
) -> None:
    """ITK takes damaged compressed MetaImage data for good ones."""
    length, held = gzipped.measure(*data)
    stated = header.fields.get("compresseddatasize", "")
    if stated != str(length):
        raise FileUnreadable(
            f"The header says {stated or 'nothing'} of the length of the compressed data (CompressedDataSize), "
            f"which is {length} bytes; ITK would read them wrongly.",
            where=path,
            advice="Correct the header, or convert the scan anew from its source.",
        )
    if held < _wanted(reader):
        raise _too_short(reader, _wanted(reader), path)


def _too_short(reader: sitk.ImageFileReader, wanted: int, path: Path) -> FileUnreadable:
    sizes = " x ".join(map(str, reader.GetSize()))
    return FileUnreadable(
        f"The header promises {sizes} voxels in {wanted} bytes, and the file holds fewer: it was cut short, "
        "or its header is damaged.",
        where=path,
        advice="Copy or download it again.",
    )


def _bytes_of(pixel: int) -> int:
    """Size of one number: names of ITK's types begin with "8-bit", "32-bit" ..., or "vector of 8-bit"."""
    name = sitk.GetPixelIDValueAsString(pixel).removeprefix("vector of ")
    return int(name.split("-bit")[0]) // 8


def _explained(said: str, path: Path) -> UnetMedError:
    if "spacing" in said.lower() or "determinant" in said.lower() or "space_directions" in said:
        return ScanRefused(
            "The directions or sizes of the voxels are zero, not finite or singular: where they lie cannot be told.",
            where=path,
            advice="Convert the scan anew from its source.",
            code="invalid_geometry",
        )
    return FileUnreadable(
        "The file is damaged, cut short, or of a kind that ITK does not read.",
        where=path,
        advice="Copy or download it again.",
    )


def _layout(reader: sitk.ImageFileReader, path: Path) -> tuple[int, tuple[int, int, int]]:
    """How many values a voxel has, and the shape (I, J, K): a fourth dimension counts as values."""
    sizes, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(sizes) not in (2, 3) and not (len(sizes) == 4 and components == 1):
        raise ScanRefused(
            f"The file holds {' x '.join(map(str, sizes))} voxels of {components} values: more dimensions than three "
            "of space and one of channels.",
            where=path,
            advice="Save the volume that is meant as a file of its own.",
            code="unsupported_dimensions",
        )
    width, height, depth, volumes = (*sizes, 1, 1)[:4]
    return volumes * components, (width, height, depth)


def _channels_first(image: sitk.Image) -> NDArray[Any]:
    """(C, I, J, K). ITK's arrays run (t, k, j, i, c), where there is a fourth dimension or several values a voxel."""
    values = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1:
        values = values[..., np.newaxis]
    if image.GetDimension() == 2:
        values = values[np.newaxis]
    if image.GetDimension() == 4:
        values = np.moveaxis(values[..., 0], 0, -1)
    return values.T


def _unit(header: TextHeader) -> tuple[float, list[Finding]]:
    """How many mm a unit of length is. Where none is named, both formats mean mm."""
    if not header.units or header.units == ("mm",):
        return 1.0, []
    named = ", ".join(header.units)
    if len(header.units) == 1 and header.units[0] in MM_PER_UNIT:
        message = f"Lengths are given in {named}."
        return MM_PER_UNIT[header.units[0]], [
            Finding("units_converted", Severity.REPAIRED, message, "Converted to mm.")
        ]
    message = f"Lengths are given in units that are not known here ({named})."
    return 1.0, [Finding("units_unknown", Severity.NOTE, message, "Taken as mm.")]


def _grid(reader: sitk.ImageFileReader, shape: tuple[int, int, int], scale: float, path: Path) -> Grid:
    n = reader.GetDimension()
    space = min(n, 3)
    directions = np.array(reader.GetDirection()).reshape(n, n)[:space, :space] * reader.GetSpacing()[:space]
    affine = np.eye(4)  # a two-dimensional image lies in the plane z = 0, one mm thick, for want of anything better
    affine[:space, :space] = directions * scale
    affine[:space, 3] = np.array(reader.GetOrigin()[:space]) * scale
    affine[:3] = _LPS @ affine[:3]
    try:
        return Grid(shape, affine)
    except ValueError as error:
        raise _explained("spacing", path) from error


def _about_header(header: TextHeader, reader: sitk.ImageFileReader, grid: Grid, scale: float) -> Iterator[Finding]:
    if header.unplaced:
        yield Finding(
            "no_orientation",
            Severity.NOTE,
            f"The header does not say how the voxels lie in the patient: it lacks {header.unplaced}.",
            "Taken as ITK takes it: in LPS, along the axes and from the origin where nothing else is said.",
        )
    stated = np.array(reader.GetSpacing()[:3]) * scale
    size = len(stated)
    if np.abs((stated - grid.spacing[:size]) * grid.shape[:size]).max() > TOLERANCE:
        message = "The axes of the header's matrix are not of length 1, so that it contradicts the voxel size."
        yield Finding("spacing_tag_disagrees", Severity.NOTE, message, "Matrix times size is used, as in ITK.")
    if size == 2:
        message = "A two-dimensional file: it gives no thickness, and volumes are not to be trusted."
        yield Finding("single_slice", Severity.NOTE, message, "Taken to be 1 mm thick.")
    yield from (finding for finding in about_grid(grid) if finding.code != "single_slice" or size == 3)


@contextmanager
def _silently() -> Iterator[None]:
    """ITK prints warnings past Python; what matters of them is a finding or an error here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """ITK's MetaImage library prints what it thinks of a header straight to the terminal; the error says it anyway."""
    try:
        kept = os.dup(2)
    except OSError:  # a program with a window may have no terminal
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
