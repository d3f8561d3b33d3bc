"""Whole runs, in seconds: from a recipe to a model folder that anyone can load; stopped, resumed, refused."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from blobs import write_blob_recipe, write_blobs
from unet_med.card import ModelCard
from unet_med.errors import Cancelled, WrongUse
from unet_med.formats import read_scan, read_segmentation
from unet_med.inference import segment
from unet_med.models import load_model
from unet_med_pipelines.training.log import read_log
from unet_med_pipelines.training.trainer import train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints/last.pt", weights_only=True)
    return {**{f"n.{k}": v for k, v in state["network"].items()}, **{f"a.{k}": v for k, v in state["average"].items()}}


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights_of(one), weights_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_recipe_becomes_a_model_that_finds_its_structure(tmp_path: Path, dimensions: int) -> None:
    data = write_blobs(tmp_path / "data", dimensions, 40 if dimensions == 2 else 20)
    recipe = write_blob_recipe(tmp_path / "blobs.yaml", dimensions, checkpoint={"every": 20, "keep": "best"})
    folder = train(recipe, data, tmp_path / "run", device="cpu")

    rows = read_log(tmp_path / "run/log.csv")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]
    assert [row["step"] for row in rows if "dice_ball" in row] == [20, 40]

    assert {path.name for path in folder.iterdir()} == {
        "card.yaml",
        "weights.safetensors",
        "README.md",
        "LICENSE.txt",
        "learning_curves.png",
        "examples.png",
    }
    model = load_model(folder)
    card = model.card
    assert card.training is not None
    assert card.field_of_view is not None
    size = 40.0 if dimensions == 2 else 20.0
    assert card.field_of_view.unit == ("pixel" if dimensions == 2 else "mm")
    assert card.field_of_view.smallest == card.field_of_view.largest == (size,) * dimensions
    parts = card.training.split
    assert [len(parts[part]) for part in ("training", "tuning", "validation")] == [3, 1, 2]
    assert len(set().union(*parts.values())) == 6
    assert [entry.cases for entry in card.scores] == [4, 4]
    assert "Dice" in (folder / "README.md").read_text()
    assert "Made by a test." in (folder / "LICENSE.txt").read_text()

    # What the card says is what the shipped folder does.
    suffix = ".png" if dimensions == 2 else ".nii.gz"
    dice = []
    for patient in parts["validation"]:
        for number in range(2):
            scan = read_scan(data / "images" / f"{patient}_{number}{suffix}")
            truth = read_segmentation(data / "labels" / f"{patient}_{number}{suffix}").labels > 0
            found = segment(scan, model).segmentations[0].labels == 1
            dice.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert card.scores[0].metrics["ball"]["dice"] == pytest.approx(np.mean(dice), abs=1e-4)
    assert np.mean(dice) > 0.6
    with (tmp_path / "run/validation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["dice_plain"]) for row in table] == pytest.approx(dice, abs=1e-4)


def run_with(tmp_path: Path, name: str, report: Callable[[str, int, int, str], None] | None = None) -> Path:
    """A short run in tmp_path/name on data in tmp_path/data; `report` may stop it."""
    if not (tmp_path / "data").exists():
        write_blobs(tmp_path / "data", 3)
        write_blob_recipe(tmp_path / "r.yaml", 3, schedule={"steps": 12, "warm_up": 2}, tune_every=6)
    arguments = {} if report is None else {"progress": report}
    train(tmp_path / "r.yaml", tmp_path / "data", tmp_path / name, device="cpu", **arguments)
    return tmp_path / name


def at_step(step: int, act: Callable[[], None], stage: str = "Training") -> Callable[[str, int, int, str], None]:
    def report(what: str, done: int, total: int, note: str) -> None:
        if what == stage and done == step:
            act()

    return report


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def cancel() -> None:
    raise Cancelled()


@pytest.mark.parametrize(
    "report",
    [at_step(5, terminate), at_step(7, cancel), at_step(1, cancel, "Tuning")],
    ids=["signal", "call", "tuning"],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, report: Callable[[str, int, int, str], None]
) -> None:
    unbroken = run_with(tmp_path, "unbroken")
    with pytest.raises(Cancelled, match=r"Stopped after step \d+ of 12; the same command goes on"):
        run_with(tmp_path, "broken", report)
    assert not (tmp_path / "broken/model").exists()
    broken = run_with(tmp_path, "broken")
    assert same_weights(unbroken, broken)
    assert (unbroken / "model/weights.safetensors").read_bytes() == (broken / "model/weights.safetensors").read_bytes()
    steps = [(row["step"], "loss" in row) for row in read_log(broken / "log.csv")]
    assert steps == [(row["step"], "loss" in row) for row in read_log(unbroken / "log.csv")]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_finished_run_only_makes_its_folder_again(tmp_path: Path) -> None:
    run = run_with(tmp_path, "run")
    weights, written = weights_of(run), (run / "checkpoints/last.pt").stat().st_mtime_ns
    shipped = (run / "model/weights.safetensors").read_bytes()
    (run / "model/README.md").unlink()
    said: list[str] = []
    run_with(tmp_path, "run", lambda what, done, total, note: said.append(note))
    assert any("finished before" in note for note in said)
    assert (run / "model/README.md").exists()
    assert (run / "model/weights.safetensors").read_bytes() == shipped
    assert (run / "checkpoints/last.pt").stat().st_mtime_ns == written
    assert weights_of(run).keys() == weights.keys()


def test_another_recipe_or_other_data_are_refused(tmp_path: Path) -> None:
    run_with(tmp_path, "run")
    before = (tmp_path / "r.yaml").read_text()
    (tmp_path / "r.yaml").write_text(before.replace("ema: 0.9", "ema: 0.8"))
    with pytest.raises(WrongUse, match=r"begun with another recipe .* come to step 12"):
        run_with(tmp_path, "run")
    (tmp_path / "r.yaml").write_text(before)
    case = tmp_path / "data/labels/P0_0.nii.gz"
    case.write_bytes((tmp_path / "data/labels/P0_1.nii.gz").read_bytes())
    with pytest.raises(WrongUse, match="begun with another data"):
        run_with(tmp_path, "run")


def test_all_problems_of_the_data_are_told_before_training(tmp_path: Path) -> None:
    import nibabel as nib

    data = write_blobs(tmp_path / "data", 3)
    recipe = write_blob_recipe(tmp_path / "r.yaml", 3)
    (data / "images/P0_0.nii.gz").write_bytes(b"")
    moved = nib.load(data / "labels/P1_0.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), np.diag([1, 1, 2, 1])), data / "labels/P1_0.nii.gz")
    other = np.asarray(nib.load(data / "labels/P2_1.nii.gz").dataobj).copy()
    other[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(other, np.eye(4)), data / "labels/P2_1.nii.gz")
    with pytest.raises(WrongUse) as caught:
        train(recipe, data, tmp_path / "run", device="cpu")
    said = str(caught.value)
    assert "3 problems" in said
    assert "P0_0" in said
    assert "P1_0" in said
    assert "another grid" in said
    assert "The values 9 stand for no label" in said
    assert not (tmp_path / "run/model").exists()


def test_one_scan_under_two_patients_is_refused(tmp_path: Path) -> None:
    data = write_blobs(tmp_path / "data", 3)
    for kind in ("images", "labels"):
        (data / kind / "P4_0.nii.gz").write_bytes((data / kind / "P1_1.nii.gz").read_bytes())
    with pytest.raises(WrongUse, match=r"P4_0: the same files as P1_1, which is another patient's"):
        train(write_blob_recipe(tmp_path / "r.yaml", 3), data, tmp_path / "run", device="cpu")


def test_a_window_that_the_network_cannot_take_is_refused_early(tmp_path: Path) -> None:
    import yaml

    recipe = write_blob_recipe(tmp_path / "r.yaml", 3)
    raw = yaml.safe_load(recipe.read_text())
    raw["card"]["grid"]["window"] = [15, 16, 16]
    recipe.write_text(yaml.safe_dump(raw))
    with pytest.raises(WrongUse, match=r"multiples of \[2, 2, 2\]"):
        train(recipe, tmp_path, tmp_path / "run")


def test_the_card_is_as_read(tmp_path: Path) -> None:
    run = run_with(tmp_path, "run")
    card = ModelCard.read(run / "model/card.yaml")
    assert ModelCard.model_validate(card.model_dump()) == card
    assert card.training is not None
    assert card.training.steps == 12
    assert card.training.hardware.endswith("fp32")
