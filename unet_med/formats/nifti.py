"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, pairs of .hdr and .img) <-> scans.

nibabel knows the fields of the header. Bytes are read here, so that every fault has a name of its own, the checksum of
a compressed file is looked at, and a large scan is in memory once. Geometry: `nifti_geometry`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats import gzipped
from unet_med.formats.nifti_geometry import QFORM_FIELDS, Placement, fits, qform_fits, read_placement
from unet_med.formats.outline import Outline
from unet_med.formats.remarks import (
    TOLERANCE,
    about_grid,
    about_undecided,
    about_values,
    channel_names,
    check_channels,
    check_colour,
    colour_channels,
    exactness,
    opaque,
)
from unet_med.grid import Grid
from unet_med.scan import PIXEL_UNITS, Finding, Scan, Severity, Source

PLACEMENT = "placement"
"""Key of `Source.header`: the `Placement` of the file."""

_NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOURS = {128: 3, 2304: 4}
_OTHERS = {1: "single bits", 32: "complex numbers", 1536: "128-bit numbers", 1792: "complex numbers"}
_SCANNER, _ALIGNED = 1, 2
_LARGEST_IN_NIFTI_1 = 32767
_CHUNK = 1 << 20


# -- reading ----------------------------------------------------------------------------------------------------------


def read(source: Source, channels: int = 1) -> Scan:
    """Reads one file, or a pair of header and image.

    Args:
        source: its path is the .nii, .nii.gz or .hdr file.
        channels: how many values a voxel the caller's model reads.

    Returns:
        Data as they lie in the file (Fortran order). Integers as stored where the header scales nothing, else float32.

    Raises:
        FileUnreadable: no NIfTI, a header that contradicts itself, data that are cut short.
        ScanRefused: complex and other values, real dimensions beyond the fourth, another number of volumes than
            `channels`, a geometry that cannot be used.
    """
    path = source.paths[0]
    with _opened(path) as stream:
        head = _head(stream, channels, path)
        if head.path_of_data == path:
            raw, extra = _values(stream, head, path)
        else:
            with _opened(head.path_of_data) as image:
                raw, extra = _values(image, head, head.path_of_data)
    grid, findings = head.outline.grid, [*head.outline.findings]
    if extra:
        message = f"{extra} bytes follow after the image data."
        findings.append(Finding("data_after_end", Severity.NOTE, message, "Ignored."))
    if head.samples == 1:
        volumes = raw.reshape((*grid.shape, head.outline.channels), order="F")
        data = np.moveaxis(_rescaled(volumes, head.scaling), 3, 0)
    else:
        colours = np.moveaxis(raw.reshape((head.samples, *grid.shape), order="F"), 0, 3)
        data, more = colour_channels(opaque(colours, path), channels, path)
        findings += more
    findings += about_values(data)
    known = Source("nifti", source.paths, header={PLACEMENT: head.placement})
    return Scan(data, grid, channels=channel_names(len(data)), source=known, findings=tuple(findings))


def outline(source: Source, channels: int = 1) -> Outline:
    """What `read` will say of a file by its header alone; it refuses what `read` refuses by it."""
    path = source.paths[0]
    with _opened(path) as stream:
        head = _head(stream, channels, path)
        packed = isinstance(stream.raw, gzipped.Inflated)
    if head.path_of_data == path:
        _see_that_data_fit(head, packed, path)
    else:
        with _opened(head.path_of_data) as image:
            _see_that_data_fit(head, isinstance(image.raw, gzipped.Inflated), head.path_of_data)
    return head.outline


@dataclass(frozen=True, eq=False)
class _Head:
    """A header that has been looked through.

    Args:
        placement: where it says that the voxels lie.
        scaling: slope and intercept of the values; None where they are as stored.
        shape: the sizes that it counts.
        dtype, samples: type of a number in the file's byte order, and how many make a voxel (3 or 4 for colour).
        path_of_data: the file of the voxels.
        read, start: how many bytes of it (unpacked) have been read, and at which the voxels begin.
        outline: what all that comes to.
    """

    placement: Placement
    scaling: tuple[float, float] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    samples: int
    path_of_data: Path
    read: int
    start: int
    outline: Outline


def _head(stream: io.BufferedReader, channels: int, path: Path) -> _Head:
    """Reads the header of a file, and sees what can be made of it."""
    header = _header(stream, path)
    shape = _shape(header, path)
    dtype, samples = _voxel_type(header, path)
    width, height, depth, volumes = (*shape, 1, 1, 1)[:4]
    spatial = (width, height, depth)
    if samples == 1:
        check_channels(volumes, channels, path)
    elif volumes > 1:
        raise _beyond(shape, "colour ", path)
    placement, findings = read_placement(header, spatial, path)
    if bytes(header["magic"].item()).startswith(b"ni"):
        path_of_data, read, start = _image_beside(path), 0, _offset(header, path)
    else:
        # Some writers leave 0 where they mean the first byte that may hold data.
        start = _offset(header, path) or int(header.single_vox_offset)
        path_of_data, read = path, len(header.binaryblock)
    if len(shape) > 3 and shape[-1] == 1:
        message = f"The header counts {len(shape)} dimensions, of which the last have length 1."
        findings.append(Finding("trailing_dimensions", Severity.NOTE, message, "Dropped."))
    grid = Grid(spatial, placement.affine)
    if samples == 1:
        scaling, more = _scaling(header)
        count, undecided = volumes, about_undecided(scaling is not None or dtype.kind == "f")
    else:
        scaling, more = None, []
        count, undecided = check_colour(channels, samples == 4, path)
    findings += [*more, *about_grid(grid)]
    outline = Outline(grid, count, findings=tuple(findings), undecided=undecided)
    return _Head(placement, scaling, shape, dtype, samples, path_of_data, read, start, outline)


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The content of a file, unpacked if it is packed: the first bytes decide, not the name."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileUnreadable(f"The file cannot be opened ({error.strerror}).", where=path) from error
    with file:
        packed = file.read(2) == gzipped.MAGIC
        file.seek(0)
        yield io.BufferedReader(gzipped.Inflated(path, file), _CHUNK) if packed else file


def _header(stream: io.BufferedReader, path: Path) -> Nifti1Header:
    start = stream.read(348)
    if not start:
        raise FileUnreadable("The file is empty.", where=path, advice="Copy or download it again.")
    for kind, length, magics in (
        (Nifti1Header, 348, (b"n+1", b"ni1")),
        (Nifti2Header, 540, (b"n+2", b"ni2")),
    ):
        for endianness in "<>":
            if start[:4] == np.array(length, f"{endianness}i4").tobytes():
                block = start + stream.read(length - len(start))
                if len(block) < length:
                    raise FileUnreadable(f"The file ends inside its header, after {len(block)} bytes.", where=path)
                header = kind(block, endianness, check=False)
                if header["magic"].item() in magics:  # NumPy strips the zero at its end
                    return header
    raise FileUnreadable(
        "This is no NIfTI file: its first bytes are not a NIfTI header" + (", but text." if _is_text(start) else "."),
        where=path,
        advice="If it is of another format, give it the suffix of that format.",
    )


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in start)


def _shape(header: Nifti1Header, path: Path) -> tuple[int, ...]:
    """The sizes that dim[0] counts, each at least 1; no real dimension after the fourth."""
    count, *sizes = (int(size) for size in header["dim"])
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        raise FileUnreadable(
            f"The header is damaged: it counts {count} dimensions, of sizes {', '.join(map(str, sizes))}.", where=path
        )
    shape = tuple(sizes[:count])
    if any(size > 1 for size in shape[4:]):
        raise _beyond(shape, "", path)
    return shape


def _beyond(shape: tuple[int, ...], kind: str, path: Path) -> ScanRefused:
    return ScanRefused(
        f"The file holds {' x '.join(map(str, shape))} {kind}voxels: more dimensions than are read.",
        where=path,
        advice="Save the volume that is meant as a file of its own.",
        code="unsupported_dimensions",
    )


def _voxel_type(header: Nifti1Header, path: Path) -> tuple[np.dtype[Any], int]:
    """Type of one number in the file's byte order, and how many make a voxel (3 or 4 for colour)."""
    code = int(header["datatype"])
    if code in _COLOURS:
        return np.dtype("u1"), _COLOURS[code]
    if code not in _NUMBERS:
        raise ScanRefused(
            f"The voxels are {_OTHERS.get(code, 'of an unknown type')} (NIfTI data type {code}), not plain numbers.",
            where=path,
            code="unsupported_data_type",
        )
    return np.dtype(header.endianness + _NUMBERS[code]), 1


def _offset(header: Nifti1Header, path: Path) -> int:
    """The byte at which the data begin; a floating point number in NIfTI-1."""
    offset = float(header["vox_offset"])
    if not np.isfinite(offset):
        raise FileUnreadable(f"The header is damaged: it lets the data begin at byte {offset:g}.", where=path)
    return int(offset)


def _values(stream: io.BufferedReader, head: _Head, path: Path) -> tuple[NDArray[Any], int]:
    """All numbers that follow, in native byte order, 1-D; and how many bytes follow them."""
    packed = stream.raw if isinstance(stream.raw, gzipped.Inflated) else None
    count, wanted = _see_that_data_fit(head, packed is not None, path)
    shape, dtype, skip = head.shape, head.dtype, head.start - head.read
    while skip and (chunk := stream.read(min(skip, _CHUNK))):
        skip -= len(chunk)
    values = np.empty(count, dtype)
    target = values.data.cast("B")
    got = 0
    while got < wanted and (more := stream.readinto(target[got:])):
        got += more
    if got < wanted:
        raise _too_short(shape, wanted, path)
    extra = 0
    while chunk := stream.read(_CHUNK):  # to the end, where the checksum is
        extra += len(chunk)
    if packed:
        extra += packed.garbage
    if not dtype.isnative:
        values = values.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return values, extra


def _see_that_data_fit(head: _Head, packed: bool, path: Path) -> tuple[int, int]:
    """How many numbers there are to be, and in how many bytes: before memory is asked for what is not there."""
    # Python's integers do not overflow, whatever sizes a damaged header claims.
    count = head.samples * math.prod(head.shape)
    wanted = count * head.dtype.itemsize
    held = path.stat().st_size * (gzipped.LARGEST_RATIO if packed else 1)
    if head.start < head.read or head.start + wanted > held:
        raise _too_short(head.shape, wanted, path)
    return count, wanted


def _too_short(shape: tuple[int, ...], wanted: int, path: Path) -> FileUnreadable:
    return FileUnreadable(
        f"The header promises {' x '.join(map(str, shape))} voxels in {wanted} bytes, and the file holds fewer: "
        "it was cut short, or its header is damaged.",
        where=path,
        advice="Copy or download it again.",
    )


def _image_beside(path: Path) -> Path:
    """The .img file of a .hdr."""
    for suffix in (".img", ".IMG", ".img.gz"):
        image = path.with_suffix(suffix)
        if image.is_file():
            return image
    raise FileUnreadable(
        f"This header belongs to an image file, {path.with_suffix('.img').name}, which is not beside it.",
        where=path,
        advice="Copy both files into one folder.",
    )


def _scaling(header: Nifti1Header) -> tuple[tuple[float, float] | None, list[Finding]]:
    """Slope and intercept, or None. nifti1.h: a slope of 0 means that there is no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    unusable = not np.isfinite(slope) or not np.isfinite(intercept)
    if unusable or slope == 0:
        if not unusable and intercept == 0:  # how most writers say that they scale nothing
            return None, []
        message = f"The header scales values by slope {slope:g} and intercept {intercept:g}, which cannot be meant."
        return None, [Finding("unit_scaling_ignored", Severity.NOTE, message, "Stored values are used.")]
    return None if (slope, intercept) == (1, 0) else (slope, intercept), []


def _rescaled(volumes: NDArray[Any], scaling: tuple[float, float] | None) -> NDArray[Any]:
    if scaling is None:
        return volumes
    slope, intercept = scaling
    scaled = np.empty(volumes.shape, np.float64 if volumes.dtype == np.float64 else np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what gets too large is infinite, and is counted as such
        for k in range(volumes.shape[2]):  # in double precision, without a second volume of it
            scaled[:, :, k] = volumes[:, :, k].astype(np.float64) * slope + intercept
    return scaled


# -- writing ----------------------------------------------------------------------------------------------------------


def write(data: NDArray[Any], grid: Grid, path: Path, *, space_units: str, source: Source) -> None:
    """Writes (C, I, J, K) on its grid; several channels become volumes.

    The sform is the affine. A file that answers a NIfTI file keeps that one's codes, and its qform where that agrees
    with the affine to 0.01 mm. Nothing else of a source is copied: its texts may name a patient. Sizes above 32767, and
    affines that 32-bit numbers cannot hold to a thousandth of a voxel or mm, need NIfTI-2.

    Args:
        path: ends in .nii.gz or .nii.
        source: where the scan came from.
    """
    affine = grid.affine
    rounded = Grid(grid.shape, affine.astype(np.float32).astype(np.float64))
    small = max(*grid.shape, len(data)) <= _LARGEST_IN_NIFTI_1 and rounded.is_close(grid, exactness(grid))
    header = (Nifti1Header if small else Nifti2Header)(endianness="<")
    stored: dict[str, np.dtype[Any]] = {"bool": np.dtype("u1"), "float16": np.dtype("f4")}
    dtype: np.dtype[Any] = stored.get(data.dtype.name, data.dtype)
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.shape if len(data) == 1 else (*grid.shape, len(data)))
    header.set_xyzt_units("unknown" if space_units == PIXEL_UNITS else "mm")
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    _place(header, grid, space_units, source)

    def parts() -> Iterator[bytes]:
        yield header.binaryblock + bytes(4)  # four zeros: no extensions
        for channel in data:
            for k in range(grid.shape[2]):
                yield channel[:, :, k].astype(dtype.newbyteorder("<"), copy=False).tobytes(order="F")

    if path.name.lower().endswith(".gz"):
        gzipped.write(path, parts())
    else:
        with path.open("wb") as file:
            file.writelines(parts())


def _place(header: Nifti1Header, grid: Grid, space_units: str, source: Source) -> None:
    kept = source.header.get(PLACEMENT)
    if not isinstance(kept, Placement) or not fits(kept, grid):
        kept = None
    code = _ALIGNED if space_units == PIXEL_UNITS else _SCANNER
    if kept:
        code = kept.sform_code or kept.qform_code
    header["pixdim"][:4] = (1, *grid.spacing)
    if code == 0:
        # A scan without orientation is guessed at by every program in its own way; its mask has to be guessed at alike.
        return
    for row, axis in enumerate("xyz"):
        header[f"srow_{axis}"] = grid.affine[row]
    header["sform_code"] = code
    if kept and qform_fits(kept, grid):
        header["qform_code"] = kept.qform_code
        header["pixdim"][:4] = kept.pixdim
        for name, value in zip(QFORM_FIELDS, kept.quaternion, strict=True):
            header[name] = value
        return
    # nibabel makes axes perpendicular without a word, so what it has made is looked at.
    header.set_qform(grid.affine, code)
    if not Grid(grid.shape, header.get_qform()).is_close(grid, TOLERANCE):
        header["qform_code"] = 0
        header["pixdim"][0] = 1
