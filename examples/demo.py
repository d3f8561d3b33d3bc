"""Both hippocampi of a real brain, from the file to volumes and a picture: what `make demo` runs.

    python examples/demo.py [MODEL]

The brain is the ICBM 2009a T1 average of 152 people, 1 mm, which the package nilearn carries. It is segmented twice, as
the NIfTI file that it is and as a DICOM series written from it, to show that the format makes no difference. MODEL is
hippocampus_mr unless another is named. Results come to lie in demo-output/.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from unet_med import (
    Box,
    Model,
    ModelCard,
    Options,
    Scan,
    Segmentation,
    load_model,
    read_scan,
    segment,
    write_scan,
    write_segmentation,
)

OUT = Path("demo-output")
BRAIN = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
CENTRES = {"left": (-28.0, -22.0, -14.0), "right": (28.0, -22.0, -14.0)}
"""Where a hippocampus lies in this brain's space: RAS mm. x < 0 is the patient's left."""


def main(model_name: str = "hippocampus_mr") -> None:
    """Reads, segments, measures, draws, and tells about it."""
    began = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    nifti = find_brain()
    scan = read_scan(nifti)
    series = write_series(scan, OUT / "brain_dicom")
    shape = " x ".join(str(size) for size in scan.grid.shape)
    print(f"A brain of {shape} voxels, as NIfTI and as {len(list(series.iterdir()))} DICOM files.")

    model = load_model(model_name)
    size = typical_size(model.card)
    boxes = {side: box_around(centre, size) for side, centre in CENTRES.items()}
    words = " x ".join(f"{mm:.0f}" for mm in size)
    print(f"{model.card.name} learned from boxes of about {words} mm. Here it gets:")
    for side, box in boxes.items():
        print(f"  {side:<6}--box {box}")

    masks = find_hippocampi(scan, model, boxes)
    from_dicom = find_hippocampi(read_scan(series), model, boxes)
    for side, mask in masks.items():
        write_segmentation(mask, OUT / f"{side}_hippocampus.nii.gz", "nifti")
    print_volumes(masks)

    differing = sum(int((upright(masks[side]) != upright(from_dicom[side])).sum()) for side in masks)
    print(f"NIfTI and DICOM differ in {differing} voxels!" if differing else "NIfTI and DICOM gave the same voxels.")
    draw(scan, masks, boxes, OUT / "hippocampus.png")
    print(f"\n{time.perf_counter() - began:.0f} seconds. Look at {OUT / 'hippocampus.png'}")
    if differing:
        sys.exit(1)


def find_brain() -> Path:
    """The file in nilearn's folder, found without importing nilearn."""
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        sys.exit('The brain comes with the package nilearn: pip install "unet-med[demo]"')
    return Path(package.origin).parent / BRAIN


def write_series(scan: Scan, folder: Path) -> Path:
    """The scan as a DICOM series, one file a slice; made anew each time."""
    shutil.rmtree(folder, ignore_errors=True)
    write_scan(replace(scan, modality="MR"), folder, "dicom")  # NIfTI cannot say that it is MR; DICOM has to
    return folder


def typical_size(card: ModelCard) -> tuple[float, ...]:
    """The middle of the sizes that the model was trained on, which its card tells; mm along x, y and z."""
    field = card.field_of_view
    if field is None or field.unit != "mm" or card.grid.dimensions != 3:
        sys.exit(f"{card.name} is not made for boxes of a volume.")
    return tuple((small + large) / 2 for small, large in zip(field.smallest, field.largest, strict=True))


def box_around(centre: tuple[float, ...], size: tuple[float, ...]) -> Box:
    """A box of that size, in mm."""
    pairs = [(middle - length / 2, middle + length / 2) for middle, length in zip(centre, size, strict=True)]
    return Box.parse(",".join(f"{edge:.1f}" for pair in pairs for edge in pair))


def find_hippocampi(scan: Scan, model: Model, boxes: dict[str, Box]) -> dict[str, Segmentation]:
    """One mask a side, each on the grid of the whole scan.

    All training crops look like a left hippocampus (the brain stem lies at high x), and training mirrored half of them.
    `flips` averages what the model finds in the box and in its mirror image: so both sides are treated alike, and
    nothing has to be mirrored by hand. Which side is which is known from the scan's coordinates, never from the model.
    """
    return {side: segment(scan, model, Options(flips=True, box=box)).segmentations[0] for side, box in boxes.items()}


def print_volumes(masks: dict[str, Segmentation]) -> None:
    """A row a side, a column a label, in millilitres."""
    table = next(iter(masks.values())).table
    print("\n" + " " * 6 + "".join(f"{label.name.replace('_', ' '):>24}" for label in table) + f"{'together':>14}")
    for side, mask in masks.items():
        volumes = [mask.volume_ml(label) or 0.0 for label in table]
        print(f"{side:<6}" + "".join(f"{ml:>21.2f} ml" for ml in volumes) + f"{sum(volumes):>11.2f} ml")
    print()


def upright(item: Scan | Segmentation) -> NDArray[np.generic]:
    """The voxels (X, Y, Z) in RAS order, whatever the order in the file."""
    voxels = item.data[0] if isinstance(item, Scan) else item.labels
    return np.asarray(item.grid.canonical().apply(voxels))


# -- the picture ----------------------------------------------------------------------------------------------------

DARK, INK = "#000000", "#f2f4f6"
HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground=DARK)]
"""Around letters, which may lie on bright tissue."""
HEAD, CLOSE_UP = (190.0, 190.0), (100.0, 66.0)
"""Width and height of a panel in mm."""
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
"""A plane, and the axis that it cuts."""


def draw(scan: Scan, masks: dict[str, Segmentation], boxes: dict[str, Box], path: Path) -> None:
    """Three planes of the head, and below each the same plane close up. Seen as a radiologist does: right is left."""
    grid = scan.grid.reorient(scan.grid.canonical())
    image, labels = upright(scan).astype(np.float32), np.maximum.reduce([upright(mask) for mask in masks.values()])
    table = next(iter(masks.values())).table
    colours = {label.value: label.colour for label in table}
    head = grid.world([(places.min() + places.max()) / 2 for places in np.nonzero(image > image.mean())])

    figure = Figure(figsize=(12, 7.9), facecolor=DARK)
    panels = figure.subplots(2, 3, gridspec_kw={"height_ratios": (HEAD[1] / HEAD[0], CLOSE_UP[1] / CLOSE_UP[0])})
    for column, (plane, axis) in enumerate(PLANES.items()):
        across, up = (other for other in range(3) if other != axis)
        # A sagittal plane shows one side only: the left.
        seen = labels * (np.arange(labels.shape[0]) < grid.index((0, 0, 0))[0])[:, None, None] if axis == 0 else labels
        at = int(np.count_nonzero(seen, axis=(across, up)).argmax())
        place = float(grid.world(np.eye(3)[axis] * at)[axis])
        cut = [box for box in boxes.values() if box.low[axis] <= place <= box.high[axis]]
        middle = np.mean([(*box.low, *box.high) for box in cut], axis=0).reshape(2, 3).mean(axis=0)
        for axes, centre, (width, height) in zip(panels[:, column], (head, middle), (HEAD, CLOSE_UP), strict=True):
            show_plane(axes, image, seen, axis, at, grid.affine, colours)
            axes.set_xlim(centre[across] + width / 2, centre[across] - width / 2)  # right, or the front, at the left
            axes.set_ylim(centre[up] - height / 2, centre[up] + height / 2)
            letter_edges(axes, axis)
        panels[0, column].set_title(f"{plane}, {'xyz'[axis]} = {place:+.0f} mm", color=INK, fontsize=12, pad=8)
        for box in cut:
            corner, size = np.array(box.low), np.subtract(box.high, box.low)
            frame = Rectangle((corner[across], corner[up]), size[across], size[up], fill=False, ec=INK, lw=0.9, ls="--")
            panels[0, column].add_patch(frame)
    scale_bar(panels[1, 2], 20)

    handles = [Patch(color=label.colour, label=label.name.replace("_", " ")) for label in table]
    handles.append(Patch(fill=False, ec=INK, ls="--", label="box that the model saw"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor=INK, fontsize=11)
    volumes = {side: sum(mask.volume_ml(label) or 0 for label in mask.table) for side, mask in masks.items()}
    words = ", ".join(f"{side} {ml:.1f} ml" for side, ml in volumes.items())
    figure.suptitle(f"Hippocampi of the ICBM152 average brain: {words}", color=INK, fontsize=15, y=0.985)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.895, bottom=0.065, wspace=0.03, hspace=0.03)
    figure.savefig(path, dpi=110, facecolor=DARK)


def show_plane(
    axes: Axes,
    image: NDArray[np.float32],
    labels: NDArray[np.generic],
    axis: int,
    at: int,
    affine: NDArray[np.float64],
    colours: dict[int, str],
) -> None:
    """One plane in mm, with each label as a tint and an outline."""
    across, up = (other for other in range(3) if other != axis)
    grey, mask = np.take(image, at, axis).T, np.take(labels, at, axis).T
    steps, start = np.diag(affine)[:3], affine[:3, 3]
    mm = [start[other] + steps[other] * np.arange(image.shape[other]) for other in (across, up)]
    half = steps / 2  # mm are voxel centres; a picture reaches to the outer edges
    extent = (mm[0][0] - half[across], mm[0][-1] + half[across], mm[1][0] - half[up], mm[1][-1] + half[up])
    axes.set_facecolor(DARK)
    low, high = np.percentile(image[image > 0], (1, 99.7))
    axes.imshow(grey, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent, interpolation="bicubic")
    tint = np.zeros((*mask.shape, 4))
    for value, colour in colours.items():
        tint[mask == value] = (*to_rgb(colour), 0.38)
    axes.imshow(tint, origin="lower", extent=extent, interpolation="nearest")
    for value, colour in colours.items():
        if (mask == value).any():
            axes.contour(*mm, mask == value, levels=[0.5], colors=[colour], linewidths=1.4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def letter_edges(axes: Axes, axis: int) -> None:
    """R, L, A, P, S and I at the edges that they name."""
    left, right, bottom, top = (("A", "P", "I", "S"), ("R", "L", "I", "S"), ("R", "L", "P", "A"))[axis]
    for letter, x, y in ((left, 0.03, 0.5), (right, 0.97, 0.5), (bottom, 0.5, 0.05), (top, 0.5, 0.95)):
        text = axes.text(x, y, letter, transform=axes.transAxes, color=INK, fontsize=12, ha="center", va="center")
        text.set_path_effects(HALO)


def scale_bar(axes: Axes, mm: int) -> None:
    """A line of so many millimetres in the lower right corner."""
    end, low = axes.get_xlim()[1] + 5, axes.get_ylim()[0] + 5
    axes.plot([end, end + mm], [low, low], color=INK, linewidth=2, solid_capstyle="butt")
    text = axes.text(end + mm / 2, low + 1.5, f"{mm} mm", color=INK, fontsize=10, ha="center", va="bottom")
    text.set_path_effects(HALO)


if __name__ == "__main__":
    main(*sys.argv[1:])
