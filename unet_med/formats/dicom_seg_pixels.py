"""The pixels of a DICOM segmentation, frame by frame: packed bits, bytes, or run lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats.dicom_files import quietly, transfer_syntax, whole

RLE = "1.2.840.10008.1.2.5"


class StoredFrames:
    """The stored frames of a file, one at a time: all of them at once may be gigabytes of bits."""

    def __init__(self, header: Any, kind: str, path: Path) -> None:
        self.rows, self.columns = whole(header, "Rows") or 0, whole(header, "Columns") or 0
        self.path = path
        self.bits = whole(header, "BitsAllocated") or 0
        self.highest = None
        if kind == "FRACTIONAL":
            self.highest = whole(header, "MaximumFractionalValue") or 255
        size = self.rows * self.columns * (whole(header, "NumberOfFrames") or 1)
        self.data = self._bytes(header)
        if size == 0 or len(self.data) * 8 < size * self.bits:
            raise FileUnreadable(
                f"The file holds {len(self.data)} bytes of pixels, and {-(-size * self.bits // 8)} are needed; it is "
                "cut short or damaged.",
                where=path,
                advice="Export or copy it again.",
            )

    def _bytes(self, header: Any) -> bytes:
        if transfer_syntax(header) != RLE:
            data = header.get("PixelData")
            return bytes(data) if isinstance(data, bytes | bytearray) else b""
        from pydicom.pixels.decoders.base import get_decoder

        try:
            with quietly():  # the decoder is named: pydicom would try others after it
                values, _ = get_decoder(RLE).as_array(header, raw=True, decoding_plugin="pydicom")
        except Exception as error:  # decoders raise whatever a damaged stream leads them to
            raise FileUnreadable(
                f"The pixels cannot be decoded; the file is cut short or damaged ({type(error).__name__}).",
                where=self.path,
                advice="Export or copy it again.",
            ) from error
        return values.astype(values.dtype.newbyteorder("<")).tobytes()

    def frame(self, index: int) -> NDArray[Any]:
        """(rows, columns): stored values; of BINARY and FRACTIONAL 0 and not 0."""
        size = self.rows * self.columns
        if self.bits == 1:  # frames follow each other bit by bit: they need not begin on a byte (PS3.5 8.1.1)
            first = index * size
            some = np.frombuffer(self.data, np.uint8)[first // 8 : (first + size + 7) // 8]
            values = np.unpackbits(some, bitorder="little")[first % 8 : first % 8 + size]
        else:
            kind = np.dtype("<u2") if self.bits == 16 else np.dtype(np.uint8)
            values = np.frombuffer(self.data, kind, size, index * size * kind.itemsize)
        if self.highest is not None and not ((values == 0) | (values == self.highest)).all():
            raise ScanRefused(
                "The segmentation is FRACTIONAL: its values are shares of a voxel or probabilities, and no labels.",
                where=self.path,
                advice="Decide which value counts as inside, and save that as BINARY.",
                code="unsupported_object",
            )
        return values.reshape(self.rows, self.columns)
