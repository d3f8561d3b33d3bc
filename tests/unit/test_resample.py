"""Resampling by matrices, held against scipy and scikit-image, which we do not call for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from unet_med import Grid
from unet_med.resample import CUBIC, LINEAR, apply, interpolating, onto, resizing

sizes = st.tuples(*[st.integers(1, 12)] * 3)


@settings(deadline=None)
@given(sizes, sizes, st.sampled_from([CUBIC, LINEAR]), st.integers(0, 2**32 - 1))
def test_three_matrices_are_the_spline_of_scikit_image(
    before: tuple[int, int, int], after: tuple[int, int, int], order: int, seed: int
) -> None:
    volume = np.random.default_rng(seed).normal(size=before)
    ours = apply(volume, [resizing(a, b, order) for a, b in zip(before, after, strict=True)])
    theirs = resize(volume, after, order, mode="edge", clip=False, anti_aliasing=False)
    assert ours.shape == after
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_two_samples_become_four_by_hand() -> None:
    # Edges stay at 0 and 2: new centres at 0.25, 0.75, 1.25, 1.75 lie at -0.25, 0.25, 0.75, 1.25 of the old index.
    np.testing.assert_allclose(resizing(2, 4, LINEAR), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_every_matrix_keeps_a_constant() -> None:
    for before, after in ((5, 9), (9, 5), (1, 4), (4, 1)):
        np.testing.assert_allclose(resizing(before, after, CUBIC).sum(axis=1), 1, atol=1e-6)


def test_channels_and_axes_left_alone() -> None:
    volume = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    assert apply(volume, (None, None, None)) is volume
    result = apply(volume, (None, resizing(4, 8, LINEAR), None))
    expected = np.stack([ndimage.zoom(c, (1, 2, 1), order=1, mode="nearest", grid_mode=True) for c in volume])
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_uneven_positions_by_hand() -> None:
    matrix = interpolating(np.array([0.0, 3, 6, 12]), np.array([-1.0, 1.5, 9, 20]))
    np.testing.assert_allclose(matrix @ [10, 20, 30, 50], [10, 15, 40, 50])


def test_onto_another_grid_reads_the_same_places() -> None:
    """A volume that holds its own x coordinate: read anywhere inside, it gives x."""
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    grid = Grid((20, 20, 10), turn @ np.diag((1, 1, 2, 1)))
    x = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))[..., 0]
    target = Grid((4, 3, 3), [[0, 1, 0, 1], [1.5, 0, 0, 14], [0, 0, 1, 5], [0, 0, 0, 1]])
    expected = target.world(np.moveaxis(np.indices(target.shape), 0, -1))[..., 0]
    np.testing.assert_allclose(onto(x, grid, target, np.nan), expected, atol=1e-5)


def test_what_lies_outside_gets_the_value_named() -> None:
    grid = Grid((2, 1, 1), np.eye(4))
    target = Grid((4, 1, 1), [[1, 0, 0, -1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert onto(np.array([[[5.0]], [[7.0]]]), grid, target, -9)[:, 0, 0].tolist() == [-9, 5, 7, -9]


def test_no_sample_is_no_number_of_samples() -> None:
    with pytest.raises(ValueError, match="read-only"):
        resizing(3, 4, LINEAR)[0, 0] = 1
