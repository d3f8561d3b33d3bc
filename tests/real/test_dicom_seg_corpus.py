"""DICOM segmentations of other programs (dcmqi, highdicom) against the same masks as NRRD."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unet_med import Scan, Segmentation, find_scans, read_scan, read_segmentations, write_segmentation
from unet_med.errors import ScanRefused

FRACTIONS = "seg_image_ct_true_fractional.dcm"
"""Values of 64 and 128 of 255: shares of voxels, which are no labels."""


@pytest.fixture(scope="session")
def corpus(shared_data: Path) -> Path:
    folder = shared_data / "dicom-seg"
    if not folder.is_dir():
        pytest.skip("the DICOM segmentations are not at hand")
    return folder


def marked(image: sitk.Image, value: int) -> np.ndarray:
    """(I, J, K): where the voxels of a value lie, in the order of the file."""
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0) == value


def marked_by(mask: Segmentation, value: int, image: sitk.Image) -> np.ndarray:
    """The same on the same voxels, by SimpleITK's affine and ours."""
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    points = mask.grid.world(np.argwhere(mask.labels == value)) * (-1, -1, 1) - image.GetOrigin()
    index = points @ np.linalg.inv(direction).T
    assert np.abs(index - index.round()).max() < 1e-3
    found = np.zeros(image.GetSize(), bool)
    found[tuple(index.round().astype(int).T)] = True
    return found


def test_every_segment_is_the_mask_voxel_for_voxel(corpus: Path) -> None:
    expected = json.loads((corpus / "expected.json").read_text(encoding="utf-8"))
    compared = 0
    for name, about in expected.items():
        if name.endswith(FRACTIONS):
            continue
        masks = read_segmentations(corpus / name)
        for segment in about["segments"]:
            number = segment["segment"]
            (mask,) = (each for each in masks if number in [label.value for label in each.table])
            image = sitk.ReadImage(str(corpus / segment["mask"]))
            value = segment["mask_value"] if about["segmentation_type"] != "FRACTIONAL" else 255
            assert int((mask.labels == number).sum()) == segment["voxels"], name
            np.testing.assert_array_equal(marked_by(mask, number, image), marked(image, value), str((name, number)))
            compared += 1
    assert compared == 24


def test_fractions_are_refused_by_name(corpus: Path) -> None:
    (path,) = corpus.rglob(FRACTIONS)
    with pytest.raises(ScanRefused, match="FRACTIONAL"):
        read_segmentations(path)


def series(folder: Path) -> Scan | None:
    (source,) = find_scans(folder).sources
    try:
        return read_scan(source)
    except ScanRefused:
        return None


@pytest.mark.parametrize("case", ["ct-3slice", "phantom-24x38x3", "phantom-23x38x3", "highdicom-ct128"])
def test_on_their_images_the_masks_are_the_same(case: str, corpus: Path, tmp_path: Path) -> None:
    scan = series(corpus / case / "image")
    assert scan is not None
    for path in sorted((corpus / case).glob("seg*/*.dcm")):
        for own, laid in zip(read_segmentations(path), read_segmentations(path, on=scan), strict=True):
            assert laid.grid == scan.grid
            near = scan.grid.index(own.grid.world(np.argwhere(own.labels))).round(3)
            assert {tuple(place) for place in near} == {tuple(place) for place in np.argwhere(laid.labels)}, path.name
        # And out again, on images of real scanners.
        out = tmp_path / path.name
        write_segmentation(laid, out, "dicom-seg")
        (back,) = read_segmentations(out, on=scan)
        assert [label.name for label in back.table] == [label.name for label in laid.table]
        for was, now in zip(laid.table, back.table, strict=True):
            np.testing.assert_array_equal(back.labels == now.value, laid.labels == was.value)
            assert (now.anatomy, now.category, now.colour) == (was.anatomy, was.category, was.colour)
