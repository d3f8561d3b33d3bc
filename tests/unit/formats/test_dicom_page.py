"""docs/dicom.md: its list of findings is the program's, and what it shows of `unet-med inspect` is what is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_builder import CT, positions, save
from typer.testing import CliRunner

from unet_med.formats.dicom_pixels import DECODERS
from unet_med.scan import FINDING_CODES
from unet_med_pipelines import cli


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "dicom.md").read_text(encoding="utf-8")


def test_every_finding_is_in_the_table_in_the_words_of_the_program(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", page, re.M)
    assert [(code, meaning) for code, meaning, _ in rows] == list(FINDING_CODES.items())
    assert all(action.strip() for _, _, action in rows)


def test_every_compression_that_is_read_is_named(page: str) -> None:
    named = set(re.findall(r"`(1\.2\.840\.10008\.1\.2[.\d]*)`", page))
    assert named == set(DECODERS)


def study(folder: Path) -> None:
    """A CT of a tilted gantry with a slice missing, a series of two stacks, a series without places, and a report."""

    def ct(one: pydicom.Dataset, k: int) -> None:
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CT
        one.Modality, one.SeriesDescription, one.SeriesNumber, one.SeriesInstanceUID = "CT", "Thorax 3.0", 2, "1.2.2"
        one.RescaleSlope, one.RescaleIntercept, one.PixelPaddingValue = 1, -1024, -2000

    def echoes(one: pydicom.Dataset, k: int) -> None:
        one.SeriesDescription, one.SeriesNumber, one.SeriesInstanceUID = "t2 two echoes", 3, "1.2.3"
        one.EchoTime = (20, 80)[k % 2]

    def lost(one: pydicom.Dataset, k: int) -> None:
        one.SeriesDescription, one.SeriesNumber, one.SeriesInstanceUID = "t1", 4, "1.2.4"
        del one.ImagePositionPatient

    def report(one: pydicom.Dataset, k: int) -> None:
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        for tag in ("PixelData", "Rows", "Columns"):
            del one[tag]

    tilted = positions(12, (0, 3 * np.tan(np.radians(12)), 3))
    save(folder / "CT", [*tilted[:7], *tilted[8:]], change=ct)
    save(folder / "MR" / "echoes", np.repeat(positions(5), 2, axis=0), change=echoes)
    save(folder / "MR" / "lost", change=lost)
    save(folder / "SR", positions(1), change=report)
    nib.save(nib.Nifti1Image(np.zeros((6, 4, 12), np.float32), np.diag((-1, 1, 3, 1))), folder / "old.nii.gz")
    (folder / "MR" / "lost" / "007.dcm").touch()


def test_the_page_shows_what_inspect_prints(page: str, tmp_path: Path, monkeypatch: Any) -> None:
    study(tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    shown = re.search(r"```console\n\$ unet-med inspect study\n(.*?)```", page, re.S)
    assert shown is not None
    result = CliRunner().invoke(cli.app, ["inspect", "study"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.stdout == shown[1]
