"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unet_med import Grid, Scan, Segmentation, write_scan, write_segmentation
from unet_med.errors import ScanRefused, WriteFailed, WrongUse
from unet_med.formats import SUFFIXES
from unet_med.formats.atomic import replacing, replacing_folder


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "mask.nii.gz"
    with replacing(place) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert not place.exists()
    assert place.read_text() == "new"
    assert names(tmp_path) == ["mask.nii.gz"]


def test_an_older_file_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    place = tmp_path / "mask.nii"
    place.write_text("old")
    with replacing(place) as temporary:
        temporary.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError(), WrongUse("no")])
def test_whatever_stops_the_writing_leaves_the_old_file_and_no_rubbish(stop: BaseException, tmp_path: Path) -> None:
    def write_half(place: Path) -> None:
        with replacing(place) as temporary:
            temporary.write_text("half of the ne")
            raise stop

    place = tmp_path / "mask.nii"
    place.write_text("old")
    with pytest.raises(type(stop)):
        write_half(place)
    assert place.read_text() == "old"
    assert names(tmp_path) == ["mask.nii"]


def test_names_as_long_as_file_systems_allow_can_be_written(tmp_path: Path) -> None:
    place = tmp_path / ("ä" * 122 + ".nii.gz")  # 251 bytes
    with replacing(place) as temporary:
        temporary.write_text("new")
    assert place.read_text() == "new"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteFailed, match=r"The folder .*nowhere does not exist") as caught,
        replacing(tmp_path / "nowhere" / "a.nii") as temporary,
    ):
        temporary.write_text("new")
    assert caught.value.where == str(tmp_path / "nowhere" / "a.nii")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(WriteFailed, match="folder of this name"), replacing(tmp_path / "a.nii") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["a.nii"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "series") as temporary:
        (temporary / "1.dcm").write_text("one")
        assert not (tmp_path / "series").exists()
    assert names(tmp_path) == ["series"]
    assert (tmp_path / "series" / "1.dcm").read_text() == "one"


def test_an_empty_folder_may_be_filled_and_a_full_one_not(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    with replacing_folder(tmp_path / "series") as temporary:
        (temporary / "1.dcm").write_text("one")
    with pytest.raises(WrongUse, match="exists already"), replacing_folder(tmp_path / "series"):
        pass
    assert names(tmp_path / "series") == ["1.dcm"]


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    def write_half(place: Path) -> None:
        with replacing_folder(place) as temporary:
            (temporary / "1.dcm").write_text("one")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "series")
    assert names(tmp_path) == []


PLAIN = ("nifti", "nrrd", "png")  # formats that need no DICOM series to refer to

# -- what writers make of it ------------------------------------------------------------------------------------------

NOISE = (
    np.random.default_rng(0).integers(0, 256, (500, 500, 1)).astype(np.uint8)
)  # a quarter of a MB that cannot shrink


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.nrrd", "mask.png"])
def test_a_full_disk_is_named_and_nothing_partial_left(name: str, small_disk: Path) -> None:
    format = "nifti" if ".nii" in name else name.split(".")[1]
    mask = Segmentation(NOISE, Grid(NOISE.shape, np.eye(4)), ())
    with pytest.raises(WriteFailed, match="disk") as caught:
        write_segmentation(mask, small_disk / name, format)
    assert caught.value.where == str(small_disk / name)
    assert names(small_disk) == []


@pytest.mark.parametrize("format", PLAIN)
def test_a_folder_without_permission_is_named(format: str, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/1")  # root may write to every other folder
    else:
        place = tmp_path
        place.chmod(0o500)
    mask = Segmentation(NOISE, Grid(NOISE.shape, np.eye(4)), ())
    with pytest.raises(WriteFailed) as caught:
        write_segmentation(mask, place / f"mask{SUFFIXES[format]}", format)
    assert "Errno" not in str(caught.value)
    assert ".mask" not in str(caught.value)  # the temporary name is nobody's business


@pytest.mark.parametrize("format", PLAIN)
def test_a_file_that_does_not_read_back_as_written_fails(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that changes a voxel behind our back: the writer is handed other labels than are compared."""
    module = {"nifti": "nifti", "nrrd": "itk", "png": "pictures"}[format]
    monkeypatch.setattr(f"unet_med.formats.{module}.write", spoilt(module))
    mask = Segmentation(NOISE, Grid(NOISE.shape, np.eye(4)), ())
    place = tmp_path / f"mask{SUFFIXES[format]}"
    place.write_text("old")
    with pytest.raises(WriteFailed, match="voxels did not read back"):
        write_segmentation(mask, place, format)
    assert place.read_text() == "old"
    assert names(tmp_path) == [place.name]


def spoilt(module: str):
    from importlib import import_module

    write = import_module(f"unet_med.formats.{module}").write

    def write_another(data, *args, **kwargs) -> None:
        other = data.copy()
        other[0, 3, 4, 0] ^= 1
        write(other, *args, **kwargs)

    return write_another


def test_a_file_that_is_cut_behind_our_back_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unet_med.formats import gzipped

    def write_half(path: Path, parts) -> None:
        content = b"".join(parts)
        whole(path, [content])
        path.write_bytes(path.read_bytes()[:-9])

    whole = gzipped.write
    monkeypatch.setattr("unet_med.formats.gzipped.write", write_half)
    mask = Segmentation(NOISE, Grid(NOISE.shape, np.eye(4)), ())
    with pytest.raises(WriteFailed, match=r"could not be read back: .*cut short"):
        write_segmentation(mask, tmp_path / "mask.nii.gz", "nifti")
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path: Path) -> None:
    volume = np.zeros((2, 3, 4), np.uint8)
    mask = Segmentation(volume, Grid(volume.shape, np.eye(4)), ())
    uneven = Segmentation(volume, Grid(volume.shape, np.eye(4), (0.0, 1.0, 2.0, 5.0)), ())
    with pytest.raises(WrongUse, match=r'"dicom" is no format.*nifti, nrrd, png'):
        write_segmentation(mask, tmp_path / "a", "dicom")
    with pytest.raises(WrongUse, match=r"ends in \.nii\.gz or \.nii"):
        write_segmentation(mask, tmp_path / "a.nrrd", "nifti")
    with pytest.raises(WrongUse, match="4 slices"):
        write_segmentation(mask, tmp_path / "a.png", "png")
    with pytest.raises(WrongUse, match="whole numbers"):
        write_scan(Scan.from_array(np.zeros((2, 2, 1), np.float32), np.eye(4)), tmp_path / "a.png", "png")
    for format in ("nifti", "nrrd"):
        with pytest.raises(ScanRefused, match="unevenly spaced") as caught:
            write_segmentation(uneven, tmp_path / f"a{SUFFIXES[format]}", format)
        assert caught.value.code == "uneven_spacing"
    assert names(tmp_path) == []
