"""segment(): the one path from a scan to a segmentation of that same scan."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med.backends.pytorch import Place, TorchBackend, choose
from unet_med.card import ModelCard
from unet_med.decide import decide, label_type
from unet_med.errors import ScanRefused, WrongUse
from unet_med.model import Model
from unet_med.postprocess import postprocess
from unet_med.prepare import Box, Plan, make_plan, prepare, restore
from unet_med.provenance import Provenance, package_versions
from unet_med.scan import PIXEL_UNITS, Finding, Scan, Severity
from unet_med.segmentation import Segmentation
from unet_med.windows import Progress, predict

FIELD_BELOW, FIELD_ABOVE = 0.5, 1.5
"""A scan is far outside the field of view of the training scans below and above these shares of its extremes."""
UNUSUAL_SPACING = 2.0
"""A scan more than this many times coarser than the model's spacing is worth a note."""


@dataclass(frozen=True)
class Options:
    """How to segment; what is not said is the card's.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the network: "auto", "fp32", "bf16" or "fp16".
        overlap: of windows, in [0, 1); None: the card's.
        flips: average over mirrored windows, along the axes that the card names.
        box: segment only there.
        force: go on where the modality or the field of view speak against it.
    """

    device: str = "auto"
    precision: str = "auto"
    overlap: float | None = None
    flips: bool = False
    box: Box | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise WrongUse(f"An overlap is a share of the window from 0 to below 1, not {self.overlap:g}.")


@dataclass(frozen=True, eq=False)
class Result:
    """What comes of one scan.

    Args:
        segmentations: on exactly the grid of the scan.
        certainty: (I, J, K) uint8, the probability of what was decided, 255 for 1; outside a box 0.
        provenance: how it came about.
        findings: of the scan, and of this run.
        scores: a file of all probabilities, where one was asked for.
    """

    segmentations: tuple[Segmentation, ...]
    certainty: NDArray[np.uint8]
    provenance: Provenance
    findings: tuple[Finding, ...]
    scores: Path | None = None


def segment(scan: Scan, model: Model, options: Options | None = None, progress: Progress | None = None) -> Result:
    """Segments a scan.

    Args:
        scan: of any orientation, spacing and size.
        model: from `load_model`; its networks are moved to the device and stay there.
        options: see `Options`.
        progress: called with (windows done, windows in all); it may raise `unet_med.errors.Cancelled`.

    Raises:
        ScanRefused: the scan is not what the model was made for; `code` says in which way.
        WrongUse: options that cannot be followed.
        Cancelled: from `progress`.
    """
    options = options or Options()
    card, clock = model.card, _Clock()
    with clock("check"):
        findings = check(scan, card, options)
        place = choose(options.device, options.precision)
    with clock("prepare"):
        prepared = prepare(scan, card, options.box)
    overlap = card.inference.overlap if options.overlap is None else options.overlap
    flips = card.inference.flips if options.flips else ()
    windows = 0

    def count(done: int, total: int) -> None:
        nonlocal windows
        windows = total
        if progress:
            progress(done, total)

    with clock("predict"):
        backends = [TorchBackend(network, place) for network in model.networks]
        scores = predict(prepared.data, backends, card.grid, overlap=overlap, flips=flips, progress=count)
    with clock("restore"):
        labels, certainty = _restore_and_decide(scores, prepared.plan, card)
    with clock("postprocess"):
        labels = postprocess(labels, card)

    whole, sure = prepared.plan.paste(labels, fill=0), prepared.plan.paste(certainty, fill=0)
    segmentation = Segmentation(whole, scan.grid, card.table, scan.space_units, scan.source)
    provenance = Provenance(
        model=f"{card.name} {card.version}",
        weights=tuple(weights.sha256 for weights in card.weights),
        options=_resolved(place, overlap, flips, options),
        versions=package_versions(),
        seconds=clock.seconds,
        windows=windows,
    )
    return Result((segmentation,), sure, provenance, (*scan.findings, *findings, *place.findings, *_empty(whole)))


def check(scan: Scan, card: ModelCard, options: Options) -> tuple[Finding, ...]:
    """What the card says to the scan: number of channels, modality, pixel size, field of view, spacing.

    Returns:
        What a careful reader would mention; `forced` where the user overrode a refusal.

    Raises:
        ScanRefused: `channel_count`, `unknown_spacing`, and, unless forced, `modality_mismatch` and `field_of_view`.
    """
    wanted, found = len(card.channels), len(scan.data)
    if found != wanted:
        names = ", ".join(channel.name for channel in card.channels)
        raise ScanRefused(
            f"The scan has {found} channel{'s' * (found > 1)}; {card.name} reads {wanted} ({names}).",
            where=scan.source.name,
            code="channel_count",
        )
    plan = make_plan(scan, card.grid, options.box)
    findings = [*_check_spacing(plan, card), *_check_values(scan, plan)]
    against = [*_check_modality(scan, card), *_check_field_of_view(scan, plan, card)]
    for code, what, advice in against:
        if not options.force:
            raise ScanRefused(what, where=scan.source.name, advice=advice, code=code)
        findings.append(Finding("forced", Severity.NOTE, what, "The user asked to go on all the same."))
    if card.modalities and scan.modality is None:
        findings.append(
            Finding(
                "modality_not_declared",
                Severity.NOTE,
                "The file does not say which modality it is.",
                f"Taken as {'/'.join(sorted(card.modalities))}, which {card.name} was made for.",
            )
        )
    return tuple(findings)


def _check_modality(scan: Scan, card: ModelCard) -> Iterator[tuple[str, str, str]]:
    if scan.modality and card.modalities and scan.modality not in card.modalities:
        made_for = "/".join(sorted(card.modalities))
        yield (
            "modality_mismatch",
            f"The scan is {scan.modality}; {card.name} was made for {made_for}.",
            "Choose another model; or force it, and look twice at the result.",
        )


def _check_field_of_view(scan: Scan, plan: Plan, card: ModelCard) -> Iterator[tuple[str, str, str]]:
    field = card.field_of_view
    if field is None or (field.unit == "mm" and scan.space_units == PIXEL_UNITS):
        return
    shape = tuple(float(size) for size in plan.grid.shape[: plan.dimensions])
    extent = plan.extent if field.unit == "mm" else shape
    low = [FIELD_BELOW * value for value in field.smallest]
    high = [FIELD_ABOVE * value for value in field.largest]
    if any(not a <= value <= b for a, value, b in zip(low, extent, high, strict=True)):
        seen, trained = _by(extent), f"{_by(field.smallest)} to {_by(field.largest)}"
        pixels = scan.space_units == PIXEL_UNITS
        cut = "Crop the picture to" if pixels else "Give a box (x0,x1,y0,y1,z0,z1 in mm) around"
        yield (
            "field_of_view",
            f"The field of view is {seen} {field.unit}; {card.name} was trained on {trained} {field.unit}.",
            f"{cut} the region that the model knows; or force it, and look twice at the result.",
        )


def _check_spacing(plan: Plan, card: ModelCard) -> Iterator[Finding]:
    if card.grid.spacing is None:
        return
    here = plan.cropped.spacing[: plan.dimensions]
    there = plan.resampled.spacing[: plan.dimensions]
    if any(a > UNUSUAL_SPACING * b for a, b in zip(here, there, strict=True)):
        yield Finding(
            "spacing_unusual",
            Severity.NOTE,
            f"Voxels are {_by(here)} mm, much coarser than the model's {_by(card.grid.spacing)} mm.",
            "Interpolated; detail that was not scanned does not come back.",
        )


def _check_values(scan: Scan, plan: Plan) -> Iterator[Finding]:
    for name, channel in zip(scan.channels, plan.crop(scan.data), strict=True):
        if channel.size and (channel == channel.flat[0]).all():
            yield Finding(
                "constant_image",
                Severity.NOTE,
                f'Every voxel of the channel "{name}" has the value {channel.flat[0]:g}.',
                "Segmented as it is; the mask means nothing.",
            )


def _restore_and_decide(
    scores: NDArray[np.float32], plan: Plan, card: ModelCard
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Labels and certainty on `plan.cropped`; restored scores exist a slab at a time."""
    labels = np.empty(plan.cropped.shape, label_type(card))
    certainty = np.empty(plan.cropped.shape, np.uint8)
    for rows, slab in restore(scores, plan):
        labels[rows], certainty[rows] = decide(slab, card)
    return labels, certainty


def _empty(labels: NDArray[Any]) -> Iterator[Finding]:
    if not labels.any():
        yield Finding(
            "empty_result",
            Severity.NOTE,
            f"None of the {prod(labels.shape):,} voxels was given a label.",
            "Check that the scan shows what the model finds.",
        )


def _resolved(place: Place, overlap: float, flips: tuple[int, ...], options: Options) -> dict[str, Any]:
    return {
        "device": place.device,
        "precision": place.precision,
        "overlap": overlap,
        "flips": list(flips),
        "box": str(options.box) if options.box else None,
        "force": options.force,
    }


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


class _Clock:
    """Wall time of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 4)
