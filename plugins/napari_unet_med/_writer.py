"""A painted or predicted napari labels layer -> a mask on exactly the grid of its scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_med._layers import SCAN, from_layer, layer_shape
from unet_med import Label, Scan, Segmentation, write_segmentation
from unet_med.errors import WrongUse

LABELS = "labels"
"""Key of a labels layer's metadata: the table of its labels, where somebody knows their names."""


def write_labels(path: str, layers: Sequence[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Writes the labels layer among `layers` as NIfTI.

    Args:
        path: ends in .nii.gz or .nii.
        layers: what is being saved: one labels layer and, if that was not made from a scan, an image layer that was.

    Returns:
        The paths written.

    Raises:
        WrongUse: no scan is known for the labels, or they have another shape than it.
        WriteFailed: the file could not be written, or did not read back as written.
    """
    array, arguments = next((data, arguments) for data, arguments, kind in layers if kind == "labels")
    metadata = arguments.get("metadata") or {}
    scan = metadata.get(SCAN) or _only_scan(layers)
    labels = np.asarray(array)
    if labels.shape != layer_shape(scan.grid):
        raise WrongUse(
            f"The labels have {_by(labels.shape)} voxels, their scan {_by(layer_shape(scan.grid))}.",
            where=scan.source.name,
            advice="Paint on a labels layer that was made while only this scan was open.",
        )
    values = np.unique(labels)
    if values.min() < 0 or values.max() > 65535:
        raise WrongUse(f"Label values lie in 0..65535; the layer holds {values.min()} to {values.max()}.")
    table = metadata.get(LABELS) or tuple(Label(int(value), f"label_{value}") for value in values if value)
    segmentation = Segmentation(
        np.ascontiguousarray(from_layer(labels, scan.grid), dtype=np.uint8 if values.max() < 256 else np.uint16),
        scan.grid,
        table,
        scan.space_units,
        scan.source,
    )
    write_segmentation(segmentation, Path(path), "nifti")
    return [path]


def _only_scan(layers: Sequence[tuple[Any, dict[str, Any], str]]) -> Scan:
    """The one scan that the image layers show (the channels of a scan count once)."""
    scans = [(arguments.get("metadata") or {}).get(SCAN) for _, arguments, kind in layers if kind == "image"]
    different = list({id(scan): scan for scan in scans if scan is not None}.values())
    if len(different) != 1:
        raise WrongUse(
            f"The labels name no scan of their own, and {len(different) or 'no'} scans were selected with them.",
            advice="Select the labels layer together with the image that it was painted on, and save both.",
        )
    scan: Scan = different[0]
    return scan


def _by(shape: NDArray[Any] | Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
