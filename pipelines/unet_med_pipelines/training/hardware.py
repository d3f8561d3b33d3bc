"""Which device and which arithmetic a run uses: decided once, then an object of Lightning Fabric."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unet_med.errors import WrongUse

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Hardware:
    """A device and a precision, ready to use.

    Args:
        fabric: sets up networks and optimisers, runs backward.
        device: "cpu", "cuda" or "mps".
        precision: "fp32", "bf16" or "fp16".
        scaler: keeps fp16 gradients in range; part of the state of a run. None for other precisions.
    """

    fabric: Fabric
    device: str
    precision: str
    scaler: torch.amp.GradScaler | None = None

    def describe(self) -> str:
        """For the card: what ran, and in which arithmetic."""
        if self.device == "cuda":
            return f"{torch.cuda.get_device_name()}, {self.precision}"
        return f"{_processor()}, {torch.get_num_threads()} cores, {self.precision}"


def choose_hardware(device: str, precision: str) -> Hardware:
    """Turns the words of command line and recipe into a device and a precision.

    Args:
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        precision: "auto" takes bf16 where the hardware multiplies it natively, fp16 on older CUDA cards, else fp32.

    Raises:
        WrongUse: a device that this machine lacks, or fp16 elsewhere than on CUDA.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    # Fabric announces its precision in the middle of a progress bar; the card and the log say it in their place.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device = _device(device)
    precision = _auto_precision(device) if precision == "auto" else precision
    if precision == "fp16" and device != "cuda":
        raise WrongUse(
            f"Training in fp16 needs CUDA; the device here is {device}.", advice="Set the recipe's precision to auto."
        )
    common: dict[str, Any] = {"accelerator": device, "devices": 1}
    if precision == "fp16":
        scaler = torch.amp.GradScaler(device)
        plugin = MixedPrecision("16-mixed", device, scaler)
        return Hardware(Fabric(**common, plugins=[plugin]), device, precision, scaler)
    return Hardware(Fabric(**common, precision="bf16-mixed" if precision == "bf16" else "32-true"), device, precision)


def _device(asked: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if asked not in there:
        raise WrongUse(f"A device is auto, cpu, cuda or mps, not {asked!r}.")
    if not there[asked]:
        raise WrongUse(f"There is no {asked} device on this machine that PyTorch can use.", advice="Try --device auto.")
    return asked


def _auto_precision(device: str) -> str:
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # On CPUs without bf16 instructions autocast works, and is slower than fp32.
    if device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"
    return "fp32"


def _processor() -> str:
    """The name of the CPU, as the system knows it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or f"{os.name} CPU"
