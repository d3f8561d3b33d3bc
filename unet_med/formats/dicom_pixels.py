"""The stored pixels of one DICOM file, decoded by one named decoder, and brought to their units.

pydicom would try one installed decoder after another, and a corrupt frame that one refuses another turns into wrong
pixels; so the decoder is always named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import ScanRefused
from unet_med.formats.dicom_files import quietly, read_header, sop_class_name, text, transfer_syntax, whole

DECODERS = {
    "1.2.840.10008.1.2": "",  # Implicit VR Little Endian: nothing to decode
    "1.2.840.10008.1.2.1": "",  # Explicit VR Little Endian
    "1.2.840.10008.1.2.1.99": "",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2": "",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.5": "pydicom",  # RLE Lossless
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG Baseline
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91": "pillow",  # JPEG 2000
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


def check_syntax(syntax: str, path: Path) -> None:
    """Refuses a transfer syntax that is not read, by its name in the standard."""
    if syntax not in DECODERS:
        name = sop_class_name(syntax)
        raise ScanRefused(
            f"The pixels are compressed or arranged in a way that is not read: {name}"
            f"{'' if name == syntax else f' ({syntax})'}.",
            where=path,
            advice="Have the archive send it uncompressed (Explicit VR Little Endian), or convert it, e.g. with "
            "dcmdjpeg or gdcmconv --raw.",
            code="unsupported_object",
        )


def stored_pixels(path: Path) -> NDArray[Any]:
    """The stored values of a single-frame grey image, (rows, columns), overlay bits masked, in native byte order.

    Raises:
        FileUnreadable: the file cannot be parsed.
        ScanRefused: there are fewer pixels than the header says, or they cannot be decoded.
    """
    from pydicom.pixels.decoders.base import get_decoder

    header = read_header(path, DECODING_TAGS, pixels=True)
    rows, columns = whole(header, "Rows") or 0, whole(header, "Columns") or 0
    _check_size(rows * columns * (whole(header, "BitsAllocated") or 0) // 8, path)
    syntax = transfer_syntax(header)
    check_syntax(syntax, path)
    try:
        with quietly():
            _check_sign(header, syntax, path)
            pixels, _ = get_decoder(syntax).as_array(header, raw=True, decoding_plugin=DECODERS[syntax])
    except ScanRefused:
        raise
    except Exception as error:  # decoders raise whatever a damaged stream leads them to
        raise ScanRefused(
            f"The pixels cannot be decoded; the file is cut short or damaged ({type(error).__name__}).",
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
    held = path.stat().st_size
    if claimed > 1 << 26 and claimed > 1000 * held:
        raise ScanRefused(
            f"The header promises {claimed / 1e6:.0f} MB of pixels, the file has {held / 1e6:.1f} MB; it is damaged.",
            where=path,
            code="unreadable_instance",
        )


def _check_sign(header: Any, syntax: str, path: Path) -> None:
    """A JPEG 2000 stream says itself whether it is signed; where the header says otherwise, one of them lies."""
    if not syntax.startswith("1.2.840.10008.1.2.4.9"):
        return
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import get_j2k_parameters

    stream = get_j2k_parameters(get_frame(header.PixelData, 0, number_of_frames=1))
    declared = text(header, "PixelRepresentation") == "1"
    if stream and stream.get("is_signed") is not None and bool(stream["is_signed"]) != declared:
        raise ScanRefused(
            f"The header says that pixels are {'signed' if declared else 'unsigned'}, the compressed stream in the "
            "same file says the opposite; so their values are not known.",
            where=path,
            code="unreadable_instance",
        )
