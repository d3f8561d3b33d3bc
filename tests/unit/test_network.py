"""The U-Net: shapes at every stage, the same scores as MONAI's DynUNet, and refusals in words."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor

from unet_med.card import ModelCard
from unet_med.network import UNet

CARD = {
    "name": "tiny",
    "version": "1",
    "summary": "For tests.",
    "intended_use": "Tests.",
    "limits": [],
    "licence": "CC0-1.0",
    "labels": [{"value": 1, "name": "left", "colour": "#ff0000"}, {"value": 2, "name": "right", "colour": "#00ff00"}],
    "channels": [{"name": "t1"}, {"name": "t2"}, {"name": "flair"}],
    "grid": {"dimensions": 3, "spacing": [1, 1, 4], "window": [16, 16, 4]},
    "intensity": {},
    "network": {
        "encoder": "plain",
        "widths": [4, 6, 8],
        "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
        "kernels": [[3, 3, 1], [3, 3, 1], [3, 3, 3]],
        "blocks": 2,
        "deep_supervision": 1,
    },
}


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def test_every_stage_has_the_shape_that_the_docstring_names() -> None:
    network = UNet(3, 2, 5, (4, 6, 8, 10)).eval()
    x, shapes = noise(1, 2, 16, 24, 8), []
    skips = []
    for stage in network.encoder:
        x = stage(x)
        skips.append(x)
        shapes.append(tuple(x.shape[1:]))
    x = network.bottleneck(x)
    shapes.append(tuple(x.shape[1:]))
    for number, stage in enumerate(network.decoder):
        x = stage(x, skips[-1 - number])
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [
        (4, 16, 24, 8),
        (6, 8, 12, 4),
        (8, 4, 6, 2),
        (10, 2, 3, 1),
        (8, 4, 6, 2),
        (6, 8, 12, 4),
        (4, 16, 24, 8),
    ]
    assert network.divisor == (8, 8, 8)
    scores = network(noise(1, 2, 16, 24, 8))
    assert scores.shape == (1, 5, 16, 24, 8)
    assert torch.equal(scores, network.head(x))  # walking the stages by hand is what forward does


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_scores_equal_those_of_dynunet_with_the_same_weights(dimensions: int, encoder: str) -> None:
    strides, kernels = [1, 2, 2, [2, 1, 2][:dimensions]], [3, 3, 5, [3, 1, 3][:dimensions]]
    theirs = DynUNet(
        dimensions, 2, 3, kernels, strides, strides[1:], (4, 6, 8, 10),
        res_block=encoder == "residual", deep_supervision=True, deep_supr_num=2,
    )  # fmt: skip
    ours = UNet(
        dimensions, 2, 3, (4, 6, 8, 10), encoder=encoder, strides=strides, kernels=kernels, deep_supervision=2
    )  # fmt: skip
    ours.load_state_dict(
        OrderedDict((_our_key(key), value) for key, value in theirs.state_dict().items() if _our_key(key))
    )
    image = noise(2, 2, 16, 24, 32)[..., 0] if dimensions == 2 else noise(2, 2, 16, 8, 16)

    assert torch.equal(ours.eval()(image), theirs.eval()(image))
    full, half, quarter = ours.train()(image)
    stacked = theirs.train()(image)  # DynUNet brings the coarser scores to full size by repeating voxels
    assert torch.equal(full, stacked[:, 0])
    assert torch.equal(torch.nn.functional.interpolate(half, image.shape[2:]), stacked[:, 1])
    assert torch.equal(torch.nn.functional.interpolate(quarter, image.shape[2:]), stacked[:, 2])


def _our_key(key: str) -> str | None:
    room, _, rest = key.partition(".")
    if room == "input_block":
        return f"encoder.0.0.{rest}"
    if room == "downsamples":
        number, _, rest = rest.partition(".")
        return f"encoder.{int(number) + 1}.0.{rest}"
    if room == "bottleneck":
        return f"bottleneck.0.{rest}"
    if room == "upsamples":
        return f"decoder.{rest}"
    if room == "output_block":
        return f"heads.0.{rest.removeprefix('conv.conv.')}"
    if room == "deep_supervision_heads":
        number, _, rest = rest.partition(".")
        return f"heads.{int(number) + 1}.{rest.removeprefix('conv.conv.')}"
    return None  # skip_layers: the same tensors once more


def test_the_keys_of_the_weights_are_what_shipped_files_hold() -> None:
    network = UNet(2, 1, 2, (4, 6), encoder="plain")
    assert list(network.state_dict()) == [
        *(
            f"{stage}.0.{name}"
            for stage in ("encoder.0", "bottleneck")
            for name in (
                "conv1.conv.weight", "conv2.conv.weight", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
            )
        ),
        "decoder.0.transp_conv.conv.weight",
        *(
            f"decoder.0.conv_block.{name}"
            for name in (
                "conv1.conv.weight", "conv2.conv.weight", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
            )
        ),
        "heads.0.weight",
        "heads.0.bias",
    ]  # fmt: skip


def test_a_card_builds_its_network() -> None:
    network = UNet.from_card(ModelCard.model_validate(CARD))
    assert (network.in_channels, network.out_channels, network.widths) == (3, 3, (4, 6, 8))  # two labels and background
    assert network.divisor == (4, 4, 2)
    assert [len(stage) for stage in network.encoder] == [2, 2]
    assert [tuple(scores.shape) for scores in network(noise(1, 3, 16, 16, 4))] == [(1, 3, 16, 16, 4), (1, 3, 8, 8, 4)]
    assert network.head.weight.shape == (3, 4, 1, 1, 1)


def test_more_blocks_deepen_the_encoder_only() -> None:
    one, three = (UNet(2, 1, 2, (4, 6), blocks=blocks, encoder="plain") for blocks in (1, 3))
    # Two more blocks of two 3 x 3 convolutions and two affine norms in each of the two stages.
    added = 2 * (2 * 9 * 4 * 4 + 2 * 2 * 4) + 2 * (2 * 9 * 6 * 6 + 2 * 2 * 6)
    assert _parameters(three) - _parameters(one) == added
    assert _parameters(three.decoder) == _parameters(one.decoder)


@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_bfloat16_autocast_gives_nearly_the_same_scores_and_gradients_flow(encoder: str) -> None:
    network = UNet(3, 1, 2, (4, 8, 16), encoder=encoder, blocks=2, deep_supervision=1).eval()
    image = noise(1, 1, 16, 16, 16)
    exact = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(image)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()  # 8 bits of mantissa through ten layers
    with torch.autocast("cpu", torch.bfloat16):
        torch.stack([scores.float().square().mean() for scores in network.train()(image)]).sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in network.parameters())


def test_initial_weights_are_scaled_for_leaky_relu() -> None:
    network = UNet(3, 1, 4, (32, 64), encoder="plain")
    weight = network.bottleneck[0].conv2.conv.weight
    expected = (2 / (1 + 0.01**2) / (64 * 27)) ** 0.5  # He et al. 2015, eq. 15
    assert weight.std().item() == pytest.approx(expected, rel=0.02)
    assert network.head.bias.abs().max() == 0


def test_padding_keeps_sizes_for_wide_kernels_and_strides_of_three() -> None:
    network = UNet(2, 1, 2, (4, 6, 8), encoder="plain", kernels=(7, (5, 3), 3), strides=(1, (3, 2), (2, 4))).eval()
    assert network.divisor == (6, 8)
    assert network(noise(1, 1, 18, 16)).shape == (1, 2, 18, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dimensions": 4}, "2 or 3 dimensions, not 4"),
        ({"encoder": "dense"}, "plain.*residual.*dense"),
        ({"in_channels": 0}, "in_channels must be at least 1, not 0"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"widths": (8,)}, "at least two positive numbers"),
        ({"widths": (8, 0, 8)}, "at least two positive numbers"),
        ({"strides": (1, 2)}, "strides must name one entry a stage: 3"),
        ({"strides": ()}, "strides must name one entry a stage: 3"),
        ({"kernels": (3, 3, 3, 3)}, "kernels must name one entry a stage: 3"),
        ({"kernels": (3, (3, 3), 3)}, r"kernels is 3 positive numbers, not \(3, 3\)"),
        ({"strides": (1, 2, (2, 0, 2))}, "strides is 3 positive numbers"),
        ({"strides": (2, 2, 2)}, "first stage works at full resolution"),
        ({"strides": (1, 2, 3)}, "Stage 2 strides too far.*at most 2"),
        ({"strides": (1, 2, 5), "encoder": "plain"}, r"Stage 2 strides too far.*at most kernel \(3, 3, 3\) \+ 1"),
        ({"kernels": (3, 2, 3)}, "odd sizes.*stage 1"),
        ({"deep_supervision": 2}, "0 to 1 here, not 2"),
        ({"deep_supervision": -1}, "0 to 1 here, not -1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(arguments: dict[str, object], words: str) -> None:
    fitting = {"dimensions": 3, "in_channels": 1, "out_channels": 2, "widths": (4, 6, 8)}
    with pytest.raises(ValueError, match=words):
        UNet(**{**fitting, **arguments})


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 1, 16, 18, 16), "16 x 18 x 16 does not fit.*multiples of 4 x 4 x 4"),
        ((1, 2, 16, 16, 16), r"takes \(batch, 1, X, Y, Z\), not \(1, 2, 16, 16, 16\)"),
        ((1, 1, 16, 16), r"takes \(batch, 1, X, Y, Z\)"),
        ((1, 1, 4, 4, 4), "4 x 4 x 4 is too small"),
    ],
)
def test_a_window_that_does_not_fit_is_refused_in_words(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        UNet(3, 1, 2, (4, 6, 8))(torch.zeros(shape))


def _parameters(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())
