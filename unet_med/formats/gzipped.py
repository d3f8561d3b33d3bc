"""gzip streams, read and written with ISA-L where it is installed: the same format as zlib's, and much faster."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from unet_med.errors import FileUnreadable

try:
    from isal import isal_zlib as codec
except ImportError:  # on machines without it; slower, and nothing else
    codec = zlib  # type: ignore[misc]

MAGIC = b"\x1f\x8b"
LARGEST_RATIO = 1032
"""A byte of deflate stands for at most so many (zlib's technical notes): what a small file can hold is bounded."""

_WITH_HEADER = 31  # zlib's number for a gzip header and checksum around the stream
_ANY_HEADER = 47  # gzip or zlib, whichever it is
_LEVEL = 2
_CHUNK = 1 << 18


class Inflated(io.RawIOBase):
    """The content of a gzip file, as a stream. All members of a file (bgzip writes many) are one content.

    Args:
        path: for messages.
        file: the compressed bytes.

    Attributes:
        garbage: how many bytes that are no gzip followed the last member; known once the stream is read to its end.

    Raises:
        FileUnreadable: (while reading) a stream that is cut short, or whose checksum or codes are wrong.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._codec = codec.decompressobj(_WITH_HEADER)
        self._pending = b""
        self._ended = False
        self.garbage = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ended:
            self._pending = self._pending or self._file.read(_CHUNK)
            if not self._pending:
                raise _cut_short(self._path)
            try:
                content = self._codec.decompress(self._pending, len(buffer))
            except codec.error as error:  # type: ignore[misc]
                raise _damaged(self._path) from error
            self._pending = self._codec.unconsumed_tail
            if self._codec.eof:
                self._next_member(self._codec.unused_data)
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0

    def _next_member(self, rest: bytes) -> None:
        rest = rest or self._file.read(_CHUNK)
        if len(rest) == 1:
            rest += self._file.read(_CHUNK)
        if rest.startswith(MAGIC):
            self._codec, self._pending = codec.decompressobj(_WITH_HEADER), rest
            return
        self._ended = True
        while rest:
            self.garbage += len(rest)
            rest = self._file.read(_CHUNK)


def measure(path: Path, start: int) -> tuple[int, int]:
    """How many bytes the zlib or gzip stream that begins at byte `start` of a file takes, and how many it unpacks to.

    Raises:
        FileUnreadable: the stream is cut short or damaged; its checksum is looked at.
    """
    unpacker, size = zlib.decompressobj(_ANY_HEADER), 0
    with path.open("rb") as file:
        file.seek(start)
        try:
            while not unpacker.eof and (chunk := unpacker.unconsumed_tail or file.read(_CHUNK)):
                size += len(unpacker.decompress(chunk, _CHUNK))
            length = file.tell() - start - len(unpacker.unused_data)
        except zlib.error as error:
            raise _damaged(path) from error
    if not unpacker.eof:
        raise _cut_short(path)
    return length, size


def write(path: Path, parts: Iterable[bytes]) -> None:
    """Writes one gzip member that depends on `parts` alone: no file name in its header, and no time."""
    packer = codec.compressobj(_LEVEL, codec.DEFLATED, _WITH_HEADER)
    with path.open("wb") as file:
        for part in parts:
            file.write(packer.compress(part))
        file.write(packer.flush())


def _cut_short(path: Path) -> FileUnreadable:
    return FileUnreadable(
        "The compressed data end too early; the file was cut short.", where=path, advice="Copy or download it again."
    )


def _damaged(path: Path) -> FileUnreadable:
    return FileUnreadable(
        "The compressed data are damaged: they cannot be unpacked, or do not fit their checksum.",
        where=path,
        advice="Copy or download it again.",
    )
