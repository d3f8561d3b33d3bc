"""Killing a training run and giving the same command again leads to the weights of a run that was never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from blobs import write_blob_recipe, write_blobs


def start(recipe: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    program = "from unet_med_pipelines.cli import main; main()"
    arguments = ["train", str(recipe), "--data", str(data), "-o", str(out), "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_a_killed_run_resumes_to_the_bit(tmp_path: Path) -> None:
    data = write_blobs(tmp_path / "data", 3)
    recipe = write_blob_recipe(
        tmp_path / "r.yaml", 3, schedule={"steps": 120, "warm_up": 5}, checkpoint={"every": 7}, tune_every=50, workers=1
    )
    unbroken = start(recipe, data, tmp_path / "unbroken")

    victim = start(recipe, data, tmp_path / "killed")
    checkpoint = tmp_path / "killed/checkpoints/last.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.kill()
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["step"] < 120
    assert not (tmp_path / "killed/model").exists()

    shown = finished(start(recipe, data, tmp_path / "killed"))
    assert str(tmp_path / "killed/model") in shown
    finished(unbroken)
    ends = [torch.load(tmp_path / run / "checkpoints/last.pt", weights_only=True) for run in ("unbroken", "killed")]
    assert ends[0]["step"] == ends[1]["step"] == 120
    for part in ("network", "average"):
        assert ends[0][part].keys() == ends[1][part].keys()
        assert all(torch.equal(ends[0][part][name], ends[1][part][name]) for name in ends[0][part])
    shipped = [(tmp_path / run / "model/weights.safetensors").read_bytes() for run in ("unbroken", "killed")]
    assert shipped[0] == shipped[1]
