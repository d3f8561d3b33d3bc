"""`unet-med inspect`, as a person at an 80-column terminal and a program see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from typer.testing import CliRunner

from unet_med import Scan, write_scan
from unet_med.errors import WrongUse
from unet_med_pipelines import cli

SECRETS = ("Secret", "secret", "PID0815")


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(
        cli.app, ["inspect", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"}, catch_exceptions=False
    )
    assert result.exit_code == code, result.output
    assert result.stderr == ""
    return result.stdout


def nifti(path: Path, shape: tuple[int, ...] = (8, 9, 10), unit: str = "mm") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag((-2, 2, 3, 1)))
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def series(folder: Path, modality: str = "CT", count: int = 5, **tags: Any) -> Path:
    """A DICOM series of a patient called Secret^Name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scan = Scan.from_array(
        np.zeros((7, 6, count), np.int16), np.diag((-0.5, -0.5, 3, 1)), modality=modality, units="HU"
    )
    write_scan(scan, folder, "dicom")
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.update(
            {"PatientName": "Secret^Name", "PatientID": "PID0815", "SeriesInstanceUID": f"1.2.{len(str(folder))}"}
        )
        one.update(tags)
        one.save_as(file)
    return folder


def test_a_page_tells_of_each_scan_in_its_folder(tmp_path: Path) -> None:
    series(tmp_path / "study" / "thorax", SeriesDescription="Thorax 3.0", SeriesNumber=4)
    nifti(tmp_path / "heads" / "a.nii")
    nifti(tmp_path / "heads" / "b.nii.gz", unit="micron")
    nifti(tmp_path / "heads" / "c.nii", (8, 9, 10, 3))
    (tmp_path / "heads" / "d.nii").touch()
    assert run(tmp_path, code=1).splitlines() == [
        f"{tmp_path}/heads",
        "  usable      a.nii (NIfTI)",
        "              8 x 9 x 10 voxels, 2 x 2 x 3 mm, LAS (left-handed)",
        "  repaired    b.nii.gz (NIfTI)",
        "              8 x 9 x 10 voxels, 0.002 x 0.002 x 0.003 mm, LAS (left-handed)",
        "              units_converted: Lengths are given in micrometres. Converted to",
        "              mm.",
        "  refused     c.nii (NIfTI)",
        "              too_many_channels: The file holds 3 values a voxel (time points or",
        "              channels), and one is needed. Save the one that is meant as a file",
        "              of its own, or use a model that reads as many.",
        "  unreadable  d.nii (NIfTI)",
        "              The file is empty. Copy or download it again.",
        "",
        f"{tmp_path}/study/thorax",
        '  usable      CT, series 4, "Thorax 3.0", 5 files',
        "              7 x 6 x 5 voxels, 0.5 x 0.5 x 3 mm, LPS, HU",
        "",
        "2 usable, 1 repaired, 1 refused, 1 unreadable",
    ]


def test_a_missing_slice_is_told_with_what_is_done_about_it(tmp_path: Path) -> None:
    series(tmp_path / "a", count=7)
    (tmp_path / "a" / "slice_0004.dcm").unlink()
    words = " ".join(run(tmp_path / "a").split())
    assert "7 x 6 x 6 voxels, 0.5 x 0.5 x 3.6 mm on average, LPS, HU" in words  # 18 mm in 5 steps
    assert "missing_slice: Slices are 3 mm apart, but there are gaps the size of 1 missing slice" in words
    assert "Every slice stays at its true position" in words


def test_json_has_the_same_keys_for_every_scan(tmp_path: Path) -> None:
    series(tmp_path / "b", SeriesDescription="of somebody", SeriesNumber=4)
    nifti(tmp_path / "a.nii", (8, 9, 10, 3))
    (tmp_path / "c.dcm").touch()
    found = json.loads(run(tmp_path, "--json", code=1))
    assert found["format"] == 1
    assert found["counts"] == {"usable": 1, "repaired": 0, "refused": 1, "unreadable": 1, "left_out": 0}
    assert found["other_objects"] == {}
    refused, usable, unreadable = found["scans"]
    assert set(refused) == set(usable) == set(unreadable)
    assert refused["refusal"] == {
        "code": "too_many_channels",
        "message": "The file holds 3 values a voxel (time points or channels), and one is needed.",
        "advice": "Save the one that is meant as a file of its own, or use a model that reads as many.",
    }
    assert refused["shape"] is refused["affine"] is refused["units"] is None
    assert usable["path"] == str(tmp_path / "b")
    assert (usable["verdict"], usable["kind"], usable["files"], usable["modality"]) == ("usable", "dicom", 5, "CT")
    assert (usable["series_number"], usable["shape"], usable["spacing"]) == (4, [7, 6, 5], [0.5, 0.5, 3.0])
    assert (usable["orientation"], usable["left_handed"], usable["units"]) == ("LPS", False, "HU")
    assert usable["affine"] == np.diag((-0.5, -0.5, 3, 1)).tolist()
    assert usable["slice_offsets"] is None
    assert usable["refusal"] is None
    assert usable["case"].startswith("b_s4_")
    assert (unreadable["path"], unreadable["verdict"]) == (str(tmp_path / "c.dcm"), "unreadable")
    assert unreadable["refusal"]["code"] == "unreadable"


def test_other_dicom_objects_are_counted(tmp_path: Path) -> None:
    series(tmp_path / "images")
    for name in ("one", "two"):
        other = Dataset()
        other.file_meta = FileMetaDataset()
        other.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
        other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID = "1.2.3"
        other.save_as(tmp_path / name, enforce_file_format=True)
    assert run(tmp_path).splitlines()[-2:] == ["1 usable", "DICOM, but no scans: 2 x RT Structure Set Storage"]
    assert json.loads(run(tmp_path, "--json"))["other_objects"] == {"RT Structure Set Storage": 2}
    assert run(tmp_path / "one", code=1).splitlines() == [
        "no scan",
        "DICOM, but no scans: 1 x RT Structure Set Storage",
    ]


# -- privacy --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Folders that are named after a patient, with a good series, a refused one, and a broken file."""
    series(tmp_path / "Secret, Name" / "PID0815_head", SeriesDescription="head of Mr Secret")
    series(
        tmp_path / "Secret, Name" / "refused",
        SeriesDescription="head",
        PixelSpacing=[0, 0],
    )
    (tmp_path / "Secret, Name" / "name.secret.dcm").write_bytes(b"broken")
    return tmp_path


def test_no_patient_is_named_on_the_screen_or_in_json(clinic: Path) -> None:
    for said in (run(clinic, code=1), run(clinic, "--json", code=1)):
        assert not [secret for secret in SECRETS if secret in said]
    assert '"head of Mr ' in run(clinic, code=1)


def test_descriptions_are_shown_but_stay_out_of_json(clinic: Path) -> None:
    assert '"head"' in run(clinic, code=1)
    assert "head" not in run(clinic, "--json", code=1)


# -- choosing -------------------------------------------------------------------------------------------------------


def test_a_rule_leaves_other_series_out_and_counts_them(tmp_path: Path) -> None:
    series(tmp_path / "a", modality="MR")
    series(tmp_path / "bb", modality="CT")
    series(tmp_path / "ccc", modality="CT", count=2)
    nifti(tmp_path / "d.nii")
    lines = run(tmp_path, "--series", "modality=CT,slices>=3").splitlines()
    assert lines[0] == str(tmp_path)
    assert [line for line in lines if line.startswith(str(tmp_path))] == [str(tmp_path), str(tmp_path / "bb")]
    assert lines[-1] == "2 usable, 2 left out by the rule"


@pytest.mark.parametrize("rule", ["modality=PT", "slices>=99"])
def test_a_rule_that_fits_nothing_is_wrong_use(rule: str, tmp_path: Path) -> None:
    series(tmp_path / "a")
    with pytest.raises(WrongUse, match="fits none of the 1 DICOM series"):
        run(tmp_path, "--series", rule)


def test_a_rule_without_any_series_is_wrong_use(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii")
    with pytest.raises(WrongUse, match="there is none here"):
        run(tmp_path, "--series", "modality=MR")


# -- exit codes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"), [("good", 0), ("bad", 1), ("none", 2), ("missing", 2), ("none/a.txt", 1), ("good --series x", 2)]
)
def test_exit_codes(
    name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nifti(tmp_path / "good" / "a.nii")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.nii").write_text("no scan")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").touch()
    place, *options = name.split()
    monkeypatch.setattr(sys, "argv", ["unet-med", "inspect", str(tmp_path / place), *options])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    assert capsys.readouterr().err.startswith("Error:") == (code == 2 or name == "none/a.txt")


def test_colour_is_for_terminals_only(tmp_path: Path) -> None:
    assert "\x1b" not in run(nifti(tmp_path / "a.nii"))


def test_neither_torch_nor_a_network_is_loaded(tmp_path: Path) -> None:
    series(tmp_path / "a")
    nifti(tmp_path / "b.nii")
    script = (
        "import sys; from unet_med_pipelines.cli import main\n"
        "try:\n    main()\nfinally:\n    print(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, "inspect", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
