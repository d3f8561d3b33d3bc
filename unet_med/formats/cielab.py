"""Colours as DICOM recommends them for segments: CIELab under D50, scaled to 16 bits (PS3.3 C.10.7.1.1).

sRGB (IEC 61966-2-1) is adapted from its own white, D65, to D50 as ICC profiles do (Bradford).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Linear sRGB to XYZ under D50: http://www.brucelindbloom.com/index.html?Eqn_RGB_XYZ_Matrix.html
_TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
_WHITE = _TO_XYZ.sum(axis=1)
_EDGE = 6 / 29
_SCALE = np.array([65535 / 100, 65535 / 255, 65535 / 255])
_SHIFT = np.array([0.0, 128.0, 128.0])


def stored_lab(rgb: Sequence[int]) -> tuple[int, int, int]:
    """Red, green, blue of 0..255 as the three numbers of RecommendedDisplayCIELabValue."""
    share = np.asarray(rgb, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = _TO_XYZ @ linear / _WHITE
    x, y, z = np.where(ratio > _EDGE**3, np.cbrt(ratio), ratio / (3 * _EDGE**2) + 4 / 29)
    lab = np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    first, second, third = np.clip(np.rint((lab + _SHIFT) * _SCALE), 0, 65535).astype(int)
    return int(first), int(second), int(third)


def colour_of(stored: Sequence[int]) -> str:
    """The inverse of `stored_lab` as #rrggbb; colours that no screen shows become the nearest in each channel."""
    light, a, b = np.asarray(stored, np.float64) / _SCALE - _SHIFT
    y = (light + 16) / 116
    roots = np.array([y + a / 500, y, y - b / 200])
    ratio = np.where(roots > _EDGE, roots**3, 3 * _EDGE**2 * (roots - 4 / 29))
    linear = np.clip(np.linalg.inv(_TO_XYZ) @ (ratio * _WHITE), 0, 1)
    share = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{int(part):02x}" for part in np.rint(255 * share))
