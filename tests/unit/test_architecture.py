"""The table of a U-Net, against numbers worked out by hand on nets small enough for it."""

from __future__ import annotations

import pytest
import torch

from unet_med.architecture import Stage, amount, describe
from unet_med.network import UNet


def test_a_tiny_net_by_hand() -> None:
    # 16 pixels, 1 channel -> 2 features -> 4 pixels, 3 features -> back to 16 pixels, 2 features -> 2 scores.
    network = UNet(2, in_channels=1, out_channels=2, widths=(2, 3), encoder="plain")
    described = describe(network, (4, 4))
    # Two 3 x 3 convolutions without bias, two affine norms: parameters = 9 ab + 9 bb + 4 b.
    encoder = Stage(
        "encoder[0]",
        "encoder",
        (1, 4, 4),
        (2, 4, 4),
        (2, 4, 4),
        9 * 1 * 2 + 9 * 2 * 2 + 8,
        16 * (9 * 1 * 2 + 9 * 2 * 2),
    )
    bottleneck = Stage(
        "bottleneck", "bottleneck", (2, 4, 4), (3, 2, 2), None, 9 * 2 * 3 + 9 * 3 * 3 + 12, 4 * (9 * 2 * 3 + 9 * 3 * 3)
    )
    # Transposed 2 x 2 convolution on 4 pixels; then 2 + 2 features through two convolutions on 16.
    decoder = Stage(
        "decoder[0]",
        "decoder",
        (3, 2, 2),
        (2, 4, 4),
        (2, 4, 4),
        4 * 3 * 2 + 9 * 4 * 2 + 9 * 2 * 2 + 8,
        4 * (4 * 3 * 2) + 16 * (9 * 4 * 2 + 9 * 2 * 2),
    )
    head = Stage("head", "head", (2, 4, 4), (2, 4, 4), None, 2 * 2 + 2, 16 * 2 * 2)
    assert described.stages == (encoder, bottleneck, decoder, head)
    assert described.parameters == 62 + 147 + 140 + 6
    assert described.multiply_adds == 864 + 540 + 1824 + 64
    # Most is alive at the norms of the decoder: image 16, bottleneck 3 x 4, skip 2 x 16, concatenation 4 x 16, and a
    # norm's input and output, 2 x 16 each.
    assert described.activation_bytes == 4 * (16 + 12 + 32 + 64 + 32 + 32)


def test_residual_stages_count_the_convolution_that_carries_the_input_over() -> None:
    stage = describe(UNet(3, 1, 2, (2, 4)), (4, 4, 4)).stages[1]
    assert stage.parameters == 27 * 2 * 4 + 27 * 4 * 4 + 2 * 4 + 3 * 2 * 4
    assert stage.multiply_adds == 8 * (27 * 2 * 4 + 27 * 4 * 4 + 2 * 4)


def test_supervision_heads_have_parameters_but_do_no_work() -> None:
    network = UNet(2, 1, 3, (4, 6, 8, 10), deep_supervision=2)
    plain = UNet(2, 1, 3, (4, 6, 8, 10))
    described = describe(network, (32, 16))
    assert described.stages[-2:] == (
        Stage("heads[1]", "supervision", (6, 16, 8), (3, 16, 8), None, 6 * 3 + 3, 0),
        Stage("heads[2]", "supervision", (8, 8, 4), (3, 8, 4), None, 8 * 3 + 3, 0),
    )
    assert described.multiply_adds == describe(plain, (32, 16)).multiply_adds
    assert described.activation_bytes == describe(plain, (32, 16)).activation_bytes


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_total_is_every_parameter_and_the_network_stays_as_it_is(encoder: str, blocks: int) -> None:
    network = UNet(
        3, 2, 4, (4, 6, 8), encoder=encoder, blocks=blocks, deep_supervision=1, strides=(1, (1, 2, 2), (2, 2, 2))
    )
    described = describe(network, (4, 16, 8))
    assert described.parameters == sum(value.numel() for value in network.parameters())
    assert [stage.shape_out for stage in described.stages[:3]] == [(4, 4, 16, 8), (6, 4, 8, 4), (8, 2, 4, 2)]
    assert network.training
    assert next(network.parameters()).device == torch.device("cpu")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_window_that_does_not_fit_is_refused_as_in_the_network() -> None:
    with pytest.raises(ValueError, match=r"10 x 16 does not fit.*multiples of 4 x 4"):
        describe(UNet(2, 1, 2, (4, 6, 8)), (10, 16))


def test_the_table_names_every_stage_and_fits_80_columns() -> None:
    network = UNet(3, 4, 119, (32, 64, 128, 256, 320, 320), deep_supervision=3)
    lines = str(describe(network, (128, 128, 128))).splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.startswith("encoder[1]"))
    # 64 features: 27 (32 x 64 + 64 x 64) + 32 x 64 for the carried input + 6 x 64 of norms; times 64^3 voxels.
    assert row.split() == ["encoder[1]", "64x64x64x64", "to", "decoder[3]", "168,320", "44.0", "G"]
    assert next(line for line in lines if line.startswith("decoder[3]")).split()[1:3] == ["64x64x64x64"] * 2
    names = [line.split()[0] for line in lines if "[" in line]
    assert names == [f"encoder[{n}]" for n in range(5)] + [f"decoder[{n}]" for n in range(5)] + [
        "heads[1]",
        "heads[2]",
        "heads[3]",
    ]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1.00 k"),
        (1234, "1.23 k"),
        (9996, "10.0 k"),
        (99_951, "100 k"),
        (999_500, "1.00 M"),
        (45.6e6, "45.6 M"),
        (7.89e11, "789 G"),
        (12_345e12, "12345 T"),
    ],
)
def test_amounts_have_three_digits(number: float, words: str) -> None:
    assert amount(number) == words
