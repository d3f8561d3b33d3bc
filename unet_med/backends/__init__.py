"""What runs a network on windows. One protocol, a module for each library that can."""

from __future__ import annotations

from typing import Any, Protocol


class Backend(Protocol):
    """A network, ready on a device.

    Args:
        windows: (B, C, *window) float32 tensor in main memory.

    Returns:
        (B, S, *window) float32 tensor in main memory: raw scores.
    """

    def __call__(self, windows: Any) -> Any: ...
