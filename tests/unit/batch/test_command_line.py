"""`unet-med` itself: quick to answer, plain in its errors, and what `segment` makes of its options."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer.main
from click.testing import Result
from typer.testing import CliRunner

import unet_med.models
from tiny_model import save_tiny, tiny_card
from unet_med.errors import Cancelled, ModelRefused, ScanRefused, WrongUse
from unet_med.scan import Source
from unet_med_pipelines import cli
from unet_med_pipelines.batch import fitting_model
from unet_med_pipelines.cases import Input

HEAVY = {"numpy", "torch", "monai", "scipy", "nibabel", "pydicom", "SimpleITK", "matplotlib", "lightning_fabric"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "80", "TERM": "dumb"})


def volume(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32), np.eye(4))
    nib.save(image, path)
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom unet_med_pipelines.cli import main\n"
        "try:\n    main()\nfinally:\n    print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.strip()
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "arguments", [[], ["segment"], ["inspect"], ["models"], ["models", "show"], ["train"], ["evaluate"]]
)
def test_help_fits_a_terminal_of_80_columns(arguments: list[str]) -> None:
    page = run(*arguments, "-h")
    assert page.exit_code == 0
    assert max(map(len, page.output.splitlines())) <= 80


def test_the_commands_are_those_of_the_manual() -> None:
    command = typer.main.get_command(cli.app)
    context = command.make_context("unet-med", [], resilient_parsing=True)
    assert sorted(command.list_commands(context)) == ["evaluate", "inspect", "models", "segment", "train"]  # type: ignore[attr-defined]
    assert run("--version").output == f"unet-med {version('unet-med')}\n"


@pytest.mark.parametrize(
    "arguments", [["traim"], ["segment"], ["segment", "x", "-o"], ["segment", "x", "--nix", "-o", "y"]]
)
def test_what_the_parser_does_not_know_is_wrong_use(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


# -- main -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (WrongUse("Two options.", advice="Give one."), 2, "Error: Two options. Give one.\n"),
        (ModelRefused("No card.", where="here"), 2, "Error: here: No card.\n"),
        (ScanRefused("Too flat."), 1, "Error: Too flat.\n"),
        (Cancelled(), 130, "Stopped on request.\n"),
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "Error: The memory of this machine is not enough for that.\n"),
        (ZeroDivisionError("secret"), 1, "Error: This is a mistake in unet-med itself (ZeroDivisionError)."),
    ],
)
def test_an_error_is_a_paragraph_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["unet-med", "models"])
    monkeypatch.setattr(unet_med.models, "list_models", fail)
    with pytest.raises(SystemExit) as left:
        cli.main()
    captured = capsys.readouterr()
    assert left.value.code == code
    assert captured.err.startswith(words)
    assert captured.out == ""
    assert "secret" not in captured.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    code = "from unet_med_pipelines.cli import main; main()"
    arguments = ["evaluate", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "c.csv")]
    plain, debug = (
        subprocess.run([sys.executable, "-c", code, *arguments, *more], capture_output=True, text=True, timeout=60)
        for more in ([], ["--debug"])
    )
    assert plain.returncode == 1
    assert "Traceback" not in plain.stderr
    assert plain.stderr.lstrip().startswith("Error:")
    assert "Traceback" in debug.stderr


def test_a_long_error_is_wrapped_but_its_path_stays_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "/" + "/".join("folder" for _ in range(9))
    cli.say(f"{path}: " + "words of an error " * 6, "Error: ")
    lines = capsys.readouterr().err.splitlines()
    assert any(path in line for line in lines)
    assert all(len(line) <= 40 for line in lines if path not in line)
    assert "\x1b" not in "".join(lines)


# -- segment --------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", tiny_card())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-f", "dicomm"], 'not written as "dicomm"'),
        (["--device", "gpu"], '"gpu"'),
        (["--precision", "fp8"], '"fp8"'),
        (["--overlap", "1"], "overlap"),
        (["--box", "1,2,3"], "not a box"),
        (["--box", "5,1,0,1,0,1"], "no inside"),
        (["--cases", "cases.csv"], "both name the scans"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(
    tmp_path: Path, model: Path, options: list[str], words: str
) -> None:
    scan = volume(tmp_path / "scan.nii.gz")
    result = run("segment", str(scan), "-o", str(tmp_path / "out"), "-m", str(model), *options)
    assert isinstance(result.exception, WrongUse)
    assert words in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_without_input_or_table_there_is_nothing_to_do(tmp_path: Path, model: Path) -> None:
    result = run("segment", "-o", str(tmp_path / "out"), "-m", str(model))
    assert isinstance(result.exception, WrongUse)
    assert "nothing to segment" in str(result.exception)
    result = run("segment", "-o", str(tmp_path / "out"), "--cases", "cases.csv")
    assert isinstance(result.exception, WrongUse)
    assert "needs a model" in str(result.exception)


def mr(uid: str = "1.2", modality: str | None = "MR") -> Input:
    return Input(Path("/study"), Source("dicom", (Path("/study/1.dcm"),), modality, series_uid=uid))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that knows one MR model."""
    monkeypatch.setattr(unet_med.models, "_SHIPPED", tmp_path / "shelf")
    monkeypatch.setattr(unet_med.models, "_EXTRA", tmp_path / "none")
    save_tiny(tmp_path / "shelf" / "brain_mr", tiny_card())
    return tmp_path / "shelf"


def test_the_one_model_for_a_declared_modality_is_taken(shelf: Path) -> None:
    assert fitting_model([mr("1.2"), mr("1.3")]) == "brain_mr"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([mr(modality="CT")], "No model fits CT. Name a model with -m: brain_mr."),
        ([mr(), mr("1.3", "CT")], "No model fits CT and MR."),
        ([mr(), mr("1.3", None)], "does not say which modality it is. Name a model with -m: brain_mr."),
    ],
)
def test_the_model_is_asked_for_where_none_fits(shelf: Path, inputs: list[Input], words: str) -> None:
    with pytest.raises(WrongUse) as refused:
        fitting_model(inputs)
    assert words in str(refused.value)


def test_the_model_is_asked_for_where_two_fit(shelf: Path) -> None:
    save_tiny(shelf / "heart_mr", tiny_card())
    with pytest.raises(WrongUse, match="Several models are made for MR: brain_mr, heart_mr"):
        fitting_model([mr()])
