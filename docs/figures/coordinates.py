"""Draws docs/images/coordinates.png: the patient's axes, and how an affine places voxels.

python docs/figures/coordinates.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Polygon

from unet_med import Grid

RAS, LPS, INDEX, INK, GREY = "#b5410c", "#2171b5", "#2a7f3f", "#222222", "#8a8a8a"

# The grid of the worked example on the page.
GRID = Grid((6, 4, 1), np.array([[-2.0, 0, 0, 30], [0, 3.0, 0, -10], [0, 0, 4.0, 50], [0, 0, 0, 1]]))


def draw(path: Path) -> None:
    """Writes the figure, 2 panels, as PNG."""
    with plt.rc_context({"font.size": 11, "font.family": "DejaVu Sans", "text.color": INK}):
        figure, (patient, voxels) = plt.subplots(
            1, 2, figsize=(11.5, 5.4), layout="constrained", gridspec_kw={"width_ratios": (1, 1.25)}
        )
        draw_patient(patient)
        draw_voxels(voxels)
        figure.savefig(path, dpi=110, facecolor="white")
        plt.close(figure)


def draw_patient(axes: Axes) -> None:
    """A head cut across and seen from the feet, nose up, with both sets of axes."""
    axes.set_title("The patient's axes, seen from the feet", pad=12)
    axes.add_patch(Polygon([(-0.17, 1.12), (0, 1.32), (0.17, 1.12)], closed=True, facecolor="#f0e0d2", edgecolor=INK))
    for side in (-1, 1):
        axes.add_patch(Ellipse((side * 0.95, 0), 0.16, 0.42, facecolor="#f0e0d2", edgecolor=INK))
    axes.add_patch(Ellipse((0, 0), 1.86, 2.34, facecolor="#faf3ec", edgecolor=INK, linewidth=1.2))
    for (x, y), words in (
        ((-1.12, 0), "Right"),
        ((1.12, 0), "Left"),
        ((0, 1.4), "Anterior (front)"),
        ((0, -1.29), "Posterior (back)"),
    ):
        horizontal = "right" if x < 0 else "left" if x > 0 else "center"
        vertical = "center" if x else "bottom" if y > 0 else "top"
        axes.text(x, y, words, ha=horizontal, va=vertical)
    origins = (((0.05, 0.1), RAS, "RAS+", (-1, 1)), ((-0.05, -0.1), LPS, "LPS+", (1, -1)))
    for (x, y), colour, name, (dx, dy) in origins:
        for step, letter in (((dx * 0.62, 0), "x"), ((0, dy * 0.74), "y")):
            arrow(axes, (x, y), (x + step[0], y + step[1]), colour)
            axes.text(
                x + step[0] * 0.8 + (0.09 if step[0] == 0 else 0) * dx,
                y + step[1] * 0.86 + (0.1 if step[1] == 0 else 0) * dy,
                letter,
                color=colour,
                ha="center",
                va="center",
                style="italic",
            )
        # Both z axes point to the head: away from whoever looks from the feet.
        axes.plot(x, y, "o", markersize=13, markerfacecolor="white", markeredgecolor=colour)
        axes.plot(x, y, "x", markersize=7, color=colour)
        axes.text(x + dx * 0.44, y + dy * 0.5, name, color=colour, ha="center", va="center", weight="bold")
    axes.text(
        0, -1.62, r"$\otimes$ z runs to the head (Superior) in both, into the page", ha="center", va="top", color=GREY
    )
    axes.set(xlim=(-1.75, 1.75), ylim=(-1.85, 1.65), aspect="equal")
    axes.axis("off")


def draw_voxels(axes: Axes) -> None:
    """The worked example: one slice of the grid in world coordinates, x growing to the left as above."""
    axes.set_title("An affine places voxel centres (one slice, k = 0)", pad=12)
    for i in range(GRID.shape[0]):
        for j in range(GRID.shape[1]):
            edges = GRID.world([(i + a, j + b, 0) for a, b in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])
            chosen = (i, j) == (4, 2)
            axes.add_patch(
                Polygon(edges[:, :2], closed=True, facecolor="#fdd0a2" if chosen else "white", edgecolor=GREY)
            )
            x, y, _ = GRID.world((i, j, 0))
            axes.plot(x, y, ".", color=RAS if chosen else GREY, markersize=8 if chosen else 4)
    first, column, row = (GRID.world(index) for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0)))
    arrow(axes, first[:2], column[:2], INDEX)
    arrow(axes, first[:2], row[:2], INDEX)
    axes.text(30.6, -11.8, "i: 2 mm to the left", color=INDEX, ha="left", va="top")
    axes.text(31.2, -11.2, "j: 3 mm forward", color=INDEX, ha="right", va="bottom", rotation=90)
    axes.annotate(
        "centre of voxel (0, 0, 0) at x 30, y -10",
        first[:2],
        (33.6, -14.2),
        ha="left",
        va="center",
        arrowprops={"arrowstyle": "-", "color": INK, "shrinkB": 5, "relpos": (0.1, 1)},
    )
    chosen = GRID.world((4, 2, 0))
    axes.annotate(
        "centre of voxel (4, 2, 0)\nat x 30 - 4·2 = 22, y -10 + 2·3 = -4",
        chosen[:2],
        (24.6, 3.0),
        ha="center",
        va="center",
        color=RAS,
        arrowprops={"arrowstyle": "-", "color": RAS, "shrinkB": 5},
    )
    axes.annotate(
        "outer edge:\nhalf a voxel\nbeyond the\nlast centre",
        GRID.world((5.5, 1, 0))[:2],
        (17.9, -7),
        ha="left",
        va="center",
        arrowprops={"arrowstyle": "-", "color": INK, "shrinkB": 2},
    )
    axes.set(xlim=(34.2, 14.8), ylim=(-15.2, 4.4), aspect="equal")
    axes.set_xlabel("← x, mm to the patient's right")
    axes.set_ylabel("y, mm to the front →")
    axes.set_xticks(range(16, 35, 2))
    axes.set_yticks(range(-13, 4, 3))
    axes.spines[["top", "right"]].set_visible(False)


def arrow(
    axes: Axes, start: np.ndarray | tuple[float, float], end: np.ndarray | tuple[float, float], colour: str
) -> None:
    """A straight arrow in data coordinates."""
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    )


if __name__ == "__main__":
    draw(Path(__file__).parents[1] / "images" / "coordinates.png")
