"""Grids: where voxels lie, and the ways to store the same ones."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_med import Grid
from unet_med.grid import Reorientation

WAYS = [Reorientation(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Turned, anisotropic, sheared a little, any shape down to one voxel."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 8)] * 3))
    angles = draw(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        step = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        step[np.ix_([a, b], [a, b])] = [[c, -s], [s, c]]
        turn = turn @ step
    shear = np.eye(3)
    shear[1, 2] = draw(st.floats(-0.5, 0.5))
    affine = np.eye(4)
    affine[:3, :3] = turn @ shear @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return Grid(shape, affine)


@given(grids(), st.sampled_from(WAYS))
def test_reordering_moves_no_voxel_and_is_undone_exactly(grid: Grid, how: Reorientation) -> None:
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    places = np.moveaxis(grid.world(index), -1, 0)
    there = grid.reorient(how)
    moved = np.moveaxis(there.world(np.moveaxis(np.indices(there.shape), 0, -1)), -1, 0)
    np.testing.assert_allclose(how.apply(places), moved, atol=1e-9)
    np.testing.assert_array_equal(how.undo(how.apply(places)), places)
    assert there.reorient(how.inverse).distance(grid) < 1e-9


@given(grids())
def test_index_undoes_world(grid: Grid) -> None:
    points = np.array([(0.3, -2, 5), (1, 1, 1)])
    np.testing.assert_allclose(grid.index(grid.world(points)), points, atol=1e-6)


@given(grids())
def test_canonical_is_the_best_of_all_48_orders(grid: Grid) -> None:
    def agreement(how: Reorientation) -> float:
        matrix = grid.reorient(how).affine[:3, :3]
        return float(np.trace(matrix / np.linalg.norm(matrix, axis=0)))

    assert agreement(grid.canonical()) == pytest.approx(max(map(agreement, WAYS)))


@given(st.sampled_from(WAYS), st.floats(-0.3, 0.3))
def test_planes_are_found_and_turned_the_same_way_however_they_are_stored(how: Reorientation, angle: float) -> None:
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = [[-c, s, 0], [-s, -c, 0], [0, 0, 5]]  # axial, as DICOM stores it, thick slices
    grid = Grid((6, 5, 4), affine)
    stored = grid.reorient(how)
    found = stored.reorient(stored.planes())
    assert found.distance(grid) < 1e-9


@pytest.mark.parametrize(("slices_along", "codes"), [(0, "PIR"), (1, "LIA"), (2, "LPS")])
def test_a_single_plane_is_seen_as_a_radiologist_sees_it(slices_along: int, codes: str) -> None:
    shape = [5, 6, 7]
    shape[slices_along] = 1
    grid = Grid(tuple(shape), np.eye(4))
    assert grid.reorient(grid.planes()).orientation == codes


def test_a_picture_is_left_as_it_is() -> None:
    assert Grid((7, 5, 1), np.diag((-1, -1, 1, 1))).planes().is_identity


def test_a_crop_keeps_its_voxels_where_they_were() -> None:
    grid = Grid((6, 4, 5), [[0, 2, 0, 1], [3, 0, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]])
    crop = grid.crop((1, 2, 3), (4, 4, 5))
    assert crop.shape == (3, 2, 2)
    np.testing.assert_array_equal(crop.world((1, 1, 1)), grid.world((2, 3, 4)))


def test_resizing_keeps_outer_edges() -> None:
    grid = Grid((4, 4, 4), np.diag((2, 2, 2, 1)))
    finer = grid.resized((8, 2, 4))
    assert finer.spacing == (1, 4, 2)
    for corner in ((-0.5, -0.5, -0.5), (3.5, 3.5, 3.5)):
        there = [(c + 0.5) * n / 4 - 0.5 for c, n in zip(corner, finer.shape, strict=True)]
        np.testing.assert_allclose(finer.world(there), grid.world(corner))


def test_uneven_slices_by_hand() -> None:
    grid = Grid((2, 2, 4), np.diag((1, 1, 4, 1)), slice_offsets=(0, 3, 6, 12))
    assert grid.slice_edges == (-1.5, 15)
    even = grid.even_slices(11)
    # 16.5 mm in 11 slices of 1.5 mm; the first centre at -1.5 + 0.75.
    assert even.spacing[2] == pytest.approx(1.5)
    np.testing.assert_allclose(even.world((0, 0, 0)), (0, 0, -0.75))
    np.testing.assert_allclose(even.world((0, 0, 10)), (0, 0, 14.25))
    assert even.slice_offsets is None
    flipped = grid.reorient(Reorientation((1, 0, 2), (False, False, True)))
    assert flipped.slice_offsets == (0, 6, 9, 12)
    np.testing.assert_allclose(flipped.world((0, 0, 0)), (0, 0, 12))
    with pytest.raises(ValueError, match="third axis"):
        grid.reorient(Reorientation((2, 1, 0), (False, False, False)))


@pytest.mark.parametrize(
    "affine",
    [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag((1, 1, 0, 1)), np.diag((1, 1, 1, 2)), np.eye(3)],
)
def test_what_is_no_place_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="affine"):
        Grid((2, 2, 2), affine)


@pytest.mark.parametrize("offsets", [(0, 1), (0, 1, 1), (1, 2, 3), (0, 2, 1)])
def test_wrong_slice_offsets_are_refused(offsets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="slice offsets"):
        Grid((2, 2, 3), np.eye(4), offsets)
