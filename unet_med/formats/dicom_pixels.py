"""The stored pixels of one DICOM file, decoded by one named decoder, and brought to their units.

pydicom would try one installed decoder after another, and a corrupt frame that one refuses another turns into wrong
pixels; so the decoder is always named here.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import ScanRefused
from unet_med.formats.dicom_archive import size_of
from unet_med.formats.dicom_files import quietly, read_header, sop_class_name, text, transfer_syntax, whole

JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"

DECODERS = {
    "1.2.840.10008.1.2": "",  # Implicit VR Little Endian: nothing to decode
    "1.2.840.10008.1.2.1": "",  # Explicit VR Little Endian
    "1.2.840.10008.1.2.1.99": "",  # Deflated Explicit VR Little Endian: inflated as a whole, with its header
    "1.2.840.10008.1.2.2": "",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.5": "pydicom",  # RLE Lossless
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG Baseline, 8 bit
    JPEG_EXTENDED: "pillow",  # of which 8 bit are read; no free decoder here knows the 12 bit form
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 Lossless, by OpenJPEG
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202": "pylibjpeg",  # the same, with RPCL options
    "1.2.840.10008.1.2.4.203": "pylibjpeg",  # High-Throughput JPEG 2000
}
"""Transfer syntaxes that are read, and pydicom's name for the decoder of each."""

DECODING_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)


def check_syntax(syntax: str, bits: int, path: Path) -> None:
    """Refuses a transfer syntax that is not read, by its name in the standard. `bits`: stored ones of a pixel."""
    if syntax not in DECODERS or (syntax == JPEG_EXTENDED and bits > 8):
        name = f"{sop_class_name(syntax)}{f', {bits} bit' if syntax in DECODERS else ''}"
        raise ScanRefused(
            f"The pixels are compressed or arranged in a way that is not read: {name}"
            f"{'' if name == syntax else f' ({syntax})'}.",
            where=path,
            advice="Have the archive send it uncompressed (Explicit VR Little Endian), or convert it, e.g. with "
            "dcmdjpeg or gdcmconv --raw.",
            code="unsupported_transfer_syntax",
        )


def open_pixels(path: Path) -> Any:
    """A data set with all that `stored_frame` needs, pixel data included.

    Raises:
        FileUnreadable: the file cannot be parsed.
        ScanRefused: it holds far less than its header says.
    """
    header = read_header(path, DECODING_TAGS, pixels=True)
    size = 1
    for tag in ("Rows", "Columns", "BitsAllocated", "NumberOfFrames"):
        size *= whole(header, tag) or 1
    _check_size(size // 8, path)
    return header


def stored_frame(header: Any, frame: int | None, path: Path) -> NDArray[Any]:
    """The stored values of one grey image, (rows, columns), overlay bits masked, in native byte order.

    Args:
        header: from `open_pixels`.
        frame: counted from 0; None for a single-frame file.
        path: for messages.

    Raises:
        ScanRefused: there are fewer pixels than the header says, or they cannot be decoded.
    """
    from pydicom.pixels.decoders.base import get_decoder

    rows, columns = whole(header, "Rows") or 0, whole(header, "Columns") or 0
    syntax = transfer_syntax(header)
    check_syntax(syntax, whole(header, "BitsStored") or 0, path)
    try:
        with quietly():
            if DECODERS[syntax]:
                warnings.simplefilter("error", UserWarning)  # what a decoder complains of is no pixel
                _check_stream(header, syntax, frame, path)
            pixels, _ = get_decoder(syntax).as_array(header, index=frame, raw=True, decoding_plugin=DECODERS[syntax])
    except ScanRefused:
        raise
    except Exception as error:  # decoders raise whatever a damaged stream leads them to
        decoder = f" by {DECODERS[syntax]}" if DECODERS[syntax] else ""
        raise ScanRefused(
            f"The pixels cannot be decoded{decoder}; the file is cut short or damaged ({type(error).__name__}).",
            where=path,
            advice="Export or copy the file again.",
            code="unreadable_instance",
        ) from error
    if pixels.shape != (rows, columns):
        raise ScanRefused(
            f"The pixels are an array of {pixels.shape}, where the header says {rows} rows and {columns} columns.",
            where=path,
            code="unreadable_instance",
        )
    bits, signed = whole(header, "BitsStored") or 0, text(header, "PixelRepresentation") == "1"
    low, high = stored_range(bits, signed)
    if pixels.min() < low or pixels.max() > high:
        raise ScanRefused(
            f"Pixels run from {pixels.min()} to {pixels.max()}, but {bits} stored bits hold {low} to {high}.",
            where=path,
            code="unreadable_instance",
        )
    return np.asarray(pixels)


def stored_range(bits: int, signed: bool) -> tuple[int, int]:
    """The smallest and largest value that so many bits hold."""
    low = -(1 << (bits - 1)) if signed else 0
    return low, low + (1 << bits) - 1


def value_type(ranges: Sequence[tuple[int, bool]], rescales: Sequence[tuple[float, float]]) -> np.dtype[Any]:
    """The smallest type that holds every rescaled value exactly, or float32 where a rescale is not in whole numbers.

    Args:
        ranges: (bits stored, signed) of each slice.
        rescales: (slope, intercept) of each slice.
    """
    if any(part != int(part) for rescale in rescales for part in rescale):
        return np.dtype(np.float64 if max(bits for bits, _ in ranges) > 24 else np.float32)
    ends = []
    for (bits, signed), (slope, intercept) in set(zip(ranges, rescales, strict=True)):
        ends += [end * slope + intercept for end in stored_range(bits, signed)]
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float64)


def _check_size(claimed: int, path: Path) -> None:
    """A damaged Rows or Columns must not make the decoder ask for gigabytes."""
    held = size_of(path)
    if claimed > 1 << 26 and claimed > 1000 * held:
        raise ScanRefused(
            f"The header promises {claimed / 1e6:.0f} MB of pixels, the file has {held / 1e6:.1f} MB; it is damaged.",
            where=path,
            code="unreadable_instance",
        )


def _check_stream(header: Any, syntax: str, frame: int | None, path: Path) -> None:
    """What decoders let pass: a stream without its end, and a sign that header and stream state differently."""
    if not syntax.startswith("1.2.840.10008.1.2.4."):
        return
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import get_j2k_parameters

    stream = get_frame(header.PixelData, frame or 0, number_of_frames=whole(header, "NumberOfFrames") or 1)
    if b"\xff\xd9" not in stream.rstrip(b"\0")[-8:]:  # some pad the stream with a blank or two
        raise ScanRefused(
            "The compressed pixels break off: the mark that ends them is missing.",
            where=path,
            advice="Export or copy the file again.",
            code="unreadable_instance",
        )
    if stream.startswith(b"\xff\x4f\xff\x51"):  # JPEG 2000: a damaged size would make the decoder ask for gigabytes
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        if (bottom - top, right - left) != (whole(header, "Rows"), whole(header, "Columns")):
            raise ScanRefused(
                f"The compressed stream holds {bottom - top} rows and {right - left} columns; the header says others.",
                where=path,
                code="unreadable_instance",
            )
    said = get_j2k_parameters(stream)  # nothing where it is no JPEG 2000
    declared = text(header, "PixelRepresentation") == "1"
    if said and said.get("is_signed") is not None and bool(said["is_signed"]) != declared:
        raise ScanRefused(
            f"The header says that pixels are {'signed' if declared else 'unsigned'}, the compressed stream in the "
            "same file says the opposite; so their values are not known.",
            where=path,
            code="unreadable_instance",
        )
