"""The manifest that napari reads: npe2 ignores a misspelt key in silence, so its shape is checked here."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import napari_unet_med


@pytest.fixture
def manifest() -> dict[str, Any]:
    """The manifest beside the plugin's code."""
    text = (Path(napari_unet_med.__file__).parent / "napari.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def test_it_has_the_keys_that_npe2_knows(manifest: dict[str, Any]) -> None:
    assert set(manifest) == {"name", "display_name", "contributions"}
    contributions = manifest["contributions"]
    assert set(contributions) == {"commands", "readers", "writers"}
    for command in contributions["commands"]:
        assert set(command) == {"id", "title", "python_name"}
    for reader in contributions["readers"]:
        assert set(reader) == {"command", "filename_patterns", "accepts_directories"}
    for writer in contributions["writers"]:
        assert set(writer) == {"command", "layer_types", "filename_extensions", "display_name"}


def test_it_is_found_under_the_name_of_the_distribution(manifest: dict[str, Any], repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry = project["entry-points"]["napari.manifest"]
    assert entry == {project["name"]: "napari_unet_med:napari.yaml"}
    assert manifest["name"] == project["name"]


def test_every_command_is_a_function_and_is_used(manifest: dict[str, Any]) -> None:
    contributions = manifest["contributions"]
    commands = {command["id"]: command["python_name"] for command in contributions["commands"]}
    assert all(name.startswith(f"{manifest['name']}.") for name in commands)
    for python_name in commands.values():
        module, _, function = python_name.partition(":")
        assert callable(getattr(import_module(module), function))
    used = {contribution["command"] for kind in ("readers", "writers") for contribution in contributions[kind]}
    assert used == set(commands)


def test_patterns_and_extensions_have_their_dots_and_stars(manifest: dict[str, Any]) -> None:
    """npe2 accepts ".nii" as a pattern and "nii.gz" as an extension, and then never matches them."""
    (reader,), (writer,) = manifest["contributions"]["readers"], manifest["contributions"]["writers"]
    assert all(pattern.startswith("*.") for pattern in reader["filename_patterns"])
    assert all(extension.startswith(".") for extension in writer["filename_extensions"])


def test_the_manifest_and_the_reader_agree_on_suffixes(manifest: dict[str, Any]) -> None:
    from napari_unet_med._reader import SUFFIXES

    (reader,) = manifest["contributions"]["readers"]
    assert {pattern.removeprefix("*") for pattern in reader["filename_patterns"]} == set(SUFFIXES)


def test_nothing_heavy_is_loaded_for_it() -> None:
    """At start-up napari imports reader and writer; torch or Qt there would cost every user of napari."""
    code = "import sys, napari_unet_med._reader, napari_unet_med._writer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    packages = {name.partition(".")[0] for name in done.stdout.split()}
    assert "napari_unet_med" in packages
    assert not packages & {"napari", "torch", "monai", "qtpy", "PyQt6", "magicgui"}
