"""Scans become napari layers and masks painted there come back, voxel for voxel. napari itself is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet_med._layers import from_layer, layer_arguments, layer_shape, to_layer
from napari_unet_med._reader import get_reader, image_layers
from napari_unet_med._writer import write_labels
from unet_med import Grid, Label, Scan, read_scan, write_scan
from unet_med.errors import FileUnreadable, WrongUse

SPACING = (0.5, 2.0, 3.0)


def affine_of(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """Voxel axis a runs along world axis order[a], forwards or backwards, with SPACING[a]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * SPACING[axis]
    affine[:3, 3] = (10, -20, 30)
    return affine


axis_orders = st.tuples(st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3))


@given(axis_orders)
def test_a_layer_runs_to_head_back_and_left_whatever_the_file_order(how: tuple[list[int], tuple[int, ...]]) -> None:
    grid = Grid((4, 5, 6), affine_of(tuple(how[0]), how[1]))
    x, y, z = np.moveaxis(grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)
    assert (np.diff(to_layer(z, grid), axis=0) > 0).all()  # to the next slice: toward the head
    assert (np.diff(to_layer(y, grid), axis=1) < 0).all()  # to the next row: toward the back
    assert (np.diff(to_layer(x, grid), axis=2) < 0).all()  # to the next column: toward the left


@given(axis_orders)
def test_from_layer_undoes_to_layer(how: tuple[list[int], tuple[int, ...]]) -> None:
    grid = Grid((2, 3, 4), affine_of(tuple(how[0]), how[1]))
    voxels = np.arange(24).reshape(grid.shape)
    shown = to_layer(voxels, grid)
    assert shown.shape == layer_shape(grid)
    np.testing.assert_array_equal(from_layer(shown, grid), voxels)


def test_a_layer_by_hand() -> None:
    """A coronal scan: i to the left, j to the feet, k to the front, 0.5 x 2 x 3 mm."""
    affine = affine_of((0, 2, 1), (-1, -1, 1))
    scan = Scan.from_array(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    ((data, arguments, kind),) = image_layers(scan)
    assert kind == "image"
    assert data.shape == (3, 4, 2)
    # First slice: the lowest, so the last j. Rows from front to back: k backwards. Columns to the left: i as it is.
    # Voxel (i, j, k) holds 12 i + 4 j + k.
    np.testing.assert_array_equal(data[0], [[11, 23], [10, 22], [9, 21], [8, 20]])
    assert arguments["scale"] == (2.0, 3.0, 0.5)
    assert arguments["units"] == ("mm", "mm", "mm")
    assert arguments["axis_labels"] == ("S", "P", "L")
    assert arguments["metadata"]["scan"] is scan
    np.testing.assert_array_equal(arguments["metadata"]["affine"], affine)
    assert "affine" not in arguments  # napari fails to draw affines that permute axes


def test_a_picture_lies_as_it_is_looked_at() -> None:
    """Column i, row j, one slice; lengths in pixels."""
    grid = Grid((4, 3, 1), np.diag((-1, -1, 1, 1)))
    picture = np.arange(12).reshape(1, 3, 4).transpose(2, 1, 0)
    ((data, arguments, _),) = image_layers(Scan(picture[np.newaxis], grid, space_units="pixel"))
    np.testing.assert_array_equal(data, np.arange(12).reshape(1, 3, 4))
    assert arguments["units"] == ("pixel", "pixel", "pixel")


def test_every_channel_is_a_layer_of_its_own() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    scan = Scan(np.arange(16).reshape(2, 2, 2, 2), grid, channels=("t1", "flair"))
    layers = image_layers(scan)
    assert [arguments["name"] for _, arguments, _ in layers] == ["memory t1", "memory flair"]
    assert [int(data.max()) for data, _, _ in layers] == [7, 15]


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def oblique(tmp_path: Path) -> Path:
    """A small NIfTI, turned by 20 degrees and stored as left, superior, anterior."""
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ affine_of((0, 2, 1), (-1, 1, 1))[:3, :3]
    affine[:3, 3] = (5, 6, 7)
    voxels = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    path = tmp_path / "oblique.nii.gz"
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 2)
    nibabel.save(image, path)
    return path


def opened(path: Path) -> list[Any]:
    reader = get_reader(str(path))
    assert reader is not None
    return reader(str(path))


def test_a_mask_painted_on_a_file_comes_back_on_its_exact_grid(oblique: Path, tmp_path: Path) -> None:
    ((data, arguments, _),) = opened(oblique)
    painted = np.where(data > 1, 2, np.where(data < -1, 1, 0))  # int64, as napari makes new labels
    out = tmp_path / "mask.nii.gz"
    assert write_labels(str(out), [(painted, {"metadata": arguments["metadata"]}, "labels")]) == [str(out)]

    image, mask = nibabel.load(oblique), nibabel.load(out)
    np.testing.assert_array_equal(mask.affine, image.affine)
    voxels = np.asanyarray(image.dataobj)
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), np.where(voxels > 1, 2, np.where(voxels < -1, 1, 0)))
    assert mask.get_data_dtype() == np.uint8


def test_a_new_labels_layer_finds_its_scan_in_the_image_saved_with_it(oblique: Path, tmp_path: Path) -> None:
    ((data, arguments, _),) = opened(oblique)
    painted = np.zeros(data.shape, np.int32)
    painted[0, 1, 2] = 300
    out = tmp_path / "mask.nii.gz"
    write_labels(str(out), [(data, arguments, "image"), (painted, {"metadata": {}}, "labels")])
    mask = np.asanyarray(nibabel.load(out).dataobj)
    assert mask.dtype == np.uint16
    # Stored as left, superior, anterior: slice 0 is j 0, row 1 is the last k but one, column 2 is i 2.
    assert np.argwhere(mask).tolist() == [[2, 0, 5]]
    assert mask[2, 0, 5] == 300


@pytest.mark.parametrize("images", [0, 2])
def test_labels_of_no_known_scan_are_refused(images: int, oblique: Path, tmp_path: Path) -> None:
    layers = [layer for _ in range(images) for layer in opened(oblique)]
    labels = np.zeros(read_scan(oblique).grid.shape, np.uint8)
    with pytest.raises(WrongUse, match=r"save both\.$"):
        write_labels(str(tmp_path / "mask.nii.gz"), [*layers, (labels, {}, "labels")])
    assert not (tmp_path / "mask.nii.gz").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((6, 7, 4), int), "6 x 7 x 4 voxels, their scan 6 x 7 x 5"),
        (np.full((6, 7, 5), -1), "-1 to -1"),
        (np.full((6, 7, 5), 70000), "70000 to 70000"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, message: str, oblique: Path, tmp_path: Path) -> None:
    metadata = layer_arguments(read_scan(oblique))["metadata"]
    with pytest.raises(WrongUse, match=message):
        write_labels(str(tmp_path / "mask.nii.gz"), [(labels, {"metadata": metadata}, "labels")])


def test_names_of_labels_are_kept_when_known(oblique: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(
        "napari_unet_med._writer.write_segmentation", lambda segmentation, path, format: written.append(segmentation)
    )
    table = (Label(1, "liver"), Label(2, "spleen"))
    metadata = {**layer_arguments(read_scan(oblique))["metadata"], "labels": table}
    write_labels(str(tmp_path / "mask.nii.gz"), [(np.ones((6, 7, 5), int), {"metadata": metadata}, "labels")])
    assert written[0].table == table


@pytest.mark.parametrize("format", ["nrrd", "nifti"])
def test_other_files_open_too(format: str, oblique: Path, tmp_path: Path) -> None:
    scan = read_scan(oblique)
    path = tmp_path / {"nrrd": "copy.nrrd", "nifti": "copy.NII.GZ"}[format]
    write_scan(scan, path, format)
    ((data, _, _),) = opened(path)
    np.testing.assert_array_equal(data, to_layer(scan.data[0], scan.grid))


def test_a_dicom_folder_opens(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    scan = Scan.from_array(voxels, np.diag((-1, -1, 2, 1)), modality="MR")
    write_scan(scan, tmp_path / "series", "dicom")
    ((data, arguments, _),) = opened(tmp_path / "series")
    np.testing.assert_array_equal(data, voxels.transpose(2, 1, 0))
    assert arguments["scale"] == (2.0, 1.0, 1.0)


def test_what_is_no_scan_is_left_to_other_readers(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("DICM")
    assert get_reader(str(tmp_path / "notes")) is None
    assert get_reader(str(tmp_path / "picture.tif")) is None
    assert get_reader([str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]) is None


def test_a_broken_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(FileUnreadable, match=r"empty\.nii\.gz"):
        opened(tmp_path / "empty.nii.gz")
