"""`unet-med segment --series` on a study with several series, as a person types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tiny_model import save_tiny, tiny_card
from unet_med import Scan, write_scan
from unet_med_pipelines import cli


def series(folder: Path, number: int, description: str, modality: str = "MR") -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 400, (17, 18, 9), np.int16)
    write_scan(Scan.from_array(values, np.diag([1, 1, 2, 1]), modality=modality), folder, "dicom")
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.StudyInstanceUID, one.SeriesNumber, one.SeriesDescription = "1.1", number, description
        one.save_as(file)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two MR series, a CT, and an MR series that is refused."""
    series(tmp_path / "study" / "t1", 1, "T1 mprage")
    series(tmp_path / "study" / "t2", 2, "T2 tse")
    series(tmp_path / "study" / "ct", 3, "head", "CT")
    series(tmp_path / "study" / "lost", 4, "T1 without a place")
    for file in (tmp_path / "study" / "lost").iterdir():
        one = pydicom.dcmread(file)
        del one.ImagePositionPatient
        one.save_as(file)
    return tmp_path / "study"


def segment(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["unet-med", "segment", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def records(out: Path) -> dict[str, dict[str, object]]:
    """Failures by case, without the hash of the series; None where the case is done."""
    found = [json.loads(path.read_bytes()) for path in sorted((out / "records").glob("*.json"))]
    return {record["case"].rsplit("_", 1)[0]: record["failure"] and record["failure"]["kind"] for record in found}


def test_every_usable_series_is_segmented_and_the_others_fail_with_their_reason(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny(tmp_path / "tiny", tiny_card())
    assert segment(monkeypatch, study, "-m", model, "-o", tmp_path / "out") == 1
    assert records(tmp_path / "out") == {
        "t1_s1": None,
        "t2_s2": None,
        "ct_s3": "modality_mismatch",
        "lost_s4": "missing_geometry",
    }
    assert len(list((tmp_path / "out" / "segmentations").iterdir())) == 2


def test_a_rule_leaves_out_what_is_not_meant(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_tiny(tmp_path / "tiny", tiny_card())
    rule = "modality=MR,description!=without,slices>=9"
    assert segment(monkeypatch, study, "-m", model, "-o", tmp_path / "out", "--series", rule) == 0
    assert records(tmp_path / "out") == {"t1_s1": None, "t2_s2": None}


def test_two_rules_give_a_model_its_two_channels(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_tiny(tmp_path / "tiny", tiny_card(channels=("t2", "t1")))
    asked = ("--series", "description=T2", "--series", "description=T1 m")
    assert segment(monkeypatch, study, "-m", model, "-o", tmp_path / "out", *asked) == 0
    (path,) = (tmp_path / "out" / "records").iterdir()
    assert [Path(each["path"]).name for each in json.loads(path.read_bytes())["inputs"]] == ["t2", "t1"]


def test_a_model_of_two_channels_asks_for_rules(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny(tmp_path / "tiny", tiny_card(channels=("t2", "t1")))
    assert segment(monkeypatch, study, "-m", model, "-o", tmp_path / "out") == 2
    assert "Give --series 2 times, for t2, t1 in this order" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_table_and_a_rule_contradict_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--cases", tmp_path / "cases.csv", "--series", "modality=MR", "-m", "x", "-o", tmp_path / "out")
    assert segment(monkeypatch, *asked) == 2
