"""A training run killed at random moments, again and again, and each time given the same command once more."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from blobs import write_blob_recipe, write_blobs


def start(recipe: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    """`unet-med train`, in a process of its own."""
    arguments = ["train", str(recipe), "--data", str(data), "-o", str(out), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-c", "from unet_med_pipelines.cli import main; main()", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for the end of a run, which must be a good one."""
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err


def assert_same_end(run: Path, unbroken: Path) -> None:
    """Both runs have the same last weights and averages, bit for bit, and the same weights file."""
    ends = [torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (run, unbroken)]
    assert ends[0]["step"] == ends[1]["step"]
    for part in ("network", "average"):
        assert ends[0][part].keys() == ends[1][part].keys()
        assert all(torch.equal(ends[0][part][name], ends[1][part][name]) for name in ends[0][part])
    weights = [(folder / "model" / "weights.safetensors").read_bytes() for folder in (run, unbroken)]
    assert weights[0] == weights[1]
    files = [{str(path.relative_to(folder)) for path in (folder / "model").iterdir()} for folder in (run, unbroken)]
    assert files[0] == files[1]


@pytest.mark.soak
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """SOAK_KILLS kills (50 unless given), at moments drawn from SOAK_SEED over the whole length of a run."""
    kills = int(os.environ.get("SOAK_KILLS", "50"))
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(10**6)))
    print(f"\nSOAK_SEED={seed} SOAK_KILLS={kills}", flush=True)
    moments = random.Random(seed)
    data = write_blobs(tmp_path / "data", 3)
    recipe = write_blob_recipe(
        tmp_path / "r.yaml", 3, schedule={"steps": 60, "warm_up": 5}, checkpoint={"every": 3}, tune_every=20, workers=1
    )
    began = time.monotonic()
    finish(start(recipe, data, tmp_path / "unbroken"))
    length = time.monotonic() - began

    done, run, finished = 0, 0, 0
    while done < kills:
        out = tmp_path / f"run{run}"
        victim = start(recipe, data, out)
        wait = moments.uniform(0, length)
        try:
            victim.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            victim.kill()
            victim.communicate()
            done += 1
            print(f"kill {done} of {kills}: run {run}, {wait:.2f} s after its start", flush=True)
            continue
        finish(victim)
        assert_same_end(out, tmp_path / "unbroken")
        run, finished = run + 1, finished + 1
    finish(start(recipe, data, tmp_path / f"run{run}"))
    assert_same_end(tmp_path / f"run{run}", tmp_path / "unbroken")
    print(f"{done} kills, {finished + 1} runs finished, each like the unbroken one of {length:.1f} s", flush=True)
