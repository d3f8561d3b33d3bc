"""How a result came about: enough to repeat it and to defend it. No patient data."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Versions, model, options and timings of one result.

    Args:
        model: name of the card.
        weights: sha256 of each weights file used.
        options: the options as they were resolved (the device and precision that really ran).
        versions: package name to version.
        seconds: wall time of each step of the one path.
        windows: how many windows the network saw (flips and folds counted once).
    """

    model: str
    weights: tuple[str, ...]
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)
    windows: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@cache
def package_versions() -> dict[str, str]:
    """The versions that can change a voxel."""
    found = {"python": platform.python_version()}
    for name in ("unet-med", "torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
