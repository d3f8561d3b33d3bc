"""Between pixels and the outlines that structure sets hold: pure geometry in the plane, no file and no patient.

Coordinates are (column, row) in pixels; pixel centres lie on whole numbers, pixel edges half way between. Outlines are
filled by the even-odd rule at pixel centres, and drawn along pixel edges, so that drawing and filling are exact
inverses. Fractions of pixels count: nothing is rounded to pixels before it is filled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""(N, 2): the corners of a closed outline; the last is joined to the first."""


def filled(ring: Ring, shape: tuple[int, int], first: tuple[int, int] = (0, 0)) -> NDArray[np.bool_]:
    """(rows, columns): the pixels whose centres lie inside of an outline, by the even-odd rule.

    `first` is (row, column) of the first pixel of the result, where only a part of the plane is asked for.

    An edge through a centre belongs to one side only: left and upper edges are inside, right and lower ones outside.
    So outlines that share an edge share no pixel. An outline may run along itself (a keyhole) or cross itself.
    """
    rows, columns = shape
    turns = np.zeros((rows, columns + 1), np.int64)
    start, end = ring, np.roll(ring, -1, axis=0)
    upward = start[:, 1] > end[:, 1]
    top, bottom = np.where(upward[:, None], end, start), np.where(upward[:, None], start, end)
    begin = np.clip(np.ceil(top[:, 1]) - first[0], 0, rows).astype(np.intp)  # rows with top <= row < bottom
    finish = np.clip(np.ceil(bottom[:, 1]) - first[0], 0, rows).astype(np.intp)
    count = np.maximum(finish - begin, 0)
    edge = np.repeat(np.arange(len(ring)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + begin[edge]
    # An edge is computed from its upper end whichever way it is walked, so that both walks of a channel cancel.
    slope = (bottom[edge, 0] - top[edge, 0]) / (bottom[edge, 1] - top[edge, 1])
    crossing = top[edge, 0] + (row + first[0] - top[edge, 1]) * slope
    np.add.at(turns, (row, np.clip(np.ceil(crossing) - first[1], 0, columns).astype(np.intp)), 1)
    return np.asarray(np.cumsum(turns[:, :-1], axis=1) % 2 == 1)


def combined(rings: Sequence[Ring], shape: tuple[int, int]) -> tuple[NDArray[np.bool_], int]:
    """The outlines of one structure in one plane: one inside of another is its hole, outlines side by side add up.

    Returns:
        (rows, columns), and how many pixels lie inside of two outlines neither of which lies in the other: 0, unless
        outlines cross. Crossing ones are combined by the even-odd rule, like all others.
    """
    inside = np.zeros(shape, bool)
    covered = np.zeros(shape, np.intp)
    pieces = []
    for ring in rings:
        low = np.clip(np.floor(ring.min(axis=0)), 0, shape[::-1]).astype(int)
        high = np.clip(np.ceil(ring.max(axis=0)) + 1, low, shape[::-1]).astype(int)
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        mask = filled(ring, (high[1] - low[1], high[0] - low[0]), (low[1], low[0]))
        inside[window] ^= mask
        covered[window] += mask
        pieces.append((window, mask))
    return inside, _crossing(pieces, covered)


def _crossing(pieces: Sequence[tuple[tuple[slice, slice], NDArray[np.bool_]]], covered: NDArray[np.intp]) -> int:
    crossing = np.zeros(covered.shape, bool)
    # Only what lies where two outlines are can cross: that leaves few of many.
    suspects = [(window, mask) for window, mask in pieces if (covered[window][mask] > 1).any()]
    for n, (window, mask) in enumerate(suspects):
        for other_window, other_mask in suspects[:n]:
            one, other = (np.zeros(covered.shape, bool) for _ in range(2))
            one[window], other[other_window] = mask, other_mask
            both = one & other
            if both.any() and (one & ~other).any() and (other & ~one).any():
                crossing |= both
    return int(crossing.sum())


def outlines(mask: NDArray[np.bool_]) -> list[Ring]:
    """Outlines along the edges of pixels, whose filling is the mask (rows, columns).

    One outline for each group of pixels that share edges. Holes are cut open: a channel of no width leads from the
    outline to the hole and back. Corners are half way between pixels; none lies on a straight line between two others,
    except where a channel begins.
    """
    from scipy.ndimage import label

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    corner = np.array([columns[0], rows[0]])
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # a structure is small in its picture
    pieces, _ = label(mask)
    rings: dict[int, list[Ring]] = {}
    for ring, (row, column) in _traced(mask):
        rings.setdefault(int(pieces[row, column]), []).append(ring)
    whole = []
    for each in rings.values():
        outer, *holes = sorted(each, key=_leftmost)  # the outline of a piece reaches farther left than its holes
        for hole in holes:  # from left to right: what lies to the left of a hole is joined already
            outer = _joined(outer, hole)
        whole.append(outer + corner)
    return whole


def _leftmost(ring: Ring) -> float:
    return float(ring[:, 0].min())


def _traced(mask: NDArray[np.bool_]) -> list[tuple[Ring, tuple[int, int]]]:
    """Closed walks along pixel edges with the inside to the right, each with (row, column) of a pixel inside."""
    padded = np.pad(mask, 1)
    # An edge: the corner it leaves, and its direction. Corner (x, y) is the upper left one of column x, row y.
    edges: dict[tuple[int, int, int, int], None] = {}
    for inside, outside, start, direction in (
        (padded[1:], padded[:-1], (0, 1), (1, 0)),  # upper edges run right
        (padded[:-1], padded[1:], (1, 1), (-1, 0)),  # lower edges run left
        (padded[:, :-1], padded[:, 1:], (1, 0), (0, 1)),  # right edges run down
        (padded[:, 1:], padded[:, :-1], (1, 1), (0, -1)),  # left edges run up
    ):
        for row, column in np.argwhere(inside & ~outside).tolist():
            edges[(column + start[0], row + start[1], *direction)] = None
    walks: list[tuple[Ring, tuple[int, int]]] = []
    seen: set[tuple[int, int, int, int]] = set()
    for first in edges:
        if first in seen:
            continue
        corners = []
        edge = first
        while edge not in seen:
            seen.add(edge)
            x, y, right, down = edge
            x, y = x + right, y + down
            # To the right first: where two pixels touch at a corner only, that stays with the pixel walked around.
            turns = ((-down, right), (right, down), (down, -right))
            edge = next((x, y, *turn) for turn in turns if (x, y, *turn) in edges)
            if edge[2:] != (right, down):
                corners.append((x, y))
        x, y, right, down = first
        pixel = (y - (right < 0 or down < 0), x - (right < 0 or down > 0))
        ring = np.array(corners, np.float64) - 1.5  # one for the padding, a half for a corner
        walks.append((ring, (pixel[0] - 1, pixel[1] - 1)))
    return walks


def _joined(outer: Ring, hole: Ring) -> Ring:
    """An outline with a hole cut open: by a channel from the hole's leftmost corner straight to the left."""
    start = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
    x, y = hole[start]
    end = np.roll(outer, -1, axis=0)
    low, high = np.minimum(outer[:, 1], end[:, 1]), np.maximum(outer[:, 1], end[:, 1])
    met = np.flatnonzero((outer[:, 0] == end[:, 0]) & (low <= y) & (y <= high) & (outer[:, 0] < x))
    edge = int(met[outer[met, 0].argmax()])
    channel = np.array([[outer[edge, 0], y]])
    turned = np.roll(hole, -start, axis=0)
    return np.concatenate([outer[: edge + 1], channel, turned, turned[:1], channel, outer[edge + 1 :]])
