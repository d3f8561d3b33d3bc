"""Several volumes under one series UID are told apart by what tells them apart, or the series is refused as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_builder import picture, positions, save, set_pixels
from pydicom.dataset import Dataset

from unet_med.errors import ScanRefused
from unet_med.formats import find_scans, read_scan
from unet_med.scan import Source

CORONAL = [1, 0, 0, 0, 0, -1]


def stacks(folder: Path) -> list[tuple[str, list[int]]]:
    """What each stack is called after its number, and the slices in it (each slice k holds 1000 k in a corner)."""
    found = find_scans(folder)
    assert not found.problems
    return [(words(source), [value // 1000 for value in corner(source)]) for source in found.sources]


def words(source: Source) -> str:
    return str(source.header.get("stack", "")).partition(": ")[2]


def corner(source: Source) -> list[int]:
    return [int(value) for value in read_scan(source).data[0, 0, 0]]


def twice(tag: str, values: tuple[Any, Any]) -> Callable[[Dataset, int], None]:
    return lambda one, k: setattr(one, tag, values[k // 3])


@pytest.mark.parametrize(
    ("tag", "values", "shown"),
    [
        ("EchoTime", (9.0, 4.5), ("EchoTime 4.5", "EchoTime 9.0")),
        ("DiffusionBValue", (0.0, 1000.0), ("DiffusionBValue 0.0", "DiffusionBValue 1000.0")),
        ("TemporalPositionIdentifier", (1, 2), ("TemporalPositionIdentifier 1", "TemporalPositionIdentifier 2")),
        ("AcquisitionNumber", (1, 2), ("AcquisitionNumber 1", "AcquisitionNumber 2")),
        ("TriggerTime", (0, 40), ("TriggerTime 0.0", "TriggerTime 40.0")),
    ],
)
def test_images_at_the_same_places_are_parted_by_what_differs(
    tmp_path: Path, tag: str, values: tuple[Any, Any], shown: tuple[str, str]
) -> None:
    save(tmp_path, [*positions(3), *positions(3)], change=twice(tag, values))
    first, second = ([0, 1, 2], [3, 4, 5]) if values[0] < values[1] else ([3, 4, 5], [0, 1, 2])
    assert stacks(tmp_path) == [
        (f"3 axial slices of 6 x 4, {shown[0]}", first),
        (f"3 axial slices of 6 x 4, {shown[1]}", second),
    ]


def test_a_folder_of_several_stacks_lists_them(tmp_path: Path) -> None:
    save(tmp_path, [*positions(3), *positions(3)], change=twice("EchoTime", (4.5, 9.0)))
    with pytest.raises(
        ScanRefused, match=r"2 stacks of slices in this series.*EchoTime 4\.5; .*EchoTime 9\.0"
    ) as caught:
        read_scan(tmp_path)
    assert caught.value.code == "several_stacks"


def test_two_tags_that_vary_give_a_stack_for_each_pair(tmp_path: Path) -> None:
    def vary(one: Dataset, k: int) -> None:
        one.EchoTime, one.TemporalPositionIdentifier = (4.5, 9.0)[k % 4 // 2], 1 + k % 2

    save(tmp_path, [place for place in positions(2) for _ in range(4)], change=vary)
    assert [slices for _, slices in stacks(tmp_path)] == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_one_weighting_may_have_more_directions_than_another(tmp_path: Path) -> None:
    def vary(one: Dataset, k: int) -> None:
        one.DiffusionBValue = 0.0 if k % 3 == 0 else 1000.0
        one.DiffusionGradientOrientation = [0.0, 0.0, 0.0] if k % 3 == 0 else [float(k % 3 == n) for n in (1, 2, 3)]

    save(tmp_path, [place for place in positions(2) for _ in range(3)], change=vary)
    found = stacks(tmp_path)
    assert [slices for _, slices in found] == [[0, 3], [2, 5], [1, 4]]
    assert found[1][0].endswith("DiffusionBValue 1000.0, DiffusionGradientOrientation 0.000, 1.000, 0.000")


def test_phases_of_the_heart_are_parted_by_turns_where_every_slice_has_times_of_its_own(tmp_path: Path) -> None:
    def beat(one: Dataset, k: int) -> None:
        one.TriggerTime, one.InstanceNumber = (k % 2) * 40 + k // 2, 1

    save(tmp_path, [place for place in positions(3) for _ in range(2)], change=beat)
    assert [slices for _, slices in stacks(tmp_path)] == [[0, 2, 4], [1, 3, 5]]


def test_two_images_at_one_place_and_time_are_not_put_in_turn(tmp_path: Path) -> None:
    def beat(one: Dataset, k: int) -> None:
        one.TriggerTime, one.InstanceNumber = (k % 4 // 2) * 40 + k // 4, 1

    save(tmp_path, [place for place in positions(2) for _ in range(4)], change=beat)
    with pytest.raises(ScanRefused) as caught:
        read_scan(tmp_path)
    assert caught.value.code == "repeated_position"


def test_no_date_tells_stacks_apart(tmp_path: Path) -> None:
    def clock(one: Dataset, k: int) -> None:
        one.FrameAcquisitionDateTime, one.InstanceNumber = f"2018102210000{k}", 1

    save(tmp_path, [*positions(2), *positions(2)], change=clock)
    assert [text for text, _ in stacks(tmp_path)][1].endswith("FrameAcquisitionDateTime 100002 to 100003")


def test_volumes_that_follow_one_another_are_parted_by_their_times(tmp_path: Path) -> None:
    def clock(one: Dataset, k: int) -> None:
        one.AcquisitionTime, one.InstanceNumber = f"10000{k}.5", 1

    save(tmp_path, [*positions(3), *positions(3)], change=clock)
    assert stacks(tmp_path)[1] == ("3 axial slices of 6 x 4, AcquisitionTime 100003.5 to 100005.5", [3, 4, 5])


def test_times_of_volumes_that_overlap_tell_nothing(tmp_path: Path) -> None:
    def clock(one: Dataset, k: int) -> None:
        one.AcquisitionTime, one.InstanceNumber = f"10000{k}", 1

    save(tmp_path, [place for place in positions(3) for _ in range(2)], change=clock)
    with pytest.raises(ScanRefused) as caught:
        read_scan(tmp_path)
    assert caught.value.code == "repeated_position"


def test_a_run_that_was_stopped_leaves_a_last_volume_of_fewer_slices(tmp_path: Path) -> None:
    def time(one: Dataset, k: int) -> None:
        one.TemporalPositionIdentifier = k // 3 + 1

    save(tmp_path, [*positions(3), *positions(3), *positions(2)], change=time)
    assert [slices for _, slices in stacks(tmp_path)] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_a_tag_that_parts_a_volume_into_scraps_does_not_count(tmp_path: Path) -> None:
    def vary(one: Dataset, k: int) -> None:
        one.EchoTime, one.AcquisitionNumber, one.InstanceNumber = 4.5 + k // 3, k % 2, 1

    save(tmp_path, [*positions(3), *positions(3)], change=vary)
    assert [slices for _, slices in stacks(tmp_path)] == [[0, 1, 2], [3, 4, 5]]


def test_acquisition_numbers_that_change_inside_one_volume_do_not_part_it(tmp_path: Path) -> None:
    save(tmp_path, change=lambda one, k: setattr(one, "AcquisitionNumber", k // 3))
    assert stacks(tmp_path) == [("", [0, 1, 2, 3, 4])]


def test_a_localizer_is_a_stack_of_its_own_and_called_one(tmp_path: Path) -> None:
    def localizer(one: Dataset, k: int) -> None:
        if k == 4:
            one.ImageOrientationPatient = CORONAL
            one.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    save(tmp_path, change=localizer)
    assert stacks(tmp_path) == [
        ("4 axial slices of 6 x 4", [0, 1, 2, 3]),
        ("1 coronal slice of 6 x 4, localizer", [4]),
    ]


def test_frames_of_reference_are_kept_apart(tmp_path: Path) -> None:
    save(tmp_path, change=lambda one, k: setattr(one, "FrameOfReferenceUID", f"1.2.{6 + k // 3}"))
    assert stacks(tmp_path) == [
        ("3 axial slices of 6 x 4, frame of reference 1 of 2", [0, 1, 2]),
        ("2 axial slices of 6 x 4, frame of reference 2 of 2", [3, 4]),
    ]


def test_a_slice_that_fills_a_hole_and_does_not_fit_makes_no_stack(tmp_path: Path) -> None:
    save(tmp_path, change=lambda one, k: setattr(one, "PixelSpacing", [1, 1]) if k == 2 else None)
    with pytest.raises(ScanRefused) as caught:
        read_scan(tmp_path)
    assert caught.value.code == "mixed_spacing"


def test_an_equal_copy_is_no_reason_to_part_a_series(tmp_path: Path) -> None:
    folder = save(tmp_path)
    (folder / "copy.dcm").write_bytes((folder / "001.dcm").read_bytes())
    assert stacks(tmp_path) == [("", [0, 1, 2, 3, 4])]


def test_stacks_of_two_sizes_at_the_same_places_are_two(tmp_path: Path) -> None:
    def size(one: Dataset, k: int) -> None:
        if k >= 3:
            set_pixels(one, np.pad(picture(k), ((0, 4), (0, 0))))

    save(tmp_path, [*positions(3), *positions(3)], change=size)
    assert [text for text, _ in stacks(tmp_path)] == ["3 axial slices of 6 x 4", "3 axial slices of 6 x 8"]
