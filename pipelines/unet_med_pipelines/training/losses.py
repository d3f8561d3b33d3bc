"""What training makes small: soft Dice plus cross-entropy, on every scale that the network is supervised at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from unet_med_pipelines.training.recipe import LossRecipe

Loss = Callable[[Any, Tensor], Tensor]
"""(scores, labels) -> a scalar. scores: (B, S, *window), or a list of them, full resolution first, each next one
coarser.
labels: (B, 1, *window), the score map that should win at each voxel."""


def make_loss(recipe: LossRecipe) -> Loss:
    """MONAI's DiceCELoss; deep supervision weighs the scales 1, 1/2, 1/4 ... (MONAI's DeepSupervisionLoss).

    Background counts in the cross-entropy and not in Dice.
    """
    from monai.losses.dice import DiceCELoss
    from monai.losses.ds_loss import DeepSupervisionLoss

    single = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=recipe.batch_dice,
        lambda_dice=recipe.dice,
        lambda_ce=recipe.cross_entropy,
    )
    return DeepSupervisionLoss(single, weight_mode="exp")
