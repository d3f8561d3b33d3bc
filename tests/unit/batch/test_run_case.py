"""One case after another: what lies in OUT afterwards, whatever happened."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tiny_model import save_tiny, tiny_card
from unet_med import Options, load_model, read_scan, segment
from unet_med.errors import Cancelled, WriteFailed, WrongUse
from unet_med_pipelines import run_case as run_case_module
from unet_med_pipelines.batch import fitting_model, make_out, run_batch
from unet_med_pipelines.cases import Case, cases_of, find_inputs
from unet_med_pipelines.records import Record
from unet_med_pipelines.run_case import Task, run_case


class Quiet:
    """Progress that is only remembered; `stop_at` names the case that is stopped in its first window."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.stop_at, self.cases, self.name = stop_at, [], ""
        self.seen: list[tuple[int, int]] = []

    def case(self, name: str, done: int, total: int) -> None:
        self.name = name
        self.cases.append((name, done, total))

    def windows(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if self.name == self.stop_at:
            raise Cancelled


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A tiny model, and an OUT that is ready."""
    make_out(tmp_path / "out")
    return Task(load_model(save_tiny(tmp_path / "model", tiny_card())), tmp_path / "out", Options(device="cpu"))


def volume(path: Path, seed: int = 0, shape: tuple[int, ...] = (10, 12, 9)) -> Path:
    data = np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def case_of(path: Path) -> Case:
    (case,) = cases_of(find_inputs([path]), ["image"])
    return case


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def record(out: Path, case: str) -> dict[str, Any]:
    return json.loads((out / "records" / f"{case}.json").read_text(encoding="utf-8"))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_case_leaves_a_mask_and_a_record(task: Task, tmp_path: Path) -> None:
    path = volume(tmp_path / "in" / "scan.nii.gz")
    progress = Quiet()
    assert run_case(case_of(path), task, progress.windows).status == "done"
    assert files(task.out) == ["records/scan.json", "segmentations/scan.nii.gz"]
    expected = segment(read_scan(path), task.model, task.options).segmentations[0]
    written = nib.load(task.out / "segmentations" / "scan.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected.labels)
    np.testing.assert_array_equal(written.affine, np.diag([1.0, 2.0, 3.0, 1.0]))
    assert progress.seen[-1][0] == progress.seen[-1][1] > 0


def test_a_format_is_chosen_by_what_the_scan_is(tmp_path: Path) -> None:
    make_out(tmp_path / "out")
    model = load_model(save_tiny(tmp_path / "model", tiny_card(2)))
    grey = np.random.default_rng(1).integers(0, 255, (30, 40), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "picture.png")
    run_case(case_of(tmp_path / "picture.png"), Task(model, tmp_path / "out", Options(device="cpu")))
    assert (tmp_path / "out" / "segmentations" / "picture.png").is_file()
    assert np.asarray(Image.open(tmp_path / "out" / "segmentations" / "picture.png")).shape == (30, 40)


def test_several_formats_and_what_an_earlier_run_left(task: Task, tmp_path: Path) -> None:
    case = case_of(volume(tmp_path / "scan.nii.gz"))
    both = Task(task.model, task.out, task.options, ("nifti", "nrrd"))
    assert run_case(case, both).status == "done"
    assert files(task.out / "segmentations") == ["scan.nii.gz", "scan.nrrd"]
    assert run_case(case, Task(task.model, task.out, task.options, ("nrrd",))).status == "done"
    assert files(task.out / "segmentations") == ["scan.nrrd"]


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("step", "error", "kind", "words"),
    [
        ("read_scan", MemoryError(), "MemoryError", "memory"),
        ("segment", RuntimeError("CUDA out of memory. Tried to allocate"), "MemoryError", "memory"),
        ("measure", OSError(5, "Input/output error"), "OSError", "Input/output error"),
        ("write_record", WriteFailed("The disk is full.", where="records"), "WriteFailed", "The disk is full."),
        ("measure", ZeroDivisionError("boom"), "bug", "ZeroDivisionError"),
    ],
)
def test_whatever_goes_wrong_fails_the_case_and_leaves_no_mask(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception, kind: str, words: str
) -> None:
    case = case_of(volume(tmp_path / "scan.nii.gz"))
    assert run_case(case, task).status == "done"  # what an earlier run left goes, too
    monkeypatch.setattr(run_case_module, step, failing(error))
    failed = run_case(case, task)
    assert failed.failure is not None
    assert failed.failure.kind == kind
    assert words in failed.failure.reason
    assert "Traceback" not in str(failed.failure)
    if step == "write_record":
        assert files(task.out) == []
    else:
        assert files(task.out) == ["records/scan.json"]
        assert record(task.out, "scan")["status"] == "failed"
        assert record(task.out, "scan")["failure"]["reason"] == failed.failure.reason


def test_a_bug_comes_through_when_debugging(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_case_module, "segment", failing(ZeroDivisionError("boom")))
    with pytest.raises(ZeroDivisionError):
        run_case(case_of(volume(tmp_path / "scan.nii.gz")), task, debug=True)
    assert files(task.out) == []


@pytest.mark.parametrize("step", ["segment", "measure"])
def test_ctrl_c_leaves_nothing_of_the_case(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(run_case_module, step, failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run_case(case_of(volume(tmp_path / "scan.nii.gz")), task)
    assert files(task.out) == []


# -- the batch ------------------------------------------------------------------------------------------------------


def batch(task: Task, *paths: Path, progress: Quiet | None = None) -> list[Record]:
    return list(run_batch(cases_of(find_inputs(paths), ["image"]), task, progress or Quiet()))


def test_one_failure_stops_no_other_case(task: Task, tmp_path: Path) -> None:
    for seed, name in enumerate("ac"):
        volume(tmp_path / "in" / f"{name}.nii.gz", seed)
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"")
    progress = Quiet()
    assert [each.status for each in batch(task, tmp_path / "in", progress=progress)] == ["done", "failed", "done"]
    assert progress.cases == [("a", 0, 3), ("b", 1, 3), ("c", 2, 3), ("", 3, 3)]
    assert "b.nii.gz" in record(task.out, "b")["failure"]["reason"]
    table = rows(task.out)
    assert [(row["case"], row["label"], row["value"]) for row in table] == [
        ("a", "one", "1"), ("a", "two", "2"), ("c", "one", "1"), ("c", "two", "2"),
    ]  # fmt: skip
    mask = np.asarray(nib.load(task.out / "segmentations" / "a.nii.gz").dataobj)
    assert [int(row["voxels"]) for row in table[:2]] == [int((mask == 1).sum()), int((mask == 2).sum())]
    assert float(table[0]["volume_ml"]) == pytest.approx((mask == 1).sum() * 0.006)  # voxels of 1 x 2 x 3 mm


def test_the_table_covers_earlier_runs_and_forgets_what_fails_now(task: Task, tmp_path: Path) -> None:
    batch(task, volume(tmp_path / "one.nii.gz"), volume(tmp_path / "two.nii.gz"))
    (tmp_path / "one.nii.gz").write_text("no longer a scan")
    batch(task, tmp_path / "one.nii.gz")
    assert {row["case"] for row in rows(task.out)} == {"two"}


def test_a_stopped_batch_keeps_what_is_done_and_nothing_of_the_rest(task: Task, tmp_path: Path) -> None:
    paths = [volume(tmp_path / "in" / f"{name}.nii.gz") for name in "abc"]
    with pytest.raises(Cancelled):
        batch(task, *paths, progress=Quiet(stop_at="b"))
    assert files(task.out) == ["measurements.csv", "records/a.json", "segmentations/a.nii.gz"]
    assert {row["case"] for row in rows(task.out)} == {"a"}


def test_a_second_run_into_the_input_finds_the_same_scans(tmp_path: Path, task: Task) -> None:
    volume(tmp_path / "in" / "scan.nii.gz")
    make_out(tmp_path / "in" / "out")
    inside = Task(task.model, tmp_path / "in" / "out", task.options)
    for _ in range(2):
        assert [each.case for each in batch(inside, tmp_path / "in")] == ["scan"]


def test_a_mask_never_takes_the_place_of_its_scan(task: Task) -> None:
    path = volume(task.out / "segmentations" / "scan.nii.gz")
    before = path.read_bytes()
    with pytest.raises(WrongUse, match="place of its scan"):
        batch(task, path)
    assert path.read_bytes() == before


def test_out_that_is_a_file_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(WrongUse, match="this is a file"):
        make_out(tmp_path / "out")
    with pytest.raises(WriteFailed, match="cannot be made"):
        make_out(tmp_path / "out" / "below")


def test_the_model_is_not_guessed_where_no_modality_is_declared(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="does not say which modality"):
        fitting_model(find_inputs([volume(tmp_path / "scan.nii.gz")]))
