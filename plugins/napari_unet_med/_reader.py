"""Files and DICOM folders -> napari image layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from napari_unet_med._layers import layer_arguments, to_layer
from unet_med import Scan, find_scans, read_scan

LayerData = tuple[Any, dict[str, Any], str]
"""Data, keyword arguments of the layer, layer type."""

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
FILES_LOOKED_AT = 20
"""napari asks about every folder that is dropped on it; the answer has to come at once."""


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Returns `read` for a path that looks like a scan, else None, and lets other readers have it."""
    if not isinstance(path, str):
        return None
    if Path(path).is_dir():
        return read if _holds_dicom(Path(path)) else None
    return read if path.lower().endswith(SUFFIXES) else None


def read(path: str) -> list[LayerData]:
    """An image layer for every channel of every scan at a path.

    Raises:
        UnetMedError: the file cannot be read, or holds no scan that can be used; napari shows the message.
    """
    found = find_scans(path)
    if not found.sources and found.problems:
        raise found.problems[0]
    return [layer for source in found.sources for layer in image_layers(read_scan(source))]


def image_layers(scan: Scan) -> list[LayerData]:
    """One image layer a channel of a scan."""
    name = Path(scan.source.name).name
    names = [name] if len(scan.channels) == 1 else [f"{name} {channel}" for channel in scan.channels]
    shown = to_layer(scan.data, scan.grid)
    return [(shown[c], {"name": names[c], **layer_arguments(scan)}, "image") for c in range(len(names))]


def _holds_dicom(folder: Path) -> bool:
    """Whether one of the first files carries DICOM's mark: "DICM" after a preamble of 128 bytes (PS3.10, 7.1)."""
    for file in islice((entry for entry in folder.iterdir() if entry.is_file()), FILES_LOOKED_AT):
        try:
            with file.open("rb") as start:
                if start.read(132)[128:] == b"DICM":
                    return True
        except OSError:
            continue
    return False
