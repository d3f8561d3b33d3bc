"""`unet-med evaluate` as a person types it, on a terminal of 80 columns."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from unet_med.errors import WrongUse
from unet_med_pipelines.cli.evaluate import command

app = typer.Typer()
app.command()(command)


def mask(path: Path, values: dict[int, int], spacing: float = 1.0) -> None:
    """Cubes of 3 x 3 x 3 voxels: label value -> where along the first axis its cube starts."""
    labels = np.zeros((20, 8, 8), dtype=np.uint8)
    for value, start in values.items():
        labels[start : start + 3, 2:5, 2:5] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([spacing, spacing, spacing, 1])), path)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two patients of two cases each; one prediction is missing."""
    for case in ("p1_a", "p1_b", "p2_a", "p2_b"):
        mask(tmp_path / "references" / f"{case}.nii.gz", {1: 2, 2: 10})
    mask(tmp_path / "out" / "segmentations" / "p1_a.nii.gz", {1: 2, 2: 10})
    mask(tmp_path / "out" / "segmentations" / "p1_b.nii.gz", {1: 3, 2: 10})
    mask(tmp_path / "out" / "segmentations" / "p2_a.nii.gz", {1: 2, 2: 10})
    return tmp_path


def run(study: Path, *more: str) -> Result:
    places = [str(study / "out"), str(study / "references"), "-o", str(study / "scores.csv")]
    return CliRunner().invoke(app, [*places, *more], env={"COLUMNS": "80", "TERM": "dumb"})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_and_a_summary(study: Path) -> None:
    result = run(study, "--labels", "body=1,tail=2", "--patient-key", r"^(p\d)")
    assert result.exit_code == 0, result.output
    table = rows(study / "scores.csv")
    assert list(table[0]) == [
        *("case", "patient", "label", "value", "status", "dice", "iou", "hd95_mm", "assd_mm", "nsd_1mm"),
        *("voxels_prediction", "voxels_reference", "voxels_common", "reason"),
    ]
    assert [(row["case"], row["label"]) for row in table[:2]] == [("p1_a", "body"), ("p1_a", "tail")]
    # p1_b: the body is one voxel off, 18 of 27 in common.
    moved = table[2]
    assert (moved["dice"], moved["hd95_mm"], moved["nsd_1mm"]) == ("0.666667", "1.000000", "1.000000")
    assert {row["status"] for row in table if row["case"] == "p2_b"} == {"missing"}
    # Mean of 1, 2/3, 1 and 0.
    body = next(line.split() for line in result.stdout.splitlines() if line.startswith("body"))
    assert body == ["body", "dice", "0.667", "0.833", "0.471", "4", "0", "1"]
    assert "Cases without a prediction, counted as the worst: p2_b" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_scores_are_pooled_per_patient(study: Path) -> None:
    run(study, "--labels", "body=1", "--patient-key", r"^(p\d)")
    first, second = rows(study / "scores_patients.csv")
    # p1: 2 * (27 + 18) / (54 + 54). p2: 27 voxels found, 27 missed: 2 * 27 / (27 + 54).
    assert (first["patient"], first["cases"], first["missing"], first["dice"]) == ("p1", "2", "0", "0.833333")
    assert (second["patient"], second["cases"], second["missing"], second["dice"]) == ("p2", "2", "1", "0.666667")


def test_another_grid_fails_its_case_and_the_exit_code_says_so(study: Path) -> None:
    mask(study / "out" / "segmentations" / "p2_b.nii.gz", {1: 2}, spacing=1.5)
    result = run(study)
    assert result.exit_code == 1
    assert "Not scored: p2_b: voxels of the prediction lie up to" in result.stderr
    status = [row["status"] for row in rows(study / "scores.csv")]
    assert status == ["scored"] * 6 + ["refused"] * 2


def test_what_is_not_scored_is_said(study: Path) -> None:
    mask(study / "out" / "segmentations" / "p9.nii.gz", {1: 2})
    result = run(study, "--labels", "body=1")
    assert result.exit_code == 0
    assert "Predictions without a reference, not counted: p9" in result.stderr
    assert "no label of the table, not scored: 2" in result.stderr


def test_references_of_other_values(study: Path) -> None:
    for path in (study / "references").iterdir():
        mask(path, {255: 2})
    run(study, "--label-map", "255=1", "--labels", "body=1")
    assert rows(study / "scores.csv")[0]["dice"] == "1.000000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "body"], "NAME=VALUE"),
        (["--labels", "body=1,body=2"], "twice"),
        (["--label-map", "255>1"], "FROM=TO"),
        (["--labels", "body=1", "-m", "some_model"], "--labels and --model"),
        (["--patient-key", "p", "--patients", "p.csv"], "--patient-key and --patients"),
        (["--patient-key", "q"], "does not match"),
    ],
)
def test_wrong_use_writes_nothing(study: Path, options: list[str], message: str) -> None:
    result = run(study, *options)
    assert isinstance(result.exception, WrongUse)
    assert message in str(result.exception)
    assert not (study / "scores.csv").exists()


def test_the_help_names_the_conventions() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    text = " ".join(result.stdout.split())
    assert "HD95 is the maximum of both directions" in text
    assert max(map(len, result.stdout.splitlines())) <= 80
