"""Random changes to a patch that leave it a believable scan. MONAI's transforms; image and labels move together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, radians
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_med_pipelines.training.recipe import AugmentationRecipe

MARGIN = 0.2
"""How far, as a share of the window, voxels around a patch are read on each side, for what rotation and
shrinking bring in."""


def margins(recipe: AugmentationRecipe, window: tuple[int, ...]) -> tuple[int, ...]:
    """Voxels to read around a patch on each side, per axis of the window; none where nothing moves."""
    if recipe.affine is None and recipe.elastic is None:
        return (0,) * len(window)
    return tuple(ceil(size * MARGIN) for size in window)


class Augmentation:
    """The transforms of a recipe, for one window.

    Args:
        recipe: strengths; what it does not name is not done.
        window: voxels of the patch that comes out, two or three numbers.
    """

    def __init__(self, recipe: AugmentationRecipe, window: tuple[int, ...]) -> None:
        from monai.transforms.compose import Compose

        with _plain_tensors():
            self._transforms = Compose([*_moves(recipe, window), *_intensities(recipe, len(window))])

    def __call__(
        self, image: NDArray[np.float32], labels: NDArray[np.uint8], seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One patch, changed as `seed` says and nothing else.

        Args:
            image: (C, *region), the window with `margins` around it.
            labels: (*region).
            seed: below 2**32.

        Returns:
            (C, *window) float32 and (1, *window) uint8.
        """
        self._transforms.set_random_state(seed=seed)
        with _plain_tensors():
            changed = self._transforms({"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)[None]})
        return changed["image"].float().contiguous(), changed["labels"].to(torch.uint8).contiguous()


def _moves(recipe: AugmentationRecipe, window: tuple[int, ...]) -> Iterator[Any]:
    """Everything that moves voxels, in one resampling (two where an elastic change is drawn), then flips."""
    from monai.transforms.compose import OneOf
    from monai.transforms.spatial.dictionary import Rand2DElasticd, RandAffined, RandFlipd

    both = ("image", "labels")
    axes = len(window)
    sampling: dict[str, Any] = {"spatial_size": window, "mode": ("bilinear", "nearest"), "padding_mode": "border"}
    ranges: dict[str, Any] = {}
    if affine := recipe.affine:
        # In the plane there is one rotation and two shears; in space three and six.
        ranges = {
            "rotate_range": (radians(affine.rotation),) * (1 if axes == 2 else 3),
            "shear_range": (affine.shear,) * (2 if axes == 2 else 6),
            "translate_range": (affine.translation,) * axes,
            "scale_range": (affine.scale,) * axes,
        }
    moving = RandAffined(both, prob=affine.probability if affine else 0.0, **ranges, **sampling)
    if elastic := recipe.elastic:
        bending = Rand2DElasticd(
            both,
            spacing=(elastic.spacing,) * 2,
            magnitude_range=(0.0, elastic.magnitude),
            prob=1.0,
            **ranges,
            **sampling,
        )
        yield OneOf([bending, moving], weights=[elastic.probability, 1 - elastic.probability])
    elif affine:
        yield moving
    if flips := recipe.flips:
        for axis in flips.axes:
            yield RandFlipd(both, prob=flips.probability, spatial_axis=axis)


def _intensities(recipe: AugmentationRecipe, axes: int) -> Iterator[Any]:
    """Everything that changes values, in the order in which a scanner would: optics, then contrast, then noise."""
    from monai.transforms.intensity.dictionary import (
        RandAdjustContrastd,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )
    from monai.transforms.spatial.dictionary import RandSimulateLowResolutiond

    if blur := recipe.blur:
        sigmas: dict[str, Any] = dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), blur.sigma)
        yield RandGaussianSmoothd("image", prob=blur.probability, **sigmas)
    if low := recipe.low_resolution:
        mode = "bilinear" if axes == 2 else "trilinear"
        yield RandSimulateLowResolutiond("image", prob=low.probability, zoom_range=low.zoom, upsample_mode=mode)
    if bright := recipe.brightness:
        yield RandScaleIntensityd("image", factors=bright.factor, prob=bright.probability)
        yield RandShiftIntensityd("image", offsets=bright.shift, prob=bright.probability)
    if gamma := recipe.gamma:
        yield RandAdjustContrastd("image", prob=gamma.probability, gamma=gamma.gamma)
    if noise := recipe.noise:
        yield RandGaussianNoised("image", prob=noise.probability, std=noise.deviation)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Without MONAI's book-keeping of where each voxel came from, which costs more than the transforms themselves."""
    from monai.data.meta_obj import get_track_meta, set_track_meta

    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
