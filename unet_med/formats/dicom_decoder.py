"""Stored pixels of many images, in order: plain ones read here, compressed ones decoded in child processes.

Native decoders can abort on a damaged stream and take the whole program with them, or hang. So they run in children
that are started when the first compressed image is met, are kept, and are replaced when they die: a fault costs the
scan, not the batch or the window.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats.dicom_instance import Instance
from unet_med.formats.dicom_pixels import DECODERS, open_pixels, stored_frame

LIMIT, LIMIT_A_MEGAPIXEL = 10, 2
"""Seconds of computing for a frame. The slowest decoder takes a tenth of a second for 512 x 512 pixels."""

PATIENCE = 12
"""How much longer it may take by the clock, start of the child included, on a machine that is busy elsewhere."""

FEW = 4
"""So many images are decoded before a second child is done starting."""

MOST_WORKERS = 8


def stored_pixels(images: Sequence[Instance]) -> Iterator[NDArray[Any]]:
    """The stored values of each image, (rows, columns), in the order given; see `dicom_pixels.stored_frame`.

    Raises:
        FileUnreadable, ScanRefused: as `dicom_pixels` does; and `unreadable_instance` where the decoder crashes, hangs
            or complains.
    """
    if any(DECODERS[one.syntax] for one in images):
        yield from _decoded(images)
        return
    path, header = None, None
    for one in images:
        if one.path != path:
            path, header = one.path, open_pixels(one.path)
        yield stored_frame(header, one.frame, one.path)


def _decoded(images: Sequence[Instance]) -> Iterator[NDArray[Any]]:
    count = min(MOST_WORKERS, os.cpu_count() or 1, -(-len(images) // FEW))
    waiting: deque[Future[NDArray[Any]]] = deque()
    with ThreadPoolExecutor(count) as threads:
        try:
            for one in images:
                waiting.append(threads.submit(_decode, one))
                if len(waiting) > 2 * count:  # ahead enough; more would only hold memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_idle: dict[int, list[_Worker]] = {}
"""Workers that wait, by the process that started them: a forked process must not speak on its parent's pipes."""


def _decode(one: Instance) -> NDArray[Any]:
    idle = _idle.setdefault(os.getpid(), [])
    try:
        worker = idle.pop()
        while worker.process.poll() is not None:  # it was killed while it waited
            worker.close()
            worker = idle.pop()
    except IndexError:
        worker = _Worker()
    try:
        return worker.decode(one)
    finally:
        if worker.process.poll() is None:
            idle.append(worker)


class _Worker:
    """A child process that decodes one frame at a time."""

    def __init__(self) -> None:
        # The path is handed over: the child must find the very package that this process uses.
        start = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from unet_med.formats.dicom_worker import main"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{start}; main()", json.dumps([str(Path(part).absolute()) for part in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt from the keyboard is for the parent; the child ends with its pipe
        )

    def decode(self, one: Instance) -> NDArray[Any]:
        limit = int(LIMIT + LIMIT_A_MEGAPIXEL * one.rows * one.columns / 1e6)
        late: list[bool] = []

        def stop() -> None:
            late.append(True)
            self.process.kill()

        timer = Timer(limit * PATIENCE, stop)
        timer.start()
        try:
            reply, data = self._ask(one, limit)
        except (OSError, ValueError, EOFError) as error:  # no reply, or none that makes sense
            self.close()
            endless = late or self.process.returncode == -getattr(signal, "SIGXCPU", 0)
            fault = f"its decoder does not come to an end ({limit} s)" if endless else "its decoder crashed on it"
            raise _fault(fault, one) from error
        finally:
            timer.cancel()
        if "what" in reply:
            if reply["code"] is None:
                raise FileUnreadable(reply["what"], where=one.path, advice=reply["advice"])
            raise ScanRefused(reply["what"], where=one.path, advice=reply["advice"], code=reply["code"])
        if "fault" in reply:
            raise _fault(reply["fault"], one)
        return np.frombuffer(data, np.dtype(reply["dtype"])).reshape(one.rows, one.columns)

    def _ask(self, one: Instance, limit: int) -> tuple[dict[str, Any], bytes]:
        requests, replies = self.process.stdin, self.process.stdout
        assert requests is not None
        assert replies is not None
        requests.write(json.dumps([str(one.path.absolute()), one.frame, limit]).encode() + b"\n")
        requests.flush()
        line = replies.readline()
        reply = cast(dict[str, Any], json.loads(line))
        if "dtype" not in reply:
            return reply, b""
        if reply["shape"] != [one.rows, one.columns]:
            raise ValueError(f"{reply['shape']} pixels")
        size = np.dtype(reply["dtype"]).itemsize * one.rows * one.columns
        data = replies.read(size)
        if len(data) != size:
            raise EOFError("cut short")
        return reply, data

    def close(self) -> None:
        """Ends the child, whatever it does. One that has ended by itself keeps the reason."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
        try:
            self.process.wait(0.2)  # a pipe breaks a moment before its process is gone
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _fault(what: str, one: Instance) -> ScanRefused:
    return ScanRefused(
        f"The pixels cannot be decoded ({DECODERS[one.syntax]}): {what}; the file is damaged.",
        where=one.name,
        advice="Export or copy the file again.",
        code="unreadable_instance",
    )


@atexit.register
def _close_workers() -> None:
    for worker in _idle.pop(os.getpid(), []):
        worker.close()
