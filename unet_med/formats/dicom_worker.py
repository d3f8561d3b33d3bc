"""The child process that decodes pixels for `dicom_decoder`: a native decoder that aborts ends nothing else.

It speaks over its standard streams. A request is a line of JSON, [path, frame, seconds]; the reply is a line of JSON,
followed by the bytes of the array where there is one. JSON, not pickle, because a damaged file may have taken the
decoder over.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY = 4 << 30
"""Bytes. A few damaged bytes in a stream can make a decoder ask for any amount."""


def main() -> None:
    """Answers requests until the parent closes the stream, or ends."""
    _limit_memory()
    replies = os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as words:
        # What native code prints would go between the replies, or to the user's terminal; and it is a fault.
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
        held: dict[Any, Any] = {}
        for line in sys.stdin.buffer:
            path, frame, seconds = json.loads(line)
            _limit_time(seconds)
            reply, data = _answer(path, frame, held)
            if data and os.fstat(words.fileno()).st_size:
                reply, data = {"fault": "its decoder complained"}, b""
            os.lseek(words.fileno(), 0, os.SEEK_SET)
            os.ftruncate(words.fileno(), 0)
            replies.write(json.dumps(reply).encode() + b"\n" + data)
            replies.flush()


def _answer(path: str, frame: int | None, held: dict[Any, Any]) -> tuple[dict[str, Any], bytes]:
    from unet_med.errors import FileUnreadable, ScanRefused
    from unet_med.formats.dicom_pixels import stored_frame

    try:
        pixels = stored_frame(_opened(path, frame, held), frame, Path(path))
    except (ScanRefused, FileUnreadable) as error:
        held.clear()
        return {"what": error.what, "advice": error.advice, "code": getattr(error, "code", None)}, b""
    except OSError:
        return {"fault": "the file can no longer be opened"}, b""
    return {"dtype": pixels.dtype.str, "shape": pixels.shape}, pixels.tobytes()


def _opened(path: str, frame: int | None, held: dict[Any, Any]) -> Any:
    """The file; one of many frames is held, since the next one is asked for soon."""
    from unet_med.formats.dicom_archive import archive_of
    from unet_med.formats.dicom_pixels import open_pixels

    if frame is None:
        return open_pixels(Path(path))
    file = Path(path)
    status = (archive_of(file) or file).stat()
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in held:
        held.clear()
        held[key] = open_pixels(Path(path))
    return held[key]


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # not every system can
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _limit_time(seconds: int) -> None:
    """Has the system end this process when it has computed that much longer; waiting for a busy machine is no fault."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, hard))


if __name__ == "__main__":
    main()
