"""Numbers about a segmentation."""

from __future__ import annotations

from dataclasses import dataclass

from unet_med.segmentation import Label, Segmentation


@dataclass(frozen=True)
class Measurement:
    """One label of one segmentation. `volume_ml` is None where the size of a pixel is not known."""

    label: Label
    voxels: int
    volume_ml: float | None


def measure(segmentation: Segmentation) -> tuple[Measurement, ...]:
    """One measurement for each label of the table, whether or not it occurs."""
    return tuple(
        Measurement(label, segmentation.voxels(label), segmentation.volume_ml(label)) for label in segmentation.table
    )
