"""Networks on torch: CPU, CUDA, and Apple's MPS (written, and not run on one yet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unet_med.errors import WrongUse
from unet_med.scan import Finding, Severity

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Place:
    """Where a network runs and in which arithmetic, decided once.

    Args:
        device: "cpu", "cuda" or "mps".
        precision: "fp32", "bf16" or "fp16".
        findings: what could not be had as it was asked for.
    """

    device: str
    precision: str
    findings: tuple[Finding, ...] = ()


def choose(device: str, precision: str) -> Place:
    """Turns what was asked for into what this machine has.

    "auto" takes CUDA, then MPS, then the CPU; and fp16 on CUDA, else fp32.

    Raises:
        WrongUse: words that are neither, or a device that torch cannot use here.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device not in DEVICES:
        raise WrongUse(f'A device is one of {", ".join(DEVICES)}, not "{device}".')
    if precision not in PRECISIONS:
        raise WrongUse(f'A precision is one of {", ".join(PRECISIONS)}, not "{precision}".')
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[device]:
        raise WrongUse(f"PyTorch finds no {device} device on this machine.", advice="Use --device auto or cpu.")
    if precision == "auto":
        precision = "fp16" if device == "cuda" else "fp32"
    if precision == "fp16" and device == "cpu":
        finding = Finding(
            "precision_reduced",
            Severity.NOTE,
            "fp16 was asked for; CPUs compute it slowly or not at all.",
            "The network ran in bf16.",
        )
        return Place(device, "bf16", (finding,))
    return Place(device, precision)


class TorchBackend:
    """See `unet_med.backends.Backend`.

    Args:
        network: a module is moved to the device and put into evaluation mode, and left so; any other callable is
            called as it is.
        place: from `choose`.
    """

    def __init__(self, network: Any, place: Place) -> None:
        self._network = network.to(place.device).eval() if isinstance(network, nn.Module) else network
        self._place = place

    def __call__(self, windows: Tensor) -> Tensor:
        dtype = _TYPES[self._place.precision]
        with (
            torch.inference_mode(),
            torch.autocast(self._place.device, dtype, enabled=dtype is not torch.float32),
        ):
            scores: Tensor = self._network(windows.to(self._place.device))
        return scores.to("cpu", torch.float32)
