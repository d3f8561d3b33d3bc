"""The import rules of pyproject.toml hold, and each of them fails when it is broken on purpose."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGES = ("unet_med", "pipelines/unet_med_pipelines", "plugins/napari_unet_med")

# A contract's id, the module that breaks it, and the line that does.
BREAKS = [
    ("storeys", "unet_med/measure.py", "import unet_med_pipelines.cases"),
    ("storeys", "pipelines/unet_med_pipelines/run_case.py", "import napari_unet_med"),
    ("engine", "unet_med/resample.py", "import unet_med.prepare"),
    ("engine", "unet_med/decide.py", "import unet_med.inference"),
    ("engine", "unet_med/grid.py", "import unet_med.resample"),
    ("engine", "unet_med/errors.py", "import unet_med.scan"),
    ("path", "unet_med/inference.py", "from unet_med.formats import read_scan"),
    ("path", "unet_med/inference.py", "from unet_med.models import load_model"),
    ("path", "unet_med/prepare.py", "import unet_med.network"),
    ("models", "unet_med/models/folder.py", "from unet_med.inference import segment"),
    ("models", "unet_med/models/__init__.py", "from unet_med.formats import read_scan"),
    ("formats", "unet_med/formats/nifti.py", "from unet_med.prepare import prepare"),
    ("formats", "unet_med/measure.py", "from unet_med.models import load_model"),
    ("light", "unet_med/formats/nifti.py", "import torch"),
    ("light", "unet_med/formats/__init__.py", "def later() -> None:\n    from monai.data import MetaTensor"),
    ("light", "unet_med/grid.py", "import torch"),
    ("no-terminal", "unet_med/inference.py", "import typer"),
    ("no-terminal", "unet_med/formats/__init__.py", "import rich.progress"),
    ("no-terminal", "unet_med/windows.py", "import dask.array"),
    ("no-terminal", "unet_med/network.py", "import lightning_fabric"),
    ("no-terminal", "unet_med/measure.py", "import napari.layers"),
    ("no-terminal", "unet_med/model.py", "from qtpy import QtCore"),
    ("no-window", "pipelines/unet_med_pipelines/run_case.py", "import napari"),
    ("no-window", "pipelines/unet_med_pipelines/cases.py", "from PyQt6 import QtWidgets"),
    ("itk", "unet_med/resample.py", "import SimpleITK"),
    ("itk", "pipelines/unet_med_pipelines/cases.py", "import SimpleITK as sitk"),
    ("dicom", "unet_med/formats/nifti.py", "import pydicom"),
    ("dicom", "pipelines/unet_med_pipelines/run_case.py", "from pydicom.uid import UID"),
    ("highdicom", "unet_med/formats/dicom_seg.py", "import highdicom"),
    ("nifti", "unet_med/prepare.py", "import nibabel"),
]


@pytest.fixture
def house(repository: Path, tmp_path: Path) -> Path:
    """A copy of the three packages and of the rules, without weights and pictures."""
    for package in PACKAGES:
        shutil.copytree(
            repository / package,
            tmp_path / package,
            ignore=lambda folder, names: [
                name for name in names if not (name.endswith(".py") or (Path(folder) / name).is_dir())
            ],
        )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> tuple[set[str], set[str]]:
    """The names of the contracts that a copy keeps, and of those that it breaks."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=house,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str((house / package).parent) for package in PACKAGES),
            "COLUMNS": "200",  # names of contracts are not broken into lines
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    kept, broken = (set(re.findall(rf"^(.+?) {verdict}\b", done.stdout, re.M)) for verdict in ("KEPT", "BROKEN"))
    assert kept | broken, done.stdout + done.stderr
    assert done.returncode == (1 if broken else 0), done.stdout + done.stderr
    return kept, broken


def contracts(repository: Path) -> dict[str, str]:
    """Id to name of every contract."""
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["id"]: contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}


def test_the_tree_keeps_every_contract(house: Path, repository: Path) -> None:
    kept, broken = lint(house)
    assert not broken
    assert kept == set(contracts(repository).values())


def test_every_contract_is_broken_below(repository: Path) -> None:
    assert {contract for contract, _, _ in BREAKS} == set(contracts(repository))


@pytest.mark.parametrize(("contract", "module", "line"), BREAKS)
def test_a_forbidden_import_breaks_its_contract(
    house: Path, repository: Path, contract: str, module: str, line: str
) -> None:
    with (house / module).open("a", encoding="utf-8") as text:
        text.write(f"\n\n{line}\n")
    _, broken = lint(house)
    assert contracts(repository)[contract] in broken
