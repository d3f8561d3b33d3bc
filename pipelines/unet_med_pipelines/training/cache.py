"""Prepared cases on disk, so that each scan is read and resampled once a run and never held in memory as a whole.

A case is three NumPy files named after the SHA-256 of everything that they depend on. Batches map them into memory: the
operating system keeps what fits, and all worker processes share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import UnetMedError
from unet_med.formats.atomic import replacing
from unet_med.prepare import prepare, prepare_labels
from unet_med.provenance import package_versions
from unet_med_pipelines.training.case_list import Split, TrainingCase, data_problems
from unet_med_pipelines.training.reading import case_sha256, data_sha256, read_case
from unet_med_pipelines.training.recipe import Recipe

PLACES = 4096
"""How many voxels of each structure of a case are remembered as centres for patches, spread evenly over the
structure."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CachedCase:
    """A prepared case; arrays are read from disk as they are touched.

    Args:
        stem: path of its files, less their endings.
        extent: of the scan along the axes of the window, in mm or pixels.
        unit: "mm" or "pixel".
    """

    stem: Path
    extent: tuple[float, ...]
    unit: str

    @cached_property
    def image(self) -> NDArray[np.float32]:
        """(C, X, Y, Z): exactly what inference would see of the scan."""
        return self._load("image")

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(X, Y, Z): the number of the score map that should win: 0 for background, then labels in the card's order."""
        return self._load("labels")

    @cached_property
    def places(self) -> NDArray[np.int32]:
        """(N, 4): score map, x, y, z of labelled voxels, ordered by score map."""
        return self._load("places")

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the files anew: pickling a memory map would copy all it maps.
        return {"stem": self.stem, "extent": self.extent, "unit": self.unit}

    def _load(self, name: str) -> Any:
        return np.load(f"{self.stem}.{name}.npy", mmap_mode="r")


@dataclass(frozen=True)
class Gathered:
    """The training cases, ready; and the SHA-256 of all cases of all parts."""

    training: tuple[CachedCase, ...]
    sha256: str


def gather(parts: Split, recipe: Recipe, data: Path, cache: Path, progress: Progress) -> Gathered:
    """Reads every case of every part, prepares those for training, and remembers both on disk.

    Raises:
        WrongUse: everything that is wrong with the data, a line a case.
    """
    cache.mkdir(parents=True, exist_ok=True)
    trained_on = {case.name for case in parts.training}
    cases = (*parts.training, *parts.tuning, *parts.validation)
    digests: dict[str, str] = {}
    training: list[CachedCase] = []
    problems: list[str] = []
    for number, case in enumerate(cases):
        progress(number, len(cases))
        try:
            digests[case.name] = case_sha256(case)
            stem = cache / _key(digests[case.name], recipe)
            if case.name in trained_on:
                training.append(_prepared(case, stem, recipe))
            elif not stem.with_suffix(".checked").exists():
                read_case(case, recipe)
                stem.with_suffix(".checked").touch()
        except (UnetMedError, OSError) as problem:
            problems.append(f"{case.name}: {problem}")
    progress(len(cases), len(cases))
    problems += _copies(cases, digests)
    if problems:
        raise data_problems(problems, data)
    return Gathered(tuple(training), data_sha256(digests))


def _copies(cases: Sequence[TrainingCase], digests: Mapping[str, str]) -> Iterator[str]:
    """Cases with the same bytes under two patient keys: one of the keys is wrong, and the split would leak."""
    first: dict[str, TrainingCase] = {}
    for case in sorted(cases, key=lambda case: case.name):
        if case.name in digests:
            earlier = first.setdefault(digests[case.name], case)
            if earlier.patient != case.patient:
                yield f"{case.name}: the same files as {earlier.name}, which is another patient's"


def _prepared(case: TrainingCase, stem: Path, recipe: Recipe) -> CachedCase:
    """From the cache, or else made and put there; the small .json is written last and says that the rest is
    complete.
    """
    summary = stem.with_suffix(".json")
    if not summary.exists():
        scan, segmentation = read_case(case, recipe)
        prepared = prepare(scan, recipe.card)
        labels = _score_maps(prepare_labels(segmentation, prepared.plan), recipe)
        # Patches of planes are read a slice at a time: slices lie together on the disk.
        order: Literal["C", "F"] = "F" if recipe.card.grid.dimensions == 2 else "C"
        _save(stem, "image", np.asarray(prepared.data, dtype=np.float32, order=order))
        _save(stem, "labels", np.asarray(labels, order=order))
        _save(stem, "places", labelled_places(labels))
        extent = prepared.plan.extent
        with replacing(summary) as path:
            path.write_text(json.dumps({"extent": extent, "unit": scan.space_units}))
    stored = json.loads(summary.read_text())
    return CachedCase(stem, tuple(stored["extent"]), stored["unit"])


def labelled_places(labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(N, 4) int32, at most `PLACES` a structure: see `CachedCase.places`."""
    found = []
    for structure in np.unique(labels[labels > 0]):
        flat = np.flatnonzero(labels == structure)
        flat = flat[np.linspace(0, len(flat) - 1, min(len(flat), PLACES)).round().astype(np.int64)]
        voxels = np.stack(np.unravel_index(flat, labels.shape), axis=1)
        found.append(np.insert(voxels, 0, structure, axis=1).astype(np.int32))
    return np.concatenate(found) if found else np.empty((0, 4), np.int32)


def _score_maps(labels: NDArray[Any], recipe: Recipe) -> NDArray[np.uint8]:
    """The card's values -> the number of the score map."""
    table = np.zeros(65536, np.uint8)
    for number, label in enumerate(recipe.card.labels, start=1):
        table[label.value] = number
    return table[labels]


def _save(stem: Path, name: str, array: NDArray[Any]) -> None:
    with replacing(Path(f"{stem}.{name}.npy")) as path:
        np.save(path, array)


def _key(case_digest: str, recipe: Recipe) -> str:
    """The same for the same files, prepared in the same way by the same code."""
    card = recipe.card.model_dump(mode="json", include={"grid", "intensity", "channels", "labels"})
    values = sorted(recipe.data.label_values.items())
    text = json.dumps([case_digest, card, values, package_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
