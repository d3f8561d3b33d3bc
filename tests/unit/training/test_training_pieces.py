"""The smaller parts of a run: scores, log, checkpoints, hardware, progress, planes of the figures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from unet_med.errors import FileUnreadable, WrongUse
from unet_med_pipelines.evaluation.metrics import Overlap
from unet_med_pipelines.training.checkpoints import Checkpoints, State
from unet_med_pipelines.training.figures import as_seen
from unet_med_pipelines.training.hardware import choose_hardware
from unet_med_pipelines.training.log import TrainingLog, read_log
from unet_med_pipelines.training.progress import shown
from unet_med_pipelines.training.reading import renumber
from unet_med_pipelines.training.scores import CaseScore, mean_dice, pooled_dice, write_scores

SCORES = [  # voxels predicted, in the reference, and common to both
    # Patient A: Dice 0.5 and 1.0; pooled 2 * (1 + 4) / (2 + 2 + 4 + 4) = 10 / 12. Patient B: empty.
    CaseScore("a1", "A", "ball", Overlap(2, 2, 1)),
    CaseScore("a2", "A", "ball", Overlap(4, 4, 4)),
    CaseScore("b1", "B", "ball", Overlap(0, 0, 0)),
    CaseScore("a1", "A", "cube", Overlap(0, 3, 0)),
    CaseScore("a2", "A", "cube", Overlap(5, 5, 5)),
    CaseScore("b1", "B", "cube", Overlap(1, 0, 0)),
]


def test_dice_by_case_and_by_patient() -> None:
    assert mean_dice(SCORES) == pytest.approx({"ball": 0.75, "cube": 1 / 3, "mean": (0.75 + 1 / 3) / 2})
    pooled = {"ball": 10 / 12, "cube": (10 / 13 + 0) / 2}
    assert pooled_dice(SCORES) == pytest.approx({**pooled, "mean": sum(pooled.values()) / 2})


def test_dice_of_nothing_is_undefined(tmp_path: Path) -> None:
    assert np.isnan(mean_dice(SCORES[2:3])["ball"])
    write_scores(tmp_path / "s.csv", {"plain": SCORES, "flips": SCORES})
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0] == "case,patient,label,voxels_reference,dice_plain,voxels_plain,dice_flips,voxels_flips"
    assert lines[1] == "a1,A,ball,2,0.5000,2,0.5000,2"
    assert lines[3] == "b1,B,ball,0,nan,0,nan,0"


def test_a_log_goes_on_at_the_step_of_the_checkpoint(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, ("ball",), 0) as log:
        for step in (10, 20, 30):
            log.write(step, {"seconds": step, "loss": 1 / step, "learning_rate": 0.1})
        log.write(30, {"dice_ball": 0.5, "dice_mean": 0.5})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("40,1.0,0.")  # the row that a kill cut short
    with TrainingLog(tmp_path, ("ball",), 20) as log:
        log.write(30, {"seconds": 31, "loss": 0.25, "learning_rate": 0.1})
    rows = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2] == {"step": 30, "seconds": 31, "loss": 0.25, "learning_rate": 0.1}
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_checkpoints_come_back_and_damage_is_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load("r", "d") is None
    checkpoints.save(State("r", "d", step=5, network={"w": torch.ones(2)}))
    state = checkpoints.load("r", "d")
    assert state is not None
    assert state.step == 5
    assert torch.equal(state.network["w"], torch.ones(2))
    with pytest.raises(WrongUse, match="another data"):
        checkpoints.load("r", "e")
    checkpoints.last.write_bytes(checkpoints.last.read_bytes()[:300])
    with pytest.raises(FileUnreadable, match=r"cannot be read .* start anew"):
        checkpoints.load("r", "d")
    torch.save({"something": "else"}, checkpoints.last)
    with pytest.raises(FileUnreadable, match="not a checkpoint of a training run"):
        checkpoints.load("r", "d")


def test_hardware_that_is_not_there_is_refused() -> None:
    hardware = choose_hardware("cpu", "fp32")
    assert (hardware.device, hardware.precision) == ("cpu", "fp32")
    assert "fp32" in hardware.describe()
    with pytest.raises(WrongUse, match="fp16 needs CUDA"):
        choose_hardware("cpu", "fp16")
    with pytest.raises(WrongUse, match="auto, cpu, cuda or mps"):
        choose_hardware("gpu", "auto")
    if not torch.cuda.is_available():
        with pytest.raises(WrongUse, match="no cuda device"):
            choose_hardware("cuda", "auto")


def test_without_a_terminal_progress_is_plain_lines_now_and_then() -> None:
    text = io.StringIO()
    with shown(Console(file=text, width=100)) as report:
        for step in range(101):
            report("Training", step, 100, "loss 0.5")
    assert text.getvalue().splitlines() == [
        "Training 0/100, loss 0.5",
        "Training 100/100, loss 0.5",
    ]


def test_planes_are_seen_as_a_radiologist_sees_them() -> None:
    volume = np.zeros((4, 5, 6))
    volume[3, 4, 5] = 1  # the corner to the patient's right, front and top
    for axis, at in enumerate((3, 4, 5)):
        assert as_seen(volume, axis, at)[0, 0] == 1
    assert as_seen(volume, 2, 5).shape == (5, 4)
    picture = np.zeros((4, 5, 1))
    picture[3, 0, 0] = 1  # column 3, top row
    assert as_seen(picture, 2, 0)[0, 3] == 1


def test_values_are_replaced_all_at_once() -> None:
    assert renumber(np.array([0, 1, 2, 255], np.uint8), {1: 2, 2: 1, 255: 0}).tolist() == [0, 2, 1, 0]
