"""`unet-med models` and `unet-med models show`, as a person at an 80-column terminal and a program see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import unet_med.models
from unet_med.card import ModelCard
from unet_med.errors import ModelRefused
from unet_med.models import save_model
from unet_med.network import UNet
from unet_med_pipelines.cli.models import app, validation_dice

CARD = ModelCard.model_validate(
    {
        "name": "two_chambers",
        "version": "1.2.0",
        "summary": "Both chambers in cine MR.",
        "intended_use": "Tests of the command line, which print lines that are much longer than a terminal is wide.",
        "limits": ["Knows one slice at a time.", "Has never seen a [bold]real[/bold] heart."],
        "licence": "CC0-1.0",
        "labels": [
            {
                "value": 1,
                "name": "left_chamber",
                "colour": "#ff0000",
                "anatomy": {"scheme": "SCT", "value": "87878005", "meaning": "Left ventricle"},
            },
            {"value": 2, "name": "right_chamber", "colour": "#0000ff"},
        ],
        "channels": [{"name": "cine", "modality": "MR"}],
        "grid": {"dimensions": 2, "spacing": [1.5, 1.25], "window": [32, 16]},
        "intensity": {"clip_percentiles": [0.5, 99.5], "scope": "slice"},
        "network": {"encoder": "plain", "widths": [4, 6, 8], "deep_supervision": 1},
        "inference": {"overlap": 0.25, "flips": [1]},
        "postprocess": {"fill_holes": ["left_chamber"]},
        "field_of_view": {"unit": "mm", "smallest": [40, 30], "largest": [80, 60.5]},
        "scores": [
            {
                "measured_on": "validation",
                "patients": 3,
                "cases": 12,
                "settings": "no flips",
                "metrics": {"left_chamber": {"dice": 0.9125, "hd95_mm": 2.5}, "mean": {"dice": 0.8871}},
            }
        ],
    }
)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that knows one model."""
    monkeypatch.setattr(unet_med.models, "_SHIPPED", tmp_path)
    monkeypatch.setattr(unet_med.models, "_EXTRA", tmp_path / "none")
    save_model(tmp_path / "two_chambers", CARD, [UNet.from_card(CARD).state_dict()])
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERM": "dumb"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_names_what_one_chooses_by(installed: Path) -> None:
    lines = run().splitlines()
    size = (installed / "two_chambers" / "weights.safetensors").stat().st_size / 2**20
    first = next(number for number, line in enumerate(lines) if line.startswith("two_chambers"))
    assert lines[first].split() == ["two_chambers", "2D", "MR", "left_chamber", f"{size:.1f}", "CC0-1.0", "0.887"]
    assert lines[first + 1].split() == ["right_chamber"]
    assert max(map(len, lines)) <= 80


def test_the_list_as_json(installed: Path) -> None:
    (model,) = json.loads(run("--json"))
    assert model == {
        "name": "two_chambers",
        "folder": str(installed / "two_chambers"),
        "dimensions": 2,
        "modalities": ["MR"],
        "labels": ["left_chamber", "right_chamber"],
        "weight_bytes": (installed / "two_chambers" / "weights.safetensors").stat().st_size,
        "licence": "CC0-1.0",
        "validation_dice": 0.8871,
    }


def test_no_models_is_said_in_words(installed: Path) -> None:
    (installed / "two_chambers" / "card.yaml").unlink()
    assert "No models are installed" in run()
    assert json.loads(run("--json")) == []


def test_a_model_is_shown_with_its_card_and_every_stage() -> None:
    page = run("show", "two_chambers")
    lines = page.splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(page.split())  # long sentences are wrapped
    for fact in (
        "two_chambers 1.2.0",
        "much longer than a terminal is wide.",
        "- Has never seen a [bold]real[/bold] heart.",
        "left_chamber (Left ventricle, SCT 87878005)",
        "planes, slice by slice; 1.5 x 1.25 mm; window 32 x 16 voxels",
        "clipped to percentiles 0.5 to 99.5, scaled to mean 0 and deviation 1, each slice by itself",
        "40 x 30 to 80 x 60.5 mm",
        "windows overlap by 25%; axes that --flips mirrors: 1",
        "holes filled in left_chamber",
        "scores on validation: 12 cases of 3 patients; no flips",
        "left_chamber 0.912 2.500",
        "plain encoder",
        # 32 x 16 pixels: 9 (1 x 4 + 4 x 4) weights and 4 x 4 of norms.
        "encoder[0] 4x32x16 to decoder[1] 196 92.2 k",
        "bottleneck 8x8x4",
        "decoder[1] 4x32x16 4x32x16",
        "heads[1] 3x16x8 21 training only",
    ):
        assert fact in words


def test_a_model_shown_as_json_holds_the_card_and_the_architecture(installed: Path) -> None:
    shown = json.loads(run("show", str(installed / "two_chambers"), "--json"))
    assert ModelCard.model_validate(shown["card"]) == ModelCard.read(installed / "two_chambers" / "card.yaml")
    assert [stage["name"] for stage in shown["architecture"]["stages"]] == [
        "encoder[0]", "encoder[1]", "bottleneck", "decoder[0]", "decoder[1]", "head", "heads[1]",
    ]  # fmt: skip
    assert shown["architecture"]["stages"][0]["multiply_adds"] == 32 * 16 * 9 * (1 * 4 + 4 * 4)


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ModelRefused, match="Did you mean two_chambers"):
        run("show", "two_chamber")


def test_a_card_without_scores_has_no_dice() -> None:
    assert validation_dice(CARD.with_(scores=())) is None
