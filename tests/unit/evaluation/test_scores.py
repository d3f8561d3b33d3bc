"""Folders of masks: how files find each other, and what becomes of the cases that are missing, wrong or undefined."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unet_med.errors import FileUnreadable, WrongUse
from unet_med.segmentation import Label
from unet_med_pipelines.evaluation.patients import by_pattern, by_table
from unet_med_pipelines.evaluation.scores import Evaluation, Score, evaluate
from unet_med_pipelines.evaluation.tables import pool, summarise, write_scores

A, B = Label(1, "a"), Label(2, "b")
SHAPE = (8, 6, 4)


def mask(path: Path, *voxels: int, value: int = 1, shape: tuple[int, int, int] = SHAPE, spacing: float = 1.0) -> None:
    """A mask whose row (i, 2, 2) holds the value at each i named."""
    labels = np.zeros(shape, dtype=np.uint8)
    for i in voxels:
        labels[i, 2, 2] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([spacing, spacing, spacing, 1])), path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    predictions.mkdir()
    references.mkdir()
    return predictions, references


def cells(evaluation: Evaluation) -> dict[tuple[str, str], Score]:
    return {(score.case, score.label.name): score for score in evaluation.scores}


def rows(path: Path, evaluation: Evaluation) -> list[dict[str, str]]:
    write_scores(path, evaluation)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_names_join_folders_and_formats_do_not_matter(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    mask(references / "x" / "scan.nii.gz", 1, 2)
    mask(references / "y" / "scan.nii.gz", 1, 2)
    mask(references / "z" / "other.v2.nii.gz", 3)
    mask(predictions / "x__scan.nii", 2)
    mask(predictions / "y" / "scan.nii.gz", 1, 2)
    mask(predictions / "other.v2.nii.gz", 3)
    found = cells(evaluate(predictions, references, table=[A]))
    dice = {case: score.agreement.dice for (case, _), score in found.items() if score.agreement}
    # Two voxels against one of them: 2 * 1 / 3.
    assert dice == {"x__scan": pytest.approx(2 / 3), "y__scan": 1, "z__other.v2": 1}


def test_a_bare_name_that_two_references_share_is_no_match(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    for place in ("x/scan", "y/scan", "y/other"):
        mask(references / f"{place}.nii.gz", 1)
    mask(predictions / "scan.nii.gz", 1)
    mask(predictions / "other.nii.gz", 1)
    evaluation = evaluate(predictions, references)
    assert evaluation.extra == ("scan",)
    status = {score.case: score.status for score in evaluation.scores}
    assert status == {"x__scan": "missing", "y__scan": "missing", "y__other": "scored"}


def test_a_batch_folder_is_opened(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    mask(references / "one.nii.gz", 1)
    mask(predictions / "segmentations" / "one.nii.gz", 1)
    mask(predictions / "uncertainty" / "one.nii.gz", 1, 2, 3)
    assert evaluate(predictions, references).extra == ()


def test_two_files_are_one_pair(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    mask(references / "truth.nii.gz", 1)
    mask(predictions / "guess.nii.gz", 1)
    (score,) = evaluate(predictions / "guess.nii.gz", references / "truth.nii.gz").scores
    assert (score.case, score.label.name, score.status) == ("truth", "label_1", "scored")


def test_a_missing_prediction_is_the_worst_for_every_label(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    mask(references / "here.nii.gz", 1)
    mask(predictions / "here.nii.gz", 1)
    mask(references / "gone.nii.gz", 1, 2)
    evaluation = evaluate(predictions, references, table=[A, B])
    gone = [row for row in rows(tmp_path / "scores.csv", evaluation) if row["case"] == "gone"]
    assert [row["status"] for row in gone] == ["missing", "missing"]
    for row in gone:
        # The diagonal of 8 x 6 x 4 mm is the root of 116.
        assert (row["dice"], row["nsd_1mm"], row["hd95_mm"]) == ("0.000000", "0.000000", f"{116**0.5:.6f}")
        assert row["voxels_prediction"] == row["voxels_common"] == ""
    assert [row["voxels_reference"] for row in gone] == ["2", "0"]
    dice = next(row for row in summarise(evaluation) if (row.label, row.metric) == ("a", "dice"))
    assert (dice.mean, dice.n, dice.missing, dice.undefined) == (0.5, 2, 1, 0)


def test_undefined_is_empty_and_in_no_mean(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    for case, ours, theirs in (("c1", [1, 2], [1]), ("c2", [], [])):
        mask(predictions / f"{case}.nii.gz", *ours)
        mask(references / f"{case}.nii.gz", *theirs)
    evaluation = evaluate(predictions, references, table=[A])
    undefined = rows(tmp_path / "scores.csv", evaluation)[1]
    assert (undefined["status"], undefined["reason"]) == ("undefined", "in neither mask")
    assert {undefined[name] for name in ("dice", "iou", "hd95_mm", "assd_mm", "nsd_1mm")} == {""}
    dice = summarise(evaluation)[0]
    assert (dice.mean, dice.median, dice.n, dice.undefined) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 1, 1)
    assert dice.sd is None


def test_other_grids_and_unreadable_files_fail_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    for case in ("good", "grid", "text"):
        mask(references / f"{case}.nii.gz", 1)
        mask(predictions / f"{case}.nii.gz", 1, spacing=2 if case == "grid" else 1)
    (predictions / "text.nii.gz").write_text("not a mask")
    evaluation = evaluate(predictions, references, table=[A])
    assert {case: score.status for (case, _), score in cells(evaluation).items()} == {
        "good": "scored",
        "grid": "refused",
        "text": "unreadable",
    }
    assert set(evaluation.failures) == {"grid", "text"}
    refused = rows(tmp_path / "scores.csv", evaluation)[1]
    assert refused["dice"] == refused["voxels_reference"] == ""
    assert "lie up to" in refused["reason"]
    assert (summarise(evaluation)[0].n, summarise(evaluation)[0].failed) == (1, 2)


def test_extra_predictions_are_named_and_not_counted(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    mask(references / "one.nii.gz", 1)
    mask(predictions / "one.nii.gz", 1)
    mask(predictions / "two.nii.gz", 1)
    evaluation = evaluate(predictions, references)
    assert evaluation.extra == ("two",)
    assert len(evaluation.scores) == 1


def test_without_a_table_every_value_counts_in_every_case(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    mask(references / "one.nii.gz", 1)
    mask(predictions / "one.nii.gz", 1)
    mask(references / "two.nii.gz", 1, value=7)
    mask(predictions / "two.nii.gz", 1, value=7)
    status = {key: score.status for key, score in cells(evaluate(predictions, references)).items()}
    assert status == {
        ("one", "label_1"): "scored",
        ("one", "label_7"): "undefined",
        ("two", "label_1"): "undefined",
        ("two", "label_7"): "scored",
    }
    assert evaluate(predictions, references, table=[A]).unlisted == (7,)


def test_pictures_of_0_and_255_are_mapped_and_measured_in_pixels(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    picture = np.zeros((6, 8), dtype=np.uint8)
    picture[2:4, 3:5] = 255
    Image.fromarray(picture).save(references / "one.png")
    Image.fromarray(np.roll(picture // 255, 2, axis=1)).save(predictions / "one.png")
    (row,) = rows(tmp_path / "scores.csv", evaluate(predictions, references, label_map={255: 1}))
    assert row["dice"] == "0.000000"
    assert row["hd95_pixel"] == "2.000000"
    assert row["nsd_1pixel"]
    assert "hd95_mm" not in row


def test_patients_are_pooled_by_voxels(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    # p1: 3 against 2 with 2 in common, and 1 against a missing one. p2: equal.
    mask(references / "p1_s1.nii.gz", 1, 2, 3)
    mask(predictions / "p1_s1.nii.gz", 1, 2)
    mask(references / "p1_s2.nii.gz", 1)
    mask(references / "p2_s1.nii.gz", 1)
    mask(predictions / "p2_s1.nii.gz", 1)
    pooled = pool(evaluate(predictions, references, table=[A], patient_of=by_pattern(r"(p\d)_")))
    assert [(score.patient, score.cases, score.missing) for score in pooled] == [("p1", 2, 1), ("p2", 1, 0)]
    # 2 * 2 / (3 + 1 + 2), and 1.
    assert [score.dice for score in pooled] == [pytest.approx(2 / 3), 1]


def test_a_table_names_the_patients(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("case,patient,age\na/b,P1,50\na/c,P2,60\n", encoding="utf-8")
    patient_of = by_table(table)
    assert (patient_of("a__b"), patient_of("a__c")) == ("P1", "P2")
    with pytest.raises(WrongUse, match="not in the table"):
        patient_of("d")
    table.write_text("case,subject\na,1\n")
    with pytest.raises(WrongUse, match="no column patient"):
        by_table(table)
    with pytest.raises(FileUnreadable):
        by_table(tmp_path / "absent.csv")


def test_questions_that_cannot_be_meant(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    with pytest.raises(WrongUse, match="no mask"):
        evaluate(predictions, references)
    mask(references / "one.nii.gz", 1)
    mask(predictions / "uno.nii.gz", 1)
    with pytest.raises(WrongUse, match=r'"uno".*"one"'):
        evaluate(predictions, references)
    with pytest.raises(WrongUse, match="regular expression"):
        evaluate(predictions, references, case_key="(")
    with pytest.raises(WrongUse, match="tolerance"):
        evaluate(predictions, references, tolerance=float("nan"))
    with pytest.raises(FileUnreadable):
        evaluate(predictions / "absent", references)


def test_two_files_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    mask(predictions / "a__b.nii.gz", 1)
    mask(references / "a__b.nii.gz", 1)
    mask(references / "a" / "b.nii.gz", 1)
    with pytest.raises(WrongUse, match='the name "a__b"'):
        evaluate(predictions, references)
