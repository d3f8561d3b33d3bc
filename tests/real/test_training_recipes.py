"""The shipped recipes on the data that they name: every case found, patients kept together, and a run that runs."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from unet_med.models import load_model
from unet_med_pipelines.training.case_list import find_training_cases, split
from unet_med_pipelines.training.recipe import Recipe
from unet_med_pipelines.training.trainer import train

FOLDERS = {"hippocampus_mr": "hippocampus", "left_ventricle_mr": "left-ventricle"}


@pytest.mark.parametrize(("name", "cases", "patients"), [("hippocampus_mr", 200, 129), ("left_ventricle_mr", 350, 35)])
def test_every_case_is_found_and_no_patient_is_split(
    shared_data: Path, repository: Path, name: str, cases: int, patients: int
) -> None:
    recipe = Recipe.read(repository / f"configs/training/{name}.yaml")
    found = find_training_cases(recipe.data, shared_data / FOLDERS[name])
    assert len(found) == cases
    parts = split(found, recipe.split).patients
    assert sum(len(keys) for keys in parts.values()) == len(set().union(*parts.values())) == patients
    assert min(len(keys) for keys in parts.values()) >= 2


def test_both_sides_of_a_person_have_one_key(shared_data: Path, repository: Path) -> None:
    recipe = Recipe.read(repository / "configs/training/hippocampus_mr.yaml")
    of = {case.name: case.patient for case in find_training_cases(recipe.data, shared_data / "hippocampus")}
    # The data's own description: cases 2k - 1 and 2k come from one scan.
    for name, patient in of.items():
        assert patient == f"S{(int(name[-3:]) + 1) // 2:03}"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_shipped_recipe_makes_a_model_of_a_few_patients_in_two_steps(
    shared_data: Path, repository: Path, tmp_path: Path, name: str
) -> None:
    torch.set_num_threads(1)
    raw = yaml.safe_load((repository / f"configs/training/{name}.yaml").read_text())
    raw["schedule"] |= {"steps": 2, "warm_up": 0}
    raw |= {"tune_every": 2, "workers": 0}
    raw["sampling"]["batch"] = 1
    raw["split"] |= {"validation": 0.2, "tuning": 0.1}
    recipe = tmp_path / f"{name}.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    source = shared_data / FOLDERS[name]
    first_of_each = {case.patient: case for case in reversed(find_training_cases(Recipe.read(recipe).data, source))}
    for case in list(first_of_each.values())[:10]:
        for path in (*case.images, case.label):
            copy = tmp_path / "data" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    shutil.copyfile(source / "cases.csv", tmp_path / "data/cases.csv")

    model = load_model(train(recipe, tmp_path / "data", tmp_path / "run", device="cpu"))
    assert model.card.name == name
    assert model.card.training is not None
    assert sum(len(keys) for keys in model.card.training.split.values()) == 10
    with (tmp_path / "run/validation.csv").open() as file:
        validated = {row["patient"] for row in csv.DictReader(file)}
    assert validated == set(model.card.training.split["validation"])
    page = (tmp_path / "run/model/README.md").read_text()
    assert re.search(r"Measured on \d+ cases of \d+ patients", page)
