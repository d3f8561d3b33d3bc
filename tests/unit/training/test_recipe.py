"""Recipes: what is asked of them, and how their mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_med.errors import WrongUse
from unet_med_pipelines.training.recipe import Recipe

CARD: dict[str, Any] = {
    "name": "blobs",
    "version": "1",
    "summary": "s",
    "intended_use": "u",
    "limits": ["l"],
    "licence": "CC0-1.0",
    "labels": [{"value": 1, "name": "blob", "colour": "#ff0000"}],
    "channels": [{"name": "image"}],
    "grid": {"dimensions": 2, "spacing": None, "window": [32, 32]},
    "intensity": {"scale": "zscore"},
    "network": {"encoder": "plain", "widths": [4, 8]},
}
RECIPE: dict[str, Any] = {
    "card": CARD,
    "data": {
        "name": "Blobs",
        "licence": "CC0 1.0",
        "licence_url": "https://creativecommons.org/publicdomain/zero/1.0/",
        "attribution": "a",
        "citation": "c",
        "images": ["images/{case}.png"],
        "labels": "masks/{case}.png",
    },
    "split": {"validation": 0.2},
    "sampling": {"batch": 2},
    "optimiser": {"learning_rate": 0.01},
    "schedule": {"steps": 10},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


def problem_of(folder: Path, **changes: Any) -> str:
    with pytest.raises(WrongUse) as caught:
        Recipe.read(written(folder, **changes))
    return str(caught.value)


def test_a_whole_recipe_is_read(tmp_path: Path) -> None:
    recipe = Recipe.read(written(tmp_path))
    assert recipe.card.name == "blobs"
    assert recipe.checkpoint.keep == "last"


def test_shipped_recipes_are_read(repository: Path) -> None:
    names = {Recipe.read(path).card.name for path in (repository / "configs/training").glob("*.yaml")}
    assert {"hippocampus_mr", "left_ventricle_mr"} <= names


def test_every_mistake_is_named_at_once_with_the_nearest_key(tmp_path: Path) -> None:
    said = problem_of(
        tmp_path,
        sampling={"batch": 2, "forground": 0.5},
        optimiser={"learning_rate": -1},
        schedule={"steps": 10, "shape": "cosin"},
    )
    assert '"sampling.forground" is not a known key; did you mean "foreground"?' in said
    assert '"optimiser.learning_rate"' in said
    assert '"schedule.shape"' in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {**RECIPE["data"], "labels": "masks/*.png"}}, "needs {case} exactly once"),
        ({"data": {**RECIPE["data"], "labels": "../masks/{case}.png"}}, "stay inside it"),
        ({"data": {**RECIPE["data"], "patient": "(P"}}, "not a regular expression"),
        ({"data": {**RECIPE["data"], "label_values": {255: 7}}}, "no label of the card has: [7]"),
        ({"data": {**RECIPE["data"], "images": ["a/{case}.png", "b/{case}.png"]}}, "each of the 1 channels"),
        ({"split": {"validation": 0.6, "tuning": 0.4}}, "leave no patient"),
        ({"split": {"validation": 0.2}, "tune_every": 5}, "need tuning cases"),
        ({"split": {"validation": 0.2, "tuning": 0.1}}, "that nothing looks at"),
        ({"schedule": {"steps": 10, "warm_up": 10}}, "leaves none of 10"),
        ({"card": {**CARD, "weights": [{"file": "a.safetensors", "sha256": "0" * 64}]}}, "written by the training run"),
        ({"card": {**CARD, "inference": {"activation": "sigmoid"}}}, "only softmax"),
        ({"augmentation": {"flips": {"axes": [2]}}}, "axes below 2"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in problem_of(tmp_path, **changes)


def test_a_missing_recipe_is_a_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="There is no such file"):
        Recipe.read(tmp_path / "none.yaml")
