"""Files that are not what their names say: each fault has words of its own, and no other library speaks."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unet_med import read_scan
from unet_med.errors import FileUnreadable, UnetMedError

SUFFIXES = ("nii", "nii.gz", "hdr", "nrrd", "nhdr", "mha", "mhd", "png", "tif", "jpg", "bmp", "dcm")
NOISE = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
GOOD = nibabel.Nifti1Image(NOISE, np.eye(4)).to_bytes()


def nifti_with(offset: int, value: bytes) -> bytes:
    """The good file with some bytes of its header changed (offsets as in nifti1.h)."""
    return GOOD[:offset] + value + GOOD[offset + len(value) :]


def said(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FileUnreadable) as caught:
        read_scan(path)
    assert caught.value.where == str(path)
    return caught.value.what


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file_says_so(suffix: str, tmp_path: Path) -> None:
    assert "empty" in said(tmp_path / f"a.{suffix}", b"") or suffix == "dcm"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"Dear colleague,\nplease find the scan attached.\n" * 20, bytes(range(256)) * 9])
def test_whatever_else_lies_in_a_file_is_refused_in_words(
    suffix: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    what = said(tmp_path / f"a.{suffix}", content)
    for word in ("Error", "Traceback", "0x", "errno", "itk::", "PIL"):
        assert word not in what
    assert capfd.readouterr() == ("", "")


NIFTI_FAULTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "text": ("a.nii.gz", lambda: b"Dear colleague,\n" * 40, "no NIfTI file.*but text"),
    "packed text": ("a.nii.gz", lambda: gzip.compress(b"Dear colleague,\n" * 40), "no NIfTI file.*but text"),
    "header cut": ("a.nii", lambda: GOOD[:300], "ends inside its header, after 300 bytes"),
    "data cut": ("a.nii", lambda: GOOD[:-1], "promises 20 x 20 x 20 voxels in 16000 bytes"),
    "packed and cut": ("a.nii.gz", lambda: gzip.compress(GOOD)[:-100], "cut short"),
    "packed after being cut": ("a.nii.gz", lambda: gzip.compress(GOOD[:-100]), "promises 20 x 20 x 20"),
    "a wrong checksum": ("a.nii.gz", lambda: gzip.compress(GOOD)[:-8] + b"abcdefgh", "do not fit their checksum"),
    "a wrong magic": ("a.nii", lambda: nifti_with(344, b"abc\0"), "no NIfTI file"),
    "nine dimensions": ("a.nii", lambda: nifti_with(40, b"\x09\0"), "counts 9 dimensions"),
    "a negative size": ("a.nii", lambda: nifti_with(42, b"\xff\xff"), "sizes -1, 20, 20"),
    "an image that is not there": ("a.hdr", lambda: nifti_with(344, b"ni1\0")[:348], r"a\.img, which is not beside it"),
}


@pytest.mark.parametrize("fault", NIFTI_FAULTS)
def test_each_fault_of_a_nifti_file_has_words_of_its_own(fault: str, tmp_path: Path) -> None:
    name, content, words = NIFTI_FAULTS[fault]
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(FileUnreadable, match=words) as caught:
        read_scan(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_asks_for_a_terabyte_gets_no_memory(name: str, tmp_path: Path) -> None:
    content = nifti_with(42, b"\x10\x27" * 3)  # 10000 x 10000 x 10000
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    read = pytest.raises(FileUnreadable, match="the file holds fewer")
    tracemalloc.start()
    try:
        with read:
            read_scan(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_a_header_is_answered_with_anything_but_words(seed: int, tmp_path: Path) -> None:
    """Bytes of the header overwritten at random: a scan may come of it, or one of our errors; never another."""
    random = np.random.default_rng(seed)
    content = bytearray(GOOD)
    for at in random.integers(0, 348, 12):
        content[at] = random.integers(0, 256)
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    try:
        scan = read_scan(path)
    except UnetMedError as error:
        assert error.where == str(path)  # noqa: PT017
    else:
        assert np.isfinite(scan.grid.affine).all()
