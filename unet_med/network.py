"""The U-Net: an encoder, a decoder, and skip connections between them. 2D and 3D, assembled from MONAI's blocks.

    image ─ encoder[0] ───────────── skip ────────────▶ decoder[-1] ─ head ─▶ scores
                └─ encoder[1] ────── skip ──────▶ decoder[-2] ┘
                       └─ ...                        ... ┘
                            └──── bottleneck ───▶ decoder[0]

Sources: Ronneberger et al. 2015, "U-Net" (arXiv:1505.04597); Isensee et al. 2021, "nnU-Net"
(doi:10.1038/s41592-020-01008-z), from which norm (instance), activation (leaky ReLU, 0.01), initialisation and deep
supervision are taken. With one block a stage it computes exactly what `monai.networks.nets.DynUNet` computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock, UnetUpBlock
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from unet_med.card import ModelCard

NORM = ("instance", {"affine": True})
SLOPE = 0.01
"""Of the leaky ReLU for negative values; the initialisation takes it into account."""
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": SLOPE})

PerStage = Sequence[int | Sequence[int]]
"""One number, or one number an axis, for each stage."""


class UNet(nn.Module):
    """A U-Net for pictures (2D) and volumes (3D).

    Letters of the shapes: B pictures at once, C input channels, S score maps (one a label, and background), X, Y, Z
    voxels of the window (or X, Y). A 3D network of widths (16, 32, 64, 128) and default strides:

        image                     (B, C,   X,   Y,   Z)
        encoder[0]                (B, 16,  X,   Y,   Z)     kept as skip 0
        encoder[1]                (B, 32,  X/2, Y/2, Z/2)   kept as skip 1
        encoder[2]                (B, 64,  X/4, Y/4, Z/4)   kept as skip 2
        bottleneck                (B, 128, X/8, Y/8, Z/8)
        decoder[0], with skip 2   (B, 64,  X/4, Y/4, Z/4)
        decoder[1], with skip 1   (B, 32,  X/2, Y/2, Z/2)
        decoder[2], with skip 0   (B, 16,  X,   Y,   Z)
        head                      (B, S,   X,   Y,   Z)

    An encoder stage is one or more blocks of two convolutions, each followed by instance norm and leaky ReLU; the
    first convolution of the stage strides. A decoder stage upsamples by a transposed convolution whose kernel is its
    stride (so that no voxel is written twice), puts the skip beside the result along the channels, and mixes both with
    a plain block. The head is a convolution over single voxels: it turns features into scores and sees no neighbours.

    Args:
        dimensions: 2 or 3.
        in_channels: C.
        out_channels: S.
        widths: features of each stage from full resolution down; the last one is the bottleneck. At least two.
        encoder: "plain", or "residual", where each block adds its input to its output.
        strides: how much coarser each stage is than the one before it; 1 for the first. Default: 1, then 2 everywhere.
            (1, 2, 2) leaves the first axis as it is, as thick slices want. A residual stage strides by at most 2.
        kernels: odd sizes of the convolutions of each stage, default 3. A decoder stage has the kernel, and undoes the
            stride, of the stage below it.
        blocks: blocks of each encoder stage and of the bottleneck.
        deep_supervision: how many coarser decoder stages get a head of their own, used in training only.

    Raises:
        ValueError: arguments that do not fit together, in words.

    Attributes:
        encoder: the stages above the bottleneck, finest first.
        bottleneck: the coarsest stage.
        decoder: as they are run, coarsest first; as many as encoder stages.
        heads: finest first. `head` is the first of them and gives the scores; the others help training.

    Example:
        >>> import torch
        >>> network = UNet(2, in_channels=1, out_channels=2, widths=(8, 16, 32)).eval()
        >>> network(torch.zeros(1, 1, 64, 48)).shape
        torch.Size([1, 2, 64, 48])
    """

    def __init__(
        self,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        *,
        encoder: Literal["plain", "residual"] = "residual",
        strides: PerStage | None = None,
        kernels: PerStage | None = None,
        blocks: int = 1,
        deep_supervision: int = 0,
    ) -> None:
        super().__init__()
        if dimensions not in (2, 3):
            raise ValueError(f"A U-Net has 2 or 3 dimensions, not {dimensions}.")
        if encoder not in ("plain", "residual"):
            raise ValueError(f'The encoder is "plain" or "residual", not {encoder!r}.')
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("blocks", blocks)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths need at least two positive numbers, one a stage, not {tuple(widths)}.")
        levels = len(widths) - 1
        if not 0 <= deep_supervision < levels:
            raise ValueError(
                "deep_supervision counts decoder stages below full resolution: "
                f"0 to {levels - 1} here, not {deep_supervision}."
            )

        self.dimensions = dimensions
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.widths = tuple(widths)
        strides = (1, *[2] * levels) if strides is None else strides
        kernels = [3] * len(widths) if kernels is None else kernels
        self.strides = _per_stage("strides", strides, dimensions, len(widths))
        self.kernels = _per_stage("kernels", kernels, dimensions, len(widths))
        self.deep_supervision = deep_supervision
        _check_convolutions(self.strides, self.kernels, encoder)

        block = UnetResBlock if encoder == "residual" else UnetBasicBlock

        def stage(number: int) -> nn.Sequential:
            width, kernel = widths[number], self.kernels[number]
            before = widths[number - 1] if number else in_channels
            first = block(dimensions, before, width, kernel, self.strides[number], NORM, ACTIVATION)
            return nn.Sequential(
                first, *(block(dimensions, width, width, kernel, 1, NORM, ACTIVATION) for _ in range(blocks - 1))
            )

        def joining_stage(number: int) -> nn.Module:
            """The decoder stage that comes from stage `number + 1` up to stage `number`."""
            kernel, upsampling = self.kernels[number + 1], self.strides[number + 1]
            return UnetUpBlock(dimensions, widths[number + 1], widths[number], kernel, 1, upsampling, NORM, ACTIVATION)

        self.encoder = nn.ModuleList(stage(number) for number in range(levels))
        self.bottleneck = stage(levels)
        self.decoder = nn.ModuleList(joining_stage(number) for number in reversed(range(levels)))
        self.heads = nn.ModuleList(
            Conv[Conv.CONV, dimensions](widths[number], out_channels, kernel_size=1)
            for number in range(deep_supervision + 1)
        )
        self.apply(_initialise)

    @classmethod
    def from_card(cls, card: ModelCard) -> UNet:
        """The network that a card describes, with fresh random weights."""
        plan = card.network
        return cls(
            card.grid.dimensions,
            len(card.channels),
            card.scores_out,
            plan.widths,
            encoder=plan.encoder,
            strides=plan.strides,
            kernels=plan.kernels,
            blocks=plan.blocks,
            deep_supervision=plan.deep_supervision,
        )

    @property
    def head(self) -> nn.Module:
        """The last layer, a convolution over single voxels: (B, widths[0], *window) -> (B, S, *window)."""
        return self.heads[0]

    @property
    def divisor(self) -> tuple[int, ...]:
        """What the window's sizes must be multiples of: the product of all strides along each axis."""
        return tuple(prod(stride[axis] for stride in self.strides) for axis in range(self.dimensions))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Scores of a window: raw numbers, before softmax or sigmoid.

        Args:
            image: (B, C, *window), floating point, intensities scaled as the card says.

        Returns:
            (B, S, *window). In training mode with deep supervision a list instead: these scores, then those of the
            coarser heads, each at the resolution of its stage, finest first.

        Raises:
            ValueError: wrong number of axes or channels, or a window that the strides do not divide.
        """
        self._check(image)
        x, skips = image, []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)

        x = self.bottleneck(x)

        looked_at = len(self.heads) if self.training else 1
        decoded: list[Tensor] = []
        for stage in self.decoder:
            x = stage(x, skips.pop())
            decoded = [x, *decoded][:looked_at]  # finest first; what no head will look at is let go

        scores = [head(features) for head, features in zip(self.heads, decoded, strict=False)]
        return scores if len(scores) > 1 else scores[0]

    def _check(self, image: Tensor) -> None:
        if image.ndim != self.dimensions + 2 or image.shape[1] != self.in_channels:
            expected = ", ".join(["batch", str(self.in_channels), "X", "Y", "Z"][: self.dimensions + 2])
            raise ValueError(f"This network takes ({expected}), not {tuple(image.shape)}.")
        self.check_window(image.shape[2:])

    def check_window(self, window: Sequence[int]) -> None:
        """Raises ValueError, in words, for sizes that the network cannot work on."""
        divisor = self.divisor
        if len(window) != self.dimensions:
            raise ValueError(f"A window of this network has {self.dimensions} sizes, not {len(window)}.")
        if any(size % multiple for size, multiple in zip(window, divisor, strict=True)):
            raise ValueError(
                f"A window of {_sizes(window)} does not fit this network: "
                f"its sizes must be multiples of {_sizes(divisor)}."
            )
        if tuple(window) == divisor:
            raise ValueError(
                f"A window of {_sizes(window)} is too small: the bottleneck would see a single voxel, "
                "and instance norm needs two."
            )


def _per_stage(name: str, values: PerStage, dimensions: int, stages: int) -> tuple[tuple[int, ...], ...]:
    if len(values) != stages:
        raise ValueError(f"{name} must name one entry a stage: {stages} as there are widths, not {len(values)}.")
    full = tuple((value,) * dimensions if isinstance(value, int) else tuple(value) for value in values)
    for value in full:
        if len(value) != dimensions or min(value) < 1:
            raise ValueError(f"Each of the {name} is {dimensions} positive numbers, not {value}.")
    return full


def _check_convolutions(
    strides: tuple[tuple[int, ...], ...], kernels: tuple[tuple[int, ...], ...], encoder: str
) -> None:
    if max(strides[0]) > 1:
        raise ValueError(f"The first stage works at full resolution: its stride is 1, not {strides[0]}.")
    for number, (stride, kernel) in enumerate(zip(strides, kernels, strict=True)):
        if any(size % 2 == 0 for size in kernel):
            raise ValueError(f"Kernels have odd sizes, so that they have a centre; stage {number} has {kernel}.")
        # A residual stage carries its input over by a convolution of kernel 1. A stride further than kernel + 1 leaves
        # voxels unseen and asks for negative padding.
        shortest = (1,) * len(kernel) if encoder == "residual" else kernel
        if any(step > size + 1 for step, size in zip(stride, shortest, strict=True)):
            raise ValueError(
                f"Stage {number} strides too far: {stride}; "
                + (
                    "a residual stage strides by at most 2."
                    if encoder == "residual"
                    else f"at most kernel {kernel} + 1."
                )
            )


def _initialise(module: nn.Module) -> None:
    """He initialisation for leaky ReLU, biases 0; norms start as they are (1 and 0). As nnU-Net and DynUNet do."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _sizes(values: Sequence[int]) -> str:
    return " x ".join(str(value) for value in values)
