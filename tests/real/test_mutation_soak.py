"""Real scans with damaged bits, bytes, tags and geometry: each is read or refused in words, in time and in memory.

The reading is done by children (`soak_reader`), which damage a copy (`mutants`), read it, and judge what came of it. A
child that dies or hangs is a fault of the mutant it was at, and is replaced.
"""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]

CHILDREN = 2
CLOCK = 150
"""Seconds by the clock after which a child hangs. It may compute for 20; a busy machine makes that longer."""

MEMORY = 2 << 30
"""Bytes: the most that a child may have held. It could not ask for more address space, libraries included."""

Reply = dict[str, Any]


class Child:
    """A process that answers one number at a time."""

    def __init__(self, corpus: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "soak_reader.py"), str(corpus), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def ask(self, number: int) -> Reply:
        """What came of a mutant; a fault of it where the child has no answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(CLOCK, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if line:
            reply: Reply = json.loads(line)
            return reply
        code = self.process.wait()
        fault = f"the reader ended with {code} (-9: no answer in {CLOCK} s; -24: computed for more than 20 s)"
        return {"number": number, "kind": "?", "words": "?", "codes": ["died"], "faults": [fault], "memory": 0}

    def close(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
        self.process.wait()


def answers(corpus: Path, seed: int, count: int) -> list[Reply]:
    """What came of mutants 0 to `count`, from a few children that take the next one when they are done."""
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    replies: list[Reply] = []

    def work() -> None:
        child = Child(corpus, seed)
        while True:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                break
            reply = child.ask(number)
            replies.append(reply)
            if child.process.poll() is not None:
                child.close()
                child = Child(corpus, seed)
        child.close()

    threads = [threading.Thread(target=work) for _ in range(CHILDREN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


@pytest.mark.soak
def test_damaged_scans_are_read_or_refused_in_words_and_no_moved_slice_goes_untold(shared_data: Path) -> None:
    """SOAK_MUTATIONS mutants (2,000 unless given), all drawn from SOAK_SEED."""
    count = int(os.environ.get("SOAK_MUTATIONS", "2000"))
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(10**6)))
    print(f"\nSOAK_SEED={seed} SOAK_MUTATIONS={count}", flush=True)
    corpus = shared_data / "scan-corpus"
    replies = answers(corpus, seed, count)

    codes = Counter(code for reply in replies for code in set(reply["codes"]))
    kinds = Counter(reply["kind"] for reply in replies)
    print(f"{len(replies)} mutants: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()))
    print("answers: " + ", ".join(f"{code} {n}" for code, n in codes.most_common()))
    faults = [
        f"mutant {reply['number']} of SOAK_SEED={seed} ({reply['kind']}; {reply['words']}): {fault}"
        for reply in replies
        for fault in reply["faults"]
    ]
    assert not faults, "\n".join(faults) + f"\nRepeat one: echo NUMBER | python tests/soak_reader.py {corpus} {seed}"
    assert sorted(reply["number"] for reply in replies) == list(range(count))
    assert max(reply["memory"] for reply in replies) < MEMORY
    # Damage to a few bytes of real scans: most are read, and those that are not are refused for many reasons.
    refused = codes.total() - codes["read"]
    assert codes["read"] > 0.2 * count, codes
    assert codes["unreadable"] < 0.7 * refused, codes
    assert len(codes) >= 8, codes
