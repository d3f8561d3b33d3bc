"""What comes out: a label map on a grid, with the table of its labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.grid import Grid
from unet_med.scan import Finding, Source


@dataclass(frozen=True)
class Code:
    """A coded concept, e.g. SNOMED CT: scheme "SCT", value "5366008", meaning "Hippocampus"."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One structure of a label map.

    Args:
        value: the voxel value, 1 or more; 0 is background.
        name: snake_case, unique in its table.
        colour: "#rrggbb".
        category, anatomy, laterality: coded meaning, for DICOM SEG; None where not known.
        region: values whose union is this structure (nested regions such as a whole tumour); empty for a plain label.
    """

    value: int
    name: str
    colour: str = "#e6550d"
    category: Code | None = None
    anatomy: Code | None = None
    laterality: Code | None = None
    region: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.value <= 65535:
            raise ValueError(f"a label value lies in 1..65535, not {self.value}")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.colour):
            raise ValueError(f"a colour is written #rrggbb, not {self.colour!r}")

    @property
    def rgb(self) -> tuple[int, int, int]:
        return tuple(int(self.colour[n : n + 2], 16) for n in (1, 3, 5))  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label map.

    Args:
        labels: (I, J, K), uint8 or uint16; 0 is background. Made read-only, not copied.
        grid: that of the scan it belongs to.
        table: the labels that may occur, whether or not they do.
        space_units: "mm" or "pixel", as for `Scan`.
        source: of the scan it belongs to (or of the file it was read from).
        findings: what is worth mentioning about how it was read.
    """

    labels: NDArray[Any]
    grid: Grid
    table: tuple[Label, ...]
    space_units: str = "mm"
    source: Source = field(default_factory=lambda: Source("memory"))
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.shape != self.grid.shape:
            raise ValueError(f"labels {self.labels.shape} do not fit a grid of shape {self.grid.shape}")
        if self.labels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise ValueError(f"labels are uint8 or uint16, not {self.labels.dtype}")
        values = [label.value for label in self.table]
        if len(set(values)) != len(values):
            raise ValueError(f"label values must differ: {values}")
        view = self.labels.view()
        view.flags.writeable = False
        object.__setattr__(self, "labels", view)

    def voxels(self, label: Label) -> int:
        """How many voxels carry the label (or any part of its region)."""
        return int(np.isin(self.labels, label.region or (label.value,)).sum())

    def volume_ml(self, label: Label) -> float | None:
        """Volume in millilitres; None where the pixel size is not known. (On uneven slices each has its own height.)"""
        if self.space_units != "mm":
            return None
        if self.grid.slice_offsets is None:
            return self.voxels(label) * self.grid.voxel_volume / 1000
        mask = np.isin(self.labels, label.region or (label.value,))
        heights = np.gradient(np.asarray(self.grid.slice_offsets)) / self.grid.spacing[2]
        return float((mask.sum(axis=(0, 1)) * heights).sum() * self.grid.voxel_volume / 1000)


def written_labels(segmentation: Segmentation) -> tuple[Label, ...]:
    """The labels of the table, and after them those that occur and are not in it."""
    known = {value for label in segmentation.table for value in (label.value, *label.region)}
    present = np.zeros(65536, bool)
    for k in range(segmentation.grid.shape[2]):
        present[segmentation.labels[:, :, k]] = True
    more = [int(value) for value in np.flatnonzero(present) if value and int(value) not in known]
    return (*segmentation.table, *(Label(value, f"label_{value}") for value in more))
