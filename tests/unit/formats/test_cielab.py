"""Colours of segments, against published values of CIELab under D50."""

from __future__ import annotations

import pytest

from unet_med.formats.cielab import colour_of, stored_lab


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (54.29, 80.81, 69.89)),  # sRGB red under D50: not the 53.2, 80.1, 67.2 of D65
        ((0, 255, 0), (87.82, -79.27, 80.99)),
    ],
)
def test_a_colour_is_what_the_standard_asks_for(rgb: tuple[int, int, int], lab: tuple[float, ...]) -> None:
    light, a, b = stored_lab(rgb)
    assert (light / 65535 * 100, a / 65535 * 255 - 128, b / 65535 * 255 - 128) == pytest.approx(lab, abs=0.02)


def test_grey_has_no_hue() -> None:
    assert stored_lab((90, 90, 90))[1:] == (0x8080, 0x8080)


def test_colours_come_back() -> None:
    for step in range(0, 256, 5):
        rgb = (step, 255 - step, (7 * step) % 256)
        assert colour_of(stored_lab(rgb)) == "#{:02x}{:02x}{:02x}".format(*rgb)


def test_a_colour_that_no_screen_shows_becomes_one_that_it_can() -> None:
    assert colour_of((65535, 65535, 65535)).startswith("#ff")
