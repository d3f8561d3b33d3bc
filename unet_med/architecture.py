"""A U-Net stage by stage: shapes, parameters, multiply-adds and memory, watched on a forward pass without numbers.

The pass runs on torch's "meta" device, where tensors have shapes and no values: any window takes a second at most.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unet_med.network import UNet

Shape = tuple[int, ...]
Kind = Literal["encoder", "bottleneck", "decoder", "head", "supervision"]


@dataclass(frozen=True)
class Stage:
    """One stage of the figure.

    Args:
        name: as the network's attribute is written, e.g. "encoder[0]".
        kind: "supervision" is a head that only training uses.
        shape_in: (channels, *window) of what comes from the stage before.
        shape_out: (channels, *window) of what it gives.
        shape_skip: the skip that an encoder stage gives, or that a decoder stage takes; None elsewhere.
        parameters: how many numbers training sets here.
        multiply_adds: see `Architecture`; 0 for a supervision head, which does not run when a scan is segmented.
    """

    name: str
    kind: Kind
    shape_in: Shape
    shape_out: Shape
    shape_skip: Shape | None
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Architecture:
    """A network and one window. `str()` of it is a table that fits into 80 columns.

    Args:
        window: sizes of the window, without channels.
        stages: in the order in which they run; supervision heads last.
        parameters: all of them, those of supervision heads included.
        multiply_adds: of one window in inference, summed over convolutions (output voxels x output channels x input
            channels x kernel voxels) and transposed convolutions (input voxels x input channels x output channels x
            kernel voxels). Taps on the zeros around the window count. Biases, norms and activations are left out.
        activation_bytes: the most that tensors between layers hold at one moment of one window's inference in float32.
            Every tensor that goes into or comes out of a layer counts, as long as it is needed: the window itself,
            waiting skips, concatenations, a layer's input beside its output. Not counted are the weights, and scratch
            memory inside layers: on a CPU that came to 20 to 70 per cent on top.
    """

    window: Shape
    stages: tuple[Stage, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int

    def __str__(self) -> str:
        image = ("image", sizes(self.stages[0].shape_in), "", "", "")
        rows = [
            titles := ("stage", "gives", "skip", "parameters", "multiply-adds"),
            image,
            *map(self._row, self.stages),
        ]
        total = ("total", "", "", f"{self.parameters:,}", amount(self.multiply_adds))
        widths = [max(map(len, column)) for column in zip(*rows, total, strict=True)]
        lines = [_line(row, widths) for row in (*rows, total)]
        rule = "-" * (sum(widths) + 2 * (len(titles) - 1))
        memory = f"activations between layers, one window in float32: {self.activation_bytes / 2**20:,.1f} MiB at most"
        return "\n".join((lines[0], rule, *lines[1:-1], rule, lines[-1], memory))

    def _row(self, stage: Stage) -> tuple[str, ...]:
        skip = "" if stage.shape_skip is None else sizes(stage.shape_skip)
        if stage.kind == "encoder":
            # What it gives is the skip; where to is more telling than the same sizes again.
            skip = f"to decoder[{sum(other.kind == 'decoder' for other in self.stages) - 1 - _number(stage.name)}]"
        work = "training only" if stage.kind == "supervision" else amount(stage.multiply_adds)
        return (stage.name, sizes(stage.shape_out), skip, f"{stage.parameters:,}", work)


def describe(network: UNet, window: Sequence[int]) -> Architecture:
    """Runs one window through the network on paper, and notes what each stage sees and does.

    Args:
        network: on any device, in any mode; it is left as it is.
        window: sizes along the network's axes.

    Raises:
        ValueError: a window that does not fit the network (see `UNet.forward`).
    """
    paper = copy.deepcopy(network).to("meta").eval()
    watched = [_Watched(name, kind, module) for name, kind, module in _stages(paper)]
    memory = _Memory()
    for layer in _layers(paper):
        layer.register_forward_pre_hook(lambda _, inputs: memory.see(inputs[0]))
        layer.register_forward_hook(lambda _, __, output: memory.see(output))

    with torch.no_grad():
        paper(torch.empty(1, network.in_channels, *window, device="meta"))

    # Supervision heads have not run; each looks at the decoder stage of its resolution.
    decoded = [stage.shapes[-1] for stage in watched if stage.kind == "decoder"]
    for stage, seen in zip((stage for stage in watched if stage.kind == "supervision"), decoded[-2::-1], strict=False):
        stage.shapes = [seen, (network.out_channels, *seen[1:])]
    stages = tuple(stage.noted() for stage in watched)
    return Architecture(
        window=tuple(window),
        stages=stages,
        parameters=sum(stage.parameters for stage in stages),
        multiply_adds=sum(stage.multiply_adds for stage in stages),
        activation_bytes=memory.peak,
    )


def amount(number: float) -> str:
    """A large number in three digits: 950, 1.23 k, 45.6 M, 789 G, 1.20 T."""
    power = 0
    while number >= 999.5 and power < 4:
        number, power = number / 1000, power + 1
    decimals = 0 if not power or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f}{('', ' k', ' M', ' G', ' T')[power]}"


def sizes(shape: Sequence[int]) -> str:
    """(16, 40, 56, 40) as 16x40x56x40: channels first."""
    return "x".join(map(str, shape))


class _Watched:
    """A stage during the pass: its shapes in, (skip,) out, and the work of its layers."""

    def __init__(self, name: str, kind: Kind, module: nn.Module) -> None:
        self.name, self.kind, self.module = name, kind, module
        self.shapes: list[Shape] = []
        self.work = 0
        module.register_forward_hook(self._note_shapes)
        for layer in _layers(module):
            layer.register_forward_hook(self._add_work)

    def _note_shapes(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.shapes = [tuple(tensor.shape[1:]) for tensor in (*inputs, output)]

    def _add_work(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.work += _multiply_adds(layer, inputs[0], output)

    def noted(self) -> Stage:
        entry, *skip, result = self.shapes
        if self.kind == "encoder":
            skip = [result]
        parameters = sum(value.numel() for value in self.module.parameters())
        return Stage(self.name, self.kind, entry, result, skip[0] if skip else None, parameters, self.work)


class _Memory:
    """The bytes of the tensors that are alive, and the most there ever were."""

    def __init__(self) -> None:
        self.peak = 0
        self._alive: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def see(self, tensor: Tensor) -> None:
        key = id(tensor)
        if key not in self._alive:  # an activation in place gives the tensor that it was given
            gone = weakref.ref(tensor, lambda _: self._alive.pop(key))
            self._alive[key] = gone, tensor.numel() * 4
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))


def _stages(network: UNet) -> Iterator[tuple[str, Kind, nn.Module]]:
    for number, stage in enumerate(network.encoder):
        yield f"encoder[{number}]", "encoder", stage
    yield "bottleneck", "bottleneck", network.bottleneck
    for number, stage in enumerate(network.decoder):
        yield f"decoder[{number}]", "decoder", stage
    yield "head", "head", network.head
    for number, stage in enumerate(network.heads[1:], start=1):
        yield f"heads[{number}]", "supervision", stage


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    return (layer for layer in module.modules() if not any(layer.children()))


def _multiply_adds(layer: Any, given: Tensor, result: Tensor) -> int:
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        voxels = result.shape[2:]
    elif isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d):
        voxels = given.shape[2:]
    else:
        return 0
    return given.shape[0] * prod(voxels) * layer.weight.numel()


def _number(name: str) -> int:
    return int(name.partition("[")[2].rstrip("]"))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    padded = (
        cell.ljust(width) if column < 3 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()
