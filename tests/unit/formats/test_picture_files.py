"""PNG, TIFF, JPEG and BMP: pixels as stored, or a named refusal."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unet_med import Grid, Scan, Segmentation, read_scan, read_segmentation, write_scan, write_segmentation
from unet_med.errors import FileUnreadable, ScanRefused

ROWS = np.arange(12, dtype=np.uint8).reshape(3, 4)
"""Three rows of four columns; row j, column i holds 4 j + i."""


def saved(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def codes(scan: Scan) -> list[str]:
    return [finding.code for finding in scan.findings]


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp", "PNG"])
def test_a_grey_picture_is_columns_by_rows_of_one_slice(suffix: str, tmp_path: Path) -> None:
    scan = read_scan(saved(tmp_path / f"a.{suffix}", ROWS))
    assert scan.data.shape == (1, 4, 3, 1)
    assert scan.data[0, 3, 1, 0] == 7  # column 3, row 1
    np.testing.assert_array_equal(scan.data[0, :, :, 0].T, ROWS)
    np.testing.assert_array_equal(scan.grid.affine, np.diag((-1, -1, 1, 1)))
    assert (scan.space_units, scan.modality, scan.source.kind) == ("pixel", None, "picture")
    assert codes(scan) == ["no_pixel_spacing"]
    assert not scan.data.flags.writeable


@pytest.mark.parametrize(
    ("suffix", "type"), [("png", "u2"), ("tif", "u2"), ("tif", ">u2"), ("tif", "i4"), ("tif", "f4"), ("tif", "<u4")]
)
def test_more_than_8_bits(suffix: str, type: str, tmp_path: Path) -> None:
    step = 5000 if type != "<u4" else 300_000_000  # beyond what signed numbers hold
    pixels = (ROWS.astype(np.uint64) * step).astype(type)
    path = tmp_path / f"a.{suffix}"
    if type[0] in "<>":
        tiff_by_hand(path, pixels)
    else:
        saved(path, pixels)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.data[0, :, :, 0].T, pixels)
    assert scan.data.dtype == np.dtype(type).newbyteorder("=")


def tiff_by_hand(path: Path, pixels: np.ndarray, photometric: int = 1) -> None:
    """A TIFF of unsigned numbers in the byte order of `pixels`, byte by byte (TIFF 6.0, section 2)."""
    order = ">" if pixels.dtype.str[0] == ">" else "<"
    rows, columns = pixels.shape
    bits = 8 * pixels.itemsize
    tags = {256: columns, 257: rows, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: rows, 279: pixels.nbytes}
    entries = b"".join(struct.pack(f"{order}2HI2H", tag, 3, 1, value, 0) for tag, value in tags.items())
    start = struct.pack(f"{order}2sHI", b"MM" if order == ">" else b"II", 42, 8 + pixels.nbytes)
    path.write_bytes(start + pixels.tobytes() + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


def test_0_for_white_is_told(tmp_path: Path) -> None:
    tiff_by_hand(tmp_path / "a.tif", ROWS.astype("<u2"), photometric=0)
    scan = read_scan(tmp_path / "a.tif")
    np.testing.assert_array_equal(scan.data[0, :, :, 0].T, ROWS)
    assert codes(scan) == ["monochrome1", "no_pixel_spacing"]


def test_black_and_white_is_0_and_1(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", ROWS > 5)
    np.testing.assert_array_equal(read_scan(path).data[0, :, :, 0].T, ROWS > 5)
    assert read_scan(path).data.dtype == np.uint8


# -- colours ----------------------------------------------------------------------------------------------------------

EQUAL = np.stack([ROWS] * 3, axis=2)
COLOURED = EQUAL + np.array([0, 1, 2], np.uint8)


def with_alpha(pixels: np.ndarray, alpha: int) -> np.ndarray:
    return np.concatenate([pixels, np.full((3, 4, 1), alpha, np.uint8)], axis=2)


@pytest.mark.parametrize("pixels", [EQUAL, with_alpha(EQUAL, 255), np.stack([ROWS, np.full_like(ROWS, 255)], axis=2)])
def test_equal_colours_are_grey(pixels: np.ndarray, tmp_path: Path) -> None:
    scan = read_scan(saved(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(scan.data[0, :, :, 0].T, ROWS)
    assert codes(scan) == ["colour_as_grey", "no_pixel_spacing"]


@pytest.mark.parametrize("pixels", [COLOURED, with_alpha(COLOURED, 255)])
def test_colours_are_three_channels_for_a_model_that_reads_three(pixels: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_scan(path, channels=3).data[:, :, :, 0].T, COLOURED)
    with pytest.raises(ScanRefused, match="colour image") as caught:
        read_scan(path)
    assert caught.value.code == "colour_image"
    with pytest.raises(ScanRefused, match="3 channels, and 2 are needed") as caught:
        read_scan(path, channels=2)
    assert caught.value.code == "channel_count"


def test_a_grey_picture_is_not_three_channels(tmp_path: Path) -> None:
    with pytest.raises(ScanRefused, match="1 channel, and 3 are needed") as caught:
        read_scan(saved(tmp_path / "a.png", ROWS), channels=3)
    assert caught.value.code == "channel_count"


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("a.png", Image.fromarray(with_alpha(EQUAL, 254)), "transparent"),
        ("a.jpg", Image.fromarray(EQUAL).convert("CMYK"), "CMYK"),
        ("a.tif", Image.fromarray(EQUAL).convert("CMYK"), "CMYK"),
        ("a.tif", Image.fromarray(EQUAL).convert("LAB"), "LAB"),
    ],
)
def test_colours_that_are_not_read_are_named(name: str, picture: Image.Image, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScanRefused, match=message) as caught:
        read_scan(saved(tmp_path / name, picture))
    assert caught.value.code == "colour_image"


def test_colours_of_16_bits_are_not_cut_to_8_in_silence(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + (EQUAL[j].astype(">u2") * 300).tobytes() for j in range(3))
    header = struct.pack(">2I5B", 4, 3, 16, 2, 0, 0, 0)  # 16 bits, RGB
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(ScanRefused, match="16 bits a channel") as caught:
        read_scan(tmp_path / "a.png")
    assert caught.value.code == "colour_image"


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(ROWS % 3)
    image.putpalette(colours)
    return image


def test_a_palette_is_colours_for_a_scan_and_numbers_for_a_mask(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", palette([0, 0, 0, 255, 0, 0, 0, 255, 0]))
    with pytest.raises(ScanRefused, match="colour image"):
        read_scan(path)
    mask = read_segmentation(path)
    np.testing.assert_array_equal(mask.labels[:, :, 0].T, ROWS % 3)
    assert [label.value for label in mask.table] == [1, 2]
    grey = read_scan(saved(tmp_path / "b.png", palette([9, 9, 9, 50, 50, 50, 200, 200, 200])))
    np.testing.assert_array_equal(grey.data[0, :, :, 0].T, np.array([9, 50, 200])[ROWS % 3])


def test_several_pages_are_refused_and_one_is_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(ROWS), Image.fromarray(ROWS), Image.fromarray(ROWS)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ScanRefused, match="3 pictures") as caught:
        read_scan(tmp_path / "a.tif")
    assert caught.value.code == "unsupported_dimensions"
    pages[0].save(tmp_path / "b.tif", save_all=True)
    assert read_scan(tmp_path / "b.tif").data.shape == (1, 4, 3, 1)


def test_an_exif_orientation_does_not_turn_the_pixels(tmp_path: Path) -> None:
    """The mask lies on the pixels that are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to show"
    assert read_scan(saved(tmp_path / "a.jpg", ROWS, exif=exif)).data.shape == (1, 4, 3, 1)


def test_resolution_tags_are_not_believed(tmp_path: Path) -> None:
    scan = read_scan(saved(tmp_path / "a.png", ROWS, dpi=(254, 254)))
    assert (scan.space_units, scan.grid.spacing) == ("pixel", (1, 1, 1))


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
def test_pictures_that_are_cut_short_are_named(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = saved(tmp_path / f"a.{suffix}", noise)
    content = path.read_bytes()
    for kept in (len(content) // 2, 20):
        path.write_bytes(content[:kept])
        with pytest.raises(FileUnreadable, match="damaged") as caught:
            read_scan(path)
        assert caught.value.where == str(path)


def test_a_picture_that_claims_to_be_enormous_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.bmp", ROWS)
    content = bytearray(path.read_bytes())
    content[18:26] = (100_000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(FileUnreadable, match="pixels that are read"):
        read_scan(path)


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("highest", "mode"), [(1, "L"), (255, "L"), (256, "I;16"), (65535, "I;16")])
def test_a_mask_comes_back_and_other_programs_read_it(highest: int, mode: str, tmp_path: Path) -> None:
    labels = np.zeros((4, 3, 1), np.uint16)
    labels[3, 1] = highest  # column 3, row 1
    grid = Grid((4, 3, 1), np.diag((-1.0, -1, 1, 1)))
    write_segmentation(Segmentation(labels, grid, (), "pixel"), tmp_path / "a.png", "png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
        assert image.size == (4, 3)
        assert image.getpixel((3, 1)) == highest
    back = read_segmentation(tmp_path / "a.png")
    np.testing.assert_array_equal(back.labels, labels)
    assert back.grid == grid
    assert back.space_units == "pixel"


def test_a_scan_comes_back(tmp_path: Path) -> None:
    scan = read_scan(saved(tmp_path / "a.png", ROWS.astype(np.uint16) * 5000))
    write_scan(scan, tmp_path / "b.png", "png")
    np.testing.assert_array_equal(read_scan(tmp_path / "b.png").data, scan.data)
