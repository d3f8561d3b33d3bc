"""What a record holds, and what it must not hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tiny_model import save_tiny, tiny_card
from unet_med import Box, Options, load_model
from unet_med.errors import FileUnreadable
from unet_med.measure import Measurement
from unet_med.scan import Finding, Severity, Source
from unet_med.segmentation import Label
from unet_med_pipelines.batch import make_out
from unet_med_pipelines.cases import Case, Input, cases_of, find_inputs
from unet_med_pipelines.records import Failure, Record, describe_input, read_records, write_measurements, write_record
from unet_med_pipelines.run_case import Task, run_case


@pytest.fixture
def out(tmp_path: Path) -> Path:
    make_out(tmp_path / "out")
    return tmp_path / "out"


def done(case: str, *volumes: float | None) -> Record:
    measurements = tuple(
        Measurement(Label(value, f"label_{value}"), 1000 * value, volume) for value, volume in enumerate(volumes, 1)
    )
    return Record(case, ({"path": f"{case}.nii"},), {}, measurements=measurements)


def test_the_record_of_a_real_run_can_be_checked_against_the_files(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    data = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    image = nib.Nifti1Image(data, np.diag([-1.0, -1.5, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    card = tiny_card()
    folder = save_tiny(tmp_path / "model", card)
    options = Options("cpu", "bf16", 0.25, True, Box((-9, -9, -9), (9, 9, 9)))
    run_case(cases_of(find_inputs([path]), ["image"])[0], Task(load_model(folder), out, options, ("nrrd",)))
    (found,) = read_records(out)
    assert found["case"] == "scan"
    assert found["status"] == "done"
    assert found["failure"] is None
    assert found["inputs"] == [
        {"path": str(path), "kind": "nifti", "files": 1, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    ]
    assert found["scan"] == {
        "shape": [6, 7, 8],
        "spacing": [1.0, 1.5, 2.0],
        "space_units": "mm",
        "orientation": "LPS",
        "channels": ["image"],
        "values": "int16",
        "units": "arbitrary",
        "modality": "not declared",
    }
    assert "modality_not_declared" in {finding["code"] for finding in found["findings"]}
    assert {key: found["options"][key] for key in ("device", "precision", "overlap", "flips", "box")} == {
        "device": "cpu", "precision": "bf16", "overlap": 0.25, "flips": [0], "box": "-9,9,-9,9,-9,9",
    }  # fmt: skip
    weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert found["model"] == {"name": "tiny 1.0.0", "weights_sha256": [weights]}
    assert {"torch", "numpy", "unet-med"} <= set(found["versions"])
    assert {"read", "predict", "write"} <= set(found["seconds"])
    mask = out / "segmentations" / "scan.nrrd"
    assert found["outputs"] == [
        {
            "path": "segmentations/scan.nrrd",
            "format": "nrrd",
            "sha256": hashlib.sha256(mask.read_bytes()).hexdigest(),
        }
    ]


def test_a_failed_record_has_reason_and_advice_apart(out: Path) -> None:
    write_record(out, Record("a", (), {}, failure=Failure("channel_count", "One is missing.", "Add it.")))
    (found,) = read_records(out)
    assert found["status"] == "failed"
    assert found["failure"] == {"kind": "channel_count", "reason": "One is missing.", "advice": "Add it."}


def test_no_name_or_id_reaches_a_record(out: Path, tmp_path: Path) -> None:
    """A series that cannot be read, in folders named after its patient, with an error that quotes the path."""
    folder = tmp_path / "Doe_Jane" / "77-88-99"
    folder.mkdir(parents=True)
    file = folder / "DOE^JANE.dcm"
    file.write_bytes(b"")
    source = Source("dicom", (file,), "MR", "brain of Jane Doe", "1.2.3", 1, identity=("DOE^JANE", "778899"))
    (case,) = cases_of([Input(tmp_path, source)], ["image"])
    problem = FileUnreadable(f"{file} is empty, patient DOE^JANE.", where=file, advice=f"See {folder}.")
    model = load_model(save_tiny(tmp_path / "model", tiny_card()))
    broken = Case(case.name, case.inputs, case.paths, case.hidden, problem)
    failed = run_case(broken, Task(model, out, Options(device="cpu")))
    assert failed.failure is not None
    assert " is empty" in failed.failure.reason
    text = (out / "records" / f"{case.name}.json").read_text(encoding="utf-8") + str(failed.failure) + case.name
    for word in ("doe", "jane", "77-88-99", "778899"):
        assert word not in text.lower()


def test_findings_are_kept_with_code_and_severity() -> None:
    finding = Finding("empty_result", Severity.NOTE, "No voxel.", "Look.")
    (found,) = Record("a", (), {}, findings=(finding,)).as_dict()["findings"]
    assert found == {"code": "empty_result", "severity": "note", "message": "No voxel.", "action": "Look."}


def test_the_table_has_a_row_for_each_case_and_label(out: Path) -> None:
    write_record(out, done("b", 1.5, 1234.56789))
    write_record(out, done("a", None))
    write_record(out, Record("c", (), {}, failure=Failure("OSError", "Gone.")))
    assert write_measurements(out).read_text(encoding="utf-8").splitlines() == [
        "case,label,value,voxels,volume_ml",
        "a,label_1,1,1000,",
        "b,label_1,1,1000,1.5",
        "b,label_2,2,2000,1234.56789",
    ]


def test_files_that_are_no_records_are_passed_over(out: Path) -> None:
    write_record(out, done("a", 1.0))
    records = out / "records"
    (records / "b.json").write_text((records / "a.json").read_text(encoding="utf-8")[:-40], encoding="utf-8")
    (records / "c.json").write_text("[1, 2]", encoding="utf-8")
    (records / "d.json").write_text(json.dumps({"case": "elsewhere", "measurements": []}), encoding="utf-8")
    assert [record["case"] for record in read_records(out)] == ["a"]


def test_the_hash_of_a_header_covers_its_voxels(tmp_path: Path) -> None:
    for name, content in {"a.hdr": b"head", "a.img": b"body", "a.b.hdr": b"other", "ab.img": b"another"}.items():
        (tmp_path / name).write_bytes(content)
    described = describe_input(Source("nifti", (tmp_path / "a.hdr",)), "a.hdr")
    assert described["files"] == 2
    assert described["sha256"] == hashlib.sha256(b"headbody").hexdigest()


def test_files_that_cannot_be_read_have_no_hash(tmp_path: Path) -> None:
    assert describe_input(Source("nifti", (tmp_path / "gone.nii",)), "gone.nii")["sha256"] is None
