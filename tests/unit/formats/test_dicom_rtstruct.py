"""Structure sets, out and in: outlines in the planes of the images, exact to the voxel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dicom_builder as build
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from skimage.measure import grid_points_in_poly

from unet_med import Label, Scan, Segmentation, read_scan, read_segmentation, read_segmentations, write_segmentation
from unet_med.errors import FileUnreadable, ScanRefused, WriteFailed, WrongUse
from unet_med.formats import dicom_rtstruct

TILT = np.radians(15)
SERIES: dict[str, dict[str, Any]] = {
    "axial": {},
    "sagittal": {"places": [(-20 + 3 * k, 30, 100) for k in range(5)], "orientation": (0, 1, 0, 0, 0, -1)},
    "oblique": {
        "places": [np.array(build.ORIGIN) + 3 * k * np.array((0.48, -0.64, 0.6)) for k in range(5)],
        "orientation": (0.8, 0.6, 0.0, -0.36, 0.48, 0.8),
    },
    "tilted": {"orientation": (1, 0, 0, 0, float(np.cos(TILT)), -float(np.sin(TILT)))},
    "uneven": {"places": [(-20, 30, z) for z in (100, 103, 108, 112, 119)]},
    "one slice": {"places": [build.ORIGIN]},
}
ROWS, COLUMNS = 21, 17


def bigger(one: Dataset, k: int) -> None:
    """Room for holes; rows and columns differ in number and spacing."""
    build.set_pixels(one, (1000 * k + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)).astype(np.int16))


def scan_of(tmp_path: Path, name: str = "axial") -> Scan:
    return read_scan(build.save(tmp_path / "series", change=bigger, **SERIES[name]))


def mask_of(scan: Scan) -> Segmentation:
    """Label 1 strewn about, so that it has holes and pieces; 2 a ring; 3 nowhere; the middle of many slices empty."""
    labels = (np.random.default_rng(0).random(scan.grid.shape) < 0.6).astype(np.uint8)
    labels[2:12, 3:14, 0] = 2
    labels[5:9, 6:10, 0] = 0
    if scan.grid.shape[2] > 1:
        labels[:, :, scan.grid.shape[2] // 2] = 0
    table = (Label(1, "strewn", "#112233"), Label(2, "ring", "#3182bd"), Label(3, "nowhere"))
    return Segmentation(labels, scan.grid, table, source=scan.source)


def written(mask: Segmentation, tmp_path: Path) -> Path:
    path = tmp_path / "mask.rtstruct.dcm"
    write_segmentation(mask, path, "rtstruct")
    return path


# -- out ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERIES)
def test_what_was_written_reads_back_on_the_scan(name: str, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, name)
    mask = mask_of(scan)
    back = read_segmentation(written(mask, tmp_path), on=scan)
    np.testing.assert_array_equal(back.labels, mask.labels)
    assert [(label.value, label.name, label.colour) for label in back.table] == [
        (label.value, label.name, label.colour) for label in mask.table
    ]
    assert back.grid == scan.grid
    assert not back.findings


@pytest.mark.parametrize("name", SERIES)
def test_other_rasterisers_find_the_same_voxels(name: str, tmp_path: Path) -> None:
    """Outlines to pixels by hand, from the tags of the image that each refers to; filled by scikit-image."""
    scan = scan_of(tmp_path, name)
    mask = mask_of(scan)
    images = {str((one := pydicom.dcmread(path)).SOPInstanceUID): one for path in (tmp_path / "series").iterdir()}
    made = pydicom.dcmread(written(mask, tmp_path))
    found = {uid: np.zeros((ROWS, COLUMNS), np.uint8) for uid in images}
    for roi in made.ROIContourSequence:
        for contour in roi.get("ContourSequence", []):
            uid = str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
            image = images[uid]
            points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(image.ImagePositionPatient, float)
            row_direction, column_direction = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
            assert np.abs(points @ np.cross(row_direction, column_direction)).max() < 1e-3  # in the plane of the image
            corners = np.stack(
                [points @ column_direction / image.PixelSpacing[0], points @ row_direction / image.PixelSpacing[1]],
                axis=1,
            )
            inside = grid_points_in_poly((ROWS, COLUMNS), corners, binarize=True)
            found[uid][inside] = roi.ReferencedROINumber
    for uid, image in images.items():
        (k,) = (k for k in range(len(images)) if np.array_equal(scan.data[0, :, :, k].T, image.pixel_array))
        np.testing.assert_array_equal(found[uid], mask.labels[:, :, k].T)


def test_the_file_says_what_planning_systems_ask_for(tmp_path: Path) -> None:
    made = pydicom.dcmread(written(mask_of(scan_of(tmp_path)), tmp_path))
    (frame,) = made.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == "1.2.6"
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "1.2.4"
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == {
        f"1.2.3.{k + 1}" for k in range(5)
    }
    assert [roi.ROIName for roi in made.StructureSetROISequence] == ["strewn", "ring", "nowhere"]
    assert {roi.ROIGenerationAlgorithm for roi in made.StructureSetROISequence} == {"AUTOMATIC"}
    assert [item.ReferencedROINumber for item in made.RTROIObservationsSequence] == [1, 2, 3]
    assert made.ROIContourSequence[0].ROIDisplayColor == [0x11, 0x22, 0x33]
    assert made.ApprovalStatus == "UNAPPROVED"
    assert (made.PatientID, made.StudyInstanceUID) == ("SECRET-ID", "1.2.5")
    contours = [contour for roi in made.ROIContourSequence for contour in roi.get("ContourSequence", [])]
    for contour in contours:
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert contour.NumberOfContourPoints == len(contour.ContourData) // 3 >= 4
        assert all(len(str(part)) <= 16 for part in contour.ContourData)
        first, last = contour.ContourData[:3], contour.ContourData[-3:]
        assert first != last  # closed without saying so
    ring = made.ROIContourSequence[1].ContourSequence
    assert len(ring) == 1  # the hole is cut open: 4 corners, 4 of the hole, and the channel there and back
    assert ring[0].NumberOfContourPoints == 4 + 4 + 3


def test_long_outlines_have_room(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    path = written(mask_of(scan), tmp_path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian


def test_only_what_came_from_dicom_goes_out(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    with pytest.raises(WrongUse, match="not DICOM"):
        written(Segmentation(mask_of(scan).labels, scan.grid, mask_of(scan).table), tmp_path)


def test_a_file_with_another_outline_never_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = dicom_rtstruct.structure_set

    def spoil(*arguments: Any) -> Any:
        made = make(*arguments)
        contour = made.ROIContourSequence[1].ContourSequence[0]
        contour.ContourData = [float(part) + (0.6 if n % 3 == 0 else 0) for n, part in enumerate(contour.ContourData)]
        return made

    monkeypatch.setattr(dicom_rtstruct, "structure_set", spoil)
    with pytest.raises(WriteFailed, match="did not read back"):
        written(mask_of(scan_of(tmp_path)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("name", ["axial", "tilted", "one slice"])
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    path = written(mask_of(scan_of(tmp_path, name)), tmp_path)
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr
    assert "RTStructureSet" in done.stderr


# -- in -------------------------------------------------------------------------------------------------------------


def structures(tmp_path: Path, *rois: tuple[str, Sequence[tuple[str, Any]]], frame: str = "1.2.6") -> Path:
    """A structure set in which each structure is (name, outlines), an outline (type, points in LPS mm)."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = "1.2.3.4"
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(rois, start=1):
        named, drawn = Dataset(), Dataset()
        named.ROINumber, named.ROIName, named.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for kind, points in outlines:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.ContourData = [f"{part:.4f}" for part in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        one.StructureSetROISequence.append(named)
        one.ROIContourSequence.append(drawn)
    path = tmp_path / "structures.dcm"
    one.save_as(path, enforce_file_format=True)
    return path


def box(left: float, top: float, right: float, bottom: float, z: float = 103) -> tuple[str, Any]:
    """In pixels of the axial series: x = -20 + 0.5 column, y = 30 + 0.8 row."""
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return "CLOSED_PLANAR", [(-20 + 0.5 * column, 30 + 0.8 * row, z) for column, row in corners]


def test_an_outline_fills_the_slice_in_whose_plane_it_lies(tmp_path: Path) -> None:
    back = read_segmentation(structures(tmp_path, ("GTV 1", [box(2.5, 0.5, 4.5, 3.5)])), on=scan_of(tmp_path))
    # Columns 3 and 4, rows 1, 2 and 3 of slice 1, which lies at z = 103.
    assert {tuple(place) for place in np.argwhere(back.labels)} == {(i, j, 1) for i in (3, 4) for j in (1, 2, 3)}
    assert [(label.value, label.name) for label in back.table] == [(1, "gtv_1")]


def test_the_scan_may_have_any_axis_order(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    path = structures(tmp_path, ("a", [box(2.5, 0.5, 4.5, 3.5)]))
    for codes in ("RAS", "SPL", "ALI"):
        how = scan.grid.toward(codes)
        back = read_segmentation(path, on=Scan(how.apply(scan.data), scan.grid.reorient(how)))
        np.testing.assert_array_equal(how.undo(back.labels), read_segmentation(path, on=scan).labels)


def test_a_plane_a_little_off_is_its_slice(tmp_path: Path) -> None:
    path = structures(tmp_path, ("a", [box(2.5, 0.5, 4.5, 3.5, z=103.04)]))
    assert read_segmentation(path, on=scan_of(tmp_path)).labels[:, :, 1].sum() == 6


def test_planes_without_a_slice_are_told_and_left_out(tmp_path: Path) -> None:
    outlines = [box(2.5, 0.5, 4.5, 3.5), box(2.5, 0.5, 4.5, 3.5, z=104.5), box(2.5, 0.5, 4.5, 3.5, z=130)]
    back = read_segmentation(structures(tmp_path, ("a", outlines)), on=scan_of(tmp_path))
    assert back.labels.sum() == 6
    (finding,) = back.findings
    assert finding.code == "contour_without_slice"
    assert "2 of 3 outlines" in finding.message
    assert "(a 2)" in finding.message


def test_a_structure_set_of_another_scan_is_refused(tmp_path: Path) -> None:
    path = structures(tmp_path, ("a", [box(2.5, 0.5, 4.5, 3.5, z=500)]))
    with pytest.raises(ScanRefused, match="None of the 1 outlines") as caught:
        read_segmentation(path, on=scan_of(tmp_path))
    assert caught.value.code == "grids_differ"


def test_holes_and_islands(tmp_path: Path) -> None:
    rings = [box(3.5, 3.5, 8.5, 8.5), box(0.5, 0.5, 10.5, 10.5), box(5.5, 5.5, 6.5, 6.5)]
    back = read_segmentation(structures(tmp_path, ("a", rings)), on=scan_of(tmp_path))
    assert back.labels.sum() == 100 - 25 + 1


def test_outlines_that_cross_are_refused_by_name(tmp_path: Path) -> None:
    path = structures(tmp_path, ("rectum", [box(0.5, 0.5, 5.5, 5.5), box(3.5, 3.5, 8.5, 8.5)]))
    with pytest.raises(ScanRefused, match="rectum cross each other in slice 2: 4 pixels") as caught:
        read_segmentation(path, on=scan_of(tmp_path))
    assert caught.value.code == "contours_cross"


def test_outlines_declared_exclusive_may_cross(tmp_path: Path) -> None:
    rings = [("CLOSEDPLANAR_XOR", points) for _, points in (box(0.5, 0.5, 5.5, 5.5), box(3.5, 3.5, 8.5, 8.5))]
    assert read_segmentation(structures(tmp_path, ("a", rings)), on=scan_of(tmp_path)).labels.sum() == 25 + 25 - 2 * 4


def test_points_and_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    outlines = [("POINT", [(-19, 31, 103)]), ("OPEN_PLANAR", box(1, 1, 4, 4)[1]), box(2.5, 0.5, 4.5, 3.5)]
    back = read_segmentation(structures(tmp_path, ("a", outlines)), on=scan_of(tmp_path))
    assert back.labels.sum() == 6
    assert [(each.code, each.message[:10]) for each in back.findings] == [("contour_not_closed", "2 outlines")]


def test_structures_that_overlap_come_apart(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    path = structures(
        tmp_path, ("Body", [box(0.5, 0.5, 10.5, 10.5)]), ("Lung (L)", [box(2.5, 2.5, 4.5, 4.5)]), ("empty", [])
    )
    body, lung = read_segmentations(path, on=scan)
    assert [label.name for label in (*body.table, *lung.table)] == ["body", "empty", "lung_l"]
    assert (int((body.labels == 1).sum()), int((lung.labels == 2).sum())) == (100, 4)
    with pytest.raises(ScanRefused, match="overlap"):
        read_segmentation(path, on=scan)


def test_another_frame_of_reference_is_a_note(tmp_path: Path) -> None:
    path = structures(tmp_path, ("a", [box(2.5, 0.5, 4.5, 3.5)]), frame="9.9.9")
    back = read_segmentation(path, on=scan_of(tmp_path))
    assert [finding.code for finding in back.findings] == ["other_frame_of_reference"]


def test_a_structure_set_needs_its_scan(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="on=scan"):
        read_segmentation(structures(tmp_path, ("a", [box(2.5, 0.5, 4.5, 3.5)])))


def test_what_is_damaged_is_said_in_words(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    with pytest.raises(FileUnreadable, match="three coordinates"):
        read_segmentation(structures(tmp_path, ("a", [("CLOSED_PLANAR", [1.0, 2.0, 3.0, 4.0])])), on=scan)
    with pytest.raises(FileUnreadable, match="no scanner could mean"):
        read_segmentation(structures(tmp_path, ("a", [("CLOSED_PLANAR", [1.0, 2.0, 3e9])])), on=scan)
    with pytest.raises(FileUnreadable, match="names no structures"):
        read_segmentation(structures(tmp_path), on=scan)
