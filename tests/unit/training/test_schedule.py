"""Learning rates, averaged weights, and the loss."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from unet_med_pipelines.training.losses import make_loss
from unet_med_pipelines.training.recipe import LossRecipe, ScheduleRecipe
from unet_med_pipelines.training.schedule import learning_rate_factor, update_average, weight_groups


def test_cosine_with_warm_up() -> None:
    recipe = ScheduleRecipe(steps=14, warm_up=4)
    factors = [learning_rate_factor(step, recipe) for step in range(14)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[9] == pytest.approx(0.5)  # half-way through the ten steps after the warm-up
    assert all(a > b for a, b in pairwise(factors[4:]))


def test_poly_ends_at_its_final_share() -> None:
    recipe = ScheduleRecipe(steps=10, shape="poly", final=0.1)
    assert learning_rate_factor(0, recipe) == 1
    assert learning_rate_factor(5, recipe) == pytest.approx(0.1 + 0.9 * 0.5**0.9)


def test_the_average_follows_fast_at_first_and_slowly_later() -> None:
    network, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    average.weight.data.fill_(0.0)
    update_average(average, network, step=0, decay=0.99)
    assert average.weight.item() == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    average.weight.data.fill_(0.0)
    update_average(average, network, step=10_000, decay=0.99)
    assert average.weight.item() == pytest.approx(0.01)
    assert network.weight.item() == 1.0


def test_only_kernels_decay() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
    kernels, others = weight_groups(network, 0.1)
    assert [weight.ndim for weight in kernels["params"]] == [5]  # type: ignore[attr-defined]
    assert len(others["params"]) == 3  # type: ignore[arg-type]
    assert (kernels["weight_decay"], others["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_perfect_scores_cost_nothing_and_wrong_ones_much(batch_dice: bool) -> None:
    labels = torch.randint(0, 3, (2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    right = nn.functional.one_hot(labels[:, 0].long(), 3).movedim(-1, 1) * 40.0
    wrong = right.roll(1, dims=1)
    loss = make_loss(LossRecipe(batch_dice=batch_dice))
    assert loss(right, labels).item() < 0.01
    assert loss(wrong, labels).item() > 10


def test_coarser_scores_count_half() -> None:
    labels = torch.zeros(1, 1, 8, 8)
    labels[..., 4:] = 1
    fine, coarse = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)
    loss = make_loss(LossRecipe())
    one = loss(fine, labels).item()
    assert loss([fine, coarse], labels).item() == pytest.approx(1.5 * one, rel=1e-3)
