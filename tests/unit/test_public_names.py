"""What `import unet_med` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import unet_med

DOORS = {"find_scans", "read_scan", "read_segmentation", "write_segmentation", "load_model", "segment", "UNet"}


def test_the_public_list_is_what_one_sees() -> None:
    assert list(unet_med.__all__) == sorted(set(unet_med.__all__))
    assert dir(unet_med) == unet_med.__all__
    assert set(unet_med.__all__) >= DOORS


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    """The list exists twice, for the interpreter and for type checkers; they must not drift apart."""
    tree = ast.parse(Path(unet_med.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed == {name: f"unet_med.{home}" for name, home in unet_med._HOMES.items()}


@pytest.mark.parametrize("name", unet_med.__all__)
def test_every_public_name_is_the_one_of_its_module(name: str) -> None:
    assert getattr(unet_med, name) is getattr(import_module(f"unet_med.{unet_med._HOMES[name]}"), name)


def test_segment_is_the_function_even_after_its_module_was_imported() -> None:
    """A module called `segment` would take the place of the function."""
    import_module("unet_med.inference")
    assert callable(unet_med.segment)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="segmnt"):
        _ = unet_med.segmnt


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in memory after one statement in a fresh interpreter."""
    code = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_after("import unet_med")
    assert "unet_med" in loaded
    assert not loaded & {"torch", "monai", "numpy", "pydantic", "scipy", "typer"}


def test_reading_and_writing_files_loads_no_torch() -> None:
    loaded = loaded_after("from unet_med import read_scan, write_segmentation, ModelCard, Grid")
    assert "numpy" in loaded
    assert not loaded & {"torch", "monai"}
