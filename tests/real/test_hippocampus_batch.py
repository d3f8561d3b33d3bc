"""A few real crops through `unet-med segment` with the shipped model, against the masks that people drew."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_med import load_model
from unet_med.errors import ModelRefused
from unet_med_pipelines import cli

CASES = 5


@pytest.fixture(scope="module")
def shipped() -> dict[str, list[str]]:
    """The split on the shipped model's card: patient keys by part."""
    try:
        training = load_model("hippocampus_mr").card.training
    except ModelRefused:
        pytest.skip("the model hippocampus_mr is not in this checkout")
    assert training is not None
    return training.split


def unseen(folder: Path, split: dict[str, list[str]]) -> list[Path]:
    """Images of patients that the model was not trained on, in the order of their names."""
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as file:
        subjects = {row["case"]: row["subject"] for row in csv.DictReader(file)}
    images = sorted((folder / "imagesTr").glob("hippocampus_*.nii.gz"))
    return [path for path in images if subjects[path.name.removesuffix(".nii.gz")] in split["validation"]]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_hippocampi_of_unseen_patients_are_found_in_one_batch(
    shared_data: Path, shipped: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = unseen(shared_data / "hippocampus", shipped)[:CASES]
    assert len(images) == CASES
    command = ["segment", *map(str, images), "-m", "hippocampus_mr", "-o", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["unet-med", *command])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    with (tmp_path / "measurements.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["case"], int(row["value"])): row for row in csv.DictReader(file)}
    scores = []
    for image in images:
        case = image.name.removesuffix(".nii.gz")
        drawn = np.asarray(nib.load(image.parents[1] / "labelsTr" / image.name).dataobj).round().astype(np.uint8)
        mask = nib.load(tmp_path / "segmentations" / image.name)
        found = np.asarray(mask.dataobj)
        np.testing.assert_array_equal(mask.affine, nib.load(image).affine)
        for value in (1, 2):
            scores.append(dice(found == value, drawn == value))
            assert int(rows[case, value]["voxels"]) == int((found == value).sum())
            # Voxels of 1 mm3, so a thousand are a millilitre.
            assert float(rows[case, value]["volume_ml"]) == pytest.approx((found == value).sum() / 1000)
        assert json.loads((tmp_path / "records" / f"{case}.json").read_text(encoding="utf-8"))["status"] == "done"
    assert np.mean(scores) > 0.85  # of these five; the card has the mean over all validation patients
    assert min(scores) > 0.7
