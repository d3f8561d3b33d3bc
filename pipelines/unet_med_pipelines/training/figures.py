"""Two pictures for a model folder: how training went, and what its masks look like beside the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_med.formats.atomic import replacing
from unet_med.scan import Scan
from unet_med.segmentation import Label, Segmentation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22262b"
QUIET = "#8a939c"
REFERENCE = "#ffffff"
PLANES = ("sagittal", "coronal", "axial")
"""Names of the planes across the R, A and S axes."""


@dataclass(frozen=True)
class Example:
    """One case to show: title says which it is and how well it went."""

    title: str
    scan: Scan
    prediction: Segmentation
    reference: Segmentation


def draw_learning_curves(rows: Sequence[dict[str, float]], labels: Sequence[Label], path: Path) -> None:
    """Loss, learning rate and tuning Dice over the steps, as PNG.

    Args:
        rows: of `log.read_log`.
        labels: the card's, for names and colours.
        path: of the PNG.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    tuned = [row for row in rows if "dice_mean" in row]
    losses = [row for row in rows if "loss" in row]
    figure = _figure(9.0, 3.6)
    left, *right = figure.subplots(1, 2 if tuned else 1, squeeze=False)[0]
    steps = np.array([row["step"] for row in losses])
    values = np.array([row["loss"] for row in losses])
    if len(losses):
        left.plot(steps, values, color="#9ecae1", linewidth=0.8, label="mean of 10 steps")
        smooth, centre = _running_mean(values), _running_mean(steps)
        left.plot(centre, smooth, color="#08519c", linewidth=1.8, label="running mean")
        rate = left.twinx()
        rate.plot(steps, [row["learning_rate"] for row in losses], color=QUIET, linewidth=1.0, linestyle=":")
        rate.set_ylabel("learning rate (dotted)", color=QUIET)
        rate.tick_params(colors=QUIET)
        rate.set_ylim(bottom=0)
        rate.spines[["top"]].set_visible(False)
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
        left.legend(frameon=False)
    _dress(left, "Training loss (soft Dice + cross-entropy)", "step")
    for axes in right:
        at = [row["step"] for row in tuned]
        for label in labels:
            name = f"dice_{label.name}"
            axes.plot(at, [row.get(name, np.nan) for row in tuned], ".-", color=label.colour, label=label.name)
        if len(labels) > 1:
            axes.plot(at, [row["dice_mean"] for row in tuned], color=INK, linewidth=2, label="mean")
        axes.legend(frameon=False, loc="lower right")
        _dress(axes, "Dice on the tuning patients (averaged weights)", "step")
    _save(figure, path)


def draw_examples(examples: Sequence[Example], path: Path) -> None:
    """Cases with outlines of prediction and reference, as PNG: a row a volume (three planes), or a column a picture."""
    flat = all(example.scan.grid.shape[2] == 1 for example in examples)
    rows, columns = (1, len(examples)) if flat else (len(examples), 3)
    figure = _figure(3.2 * columns, 3.3 * rows + 0.5, dark=True)
    panels = figure.subplots(rows, columns, squeeze=False)
    for number, example in enumerate(examples):
        if flat:
            _panel(panels[0, number], example, 2, 0)
            panels[0, number].set_title(example.title, color=REFERENCE, fontsize=10)
            continue
        upright = _upright(example)
        for axis in range(3):
            _panel(panels[number, axis], upright, axis, _fullest(upright.reference, axis))
            panels[number, axis].set_title(PLANES[axis] if axis else example.title, color=REFERENCE, fontsize=10)
    _legend(figure, examples[0].prediction.table)
    _save(figure, path)


def as_seen(volume: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    """A plane of a volume (X, Y, Z), rows from the top, as a radiologist looks at it.

    A volume in RAS order is seen with the patient's right at the left, the front at the left (sagittal) or at the top
    (axial), and the head up: rows and columns both run against the axes. A picture (Z = 1) is stored as it is seen.
    """
    picture = np.take(volume, at, axis=axis).T
    return picture if volume.shape[2] == 1 else picture[::-1, ::-1]


def _panel(axes: Axes, example: Example, axis: int, at: int) -> None:
    """Draws one plane of the scan with outlines of both masks."""
    grid = example.scan.grid
    shape = [size for other, size in enumerate(grid.shape) if other != axis]
    steps = [step for other, step in enumerate(grid.spacing) if other != axis]
    image = as_seen(np.asarray(example.scan.data[0], dtype=np.float32), axis, at)
    low, high = np.percentile(example.scan.data[0], (1, 99.5))
    extent = (0.0, shape[0] * steps[0], shape[1] * steps[1], 0.0)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bicubic", aspect="equal")
    for label in example.prediction.table:
        for segmentation, colour, width, style in (
            (example.reference, REFERENCE, 1.5, "solid"),
            (example.prediction, label.colour, 1.5, "solid"),
        ):
            mask = as_seen(segmentation.labels == label.value, axis, at)
            if mask.any():
                x = (np.arange(mask.shape[1]) + 0.5) * steps[0]
                y = (np.arange(mask.shape[0]) + 0.5) * steps[1]
                axes.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=width, linestyles=style, alpha=0.95)
    axes.set_axis_off()


def _upright(example: Example) -> Example:
    """The same in nearest RAS order."""
    how = example.scan.grid.canonical()
    grid = example.scan.grid.reorient(how)
    scan = Scan(how.apply(example.scan.data), grid, channels=example.scan.channels)
    masks = [Segmentation(how.apply(mask.labels), grid, mask.table) for mask in (example.prediction, example.reference)]
    return Example(example.title, scan, *masks)


def _fullest(segmentation: Segmentation, axis: int) -> int:
    """The plane with the most labelled voxels."""
    others = tuple(other for other in range(3) if other != axis)
    return int((segmentation.labels > 0).sum(axis=others).argmax())


def _legend(figure: Figure, table: Sequence[Label]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=label.colour, linewidth=2) for label in table]
    names = [f"{label.name} (model)" for label in table]
    figure.legend(
        [*lines, Line2D([], [], color=REFERENCE, linewidth=2)],
        [*names, "drawn by hand"],
        loc="outside lower center",
        ncols=len(names) + 1,
        frameon=False,
        labelcolor=REFERENCE,
    )


def _figure(width: float, height: float, *, dark: bool = False) -> Figure:
    # A figure of its own and no pyplot: no window system, no state shared with the caller's plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="#101214" if dark else "white")
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(below, color=INK)
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _running_mean(values: NDArray[Any]) -> NDArray[Any]:
    """Over a thirtieth of the run, so that the shape shows at any length."""
    count = max(1, len(values) // 30)
    return np.convolve(values, np.full(count, 1 / count), mode="valid")


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
