"""The stacks inside a series: what a scanner put under one series UID and is no one volume.

Localizers, slabs of several orientations, echoes, diffusion weightings, phases and times. A series is taken apart only
where the parts are whole: each covers its places evenly. Else it stays together, and its reader names the fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import ScanRefused
from unet_med.formats.dicom_instance import TELLING_TAGS, Instance
from unet_med.formats.dicom_stack import ORIENTATION_SPREAD, TOLERANCE, common_plane, same_places
from unet_med.grid import orientation_of

NEARLY_PARALLEL = np.cos(np.radians(10))
"""Slices turned by less than that, lying between others, are no stack of their own but a fault of that one."""

RUNNING = (
    "NominalCardiacTriggerDelayTime",
    "TriggerTime",
    "FrameReferenceTime",
    "FrameAcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
)
"""Tags that count on from image to image. They part images at one place where whole volumes follow one another."""

CARDIAC = ("NominalCardiacTriggerDelayTime", "TriggerTime")
"""Of these, tags that begin anew at every heart beat: there, the first phase of each place is one volume, and so on."""


@dataclass(frozen=True)
class Stack:
    """Images that make one volume, and what tells them from the other stacks of the series."""

    images: tuple[Instance, ...]
    words: str


def stacks_of(images: Sequence[Instance]) -> list[Stack]:
    """Takes a series apart. One stack, or a list of one, means that there is nothing to choose.

    Returns:
        Stacks in the order of what tells them apart; the whole series as one where no rule parts it evenly.
    """
    whole = [Stack(tuple(images), _shape(images))]
    shaped = _by_shape(images)
    if _interleaved(shaped):
        return whole
    parts: list[tuple[list[Instance], list[str]]] = []
    for group in shaped:
        try:
            parts += _by_tags(group)
        except ScanRefused:  # images side by side in a plane, axes that are none: the reader names it
            return whole
    if len(parts) < 2:
        return whole
    return [Stack(tuple(part), ", ".join((_shape(part), *words, *_also(part, images)))) for part, words in parts]


def _shape(images: Sequence[Instance]) -> str:
    first, count = images[0], len(images)
    axes = np.array(first.orientation).reshape(2, 3) * (-1, -1, 1)
    letter = orientation_of(np.column_stack((*axes, np.cross(*axes))))[2]
    plane = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal"}.get(letter, "sagittal")
    return f"{count} {plane} slice{'' if count == 1 else 's'} of {first.columns} x {first.rows}"


def _also(part: Sequence[Instance], series: Sequence[Instance]) -> list[str]:
    words = []
    frames = list(dict.fromkeys(one.frame_of_reference for one in series))
    if len(frames) > 1:
        words.append(f"frame of reference {frames.index(part[0].frame_of_reference) + 1} of {len(frames)}")
    if "LOCALIZER" in part[0].telling["ImageType"].upper():
        words.append("localizer")
    return words


# -- by geometry ----------------------------------------------------------------------------------------------------


def _by_shape(images: Sequence[Instance]) -> list[list[Instance]]:
    """Images of one size, pixel spacing, orientation and frame of reference together."""
    groups: list[list[Instance]] = []
    for one in images:
        home = next((group for group in groups if _alike(group[0], one)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return groups


def _alike(one: Instance, other: Instance) -> bool:
    if (one.rows, one.columns, one.frame_of_reference) != (other.rows, other.columns, other.frame_of_reference):
        return False
    size = max(one.rows, one.columns)
    return all(
        abs(a - b) * size <= TOLERANCE for a, b in zip(one.pixel_spacing, other.pixel_spacing, strict=True)
    ) and all(abs(a - b) <= ORIENTATION_SPREAD for a, b in zip(one.orientation, other.orientation, strict=True))


def _interleaved(groups: Sequence[Sequence[Instance]]) -> bool:
    """Whether some slices fill holes between others that they do not fit."""
    normals = np.array([_normal(group[0]) for group in groups])
    parallel = np.abs(normals @ normals.T) >= NEARLY_PARALLEL
    positions = [np.array([one.position for one in group]) for group in groups]
    for n, m in np.argwhere(parallel & ~np.eye(len(groups), dtype=bool)):
        places = np.unique(positions[n] @ normals[n])
        if any(_in_a_hole(float(place), places) for place in positions[m] @ normals[n]):
            return True
    return False


def _in_a_hole(place: float, places: NDArray[np.float64]) -> bool:
    if not places[0] + TOLERANCE < place < places[-1] - TOLERANCE:
        return False
    steps = np.diff(places)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    # Between two slices alone there is no telling what is usual.
    return len(steps) == 1 or float(steps[np.searchsorted(places, place) - 1]) > 1.5 * usual


def _normal(one: Instance) -> NDArray[np.float64]:
    axes = np.array(one.orientation).reshape(2, 3)
    return np.cross(axes[0], axes[1])


# -- by tags --------------------------------------------------------------------------------------------------------


def _by_tags(images: list[Instance]) -> list[tuple[list[Instance], list[str]]]:
    """Images of one shape, parted until no place is taken twice; all together where that does not come out even."""
    plane = common_plane(images, "")
    place = {id(one): n for n, group in enumerate(same_places(images, plane, "")) for one in group}

    def places(part: Sequence[Instance]) -> Counter[int]:
        return Counter(place[id(one)] for one in part)

    parts: list[tuple[list[Instance], list[str]]] = [(list(images), [])]
    for tag in TELLING_TAGS:
        parts = [new for part, words in parts for new in _parted(part, words, tag, places)]
    if all(max(places(part).values()) == 1 for part, _ in parts):
        return parts
    return [(list(images), [])]


def _parted(
    images: list[Instance], words: list[str], tag: str, places: Callable[[Sequence[Instance]], Counter[int]]
) -> list[tuple[list[Instance], list[str]]]:
    """The images parted by one tag where that comes out even, else as they are."""
    taken = places(images)
    if max(taken.values()) == 1:
        return [(images, words)]
    by_value: dict[str, list[Instance]] = {}
    for one in images:
        by_value.setdefault(one.telling[tag], []).append(one)
    counts = [places(part) for part in by_value.values()]
    even = all(len(set(count.values())) == 1 for count in counts)
    # The last volume of a run that was stopped may cover a part only.
    whole = sum(len(count) == len(taken) for count in counts)
    if len(by_value) > 1 and even and 2 * whole > len(counts):
        return [(by_value[value], [*words, f"{tag} {_shown(tag, value)}"]) for value in sorted(by_value, key=_rank)]
    if tag in RUNNING and len(set(taken.values())) == 1:
        return _parted_in_turn(images, words, tag, places)
    return [(images, words)]


def _rank(value: str) -> tuple[float, str]:
    """Numbers in order, then words."""
    try:
        return float(value), value
    except ValueError:
        return np.inf, value


def _shown(tag: str, value: str) -> str:
    if tag.endswith("DateTime"):
        return value[8:]  # a time of day tells stacks apart; a date could tell patients apart
    try:
        vector = [float(part) for part in value.split("\\")]
    except ValueError:
        return value or "absent"
    return value if len(vector) == 1 else ", ".join(f"{part:.3f}" for part in vector)


def _parted_in_turn(
    images: list[Instance], words: list[str], tag: str, places: Callable[[Sequence[Instance]], Counter[int]]
) -> list[tuple[list[Instance], list[str]]]:
    """The first image of every place, the second, and so on, as a tag counts them."""
    try:
        keyed = sorted(((float(one.telling[tag]), n) for n, one in enumerate(images)))
    except ValueError:  # absent, or no number
        return [(images, words)]
    turns: list[list[tuple[float, Instance]]] = []
    at_place: dict[int, list[float]] = {}
    for count, n in keyed:
        (where,) = places([images[n]])
        before = at_place.setdefault(where, [])
        if before and before[-1] == count:  # two at once: which of them comes first is anybody's guess
            return [(images, words)]
        if len(before) == len(turns):
            turns.append([])
        turns[len(before)].append((count, images[n]))
        before.append(count)
    for one, following in pairwise(turns):
        if tag not in CARDIAC and one[-1][0] >= following[0][0]:  # volumes overlap in time: this tells nothing
            return [(images, words)]
    parts = []
    for volume in turns:
        ends = [_shown(tag, image.telling[tag]) for _, image in (volume[0], volume[-1])]
        parts.append(([image for _, image in volume], [*words, f"{tag} {ends[0]} to {ends[1]}"]))
    return parts
