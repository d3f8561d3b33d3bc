"""An enhanced multi-frame file is read like a series of files: each frame lies where its functional groups say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_builder import AXIAL, COLUMNS, ORIGIN, ROWS, SPACING, codes, header, picture, positions, read
from pydicom.dataset import Dataset

from unet_med.errors import ScanRefused
from unet_med.formats import dicom_series, find_scans, read_scan
from unet_med.formats.dicom_find import find_series

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def item(**tags: Any) -> list[Dataset]:
    one = Dataset()
    for tag, value in tags.items():
        setattr(one, tag, value)
    return [one]


def macros(place: Sequence[float], orientation: Sequence[float] = AXIAL) -> Dataset:
    """The functional groups of a frame."""
    group = Dataset()
    group.PlanePositionSequence = item(ImagePositionPatient=[f"{value:.10g}" for value in place])
    group.PlaneOrientationSequence = item(ImageOrientationPatient=list(orientation))
    group.PixelMeasuresSequence = item(PixelSpacing=list(SPACING), SliceThickness=3)
    return group


def enhanced(
    path: Path,
    places: Sequence[Sequence[float]],
    change: Callable[[Dataset, int], Any] = lambda group, k: None,
    shared: Dataset | None = None,
) -> Path:
    """A file with a frame a place, frame k holding `picture(k)`; macros stand in the frames, changed by `change`."""
    one = header(0, ORIGIN)
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    del one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing, one.SliceThickness
    one.NumberOfFrames = len(places)
    groups = [macros(place) for place in places]
    for k, group in enumerate(groups):
        change(group, k)
    one.PerFrameFunctionalGroupsSequence = groups
    one.SharedFunctionalGroupsSequence = [shared or Dataset()]
    one.PixelData = np.stack([picture(k) for k in range(len(places))]).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, one, enforce_file_format=True)
    return path


def test_voxels_lie_where_the_frames_say(tmp_path: Path) -> None:
    enhanced(tmp_path / "a.dcm", positions())
    scan = read(tmp_path)
    assert scan.data.shape == (1, COLUMNS, ROWS, 5)
    expected = [[-0.5, 0, 0, 20], [0, -0.8, 0, -30], [0, 0, 3, 100], [0, 0, 0, 1]]
    np.testing.assert_allclose(scan.grid.affine, expected, atol=1e-9)
    assert scan.data[0, 5, 2, 4] == 4025
    assert not scan.findings


def test_what_frames_share_may_stand_in_the_shared_groups(tmp_path: Path) -> None:
    shared = macros(ORIGIN)
    del shared.PlanePositionSequence

    def only_position(group: Dataset, k: int) -> None:
        del group.PlaneOrientationSequence, group.PixelMeasuresSequence

    enhanced(tmp_path / "a" / "a.dcm", positions(), only_position, shared)
    enhanced(tmp_path / "b" / "b.dcm", positions())
    assert read(tmp_path / "a").grid == read(tmp_path / "b").grid


def test_a_frame_overrules_what_is_shared(tmp_path: Path) -> None:
    shared = Dataset()
    shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")

    def scaled(group: Dataset, k: int) -> None:
        if k == 2:
            group.PixelValueTransformationSequence = item(RescaleSlope=2, RescaleIntercept=-5, RescaleType="US")

    enhanced(tmp_path / "a.dcm", positions(3), scaled, shared)
    assert read(tmp_path).data[0, 1, 0].tolist() == [1, 1001, 2 * 2001 - 5]


def test_frames_are_ordered_by_position_and_the_order_is_recorded(tmp_path: Path) -> None:
    order = (3, 0, 4, 1, 2)
    enhanced(tmp_path / "a.dcm", [positions()[n] for n in order])
    scan = read(tmp_path)
    assert scan.grid.world((0, 0, 4)) == pytest.approx((20, -30, 112))
    assert scan.data[0, 0, 0].tolist() == [1000 * order.index(k) for k in range(5)]
    assert scan.source.header["frames"] == tuple((0, order.index(k)) for k in range(5))
    np.testing.assert_array_equal(dicom_series.read(scan.source).data, scan.data)


def test_a_missing_frame_leaves_the_others_at_their_places(tmp_path: Path) -> None:
    places = positions(6)
    del places[2]
    enhanced(tmp_path / "a.dcm", places)
    scan = read(tmp_path)
    assert scan.grid.slice_offsets == pytest.approx((0, 3, 9, 12, 15))
    assert codes(scan) == ["missing_slice"]


def test_positions_outside_the_functional_groups_do_not_count(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "a.dcm", positions(3))
    one = pydicom.dcmread(path)
    one.ImagePositionPatient, one.PixelSpacing = [9, 9, 9], [7, 7]
    one.save_as(path)
    assert read(tmp_path).grid.world((0, 0, 1)) == pytest.approx((20, -30, 103))


def test_a_frame_without_a_position_is_refused_and_named(tmp_path: Path) -> None:
    def lost(group: Dataset, k: int) -> None:
        if k == 1:
            del group.PlanePositionSequence

    enhanced(tmp_path / "a.dcm", positions(3), lost)
    with pytest.raises(ScanRefused, match=r"a\.dcm \(frame 2\)") as caught:
        read(tmp_path)
    assert caught.value.code == "missing_geometry"


def test_frames_that_are_miscounted_are_refused(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "a.dcm", positions(3))
    one = pydicom.dcmread(path)
    one.NumberOfFrames = 4
    one.save_as(path)
    with pytest.raises(ScanRefused, match="counts 4 frames and describes 3"):
        read(tmp_path)


def test_pixels_of_fewer_frames_than_the_header_counts_are_refused(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "a.dcm", positions(3))
    path.write_bytes(path.read_bytes()[: -2 * ROWS * COLUMNS])
    with pytest.raises(ScanRefused) as caught:
        read(tmp_path)
    assert caught.value.code == "unreadable_instance"


def test_time_points_in_one_file_are_listed_and_each_can_be_read(tmp_path: Path) -> None:
    def time(group: Dataset, k: int) -> None:
        group.FrameContentSequence = item(TemporalPositionIndex=k % 2 + 1)

    path = enhanced(tmp_path / "a.dcm", [place for place in positions(3) for _ in range(2)], time)
    with pytest.raises(ScanRefused, match="TemporalPositionIndex 2") as caught:
        read_scan(path)
    assert caught.value.code == "several_stacks"
    first, second = find_scans(path).sources
    assert read_scan(first).data[0, 0, 0].tolist() == [0, 2000, 4000]
    assert read_scan(second).data[0, 0, 0].tolist() == [1000, 3000, 5000]
    assert second.header["stack"].startswith("stack 2 of 2: 3 axial slices of 6 x 4")


def test_two_orientations_in_one_file_are_two_stacks(tmp_path: Path) -> None:
    def turned(group: Dataset, k: int) -> None:
        if k >= 3:
            group.PlaneOrientationSequence = item(ImageOrientationPatient=list(SAGITTAL))
            group.PlanePositionSequence = item(ImagePositionPatient=[-10 + 5 * k, -80, 60])

    enhanced(tmp_path / "a.dcm", positions(5), turned)
    first, second = find_series([tmp_path / "a.dcm"])[0]
    assert dicom_series.read(first).grid.orientation == "LPS"
    assert dicom_series.read(second).data[0, 0, 0].tolist() == [4000, 3000]  # the normal points to the right
    assert "2 sagittal slices" in second.header["stack"]


def test_one_file_a_time_point_is_one_stack_a_file(tmp_path: Path) -> None:
    def at(time: int) -> Callable[[Dataset, int], None]:
        return lambda group, k: setattr(group, "FrameContentSequence", item(TemporalPositionIndex=time))

    for time in (1, 2):
        enhanced(tmp_path / f"{time}.dcm", positions(3), at(time))
    sources = find_scans(tmp_path).sources
    assert [[path.name for path in source.paths] for source in sources] == [["1.dcm"], ["2.dcm"]]


def test_compressed_frames_give_the_same_values(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "a.dcm", positions(3)[::-1])
    straight = read(tmp_path)
    one = pydicom.dcmread(path)
    one.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    one.save_as(path)
    np.testing.assert_array_equal(read(tmp_path).data, straight.data)
    assert straight.data[0, 0, 0].tolist() == [2000, 1000, 0]
