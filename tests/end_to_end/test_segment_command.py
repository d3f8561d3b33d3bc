"""`unet-med segment` as a person types it: what lies in OUT, what the terminal shows, and the exit code."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tiny_model import save_tiny, tiny_card
from unet_med import Box, Options, Scan, load_model, models, read_scan, read_segmentation, segment, write_scan
from unet_med_pipelines import cli

PROGRAM = [sys.executable, "-c", "from unet_med_pipelines.cli import main; main()"]


@dataclass(frozen=True)
class Outcome:
    """What a command leaves on the terminal."""

    code: int
    error: str

    @property
    def words(self) -> str:
        """The text without its line breaks."""
        return " ".join(self.error.split())


Type = Callable[..., Outcome]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types a command on a terminal of 80 columns."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["unet-med", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as left:
            cli.main()
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return Outcome(int(left.value.code or 0), error)

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", tiny_card())


def oblique(angle: float = 0.4) -> np.ndarray:
    """An affine of 1 x 1.5 x 2 mm, turned about z, that starts off the origin."""
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 1.5, 2.0])
    affine[:3, 3] = (-20, 30, 5)
    return affine


def values(shape: tuple[int, ...] = (18, 14, 11), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def volume(path: Path, data: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values() if data is None else data, oblique() if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def files(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def record(out: Path, case: str) -> dict[str, object]:
    return json.loads((out / "records" / f"{case}.json").read_text(encoding="utf-8"))


# -- done -----------------------------------------------------------------------------------------------------------


def test_library_and_command_line_give_the_same_voxels(typed: Type, tmp_path: Path, model: Path) -> None:
    path, out = volume(tmp_path / "scan.nii.gz"), tmp_path / "out"
    options = (
        "--overlap",
        "0.25",
        "--flips",
        "--box",
        "-30,0,30,50,5,20",
        "--device",
        "cpu",
        "-f",
        "nifti",
        "-f",
        "nrrd",
    )
    outcome = typed("segment", path, "-m", model, "-o", out, *options, "-f", "nifti", "-f", "nrrd")
    assert outcome.code == 0
    by_hand = Options("cpu", "auto", 0.25, True, Box.parse("-30,0,30,50,5,20"))
    expected = segment(read_scan(path), load_model(model), by_hand).segmentations[0]
    assert expected.labels.any()
    for name in ("scan.nii.gz", "scan.nrrd"):
        written = read_segmentation(out / "segmentations" / name)
        np.testing.assert_array_equal(written.labels, expected.labels)
        np.testing.assert_allclose(written.grid.affine, oblique(), atol=1e-5)
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["voxels"]) for row in rows] == [int((expected.labels == value).sum()) for value in (1, 2)]
    assert [float(row["volume_ml"]) for row in rows] == [
        pytest.approx((expected.labels == value).sum() * 3 / 1000, rel=1e-6) for value in (1, 2)
    ]


def test_a_tree_becomes_a_folder_of_results(typed: Type, tmp_path: Path, model: Path) -> None:
    for name in ("a.nii.gz", "sub/a.nii.gz", "sub/b.nii"):
        volume(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not a scan")
    outcome = typed("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert outcome.code == 0
    assert "3 done, 0 failed" in outcome.error
    assert files(tmp_path / "out") == [
        "measurements.csv",
        *(f"records/{case}.json" for case in ("a", "sub__a", "sub__b")),
        *(f"segmentations/{case}.nii.gz" for case in ("a", "sub__a", "sub__b")),
    ]


def test_pictures_become_png_masks_without_volumes(typed: Type, tmp_path: Path) -> None:
    planes = save_tiny(tmp_path / "planes", tiny_card(2))
    grey = np.random.default_rng(3).integers(0, 255, (24, 40), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "equal.png")
    outcome = typed("segment", tmp_path / "grey.png", tmp_path / "equal.png", "-m", planes, "-o", tmp_path / "out")
    assert outcome.code == 0
    one, other = (np.asarray(Image.open(tmp_path / "out/segmentations" / f"{name}.png")) for name in ("grey", "equal"))
    assert one.shape == (24, 40)
    np.testing.assert_array_equal(one, other)
    assert "2 x colour_as_grey" not in outcome.error
    assert "1 x colour_as_grey" in outcome.error
    assert (tmp_path / "out/measurements.csv").read_text().splitlines()[1].endswith(",")


def test_channels_come_by_numbered_names_by_a_table_or_in_one_file(typed: Type, tmp_path: Path) -> None:
    two = save_tiny(tmp_path / "two", tiny_card(channels=("t1", "flair")))
    first, second = values(seed=1), values(seed=2)
    volume(tmp_path / "in" / "p_0000.nii.gz", first)
    volume(tmp_path / "in" / "p_0001.nii.gz", second)
    volume(tmp_path / "both.nii.gz", np.stack([first, second], axis=-1))
    (tmp_path / "cases.csv").write_text("case,flair,t1\np,in/p_0001.nii.gz,in/p_0000.nii.gz\n")
    ways: dict[str, list[object]] = {
        "names": [tmp_path / "in"],
        "table": ["--cases", tmp_path / "cases.csv"],
        "4d": [tmp_path / "both.nii.gz"],
    }
    masks = []
    for name, words in ways.items():
        out = tmp_path / name
        assert typed("segment", *words, "-m", two, "-o", out).code == 0
        (mask,) = (out / "segmentations").iterdir()
        masks.append(np.asarray(nib.load(mask).dataobj))
    assert masks[0].any()
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_channels_on_other_grids_are_refused_unless_aligned(typed: Type, tmp_path: Path) -> None:
    two = save_tiny(tmp_path / "two", tiny_card(channels=("t1", "flair")))
    volume(tmp_path / "in" / "p_0000.nii.gz")
    volume(tmp_path / "in" / "p_0001.nii.gz", affine=oblique(0.41))
    words = ("segment", tmp_path / "in", "-m", two, "-o", tmp_path / "out")
    refused = typed(*words)
    assert refused.code == 1
    assert record(tmp_path / "out", "p")["failure"]["kind"] == "grids_differ"  # type: ignore[index]
    assert typed(*words, "--align").code == 0
    assert "resampled_to_match" in json.dumps(record(tmp_path / "out", "p"))


def test_a_dicom_series_declares_its_modality_and_keeps_its_patient_to_itself(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydicom

    monkeypatch.setattr(models, "_SHIPPED", tmp_path / "shelf")
    monkeypatch.setattr(models, "_EXTRA", tmp_path / "none")
    save_tiny(tmp_path / "shelf" / "brain_mr", tiny_card())
    data = values((12, 10, 8)).round().astype(np.int16)
    folder = tmp_path / "in" / "Roe_Richard" / "t1"
    folder.parent.mkdir(parents=True)
    write_scan(Scan.from_array(data, oblique(), modality="MR"), folder, "dicom")
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientID = "ROE^RICHARD", "4711-0815"
        dataset.save_as(file)
    out = tmp_path / "out"
    outcome = typed("segment", tmp_path / "in", "-o", out)
    assert outcome.code == 0, outcome.error
    (mask,) = (out / "segmentations").iterdir()
    assert re.fullmatch(r"[0-9a-f]{8}__t1(_s\d+)?_[0-9a-f]{8}\.nii\.gz", mask.name)
    scan, written = read_scan(folder), read_segmentation(mask)
    assert written.grid.is_close(scan.grid)
    expected = segment(scan, load_model("brain_mr"), Options(device="cpu")).segmentations[0]
    np.testing.assert_array_equal(written.labels, expected.labels)
    text = "".join(path.read_text(encoding="utf-8") for path in (out / "records").iterdir())
    text += outcome.error + (out / "measurements.csv").read_text() + " ".join(files(out))
    for word in ("roe", "richard", "4711", "0815"):
        assert word not in text.replace(str(tmp_path), "").lower()
    assert json.loads((out / "records" / mask.name.replace(".nii.gz", ".json")).read_text())["scan"]["modality"] == "MR"


# -- bad input ------------------------------------------------------------------------------------------------------


def _empty(folder: Path) -> None:
    (folder / "bad.nii.gz").write_bytes(b"")


def _truncated(folder: Path) -> None:
    whole = volume(folder / "bad.nii.gz").read_bytes()
    (folder / "bad.nii.gz").write_bytes(whole[: len(whole) // 2])


def _text(folder: Path) -> None:
    (folder / "bad.nii.gz").write_text("These are the scans of Monday.")


def _five_dimensions(folder: Path) -> None:
    volume(folder / "bad.nii.gz", values((6, 5, 4, 2, 3)))


def _colour(folder: Path) -> None:
    colours = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["R"] = np.arange(6, dtype=np.uint8)[:, None, None]
    volume(folder / "bad.nii.gz", colours)


def _channels(folder: Path) -> None:
    volume(folder / "bad.nii.gz", values((6, 5, 4, 3)))


def _nothing(folder: Path) -> None:
    volume(folder / "bad.nii.gz", np.full((6, 5, 4), np.nan, np.float32))


def _singular(folder: Path) -> None:
    raw = bytearray(nib.Nifti1Image(values(), np.eye(4)).to_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y and srow_z; the sform is what counts here
    (folder / "bad.nii").write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_empty, "empty"),
        (_truncated, "too early|cut short"),
        (_text, "no NIfTI file"),
        (_five_dimensions, "6 x 5 x 4 x 2 x 3"),
        (_colour, "colour"),
        (_channels, "3 values a voxel"),
        (_nothing, "finite"),
        (_singular, "affine|sform|singular"),
    ],
)
def test_a_bad_file_fails_alone_in_one_paragraph(
    typed: Type, tmp_path: Path, model: Path, spoil: Callable[[Path], None], words: str
) -> None:
    (tmp_path / "in").mkdir()
    spoil(tmp_path / "in")
    volume(tmp_path / "in" / "good.nii.gz")
    outcome = typed("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "1 done, 1 failed" in outcome.error
    (failure,) = re.findall(r"Failed: bad: .*?(?=\d+ done)", outcome.words)
    assert re.search(words, failure)
    assert "mistake in unet-med" not in failure
    assert files(tmp_path / "out") == [
        "measurements.csv", "records/bad.json", "records/good.json", "segmentations/good.nii.gz",
    ]  # fmt: skip
    assert record(tmp_path / "out", "bad")["status"] == "failed"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (np.where(np.indices((18, 14, 11))[0] < 2, np.nan, values()).astype(np.float32), "non_finite_values"),
        (np.where(np.indices((18, 14, 11))[0] < 2, np.inf, values()).astype(np.float32), "non_finite_values"),
        (np.full((18, 14, 11), 7, np.float32), "constant_image"),
    ],
)
def test_what_can_be_segmented_is_and_the_record_warns(
    typed: Type, tmp_path: Path, model: Path, data: np.ndarray, code: str
) -> None:
    outcome = typed("segment", volume(tmp_path / "scan.nii.gz", data), "-m", model, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.error
    assert f"1 x {code}" in outcome.error
    findings = record(tmp_path / "out", "scan")["findings"]
    assert code in {finding["code"] for finding in findings}  # type: ignore[attr-defined]


def test_a_field_of_view_far_from_the_training_is_refused_unless_boxed_or_forced(typed: Type, tmp_path: Path) -> None:
    field = {"unit": "mm", "smallest": [8, 8, 8], "largest": [10, 10, 10]}
    small = save_tiny(tmp_path / "small", tiny_card(field_of_view=field))
    scan = volume(tmp_path / "scan.nii.gz", values((30, 30, 30)), np.eye(4))
    words = ("segment", scan, "-m", small, "-o", tmp_path / "out")
    assert typed(*words).code == 1
    assert record(tmp_path / "out", "scan")["failure"]["kind"] == "field_of_view"  # type: ignore[index]
    assert typed(*words, "--box", "4,14,4,14,4,14").code == 0
    forced = typed(*words, "--force")
    assert forced.code == 0
    assert "1 x forced" in forced.error


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that others may enter, while this process has the rights of nobody (root may read everything)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_folder_that_may_not_be_entered_fails_and_the_rest_goes_on(typed: Type, nobody: Path) -> None:
    small = save_tiny(nobody / "tiny", tiny_card())
    volume(nobody / "in" / "good.nii.gz")
    volume(nobody / "in" / "locked" / "scan.nii.gz")
    secret = volume(nobody / "in" / "unreadable.nii.gz")
    secret.chmod(0)
    (nobody / "in" / "locked").chmod(0)
    outcome = typed("segment", nobody / "in", "-m", small, "-o", nobody / "out")
    assert outcome.code == 1
    assert "1 done, 2 failed" in outcome.error
    assert "Failed: locked: " in outcome.error
    assert "Failed: unreadable: " in outcome.error
    assert outcome.words.lower().count("permission") >= 2


def test_out_that_may_not_be_written_is_found_before_the_model_is_loaded(typed: Type, nobody: Path) -> None:
    broken = save_tiny(nobody / "tiny", tiny_card())
    (broken / "weights.safetensors").unlink()
    scan = volume(nobody / "in" / "good.nii.gz")
    (nobody / "closed").mkdir(0o500)
    outcome = typed("segment", scan, "-m", broken, "-o", nobody / "closed" / "out")
    assert outcome.code == 1
    assert "ermission" in outcome.error
    assert "weights" not in outcome.error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_fails_the_case_and_leaves_nothing_partial(
    typed: Type, tmp_path: Path, small_disk: Path, model: Path
) -> None:
    scan = volume(tmp_path / "in" / "scan.nii.gz", values((64, 64, 64)))
    out = small_disk / "out"
    outcome = typed("segment", scan, "-m", model, "-o", out, "-f", "nrrd", "-f", "nifti")
    assert outcome.code == 1
    assert re.search("[Dd]isk.* full", outcome.words)
    assert not [name for name in files(out) if name.startswith("segmentations/")]
    assert not [name for name in files(out) if Path(name).name.startswith(".")]


def test_a_disk_that_is_full_from_the_start_is_found_at_the_start(
    typed: Type, tmp_path: Path, small_disk: Path, model: Path
) -> None:
    with (small_disk / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    scan = volume(tmp_path / "in" / "scan.nii.gz")
    outcome = typed("segment", scan, "-m", model, "-o", small_disk / "out")
    assert outcome.code == 1
    assert re.search("[Dd]isk is full|No space", outcome.error)
    assert files(small_disk) == ["fill"]


# -- models that cannot be trusted ----------------------------------------------------------------------------------


def test_a_card_with_a_misspelt_key_names_the_right_one(typed: Type, tmp_path: Path, model: Path) -> None:
    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    card = (broken / "card.yaml").read_text()
    (broken / "card.yaml").write_text(card.replace("intensity:", "intensty:"))
    outcome = typed("segment", volume(tmp_path / "scan.nii"), "-m", broken, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "intensty" in outcome.error
    assert '"intensity"' in outcome.error
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_those_of_the_card_are_refused(typed: Type, tmp_path: Path, model: Path) -> None:
    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    weights = bytearray((broken / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(weights)
    outcome = typed("segment", volume(tmp_path / "scan.nii"), "-m", broken, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "sha256" in outcome.error
    assert files(tmp_path / "out") == []


# -- stopped --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_batch_leaves_whole_cases_only(tmp_path: Path, model: Path, how: signal.Signals) -> None:
    data = values((24, 24, 24))
    for number in range(40):
        volume(tmp_path / "in" / f"{number:02}.nii.gz", data)
    out = tmp_path / "out"
    running = subprocess.Popen(
        [*PROGRAM, "segment", tmp_path / "in", "-m", model, "-o", out, "--overlap", "0.75", "--flips"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("records/[!.]*.json")):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(how)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert "Traceback" not in error
    assert "not done when stopped" in error
    records = {path.stem for path in (out / "records").iterdir()}
    assert 1 <= len(records) < 40
    assert {path.name.removesuffix(".nii.gz") for path in (out / "segmentations").iterdir()} == records
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        assert {row["case"] for row in csv.DictReader(file)} == records
