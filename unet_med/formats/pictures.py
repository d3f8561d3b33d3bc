"""PNG, TIFF, JPEG and BMP <-> scans of one slice.

Pixels are taken as they are stored: column i from the left, row j from the top. A picture says nothing about the
patient, and its resolution tags are meant for printers, so that lengths are counted in pixels. An EXIF orientation is
not followed: a mask of the picture has to lie on the pixels that the file holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_med.errors import FileUnreadable, ScanRefused, WrongUse
from unet_med.formats.outline import Outline
from unet_med.formats.remarks import (
    about_undecided,
    about_values,
    channel_names,
    check_channels,
    check_colour,
    colour_channels,
    opaque,
)
from unet_med.grid import Grid
from unet_med.scan import PIXEL_UNITS, Finding, Scan, Severity, Source

_FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
_COLOURED = ("P", "PA", "LA", "RGB", "RGBA")
_GREY = ("1", "L", "I;16", "I;16L", "I;16B", "I", "F")
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0, section 8 and 19
_AFFINE = np.diag((-1.0, -1.0, 1.0, 1.0))
"""A picture hangs like a radiograph: columns run to the left, rows to the back. A convention, no measurement."""


def read(source: Source, channels: int = 1) -> Scan:
    """Reads one picture.

    Args:
        channels: 1 (a colour picture is then read if its channels are equal), or 3 for a colour picture.

    Returns:
        (C, width, height, 1), with the type of the stored values; `space_units` is "pixel".

    Raises:
        FileUnreadable: no picture, damaged, cut short, or too large.
        ScanRefused: several pages, transparent parts, print colours, other channels than asked for.
    """
    path = source.paths[0]
    with _opened(path) as image:
        told = _outline(image, channels, path)
        _load(image, path)
        if image.mode in _GREY:
            data, findings = _lying(_numbers(image))[np.newaxis], [*told.findings]
        else:
            data, more = colour_channels(opaque(_lying(_colours(image)), path), channels, path)
            findings = [*more, *told.findings]
    return _scan(data, source, told.grid, findings)


def outline(source: Source, channels: int = 1) -> Outline:
    """What `read` will say of a picture by its header alone; it refuses what `read` refuses by it."""
    with _opened(source.paths[0]) as image:
        return _outline(image, channels, source.paths[0])


def read_labels(source: Source) -> Scan:
    """Reads a mask: as `read`, but of a picture with a palette the stored numbers count, not their colours."""
    path = source.paths[0]
    with _opened(path) as image:
        if image.mode != "P":
            return read(source)
        _load(image, path)
        data = _lying(np.asarray(image))[np.newaxis]
        return _scan(data, source, Grid(data.shape[1:], _AFFINE), list(_about(image)))


def write(data: NDArray[Any], grid: Grid, path: Path, *, space_units: str, source: Source) -> None:
    """Writes (1, I, J, 1) of whole numbers as a grey PNG of 8 bits, or of 16 where values exceed 255.

    Raises:
        WrongUse: several slices or channels, values that are not whole numbers in 0..65535.
    """
    if data.shape[0] != 1 or data.shape[3] != 1:
        raise WrongUse(
            f"A PNG holds one slice, and these are {data.shape[3]} slices of {data.shape[0]} channel(s).",
            advice="Write it as nifti or nrrd.",
        )
    rows = data[0, :, :, 0].T
    if rows.dtype.kind not in "biu" or rows.min() < 0 or rows.max() > 65535:
        raise WrongUse("A PNG holds whole numbers from 0 to 65535.", advice="Write it as nifti or nrrd.")
    Image.fromarray(np.ascontiguousarray(rows, np.uint8 if rows.max() < 256 else np.uint16)).save(path, "PNG")


def _scan(data: NDArray[Any], source: Source, grid: Grid, findings: list[Finding]) -> Scan:
    told = (*findings, *about_values(data))
    return Scan(data, grid, space_units=PIXEL_UNITS, channels=channel_names(len(data)), source=source, findings=told)


def _outline(image: Image.Image, channels: int, path: Path) -> Outline:
    if image.mode in _GREY:
        check_channels(1, channels, path)
        count, undecided = 1, about_undecided(image.mode == "F")
    elif image.mode in _COLOURED:
        count, undecided = check_colour(channels, _is_transparent(image), path)
    else:
        raise ScanRefused(
            f"The picture has {image.mode} colours, which are not read.",
            where=path,
            advice="Save it as grey or RGB.",
            code="colour_image",
        )
    grid = Grid((image.width, image.height, 1), _AFFINE)
    return Outline(grid, count, space_units=PIXEL_UNITS, findings=tuple(_about(image)), undecided=undecided)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, its pixels not loaded."""
    with warnings.catch_warnings():
        # Pillow warns of large pictures and of odd tags; neither changes a pixel.
        warnings.simplefilter("ignore")
        with _identified(path) as image:
            try:
                pages = getattr(image, "n_frames", 1)
            except Exception as error:  # decoders meet bytes from anywhere, and raise whatever they stumble over
                raise _damaged(path) from error
            if pages > 1:
                raise ScanRefused(
                    f"The file holds {pages} pictures, and one is needed.",
                    where=path,
                    advice="Save the one that is meant as a file of its own; a stack of slices belongs into NIfTI.",
                    code="unsupported_dimensions",
                )
            if ";16" in _raw_mode(image) and image.mode not in _GREY:  # Pillow would cut them to 8 bits
                raise ScanRefused(
                    "A colour picture of 16 bits a channel is not read.",
                    where=path,
                    advice="Save it as grey, which may have 16 bits, or with 8 bits a channel.",
                    code="colour_image",
                )
            yield image


def _load(image: Image.Image, path: Path) -> None:
    try:
        image.load()
    except Exception as error:  # as above
        raise _damaged(path) from error


def _damaged(path: Path) -> FileUnreadable:
    return FileUnreadable("The picture is damaged or cut short.", where=path, advice="Copy or download it again.")


def _identified(path: Path) -> Image.Image:
    try:
        if not path.stat().st_size:
            raise FileUnreadable("The file is empty.", where=path, advice="Copy or download it again.")
        return Image.open(path, formats=_FORMATS)
    except FileUnreadable:
        raise
    except Image.DecompressionBombError as error:
        raise FileUnreadable(
            f"The picture claims to have more than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels that are read.",
            where=path,
            advice="Cut it into tiles.",
        ) from error
    except (PermissionError, FileNotFoundError) as error:
        raise FileUnreadable(f"The file cannot be opened ({error.strerror}).", where=path) from error
    except Exception as error:  # as above
        raise FileUnreadable(
            f"This is no picture of a kind that is read ({', '.join(_FORMATS)}), or its header is damaged.",
            where=path,
        ) from error


def _raw_mode(image: Image.Image) -> str:
    """How Pillow's decoder sees the stored samples, such as "RGB;16B"; known until they are loaded."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _about(image: Image.Image) -> Iterator[Finding]:
    tags = getattr(image, "tag_v2", {})
    # Pillow turns a TIFF in which 0 is white round for 8 bits and fewer, and leaves it for more.
    if tags.get(_PHOTOMETRIC) == 0 and image.mode not in ("1", "L", "P"):
        message = "0 means white in this file."
        yield Finding("monochrome1", Severity.NOTE, message, "Stored values are used.")
    message = "A picture holds no pixel size that can be trusted."
    yield Finding("no_pixel_spacing", Severity.NOTE, message, "Lengths are counted in pixels.")


def _numbers(image: Image.Image) -> NDArray[Any]:
    """The stored values of a grey picture, (height, width), in native byte order; black and white are 0 and 1."""
    values = np.asarray(image)
    if values.dtype == bool:
        return values.astype(np.uint8)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        return values.view(np.uint32)  # Pillow has no unsigned numbers of 32 bits
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("PA", "LA", "RGBA") or (image.mode == "P" and "transparency" in image.info)


def _colours(image: Image.Image) -> NDArray[Any]:
    """(height, width, 3 or 4), uint8."""
    return np.asarray(image.convert("RGBA" if _is_transparent(image) else "RGB"))


def _lying(pixels: NDArray[Any]) -> NDArray[Any]:
    """Rows and columns (height, width, ...) -> (width, height, 1, ...)."""
    return np.expand_dims(pixels.swapaxes(0, 1), 2)
