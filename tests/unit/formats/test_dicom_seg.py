"""DICOM segmentations, out and in: on the planes that were acquired, whatever these are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dicom_builder as build
import numpy as np
import pydicom
import pytest

from unet_med import (
    Grid,
    Label,
    Scan,
    Segmentation,
    read_scan,
    read_segmentation,
    read_segmentations,
    write_segmentation,
)
from unet_med.errors import FileUnreadable, ScanRefused, WriteFailed, WrongUse
from unet_med.formats import dicom_seg
from unet_med.provenance import Provenance
from unet_med.segmentation import Code

TILT = np.radians(15)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)  # its normal is (0.48, -0.64, 0.6)
SERIES: dict[str, dict[str, Any]] = {
    "axial": {},
    "sagittal": {
        "places": [(-20 + 3 * k, 30, 100) for k in range(5)],
        "orientation": (0, 1, 0, 0, 0, -1),
    },
    "oblique": {
        "places": [np.array(build.ORIGIN) + 3 * k * np.array((0.48, -0.64, 0.6)) for k in range(5)],
        "orientation": OBLIQUE,
    },
    "tilted": {"orientation": (1, 0, 0, 0, float(np.cos(TILT)), -float(np.sin(TILT)))},
    "uneven": {"places": [(-20, 30, z) for z in (100, 103, 108, 112, 119)]},
    "one slice": {"places": [build.ORIGIN]},
}
TABLE = (
    Label(
        1,
        "hippocampus",
        "#e6550d",
        Code("SCT", "123037004", "Anatomical Structure"),
        Code("SCT", "5366008", "Hippocampus"),
        Code("SCT", "7771000", "Left"),
    ),
    Label(3, "other", "#3182bd"),
    Label(4, "never_found", "#31a354"),
)
KINDS = {"dicom-seg": "BINARY", "dicom-labelmap": "LABELMAP"}


def scan_of(tmp_path: Path, name: str = "axial", **changes: Any) -> Scan:
    return read_scan(build.save(tmp_path / "series", **{**SERIES[name], **changes}))


def mask_of(scan: Scan, seed: int = 0) -> Segmentation:
    """Labels 1 and 3 strewn about, the middle slice of several empty."""
    labels = np.random.default_rng(seed).choice(np.array([0, 0, 1, 3], np.uint8), scan.grid.shape)
    if scan.grid.shape[2] > 1:
        labels[:, :, scan.grid.shape[2] // 2] = 0
    return Segmentation(labels, scan.grid, TABLE, source=scan.source)


def written(mask: Segmentation, tmp_path: Path, format: str = "dicom-seg") -> Path:
    path = tmp_path / "mask.seg.dcm"
    write_segmentation(mask, path, format)
    return path


def frames_by_image(path: Path) -> dict[tuple[str, int], tuple[list[float], np.ndarray]]:
    """(UID of the image a frame refers to, segment or 0) -> (position, pixels); by pydicom and nothing of ours."""
    one = pydicom.dcmread(path)
    pixels = one.pixel_array.reshape(-1, one.Rows, one.Columns)
    found = {}
    for groups, picture in zip(one.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        shared = one.SharedFunctionalGroupsSequence[0]
        where = groups if "SegmentIdentificationSequence" in groups else shared
        named = where.get("SegmentIdentificationSequence")
        segment = int(named[0].ReferencedSegmentNumber) if named else 0
        found[(str(image), segment)] = (list(groups.PlanePositionSequence[0].ImagePositionPatient), picture)
    return found


# -- out ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", KINDS)
@pytest.mark.parametrize("name", SERIES)
def test_each_frame_lies_on_the_image_it_was_made_from(name: str, format: str, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, name)
    mask = mask_of(scan)
    frames = frames_by_image(written(mask, tmp_path, format))
    headers = [pydicom.dcmread(path) for path in (tmp_path / "series").iterdir()]
    assert {uid for uid, _ in frames} <= {str(header.SOPInstanceUID) for header in headers}
    for header in headers:
        # The slice of the scan that shows this image's pixels shows where its mask is.
        (k,) = (k for k in range(len(headers)) if np.array_equal(scan.data[0, :, :, k].T, header.pixel_array))
        expected = mask.labels[:, :, k].T
        for segment, value in ((1, 1), (2, 3)) if format == "dicom-seg" else ((0, None),):
            picture = expected if value is None else (expected == value)
            if not picture.any():
                assert (str(header.SOPInstanceUID), segment) not in frames
                continue
            position, pixels = frames[(str(header.SOPInstanceUID), segment)]
            assert position == header.ImagePositionPatient
            np.testing.assert_array_equal(pixels, picture)


@pytest.mark.parametrize("format", KINDS)
@pytest.mark.parametrize("name", SERIES)
def test_what_was_written_reads_back_on_the_scan(name: str, format: str, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, name)
    mask = mask_of(scan)
    back = read_segmentation(written(mask, tmp_path, format), on=scan)
    if format == "dicom-labelmap":
        assert [label.value for label in back.table] == [1, 3, 4]
        np.testing.assert_array_equal(back.labels, mask.labels)
    else:  # segments of a BINARY object count from 1
        assert [label.value for label in back.table] == [1, 2, 3]
        np.testing.assert_array_equal(back.labels, np.array([0, 1, 0, 2])[mask.labels])
    assert [label.name for label in back.table] == ["hippocampus", "other", "never_found"]
    assert [label.colour for label in back.table] == [label.colour for label in TABLE]
    assert back.grid == scan.grid
    assert not back.findings


def test_codes_stand_where_viewers_look_for_them(tmp_path: Path) -> None:
    path = written(mask_of(scan_of(tmp_path)), tmp_path)
    first, second, _ = pydicom.dcmread(path).SegmentSequence
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    kind = first.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodingSchemeDesignator, kind.CodeValue, kind.CodeMeaning) == ("SCT", "5366008", "Hippocampus")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    back = read_segmentation(path)
    assert (back.table[0].category, back.table[0].anatomy, back.table[0].laterality) == (
        TABLE[0].category,
        TABLE[0].anatomy,
        TABLE[0].laterality,
    )


def test_the_algorithm_is_the_model_that_made_it(tmp_path: Path) -> None:
    how = Provenance("hippocampus_mr", ("ab12",), {}, {"unet-med": "9.8.7"})
    write_segmentation(mask_of(scan_of(tmp_path)), tmp_path / "mask.seg.dcm", "dicom-seg", provenance=how)
    segment = pydicom.dcmread(tmp_path / "mask.seg.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("hippocampus_mr", "unet-med 9.8.7")
    assert "ab12" in algorithm.AlgorithmParameters
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_every_image_is_referred_to_even_where_nothing_was_found(tmp_path: Path) -> None:
    one = pydicom.dcmread(written(mask_of(scan_of(tmp_path)), tmp_path))
    (series,) = one.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.4"
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        f"1.2.3.{k + 1}" for k in range(5)
    }
    assert (one.FrameOfReferenceUID, one.StudyInstanceUID, one.PatientID) == ("1.2.6", "1.2.5", "SECRET-ID")


def test_a_wrong_spacing_tag_is_not_handed_on(tmp_path: Path) -> None:
    def lie(one: pydicom.Dataset, k: int) -> None:
        one.SpacingBetweenSlices, one.SliceThickness = -3.3, 9

    one = pydicom.dcmread(written(mask_of(scan_of(tmp_path, change=lie)), tmp_path))
    measures = one.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SpacingBetweenSlices, measures.SliceThickness) == (3, 3)
    assert measures.PixelSpacing == [0.8, 0.5]


def test_rounded_orientations_are_made_perpendicular(tmp_path: Path) -> None:
    rounded = tuple(round(part, 3) for part in (0.8192, 0.5736, 0.0, -0.4056, 0.5792, 0.7071))
    normal = np.cross(rounded[:3], rounded[3:])
    places = [np.array(build.ORIGIN) + 3 * k * normal for k in range(5)]
    scan = scan_of(tmp_path, places=places, orientation=rounded)
    mask = mask_of(scan)
    np.testing.assert_array_equal(
        read_segmentation(written(mask, tmp_path, "dicom-labelmap"), on=scan).labels, mask.labels
    )


def test_tags_that_a_deidentifier_dropped_stay_empty(tmp_path: Path) -> None:
    def strip(one: pydicom.Dataset, k: int) -> None:
        for tag in ("PatientName", "PatientID", "FrameOfReferenceUID"):
            delattr(one, tag)

    scan = scan_of(tmp_path, change=strip)
    path = written(mask_of(scan), tmp_path)
    one = pydicom.dcmread(path)
    for tag in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
        assert tag in one
        assert not one[tag].value
    assert one.FrameOfReferenceUID.startswith("2.25.")
    assert "frame of reference" in one.ContentDescription
    # Another mask of the same series lies in the same frame of reference.
    again = tmp_path / "again.seg.dcm"
    write_segmentation(mask_of(scan, seed=1), again, "dicom-seg")
    assert pydicom.dcmread(again).FrameOfReferenceUID == one.FrameOfReferenceUID


@pytest.mark.parametrize("format", [*KINDS, "rtstruct"])
def test_names_survive_another_character_set(format: str, tmp_path: Path) -> None:
    def name(one: pydicom.Dataset, k: int) -> None:
        one.SpecificCharacterSet, one.PatientName = "ISO_IR 100", "M\u00fcller^J\u00fcrgen"

    path = written(mask_of(scan_of(tmp_path, change=name)), tmp_path, format)
    assert str(pydicom.dcmread(path).PatientName) == "M\u00fcller^J\u00fcrgen"


@pytest.mark.parametrize("declared", ["", "ISO_IR 999"])
def test_a_character_set_that_nobody_knows_stops_nothing(declared: str, tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    for path in scan.source.paths:
        raw = path.read_bytes()
        marked = b"\x08\x00\x05\x00CS" + len(declared).to_bytes(2, "little") + declared.encode()
        at = raw.index(b"\x08\x00\x08\x00CS")  # the image type comes next
        path.write_bytes(raw[:at] + marked + raw[at:])
    mask = mask_of(scan)
    back = read_segmentation(written(mask, tmp_path, "dicom-labelmap"), on=scan)
    np.testing.assert_array_equal(back.labels, mask.labels)


def test_nested_regions_are_segments_that_overlap(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    labels = mask_of(scan).labels
    table = (Label(1, "core"), Label(2, "whole", region=(1, 3)))
    path = written(Segmentation(labels, scan.grid, table, source=scan.source), tmp_path)
    assert pydicom.dcmread(path).SegmentsOverlap == "YES"
    core, whole = read_segmentations(path, on=scan)
    np.testing.assert_array_equal(core.labels, labels == 1)
    np.testing.assert_array_equal(whole.labels, 2 * (labels > 0))
    assert ([label.name for label in core.table], [label.name for label in whole.table]) == (["core"], ["whole"])
    with pytest.raises(ScanRefused, match="need 2 label maps") as caught:
        read_segmentation(path)
    assert caught.value.code == "segments_overlap"
    with pytest.raises(WrongUse, match="overlap"):
        write_segmentation(
            Segmentation(labels, scan.grid, table, source=scan.source), tmp_path / "b.dcm", "dicom-labelmap"
        )


def test_label_values_above_255_have_room_in_a_label_map(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    labels = np.zeros(scan.grid.shape, np.uint16)
    labels[1, 2, 3], labels[5, 0, 0] = 300, 65535
    back = read_segmentation(
        written(Segmentation(labels, scan.grid, (), source=scan.source), tmp_path, "dicom-labelmap"), on=scan
    )
    np.testing.assert_array_equal(back.labels, labels)
    assert [label.value for label in back.table] == [300, 65535]


def test_an_empty_mask_is_a_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scan = scan_of(tmp_path)
    empty = Segmentation(np.zeros(scan.grid.shape, np.uint8), scan.grid, TABLE, source=scan.source)
    back = read_segmentation(written(empty, tmp_path), on=scan)
    assert not back.labels.any()
    assert len(back.table) == 3
    assert capfd.readouterr() == ("", "")


def test_the_order_of_the_files_means_nothing(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    shuffled = type(scan.source)("dicom", (*scan.source.paths[2:], *scan.source.paths[:2]))
    mask = mask_of(scan)
    path = written(Segmentation(mask.labels, scan.grid, TABLE, source=shuffled), tmp_path, "dicom-labelmap")
    np.testing.assert_array_equal(read_segmentation(path, on=scan).labels, mask.labels)


def test_only_what_came_from_dicom_goes_out_as_dicom(tmp_path: Path) -> None:
    mask = Segmentation(np.ones((2, 3, 4), np.uint8), Grid((2, 3, 4), np.eye(4)), (Label(1, "a"),))
    with pytest.raises(WrongUse, match="not DICOM"):
        write_segmentation(mask, tmp_path / "a.seg.dcm", "dicom-seg")
    with pytest.raises(WrongUse, match=r"ends in \.dcm"):
        write_segmentation(mask, tmp_path / "a.nii.gz", "dicom-seg")
    assert not list(tmp_path.iterdir())


def test_a_mask_that_is_not_on_the_slices_is_refused(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    moved = scan.grid.affine.copy()
    moved[2, 3] += 1
    for affine in (moved, scan.grid.affine @ np.diag([1, 1, 0.5, 1.0])):
        grid = Grid(scan.grid.shape, affine)
        mask = Segmentation(mask_of(scan).labels, grid, TABLE, source=scan.source)
        with pytest.raises(ScanRefused) as caught:
            write_segmentation(mask, tmp_path / "a.seg.dcm", "dicom-seg")
        assert caught.value.code == "grids_differ"
    turned = scan.grid.reorient(scan.grid.toward("RAS"))
    mask = Segmentation(np.ones(turned.shape, np.uint8), turned, TABLE, source=scan.source)
    with pytest.raises(ScanRefused, match="rows, columns and slices"):
        write_segmentation(mask, tmp_path / "a.seg.dcm", "dicom-seg")
    assert not (tmp_path / "a.seg.dcm").exists()


def test_images_of_two_patients_are_no_series(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    other = pydicom.dcmread(scan.source.paths[1])
    other.PatientID = "ANOTHER-SECRET"
    other.save_as(scan.source.paths[1])
    with pytest.raises(ScanRefused, match="several patients") as caught:
        written(mask_of(scan), tmp_path)
    assert "SECRET" not in str(caught.value)


def test_a_series_that_is_gone_is_named(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    scan.source.paths[3].unlink()
    with pytest.raises(FileUnreadable, match=r"003\.dcm"):
        written(mask_of(scan), tmp_path)


@pytest.mark.parametrize("format", KINDS)
def test_a_file_with_another_voxel_never_gets_its_name(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = dicom_seg.segmentation_object

    def spoil(*arguments: Any) -> Any:
        made = make(*arguments)
        made.PixelData = bytes([made.PixelData[0] ^ 1]) + made.PixelData[1:]
        return made

    monkeypatch.setattr(dicom_seg, "segmentation_object", spoil)
    with pytest.raises(WriteFailed, match=r"voxels did not read back|could not be read back"):
        written(mask_of(scan_of(tmp_path)), tmp_path, format)
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_a_file_whose_frames_moved_never_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = dicom_seg.segmentation_object

    def move(*arguments: Any) -> Any:
        made = make(*arguments)
        made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] += 1
        return made

    monkeypatch.setattr(dicom_seg, "segmentation_object", move)
    with pytest.raises(WriteFailed, match=r"could not be read back: Frame 1 lies 1\.00 mm away"):
        written(mask_of(scan_of(tmp_path)), tmp_path)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("name", SERIES)
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    path = written(mask_of(scan_of(tmp_path, name)), tmp_path)
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr
    assert "Segmentation" in done.stderr  # it knew what it looked at


# -- in -------------------------------------------------------------------------------------------------------------


def changed(path: Path, change: Callable[[pydicom.Dataset], Any]) -> Path:
    one = pydicom.dcmread(path)
    change(one)
    one.save_as(path)
    return path


def test_frames_in_any_order_go_where_their_positions_say(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    mask = mask_of(scan)

    def shuffle(one: pydicom.Dataset) -> None:
        size = one.Rows * one.Columns
        order = np.random.default_rng(3).permutation(int(one.NumberOfFrames))
        frames = [one.PixelData[n * size : (n + 1) * size] for n in range(len(order))]
        one.PixelData = b"".join(frames[n] for n in order)
        groups = list(one.PerFrameFunctionalGroupsSequence)
        one.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]

    path = changed(written(mask, tmp_path, "dicom-labelmap"), shuffle)
    np.testing.assert_array_equal(read_segmentation(path, on=scan).labels, mask.labels)
    np.testing.assert_array_equal(read_segmentation(path).labels, mask.labels)


@pytest.mark.parametrize("name", ["axial", "sagittal", "oblique", "tilted"])
def test_without_a_scan_the_frames_span_their_own_grid(name: str, tmp_path: Path) -> None:
    scan = scan_of(tmp_path, name)
    mask = mask_of(scan)  # the middle slice has no frame
    back = read_segmentation(written(mask, tmp_path, "dicom-labelmap"))
    assert back.grid.is_close(scan.grid, 1e-6)
    np.testing.assert_array_equal(back.labels, mask.labels)


def test_uneven_frames_keep_their_places(tmp_path: Path) -> None:
    scan = scan_of(tmp_path, "uneven")
    mask = mask_of(scan)
    back = read_segmentation(written(mask, tmp_path, "dicom-labelmap"))
    # Slices at 0, 3, 12 and 19 mm: the third, at 8 mm, is empty and has no frame.
    assert back.grid.slice_offsets == pytest.approx((0, 3, 12, 19))
    np.testing.assert_array_equal(back.labels, mask.labels[:, :, [0, 1, 3, 4]])


def test_a_scan_in_another_axis_order_gets_the_mask_in_that_order(tmp_path: Path) -> None:
    scan = scan_of(tmp_path, "sagittal")
    mask = mask_of(scan)
    path = written(mask, tmp_path, "dicom-labelmap")
    how = scan.grid.toward("RAS")
    turned = Scan(how.apply(scan.data), scan.grid.reorient(how))
    back = read_segmentation(path, on=turned)
    assert back.grid == turned.grid
    np.testing.assert_array_equal(back.labels, how.apply(mask.labels))


def test_a_mask_of_another_scan_is_refused(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    path = written(mask_of(scan), tmp_path)
    affine = scan.grid.affine
    for matrix, words in (
        (affine + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1.2], [0, 0, 0, 0]]), r"1\.20 mm away from"),
        (affine @ np.diag([2.0, 1, 1, 1]), "pixels of another size"),
        (affine + np.array([[0, 0, 0, 0.2], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]), "0.40 voxels beside"),
        (affine + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 300], [0, 0, 0, 0]]), "outside of the scan"),
    ):
        other = Scan(scan.data, Grid(scan.grid.shape, matrix))
        with pytest.raises(ScanRefused, match=words) as caught:
            read_segmentation(path, on=other)
        assert caught.value.code == "grids_differ"


def test_another_frame_of_reference_is_a_note(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)

    def rename(one: pydicom.Dataset) -> None:
        one.FrameOfReferenceUID = "1.2.999"

    path = changed(written(mask_of(scan), tmp_path), rename)
    assert [finding.code for finding in read_segmentation(path, on=scan).findings] == ["other_frame_of_reference"]


def fractional(tmp_path: Path, values: np.ndarray) -> tuple[Scan, Path]:
    highdicom = pytest.importorskip("highdicom")
    scan = scan_of(tmp_path)
    path = written(mask_of(scan), tmp_path)
    one = pydicom.dcmread(path)
    sources = [pydicom.dcmread(each) for each in scan.source.paths]
    for each in sources:
        for tag in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(each, tag, "")
    segment = highdicom.seg.SegmentDescription.from_dataset(one.SegmentSequence[0])
    made = highdicom.seg.Segmentation(
        sources, values.transpose(2, 1, 0), "FRACTIONAL", [segment], "1.2.77", 1, "1.2.78", 1, "a", "b", "c", "d"
    )
    made.save_as(path)
    return scan, path


def test_a_fractional_object_with_only_none_and_all_is_a_mask(tmp_path: Path) -> None:
    values = np.zeros((6, 4, 5))
    values[1, 2, 3] = values[5, 0, 0] = 1.0
    scan, path = fractional(tmp_path, values)
    back = read_segmentation(path, on=scan)
    np.testing.assert_array_equal(np.argwhere(back.labels), [[1, 2, 3], [5, 0, 0]])


def test_shares_of_voxels_are_no_labels(tmp_path: Path) -> None:
    scan, path = fractional(tmp_path, np.full((6, 4, 5), 0.7))
    with pytest.raises(ScanRefused, match="shares of a voxel") as caught:
        read_segmentation(path, on=scan)
    assert caught.value.code == "unsupported_object"


def test_a_background_that_is_not_0_is_background(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    mask = mask_of(scan)

    def invert(one: pydicom.Dataset) -> None:
        one.PixelPaddingValue = 5
        one.PixelData = one.PixelData.replace(b"\0", b"\5")

    path = changed(written(mask, tmp_path, "dicom-labelmap"), invert)
    np.testing.assert_array_equal(read_segmentation(path, on=scan).labels, mask.labels)


def test_what_is_damaged_is_said_in_words(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    path = written(mask_of(scan), tmp_path, "dicom-labelmap")
    good = path.read_bytes()

    def cut(one: pydicom.Dataset) -> None:
        one.PixelData = one.PixelData[:-10]

    def drop_frame(one: pydicom.Dataset) -> None:
        del one.PerFrameFunctionalGroupsSequence[0]

    def lose_place(one: pydicom.Dataset) -> None:
        del one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence

    def lose_segment(one: pydicom.Dataset) -> None:
        del one.SegmentSequence[2]

    def repeat(one: pydicom.Dataset) -> None:
        groups = one.PerFrameFunctionalGroupsSequence
        groups[1].PlanePositionSequence = groups[0].PlanePositionSequence
        one.PixelData = b"\1" * len(one.PixelData)

    for change, words in (
        (cut, "cut short or damaged"),
        (drop_frame, "4 frames, but describes 3"),
        (lose_place, "no orientation or pixel spacing"),
        (lose_segment, "value 3, which no segment describes"),
        (repeat, "at one place"),
    ):
        path.write_bytes(good)
        with pytest.raises((FileUnreadable, ScanRefused), match=words):
            read_segmentation(changed(path, change), on=scan)
    path.write_bytes(good[: len(good) // 3])
    with pytest.raises(FileUnreadable, match="cut short"):
        read_segmentation(path, on=scan)


def test_run_lengths_are_decoded(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    mask = mask_of(scan)
    path = changed(
        written(mask, tmp_path, "dicom-labelmap"),
        lambda one: one.compress(pydicom.uid.RLELossless, encoding_plugin="pydicom"),
    )
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    np.testing.assert_array_equal(read_segmentation(path, on=scan).labels, mask.labels)


def test_nifti_masks_are_laid_on_their_scan_too(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    how = scan.grid.toward("RAS")
    mask = mask_of(scan)
    turned = Segmentation(how.apply(mask.labels), scan.grid.reorient(how), TABLE)
    write_segmentation(turned, tmp_path / "mask.nii.gz", "nifti")
    back = read_segmentation(tmp_path / "mask.nii.gz", on=scan)
    np.testing.assert_array_equal(back.labels, mask.labels)
    assert (back.grid, back.source) == (scan.grid, scan.source)
    affine = scan.grid.affine.copy()
    affine[0, 3] += 3
    with pytest.raises(ScanRefused, match="up to 3 mm apart"):
        read_segmentation(tmp_path / "mask.nii.gz", on=Scan(scan.data, Grid(scan.grid.shape, affine)))
