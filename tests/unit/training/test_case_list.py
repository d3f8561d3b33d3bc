"""Finding cases and sharing out patients."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_med.errors import FileUnreadable, WrongUse
from unet_med_pipelines.training.case_list import TrainingCase, find_training_cases, split
from unet_med_pipelines.training.recipe import DataRecipe, PatientTable, SplitRecipe


def recipe(**changes: object) -> DataRecipe:
    common = {"name": "n", "licence": "l", "licence_url": "u", "attribution": "a", "citation": "c"}
    return DataRecipe.model_validate(
        {**common, "images": ["images/{case}.png"], "labels": "masks/{case}.png", **changes}
    )


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_and_labels_pair_by_name_across_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/P1/a.png", "masks/P1/a.png", "images/P2/a.png", "masks/P2/a.png", "images/P2/note.txt")
    cases = find_training_cases(recipe(patient=r"P\d+"), tmp_path)
    assert [(case.name, case.patient) for case in cases] == [("P1/a", "P1"), ("P2/a", "P2")]
    assert cases[0].images == (tmp_path / "images/P1/a.png",)
    assert cases[0].label == tmp_path / "masks/P1/a.png"


def test_one_pattern_a_channel(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/x_{channel}.nii.gz" for channel in ("0000", "0001")), "labels/x.nii.gz")
    found = find_training_cases(
        recipe(
            images=["images/{case}_0000.nii.gz", "images/{case}_0001.nii.gz"],
            labels="labels/{case}.nii.gz",
        ),
        tmp_path,
    )
    assert [path.name for path in found[0].images] == ["x_0000.nii.gz", "x_0001.nii.gz"]
    assert found[0].patient == "x"


def test_the_first_group_of_the_pattern_is_the_patient(tmp_path: Path) -> None:
    touch(tmp_path, "images/P1_left.png", "masks/P1_left.png")
    assert find_training_cases(recipe(patient=r"(P\d+)_left"), tmp_path)[0].patient == "P1"


def test_patients_from_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "images/b.png", "masks/b.png")
    (tmp_path / "t.csv").write_text("scan,who\na,X\nb,X\n")
    cases = find_training_cases(recipe(patient=PatientTable(table="t.csv", case="scan", patient="who")), tmp_path)
    assert {case.patient for case in cases} == {"X"}


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/b.png", "images/c.png", "masks/c.png")
    (tmp_path / "t.csv").write_text("scan,who\na,X\n")
    with pytest.raises(WrongUse) as caught:
        find_training_cases(recipe(patient=PatientTable(table="t.csv", case="scan", patient="who")), tmp_path)
    said = str(caught.value)
    assert "3 problems" in said
    assert "a: no label masks/a.png" in said
    assert "b: no image images/b.png" in said
    assert "c: not in t.csv" in said


def test_a_star_that_matches_two_files_is_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "images/a_x.png", "images/a_y.png", "masks/a.png")
    with pytest.raises(WrongUse, match="a: two files match"):
        find_training_cases(recipe(images=["images/{case}_*.png"]), tmp_path)


def test_columns_that_the_table_lacks_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "t.csv").write_text("scan,who\na,X\n")
    with pytest.raises(WrongUse, match="no column 'subject'; columns are scan, who"):
        find_training_cases(recipe(patient=PatientTable(table="t.csv", case="scan", patient="subject")), tmp_path)


def test_nothing_found_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="No file matches"):
        find_training_cases(recipe(), tmp_path)
    with pytest.raises(FileUnreadable, match="no such folder"):
        find_training_cases(recipe(), tmp_path / "gone")


def cases_of(*patients: str) -> list[TrainingCase]:
    return [TrainingCase(f"{p}-{n}", p, (Path("i"),), Path("l")) for p in patients for n in range(2)]


@given(st.sets(st.text("abcdef0123", min_size=1), min_size=10, max_size=40), st.integers(0, 5))
def test_no_patient_is_in_two_parts_and_no_case_is_lost(patients: set[str], seed: int) -> None:
    cases = cases_of(*patients)
    parts = split(cases, SplitRecipe(validation=0.2, tuning=0.1, seed=seed))
    groups = [set(members) for members in parts.patients.values()]
    assert sum(len(group) for group in groups) == len(set.union(*groups)) == len(patients)
    assert len(parts.training) + len(parts.tuning) + len(parts.validation) == len(cases)
    assert len(parts.patients["validation"]) == round(0.2 * len(patients))


def test_the_split_is_the_same_for_ever() -> None:
    # Worked out once with sha256sum: printf '7:A' and so on; the smallest digests are those of A and I, then F.
    parts = split(cases_of(*"ABCDEFGHIJ"), SplitRecipe(validation=0.2, tuning=0.1, seed=7))
    assert parts.patients["validation"] == ["A", "I"]
    assert parts.patients["tuning"] == ["F"]
    assert parts == split(cases_of(*"ABCDEFGHIJ"), SplitRecipe(validation=0.2, tuning=0.1, seed=7))


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(WrongUse, match="a part would be empty"):
        split(cases_of("A", "B", "C"), SplitRecipe(validation=0.1))
