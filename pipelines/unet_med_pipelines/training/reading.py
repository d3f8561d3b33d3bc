"""One labelled case from its files: the scan as inference would read it, and its labels as the card numbers them."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from unet_med.channels import join_channels
from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats import read_scan, read_segmentation
from unet_med.inference import Options, check
from unet_med.scan import Scan
from unet_med.segmentation import Segmentation
from unet_med_pipelines.training.case_list import TrainingCase
from unet_med_pipelines.training.recipe import Recipe, sha256_of


def read_case(case: TrainingCase, recipe: Recipe) -> tuple[Scan, Segmentation]:
    """The scan, and the segmentation with the card's labels.

    Raises:
        FileUnreadable, ScanRefused: what `unet_med` says of the files; labels on another grid than the image; values
            that stand for no label of the card.
    """
    card = recipe.card
    if len(case.images) == 1:
        scan = read_scan(case.images[0], channels=len(card.channels))
    else:
        scan = join_channels([read_scan(path) for path in case.images], [channel.name for channel in card.channels])
    check(scan, card, Options())
    segmentation = read_segmentation(case.label)
    if not segmentation.grid.is_close(scan.grid):
        raise ScanRefused(
            f"The labels lie on another grid than the image: {_grid_words(segmentation)} against {_grid_words(scan)}"
            + (f", {segmentation.grid.distance(scan.grid):.3g} mm apart" if _same_shape(scan, segmentation) else "")
            + ".",
            where=case.label,
            code="grids_differ",
        )
    labels = renumber(segmentation.labels, recipe.data.label_values)
    unknown = sorted(set(np.unique(labels).tolist()) - {0} - {label.value for label in card.labels})
    if unknown:
        raise FileUnreadable(
            f"The values {', '.join(str(value) for value in unknown)} stand for no label of the card.",
            where=case.label,
            advice="Name them in the recipe's data.label_values (0 for background).",
        )
    return scan, Segmentation(labels, scan.grid, card.table, scan.space_units, scan.source)


def renumber(labels: NDArray[np.integer], values: dict[int, int]) -> NDArray[np.uint16]:
    """Labels with each value that is a key of `values` replaced, all at once; others stay."""
    table = np.arange(65536, dtype=np.uint16)
    for old, new in values.items():
        table[old] = new
    return table[labels]


def case_sha256(case: TrainingCase) -> str:
    """Of all bytes that the case is made from, in a fixed order."""
    digest = hashlib.sha256()
    for path in (*case.images, case.label):
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            digest.update(bytes.fromhex(sha256_of(file)))
    return digest.hexdigest()


def _same_shape(scan: Scan, segmentation: Segmentation) -> bool:
    return scan.grid.shape == segmentation.grid.shape


def _grid_words(item: Scan | Segmentation) -> str:
    shape = " x ".join(str(size) for size in item.grid.shape)
    spacing = " x ".join(f"{step:.4g}" for step in item.grid.spacing)
    return f"{shape} voxels of {spacing} {item.space_units}"


def data_sha256(cases: dict[str, str]) -> str:
    """Of a whole data set: case name -> `case_sha256`."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(cases.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
