"""A DICOM series through the batch and out again as DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom

from tiny_model import save_tiny, tiny_card
from unet_med import Options, Scan, load_model, read_scan, read_segmentations, segment, write_scan
from unet_med_pipelines.batch import make_out
from unet_med_pipelines.cases import cases_of, find_inputs
from unet_med_pipelines.run_case import Task, run_case


def test_a_series_comes_back_as_dicom_of_every_kind(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 900, (10, 12, 9)).astype(np.int16)
    write_scan(Scan.from_array(data, np.diag([-1.0, -2.0, 3.0, 1.0]), modality="MR"), tmp_path / "series", "dicom")
    make_out(tmp_path / "out")
    model = load_model(save_tiny(tmp_path / "model", tiny_card()))
    formats = ("dicom-seg", "dicom-labelmap", "rtstruct")
    (case,) = cases_of(find_inputs([tmp_path / "series"]), ["image"])
    record = run_case(case, Task(model, tmp_path / "out", Options(device="cpu"), formats))
    assert record.status == "done", record.failure
    scan = read_scan(tmp_path / "series")
    result = segment(scan, model, Options(device="cpu"))
    expected = result.segmentations[0]
    assert expected.labels.any()
    written = sorted((tmp_path / "out" / "segmentations").iterdir())
    assert [path.name.split(".", 1)[1] for path in written] == ["labelmap.dcm", "rtstruct.dcm", "seg.dcm"]
    for path in written:
        (mask,) = read_segmentations(path, on=scan)
        np.testing.assert_array_equal(mask.labels, expected.labels)
    segments = pydicom.dcmread(next(path for path in written if path.name.endswith(".seg.dcm"))).SegmentSequence
    assert {item.SegmentAlgorithmName for item in segments} == {result.provenance.model}
    # What a folder of results holds is no scan, so that a second run over the tree finds the series only.
    assert len(find_inputs([tmp_path])) == 1
    outputs = json.loads(next((tmp_path / "out" / "records").glob("*.json")).read_text(encoding="utf-8"))["outputs"]
    assert [each["format"] for each in outputs] == list(formats)


def test_dicom_masks_of_what_was_no_dicom_fail_in_words(tmp_path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti1Image(np.zeros((10, 12, 9), np.int16), np.eye(4)), tmp_path / "scan.nii.gz")
    make_out(tmp_path / "out")
    model = load_model(save_tiny(tmp_path / "model", tiny_card()))
    (case,) = cases_of(find_inputs([tmp_path / "scan.nii.gz"]), ["image"])
    record = run_case(case, Task(model, tmp_path / "out", Options(device="cpu"), ("dicom-seg",)))
    assert record.failure is not None
    assert "not DICOM" in record.failure.reason
    assert "NIfTI" in (record.failure.advice or "")
    assert not list((tmp_path / "out" / "segmentations").iterdir())
