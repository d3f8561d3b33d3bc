"""NIfTI files from the world, most of them difficult: the right volume, or a refusal by the fault's name.

The expected geometry and values were computed from the raw bytes, without any library (README.md of the corpus).
"""

from __future__ import annotations

import csv
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from unet_med import Scan, Segmentation, find_scans, read_scan, read_segmentation, write_segmentation
from unet_med.errors import FileUnreadable, ScanRefused, UnetMedError

NAMES = {
    "non_finite_voxels": "non_finite_values",
    "sheared_affine": "sheared",
    "pixdim_disagrees": "spacing_tag_disagrees",
    "trailing_bytes": "data_after_end",
    "unknown_units": "units_unknown",
    "two_dimensional": "single_slice",
    "complex_data": "unsupported_data_type",
    "four_dimensional": "too_many_channels",
    "five_dimensional": "unsupported_dimensions",
    "invalid_spacing": "invalid_geometry",
    "invalid_affine": "invalid_geometry",
    "singular_affine": "invalid_geometry",
    "invalid_scaling": "unit_scaling_ignored",
}
"""The corpus's names of findings, where ours are others."""

UNREADABLE = {
    "not_nifti": "no NIfTI file",
    "corrupt_header": "header",
    "truncated_data": "cut short",
    "corrupt_data": "damaged",
    "missing_image_file": "not beside it",
}
"""Faults that are no findings about a scan, but about a file: words of the message."""


def rows(shared_data: Path) -> dict[str, dict[str, str]]:
    with (shared_data / "scan-corpus" / "nifti_expected.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def check_volume(scan: Scan, row: dict[str, str]) -> None:
    """Shape, place and values. Trailing dimensions are dropped here, and missing ones are of length 1."""
    shape = [int(size) for size in row["shape"].split("x")]
    assert scan.grid.shape == tuple((*shape, 1, 1)[:3])
    # In d-metres and d-microns xyzt_units is not mm. The corpus gives the mm that such a header means, and so do we:
    # nifti1.h, "XYZT_UNITS": the unit holds for pixdim, and for the coordinates that qform and sform lead to.
    np.testing.assert_allclose(scan.grid.affine, json.loads(row["affine"]), atol=1e-5)
    values = scan.data.astype("<f8")
    finite = values[np.isfinite(values)]
    for name in ("min", "max", "mean", "sum"):
        assert getattr(finite, name)() == pytest.approx(float(row[name]), rel=1e-6, abs=1e-6), name
    if scan.data.dtype.kind in "iu" or "float" in row["dtype"]:  # else scaled, and rounded to float32
        assert sha256(np.ascontiguousarray(values[0].T)).hexdigest() == row["value_sha256"]


def test_every_file_gives_the_right_volume_or_a_named_refusal(shared_data: Path, tmp_path: Path) -> None:
    expected = rows(shared_data)
    assert len(expected) > 60
    wrong = []
    for file, row in expected.items():
        try:
            check(shared_data / "scan-corpus" / file, row)
        except AssertionError as error:
            wrong.append(f"{file}: {error}")
    assert not wrong, "\n".join(wrong)


def check(path: Path, row: dict[str, str]) -> None:
    names = [name for name in row["finding"].split(";") if name]
    allowed = {row["verdict"], *row["also_acceptable"].split(";")}
    scan = answer(path)
    if isinstance(scan, Scan):
        assert allowed & {"volume", "volume_with_finding"}, "a volume was given, and a refusal expected"
        check_volume(scan, row)
        if "volume" not in allowed:
            codes = {finding.code for finding in scan.findings}
            assert codes & {NAMES.get(name, name) for name in names}, f"nothing was said of {names}, only {codes}"
        return
    assert allowed & {"refuse", "choose"}, f"refused, but a volume was expected: {scan}"
    if isinstance(scan, ScanRefused):
        # One colour file of the corpus has a fourth dimension, too; either name is right.
        assert scan.code in [NAMES.get(name, name) for name in names] or "colour" in scan.what, scan
    else:
        assert isinstance(scan, FileUnreadable)
        assert any(UNREADABLE.get(name, "-") in scan.what for name in names), scan


def answer(path: Path) -> Scan | UnetMedError:
    try:
        return read_scan(path)
    except UnetMedError as refusal:
        return refusal


def test_several_volumes_are_the_channels_of_a_model_that_reads_as_many(shared_data: Path) -> None:
    checked = 0
    for file, row in rows(shared_data).items():
        if row["verdict"] == "choose":
            count = int(row["shape"].split("x")[3])
            scan = read_scan(shared_data / "scan-corpus" / file, channels=count)
            values = scan.data.astype(np.float64)
            assert values.shape[1:] == tuple(int(size) for size in row["shape"].split("x")[:3])
            for name in ("min", "max", "mean", "sum"):
                assert getattr(values, name)() == pytest.approx(float(row[name]), rel=1e-6), (file, name)
            if scan.data.dtype.kind == "i":
                stored = np.ascontiguousarray(values.transpose(0, 3, 2, 1))  # last axis slowest, first fastest
                assert sha256(stored).hexdigest() == row["value_sha256"]
            checked += 1
    assert checked == 3


def test_every_scan_of_the_corpus_is_found(shared_data: Path) -> None:
    """Also the one without its image, which is refused when it is read."""
    found = find_scans(shared_data / "scan-corpus" / "nifti")
    assert {f"nifti/{source.paths[0].name}" for source in found.sources} == set(rows(shared_data))
    assert found.problems == ()


def test_a_mask_of_each_readable_file_lies_exactly_on_it(shared_data: Path, tmp_path: Path) -> None:
    written = 0
    for source in find_scans(shared_data / "scan-corpus" / "nifti").sources:
        try:
            scan = read_scan(source)
        except UnetMedError:
            continue
        with np.errstate(invalid="ignore"):
            labels = (scan.data[0] > np.median(scan.data[0])).astype(np.uint8)
        path = tmp_path / f"{written}.nii.gz"
        write_segmentation(Segmentation(labels, scan.grid, (), source=scan.source), path, "nifti")
        back = read_segmentation(path)
        np.testing.assert_array_equal(back.labels, labels)
        assert back.grid.is_close(scan.grid, 1e-4)
        written += 1
    assert written > 40
