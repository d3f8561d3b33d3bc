"""From the positions and orientations of slices to one grid, or to the name of what stands against it.

Pure geometry: no file is opened. What comes in is DICOM's LPS; the `Grid` that goes out is RAS+ like everywhere else.
The step between slices is measured from their positions, never taken from a thickness or spacing tag, and is kept as a
vector, so that a tilted gantry keeps its shear (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import ScanRefused
from unet_med.formats.dicom_instance import FARTHEST, TELLING_TAGS, Instance
from unet_med.grid import Grid
from unet_med.scan import Finding, Severity

Floats = NDArray[np.float64]

UNTOLD = ("FrameAcquisitionDateTime", "InstanceNumber")  # a date is the patient's own; a number explains nothing

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Limits in mm. Positions written with one decimal stray up to 0.05 from a line, so more than TOLERANCE, or this part
# of a step, is no rounding; whatever differs by more than EXACT is at least told.
EXACT = 0.01
TOLERANCE = 0.1
STEP_PART = 0.02
ROUNDED = 1.01  # positions with two decimals differ by EXACT and a binary fraction
SAME_PLACE = 0.001
ORIENTATION_SPREAD = 1e-3  # per component of a unit vector
TILT_TOLD = 0.1  # degrees; orientations written with three decimals look tilted by up to 0.06
TILT_BELIEVED = 45.0  # degrees; no gantry tilts that far


@dataclass(frozen=True, eq=False)
class Plane:
    """What all slices of a stack share: unit vectors (LPS) along a row, along a column, and through the slices."""

    row: Floats
    column: Floats
    normal: Floats
    findings: tuple[Finding, ...]


def common_plane(instances: Sequence[Instance], where: str) -> Plane:
    """Sees that all slices have one size, pixel spacing, frame of reference and orientation.

    Raises:
        ScanRefused: mixed_matrix, mixed_spacing, mixed_frame_of_reference, mixed_orientation, invalid_orientation.
    """
    size = np.array([(one.rows, one.columns) for one in instances]).max(axis=0)
    spacings = np.array([one.pixel_spacing for one in instances])
    # Orientation first: a localizer in a series has its own size and pixels as well, but that is not what it is.
    row, column, moved = _axes(instances, where, size * spacings.mean(axis=0))
    sizes = Counter(f"{one.columns} x {one.rows}" for one in instances)
    if len(sizes) > 1:
        raise ScanRefused(
            f"The series mixes slices of different sizes (columns x rows): {_listed(sizes)}.",
            where=where,
            advice="Put the slices that belong together into a folder of their own.",
            code="mixed_matrix",
        )
    spread = float(np.linalg.norm(np.ptp(spacings, axis=0) * size))
    if spread > TOLERANCE:
        kinds = Counter(f"{one.pixel_spacing[0]:g} x {one.pixel_spacing[1]:g} mm" for one in instances)
        raise ScanRefused(
            f"The series mixes slices of different pixel spacing: {_listed(kinds)}.",
            where=where,
            code="mixed_spacing",
        )
    frames = {one.frame_of_reference for one in instances} - {""}
    if len(frames) > 1:
        raise ScanRefused(
            f"The slices lie in {len(frames)} different frames of reference; their positions cannot be compared.",
            where=where,
            code="mixed_frame_of_reference",
        )
    findings = []
    for distance, what in ((spread, "pixel spacings differ"), (moved, "image orientations are rounded or differ")):
        if distance > EXACT:
            findings.append(
                Finding(
                    "position_jitter",
                    Severity.NOTE,
                    f"The {what} a little between the slices or from exact axes: up to {distance:.3f} mm at a corner.",
                    "The mean of all slices, as perpendicular unit vectors, is used.",
                )
            )
    return Plane(row, column, np.cross(row, column), tuple(findings))


def place_slices(instances: Sequence[Instance], plane: Plane, where: str) -> tuple[Grid, tuple[Finding, ...]]:
    """The grid of slices that are sorted along the normal and of which no two share a place.

    Raises:
        ScanRefused: not_collinear, invalid_geometry (a tilt beyond belief), missing_geometry (one slice without a
            thickness).
    """
    first = instances[0]
    spacing = np.mean([one.pixel_spacing for one in instances], axis=0)
    positions = np.array([one.position for one in instances])
    findings: list[Finding] = []
    offsets = None
    if len(instances) == 1:
        step, findings = _thickness(first, plane, where)
    else:
        step = (positions[-1] - positions[0]) / (len(positions) - 1)
        findings += _tilt(step, plane, len(positions), where)
        aside = _aside(positions, step, plane)
        limit = max(TOLERANCE, STEP_PART * float(np.linalg.norm(step)))
        if aside.max() > limit:
            worst = int(aside.argmax())
            raise ScanRefused(
                f"The slices do not lie on a straight line: this one lies {aside[worst]:.2f} mm aside of it (up to "
                f"{limit:.2f} mm would pass).",
                where=instances[worst].name,
                advice="Its ImagePositionPatient is wrong, or it belongs to another stack.",
                code="not_collinear",
            )
        # Where spacings or orientations differ that is told already; less than that adds to what positions differ by.
        places = positions[:, np.newaxis] if plane.findings else _corners(instances)
        offsets, more = _spacing(positions, places, step, plane, limit)
        findings += more + _spacing_tag(instances, positions, plane)
        if offsets is not None and aside.max() > EXACT * ROUNDED:
            findings.append(
                Finding(
                    "position_jitter",
                    Severity.NOTE,
                    f"Slice positions stray up to {aside.max():.3f} mm sideways from a straight line.",
                    "The line through the first and the last position is used.",
                )
            )
    affine = np.eye(4)
    affine[:3, 0] = plane.row * spacing[1]  # PixelSpacing names the distance BETWEEN rows first
    affine[:3, 1] = plane.column * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    try:
        grid = Grid((first.columns, first.rows, len(instances)), LPS_TO_RAS @ affine, offsets)
    except ValueError as error:
        raise ScanRefused(
            "The positions, orientation and pixel spacing of the slices give no volume.",
            where=where,
            code="invalid_geometry",
        ) from error
    return grid, (*plane.findings, *findings)


def same_places(instances: Sequence[Instance], plane: Plane, where: str) -> list[list[Instance]]:
    """Slices in ascending order along the normal, those at one place together.

    Raises:
        ScanRefused: several_stacks, where images lie side by side in one plane.
    """
    at = np.array([one.position for one in instances]) @ plane.normal  # nothing else orders slices
    order = np.argsort(at, kind="stable")
    near = max(SAME_PLACE, _as_good_as_nothing(np.diff(at[order]), instances))
    groups: list[list[Instance]] = []
    start = -np.inf
    for index in order:
        if at[index] - start > near:
            groups.append([])
            start = at[index]
        groups[-1].append(instances[index])
    for group in groups:
        spread = float(np.ptp([one.position for one in group], axis=0).max())
        if spread > max(near, TOLERANCE):
            raise ScanRefused(
                f"Images lie side by side in one plane, {spread:.1f} mm apart.",
                where=where,
                advice="Put the images of one stack into a folder of their own.",
                code="several_stacks",
            )
    return groups


def what_varies(instances: Sequence[Instance]) -> str:
    """For messages: the tags that tell images at one place apart, with their values."""
    varying = []
    for tag in TELLING_TAGS:
        if tag in UNTOLD:
            continue
        kinds = sorted({one.telling[tag] for one in instances})
        if len(kinds) > 1:
            shown = ", ".join(kind or "absent" for kind in kinds[:4])
            varying.append(f"{tag} ({shown}{', ...' if len(kinds) > 4 else ''})")
    return "; ".join(varying)


def _as_good_as_nothing(gaps: Floats, instances: Sequence[Instance]) -> float:
    """Images so near to each other, in mm, show one place twice: a head that is followed moves as little.

    A fiftieth of the thickness; but where all gaps are that small it is the thickness that means something else.
    """
    part = 0.02 * min((one.thickness for one in instances if one.thickness and one.thickness > 0), default=0.0)
    return min(part, 0.1 * float(gaps.max())) if len(gaps) > 1 else part


# -- steps of the above --------------------------------------------------------------------------------------------


def _axes(instances: Sequence[Instance], where: str, extent: Floats) -> tuple[Floats, Floats, float]:
    """Perpendicular unit vectors along rows and columns, and how far (mm) they move a corner of some slice."""
    cosines = np.array([one.orientation for one in instances]).reshape(-1, 2, 3)
    lengths = np.linalg.norm(cosines, axis=2)
    dots = np.abs((cosines[:, 0] * cosines[:, 1]).sum(axis=1))
    if np.abs(lengths - 1).max() > 1e-2 or dots.max() > 5e-3:
        worst = int(np.argmax(np.maximum(np.abs(lengths - 1).max(axis=1), dots)))
        raise ScanRefused(
            "ImageOrientationPatient does not hold two perpendicular unit vectors: "
            f"{', '.join(f'{part:g}' for part in instances[worst].orientation)}.",
            where=instances[worst].name,
            code="invalid_orientation",
        )
    mean = cosines.mean(axis=0)
    if np.abs(cosines - mean).max() > ORIENTATION_SPREAD:
        kinds = Counter(
            (
                ("localizer, " if "LOCALIZER" in one.telling["ImageType"].upper() else "")
                + ", ".join(f"{part:.3f}" for part in one.orientation)
            )
            for one in instances
        )
        raise ScanRefused(
            f"The series mixes slices of different orientations (ImageOrientationPatient): {_listed(kinds)}.",
            where=where,
            advice="A localizer or a second stack is mixed in. Put the slices that belong together into a folder of "
            "their own.",
            code="mixed_orientation",
        )
    # The perpendicular pair that is nearest to both (polar decomposition): no axis is preferred.
    left, _, right = np.linalg.svd(mean, full_matrices=False)
    exact = left @ right
    height, width = extent
    # Whichever is larger: how far a slice is from the axes used, or how far two slices are from each other.
    far = np.maximum(np.abs(cosines - exact).max(axis=0), np.ptp(cosines, axis=0))
    moved = width * np.linalg.norm(far[0]) + height * np.linalg.norm(far[1])
    return exact[0], exact[1], float(moved)


def _thickness(only: Instance, plane: Plane, where: str) -> tuple[Floats, list[Finding]]:
    size, tag = only.thickness, "SliceThickness"
    if not size or size <= 0:
        size, tag = abs(only.step_tag or 0.0), "SpacingBetweenSlices"
    if not 0 < size < FARTHEST:
        raise ScanRefused(
            "There is one slice only, and it does not say how thick it is (SliceThickness, SpacingBetweenSlices).",
            where=where,
            code="missing_geometry",
        )
    note = Finding(
        "single_slice",
        Severity.NOTE,
        f"One slice only: how far slices lie apart cannot be measured; {tag} is {size:g} mm.",
        "That is taken as the size of the voxels through the slice.",
    )
    return plane.normal * size, [note]


def _tilt(step: Floats, plane: Plane, count: int, where: str) -> list[Finding]:
    angle = float(np.degrees(np.arccos(np.clip(step @ plane.normal / np.linalg.norm(step), -1, 1))))
    drift = step - (step @ plane.normal) * plane.normal
    if angle > TILT_BELIEVED:
        raise ScanRefused(
            f"From slice to slice the images move mostly sideways ({angle:.0f} degrees off their normal); no gantry "
            "tilts that far, so this is no stack.",
            where=where,
            code="invalid_geometry",
        )
    if angle <= TILT_TOLD:
        return []
    total = float(np.linalg.norm(drift)) * (count - 1)
    return [
        Finding(
            "gantry_tilt",
            Severity.NOTE,
            f"The slices are shifted against each other as by a gantry tilted by {angle:.2f} degrees: {total:.1f} mm "
            "from the first to the last.",
            "The shear is kept in the geometry.",
        )
    ]


def _aside(positions: Floats, step: Floats, plane: Plane) -> Floats:
    """How far each slice lies off the line through the first and the last, measured in its own plane; mm, (K,)."""
    along = (positions - positions[0]) @ plane.normal / (step @ plane.normal)
    return np.asarray(np.linalg.norm(positions - positions[0] - along[:, np.newaxis] * step, axis=1))


def _corners(instances: Sequence[Instance]) -> Floats:
    """The places of the four corner pixels of each slice, by its own tags alone; mm, (K, 4, 3)."""
    cosines = np.array([one.orientation for one in instances]).reshape(-1, 2, 3)
    reach = np.array([(one.columns - 1, one.rows - 1) for one in instances])
    spacings = np.array([one.pixel_spacing[::-1] for one in instances])  # PixelSpacing names that between ROWS first
    edges = cosines * (reach * spacings)[:, :, np.newaxis]
    first = np.array([one.position for one in instances])[:, np.newaxis]
    return np.asarray(first + np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) @ edges)


def _spacing(
    positions: Floats, places: Floats, step: Floats, plane: Plane, limit: float
) -> tuple[tuple[float, ...] | None, list[Finding]]:
    """None and notes where slices are even within `limit`, else their offsets along the step, with what is wrong.

    `places`: what of each slice is to move evenly, (K, places, 3).
    """
    along = (positions - positions[0]) @ plane.normal
    counts = np.arange(len(along))
    # Judged against the best line, since a rounded first or last position must not count against all others.
    residual = float(np.abs(along - np.polyval(np.polyfit(counts, along, 1), counts)).max())
    steps = np.diff(along)
    regular = float(np.sort(steps)[(len(steps) - 1) // 2])  # the median; of two the smaller, since a gap is larger
    # In a stack of very thin slices a whole slice may be missing within the limit.
    if residual <= limit and steps.max() < 1.5 * regular:
        spread = float(np.linalg.norm(np.ptp(np.diff(places, axis=0), axis=0), axis=1).max())
        if spread <= EXACT * ROUNDED:
            return None, []
        stray = float(np.linalg.norm(positions - positions[0] - counts[:, np.newaxis] * step, axis=1).max())
        note = Finding(
            "position_jitter",
            Severity.NOTE,
            f"The steps between slices differ by up to {spread:.3f} mm; positions stray up to {stray:.3f} mm from even "
            "ones.",
            "Even slices from the first to the last position are used.",
        )
        return None, [note]
    offsets = along / along[-1] * np.linalg.norm(step) * (len(along) - 1)
    multiples = np.round(steps / regular)
    if multiples.min() >= 1 and np.abs(steps - multiples * regular).max() <= max(TOLERANCE, STEP_PART * regular):
        holes = [f"after slice {k + 1} of {len(along)}" for k in np.flatnonzero(multiples > 1)]
        missing = int(multiples.sum()) - len(steps)
        finding = Finding(
            "missing_slice",
            Severity.NOTE,
            f"Slices are {regular:g} mm apart, but there are gaps the size of {missing} missing "
            f"slice{'' if missing == 1 else 's'} ({', '.join(holes[:5])}{', ...' if len(holes) > 5 else ''}).",
            "Every slice stays at its true position; what lies in the gaps is unknown.",
        )
    else:
        finding = Finding(
            "uneven_spacing",
            Severity.NOTE,
            f"Slices are unevenly spaced: from {steps.min():.3f} to {steps.max():.3f} mm apart.",
            "Every slice stays at its true position.",
        )
    return (0.0, *(float(offset) for offset in offsets[1:])), [finding]


def _spacing_tag(instances: Sequence[Instance], positions: Floats, plane: Plane) -> list[Finding]:
    steps = np.diff(positions, axis=0)
    # The usual step, so that a gap is not told twice; along the normal or along a tilted stack: makers do both.
    usual = float(np.median(steps @ plane.normal)), float(np.median(np.linalg.norm(steps, axis=1)))
    tags = sorted({one.step_tag for one in instances if one.step_tag is not None})
    wrong = [tag for tag in tags if min(abs(abs(tag) - size) for size in usual) > max(EXACT, 0.01 * usual[0])]
    if not wrong:
        return []
    return [
        Finding(
            "spacing_tag_disagrees",
            Severity.NOTE,
            f"SpacingBetweenSlices says {wrong[0]:g} mm; by their positions slices are {usual[0]:g} mm apart.",
            "The positions are used.",
        )
    ]


def _listed(kinds: Counter[str]) -> str:
    shown = [f"{count} of {kind}" for kind, count in kinds.most_common(4)]
    return "; ".join(shown) + ("; ..." if len(kinds) > 4 else "")
