"""Difficult DICOM folders of many scanners: the right volume, or a refusal that names the fault."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_med import Grid, Scan, find_scans, read_scan
from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.scan import FINDING_CODES

EXACT = 0.01  # mm

SAME_FAULT = {
    "missing_slice": {"missing_slice", "uneven_spacing"},
    "uneven_spacing": {"uneven_spacing", "missing_slice"},
    "gantry_tilt": {"gantry_tilt"},
    "single_slice": {"single_slice"},
    "duplicate_slice": {"duplicate_slice"},
}
"""What the corpus calls a fault, and our findings that name it. Others of its names describe no fault of the volume:
a text file or a segmentation beside the slices is passed over, equal SOP instance UIDs are not looked at."""

REFUSALS = {
    # Where the corpus wants a refusal: the codes that name the fault.
    "missing_geometry": {"missing_geometry", "colour_image"},
    "projection_image": {"projection_image"},
    "colour_image": {"colour_image"},
    "unreadable_instance": {"unreadable_instance"},
    "repeated_position": {"repeated_position"},
    "mixed_orientation": {"mixed_orientation"},
    "mixed_matrix": {"mixed_matrix"},
    "mixed_spacing": {"mixed_spacing"},
    # Two frames of reference are two stacks, which are listed: `choose`, as the corpus accepts, too.
    "mixed_frame_of_reference": {"mixed_frame_of_reference", "several_stacks"},
    "not_collinear": {"not_collinear"},
    "invalid_spacing": {"invalid_spacing"},
    "invalid_orientation": {"invalid_orientation"},
    "invalid_rescale": {"invalid_rescale"},
    "unsupported_transfer_syntax": {"unsupported_transfer_syntax"},
}

REFUSED_ALL_THE_SAME = {
    # A volume could be had from these; they are refused by name. The corpus accepts that for each.
    # Mosaics are to be unfolded by programs that know each maker's private headers.
    "mosaic-siemens-axial": "siemens_mosaic",
    "mosaic-siemens-sagittal": "siemens_mosaic",
    "mosaic-siemens-coronal-int": "siemens_mosaic",
    "mosaic-siemens-jpegll": "siemens_mosaic",
    "mosaic-uih-vframe": "vendor_mosaic",
    "twelvebit-high-garbage": "siemens_mosaic",
    # No thickness and no second slice: the size of the voxels along the third axis would be made up.
    "mr-ge-single-slice": "missing_geometry",
    # Header and compressed stream contradict each other on the sign; three readers disagree by 8192.
    "pixelrep-mismatch-j2k": "unreadable_instance",
    # A picture in colour, where one grey value a voxel is needed.
    "mr-rgb-j2k": "colour_image",
}

NOT_HOUNSFIELD = {"ct-with-seg-object", "ct-enhanced-2frame"}
"""CTs whose RescaleType is US, unspecified: a mask of 0 and 1, and a map of blood flow. Neither is in HU."""

VOLUMES, CHOICES = 49, 16
"""Folders read as one volume, and folders of several volumes each of which is listed and read."""


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[dict[str, Any]]:
    corpus = shared_data / "scan-corpus"
    listed: list[dict[str, Any]] = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    return [{**case, "folder": corpus / case["path"]} for case in listed]


def answer(path: Any) -> Scan | str:
    """The scan, or the code of the refusal; anything else that is raised fails the test."""
    try:
        return read_scan(path)
    except ScanRefused as refused:
        return refused.code
    except FileUnreadable:
        return "unreadable"


def fault_in(scan: Scan, expected: dict[str, Any]) -> str | None:
    """Why the scan is not the volume expected; None where it is. Compared through both affines."""
    truth = slice_grid(expected)
    if sorted(scan.grid.shape) != sorted(truth.shape):
        return f"shape {scan.grid.shape}"
    # Slices of the corpus ascend along rows x columns, as ours do: so one index names the same voxel in both.
    if scan.grid.distance(truth) > EXACT:
        return f"{scan.grid.distance(truth)} mm off"
    span = max(expected["max"] - expected["min"], 1)
    values = scan.data[0].astype(np.float64)
    for seen, key in ((values.min(), "min"), (values.max(), "max"), (values.mean(), "mean")):
        if abs(seen - expected[key]) > 1e-5 * span:
            return f"{key} {seen}"
    for probe in expected["probes"]:
        i, j, k = np.rint(scan.grid.index(probe["ras"])).astype(int)
        if abs(values[i, j, k] - probe["value"]) > 1e-5 * span:
            return f"{values[i, j, k]} at {probe['ras']}"
    return None


def slice_grid(expected: dict[str, Any]) -> Grid:
    shape = tuple(expected["shape"])
    if expected["affine"] is not None:
        return Grid(shape, expected["affine"])  # type: ignore[arg-type]
    origins = np.array(expected["slice_origins_ras"])
    affine = np.array(expected["in_plane_affine_of_first_slice"])
    affine[:3, 2] = (origins[-1] - origins[0]) / (len(origins) - 1)
    affine[:3, 3] = origins[0]
    return Grid(shape, affine, tuple(np.linalg.norm(origins - origins[0], axis=1)))  # type: ignore[arg-type]


def test_every_folder_gives_the_right_volume_or_a_named_refusal(
    cases: list[dict[str, Any]], record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    faults, read, refused = [], [], Counter[str]()
    for case in cases:
        name, expected = case["id"], case["expected"]
        began = time.monotonic()
        got = answer(case["folder"])
        if time.monotonic() - began > 20:
            faults.append(f"{name}: took {time.monotonic() - began:.0f} s")
        if isinstance(got, str):
            refused[got] += 1
            faults += wrong_refusal(name, expected, got)
        elif expected["verdict"] == "choose" and "volume_with_finding" in expected.get("also_acceptable", ()):
            read.append(name)
            told = {finding.code for finding in got.findings}
            if not any(fault_in(got, choice) is None for choice in expected["choices"]):
                faults.append(f"{name}: none of the volumes that are there")
            if not told & set(expected["findings"]):
                faults.append(f"{name}: nothing said of {expected['findings']}")
        elif expected["verdict"] in ("refuse", "choose"):
            faults.append(f"{name}: read, but the corpus says {expected['verdict']}")
        else:
            read.append(name)
            faults += wrong_volume(name, expected, got)
    with capsys.disabled():
        print(f"\nscan-corpus: {len(read)} of {len(cases)} folders read, {refused.total()} refused {dict(refused)}")
    record_property("read", len(read))
    record_property("refused", refused.total())
    assert not faults
    assert len(read) >= VOLUMES


def wrong_refusal(name: str, expected: dict[str, Any], code: str) -> list[str]:
    if code not in {*FINDING_CODES, "unreadable"}:
        return [f"{name}: refused as {code}, which is in no list"]
    verdict = expected["verdict"]
    if verdict.startswith("volume"):
        return [] if REFUSED_ALL_THE_SAME.get(name) == code else [f"{name}: refused as {code}, but it is a volume"]
    if verdict == "choose":
        return [] if code in ("several_stacks", "several_series") else [f"{name}: refused as {code}, not listed"]
    right = set().union(*(REFUSALS.get(fault, set()) for fault in expected["findings"]))
    return [] if code in right else [f"{name}: refused as {code}, expected one of {sorted(right)}"]


def wrong_volume(name: str, expected: dict[str, Any], scan: Scan) -> list[str]:
    faults = []
    if (fault := fault_in(scan, expected)) is not None:
        faults.append(f"{name}: {fault}")
    told = {finding.code for finding in scan.findings}
    wanted = set().union(*(SAME_FAULT.get(fault, set()) for fault in expected["findings"]))
    if expected["verdict"] == "volume_with_finding" and wanted and not told & wanted:
        faults.append(f"{name}: nothing said of {sorted(expected['findings'])}; told {sorted(told)}")
    if (expected["units"] == "HU" and name not in NOT_HOUNSFIELD) != (scan.units == "HU"):
        faults.append(f"{name}: units {scan.units}")
    return faults


UNREADABLE_CHOICES = {"ct-notavolume": 2, "dicomdir-media": 3}
"""Single slices without a thickness, whose third axis would be made up; projections that the corpus does not count."""


def test_each_volume_of_a_folder_of_several_is_listed_and_read_exactly(cases: list[dict[str, Any]]) -> None:
    listed = 0
    for case in cases:
        choices = case["expected"].get("choices", [])
        sources = find_scans(case["folder"]).sources if len(choices) > 1 else ()
        if len(sources) < 2:
            continue
        got = [answer(source) for source in sources]
        refused = [code for code in got if isinstance(code, str)]
        assert len(refused) == UNREADABLE_CHOICES.get(case["id"], 0), (case["id"], refused)
        for scan in got:
            if isinstance(scan, Scan):
                fitting = [n for n, choice in enumerate(choices) if fault_in(scan, choice) is None]
                assert fitting, case["id"]
        if not refused:
            assert len(got) == len(choices), case["id"]
        in_series = [source for source in sources if "stack" in source.header]
        words = [(source.series_uid, source.header["stack"]) for source in in_series]
        assert len(set(words)) == len(words), words
        listed += 1
    assert listed >= CHOICES


def test_no_library_warns(cases: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for case in cases:
            answer(case["folder"])
    assert not [str(one.message) for one in caught]
    assert capfd.readouterr() == ("", "")


def test_no_message_names_the_patient(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        for source in find_scans(case["folder"]).sources:
            names = [name.lower() for name in source.identity if len(name) > 3]
            try:
                said = " ".join(finding.message + finding.action for finding in read_scan(source).findings)
            except (ScanRefused, FileUnreadable) as error:
                said = error.what + (error.advice or "")
            assert not [name for name in names if name in said.lower()], case["id"]
