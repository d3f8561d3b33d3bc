"""unet-med: U-Nets for scans. One scan in, one segmentation out, on exactly its grid.

    scan = read_scan("scan.nii.gz")
    result = segment(scan, load_model("hippocampus_mr"))
    write_segmentation(result.segmentations[0], "mask.nii.gz", "nifti")

Public names are loaded when they are first used: importing the package loads neither torch nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_med.card import ModelCard as ModelCard
    from unet_med.errors import UnetMedError as UnetMedError
    from unet_med.formats import find_scans as find_scans
    from unet_med.formats import read_scan as read_scan
    from unet_med.formats import read_segmentation as read_segmentation
    from unet_med.formats import read_segmentations as read_segmentations
    from unet_med.formats import write_scan as write_scan
    from unet_med.formats import write_segmentation as write_segmentation
    from unet_med.grid import Grid as Grid
    from unet_med.inference import Options as Options
    from unet_med.inference import Result as Result
    from unet_med.inference import segment as segment
    from unet_med.model import Model as Model
    from unet_med.models import load_model as load_model
    from unet_med.network import UNet as UNet
    from unet_med.prepare import Box as Box
    from unet_med.provenance import Provenance as Provenance
    from unet_med.scan import Finding as Finding
    from unet_med.scan import Scan as Scan
    from unet_med.scan import Source as Source
    from unet_med.segmentation import Label as Label
    from unet_med.segmentation import Segmentation as Segmentation

_HOMES = {
    "Box": "prepare",
    "Finding": "scan",
    "Grid": "grid",
    "Label": "segmentation",
    "Model": "model",
    "ModelCard": "card",
    "Options": "inference",
    "Provenance": "provenance",
    "Result": "inference",
    "Scan": "scan",
    "Segmentation": "segmentation",
    "Source": "scan",
    "UNet": "network",
    "UnetMedError": "errors",
    "find_scans": "formats",
    "load_model": "models",
    "read_scan": "formats",
    "read_segmentation": "formats",
    "read_segmentations": "formats",
    "segment": "inference",
    "write_scan": "formats",
    "write_segmentation": "formats",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unet_med' has no attribute {name!r}")
    value = getattr(import_module(f"unet_med.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
