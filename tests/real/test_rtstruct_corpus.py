"""Structure sets of clinical and research programs, against voxels counted by shapely and published masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_med import read_scan, read_segmentation, read_segmentations

# What each structure set has to say for itself.
FINDINGS = {
    "qa-phantom/rtstruct_mim.dcm": ["contour_without_slice"],
    "qa-phantom/rtstruct_mim_no_references.dcm": ["contour_without_slice"],
    "qa-phantom/rtstruct_rt_utils.dcm": ["other_frame_of_reference"],
    "breast-one-slice/rtstruct.dcm": ["contour_without_slice"],
}


@pytest.fixture(scope="session")
def corpus(shared_data: Path) -> Path:
    folder = shared_data / "dicom-rtstruct"
    if not folder.is_dir():
        pytest.skip("the structure sets are not at hand")
    return folder


def test_every_structure_has_the_voxels_whose_centres_are_inside(corpus: Path) -> None:
    expected: dict[str, Any] = json.loads((corpus / "expected.json").read_text(encoding="utf-8"))
    for name, about in expected.items():
        scan = read_scan((corpus / name).parent / "image")
        found = read_segmentations(corpus / name, on=scan)
        counts = {label.value: mask.voxels(label) for mask in found for label in mask.table}
        assert counts == {roi["number"]: roi["voxel_centres_inside"] for roi in about["rois"]}, name
        assert [finding.code for finding in found[0].findings] == FINDINGS.get(name, []), name
    assert sum(len(about["rois"]) for about in expected.values()) == 23


@pytest.mark.parametrize("case", ["sarcoma-002-ct", "sarcoma-002-mr", "sarcoma-002-pet", "sarcoma-042-mr"])
def test_outlines_are_the_mask_that_was_published_with_them(case: str, corpus: Path) -> None:
    scan = read_scan(corpus / case / "image")
    ours = read_segmentation(corpus / case / "rtstruct.dcm", on=scan)
    theirs = read_segmentation(corpus / case / "mask.nii.gz", on=scan)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
