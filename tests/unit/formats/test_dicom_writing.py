"""A scan written as a DICOM series comes back with every value at its place, here and in other programs."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_builder import codes, read
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_med import Grid, Scan
from unet_med.errors import ScanRefused, WriteFailed, WrongUse
from unet_med.formats import write_scan

SHAPE = (3, 4, 5)
STEPS = (0.5, 0.8, 2.5)


def write(scan: Scan, folder: Path) -> None:
    write_scan(scan, folder, "dicom")


def affine(columns: np.ndarray | list[list[float]], origin: tuple[float, ...] = (10.25, -20.5, 30.125)) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = np.asarray(columns, float).T
    result[:3, 3] = origin
    return result


def scan_on(matrix: np.ndarray, shape: tuple[int, int, int] = SHAPE, offsets: tuple[float, ...] | None = None) -> Scan:
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 7
    return Scan(values[np.newaxis], Grid(shape, matrix, offsets), modality="MR")


AS_IT_IS = scan_on(affine([[-0.5, 0, 0], [0, -0.8, 0], [0, 0, 2.5]]))  # right-handed, so that slices keep their order


def round_trip(scan: Scan, folder: Path) -> Scan:
    write(scan, folder)
    return read(folder)


def assert_same_places(back: Scan, scan: Scan) -> None:
    """Every voxel has the value that the scan has at the same point of the patient."""
    assert back.data.size == scan.data.size
    index = np.moveaxis(np.indices(back.grid.shape), 0, -1)
    at = scan.grid.index(back.grid.world(index))
    np.testing.assert_allclose(at, np.rint(at), atol=1e-6)
    i, j, k = np.moveaxis(np.rint(at).astype(int), -1, 0)
    np.testing.assert_array_equal(back.data[0], scan.data[0][i, j, k])


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_all_48_axis_orders_come_back(tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    columns = np.zeros((3, 3))
    for axis in range(3):
        columns[axis, order[axis]] = signs[axis] * STEPS[axis]
    scan = scan_on(affine(columns))
    back = round_trip(scan, tmp_path / "out")
    assert back.grid.shape == SHAPE  # columns, rows and slices are those of the scan
    assert back.data.dtype == np.int16
    assert_same_places(back, scan)
    assert not back.findings
    if np.linalg.det(columns) > 0:
        np.testing.assert_array_equal(back.data, scan.data)
        assert back.grid.distance(scan.grid) < 1e-9


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.2),
    st.tuples(*[st.floats(0.3, 7)] * 3),
    st.floats(-0.4, 0.4),
)
def test_oblique_and_tilted_stacks_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    quaternion: tuple[float, ...],
    steps: tuple[float, ...],
    shear: float,
) -> None:
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    columns = (turn * steps).T
    columns[2] += shear * steps[2] * turn[:, 1]
    scan = scan_on(affine(columns))
    back = round_trip(scan, tmp_path_factory.mktemp("oblique") / "out")
    assert back.grid.distance(scan.grid) < 1e-6
    np.testing.assert_array_equal(back.data, scan.data)


def test_uneven_and_tilted_slices_come_back(tmp_path: Path) -> None:
    mean = 12 / 4
    step = mean * np.array([0, 0.28, 0.96])  # a unit vector in whole hundredths
    scan = scan_on(affine([[-0.5, 0, 0], [0, -0.8, 0], list(step)]), offsets=(0, 2, 5.5, 8, 12))
    back = round_trip(scan, tmp_path / "out")
    assert back.grid.slice_offsets == pytest.approx((0, 2, 5.5, 8, 12))
    assert back.grid.distance(scan.grid) < 1e-9
    np.testing.assert_array_equal(back.data, scan.data)
    assert codes(back) == ["gantry_tilt", "uneven_spacing"]


def test_one_slice_comes_back_with_its_thickness(tmp_path: Path) -> None:
    scan = scan_on(affine([[-0.5, 0, 0], [0, -0.8, 0], [0, 0, 2.5]]), (3, 4, 1))
    back = round_trip(scan, tmp_path / "out")
    assert back.grid.distance(scan.grid) < 1e-9
    assert back.grid.spacing[2] == 2.5


def test_simpleitk_reads_the_same_volume(tmp_path: Path) -> None:
    matrix = affine([[-0.3, -0.4, 0], [0.64, -0.48, 0], [0, 0, 2.5]])
    scan = scan_on(matrix)
    write(scan, tmp_path / "out")
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "out"))
    peer = SimpleITK.ReadImage(names)
    assert peer.GetSize() == SHAPE
    for index in ((0, 0, 0), (2, 0, 0), (0, 3, 0), (1, 2, 4)):
        x, y, z = peer.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(scan.grid.world(index), (-x, -y, z), atol=1e-6)
        assert peer.GetPixel(index) == scan.data[(0, *index)]


def test_every_file_states_its_own_position(tmp_path: Path) -> None:
    write(AS_IT_IS, tmp_path / "out")
    third = pydicom.dcmread(sorted((tmp_path / "out").iterdir())[2])
    assert [float(value) for value in third.ImagePositionPatient] == [-10.25, 20.5, 35.125]  # LPS
    assert [float(value) for value in third.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert [float(value) for value in third.PixelSpacing] == [0.8, 0.5]  # between rows first
    assert (third.Rows, third.Columns, third.InstanceNumber) == (4, 3, 3)
    assert third.pixel_array[3, 2] == AS_IT_IS.data[0, 2, 3, 2]


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([-32768, 0, 32767], np.int16), np.int16),
        (np.array([0, 1, 65535], np.uint16), np.uint16),
        (np.array([100000, 100001, 165535], np.int32), np.int32),
        (np.array([-5.0, 0.0, 7.0], np.float64), np.int16),
        (np.array([False, True, True]), np.int16),
    ],
)
def test_whole_numbers_come_back_exactly(tmp_path: Path, values: np.ndarray, kind: type) -> None:
    scan = replace(AS_IT_IS, data=np.resize(values, (1, *SHAPE)))
    back = round_trip(scan, tmp_path / "out")
    assert back.data.dtype == kind
    np.testing.assert_array_equal(back.data, scan.data)


def test_fractions_come_back_to_a_65536th_of_their_range(tmp_path: Path) -> None:
    data = np.random.default_rng(3).normal(size=(1, *SHAPE))
    back = round_trip(replace(AS_IT_IS, data=data), tmp_path / "out")
    step = np.ptp(data) / 65535
    assert 0 < np.abs(back.data - data).max() < 0.51 * step


def test_ct_values_come_back_in_hounsfield_units(tmp_path: Path) -> None:
    back = round_trip(replace(AS_IT_IS, modality="CT", units="HU"), tmp_path / "out")
    assert (back.modality, back.units) == ("CT", "HU")
    np.testing.assert_array_equal(back.data, AS_IT_IS.data)


# -- manners ----------------------------------------------------------------------------------------------------------


def test_the_same_scan_gives_the_same_bytes_and_another_gives_other_uids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(AS_IT_IS, tmp_path / name)
    write(replace(AS_IT_IS, data=AS_IT_IS.data + np.int16(1)), tmp_path / "c")
    first, second, other = (sorted((tmp_path / name).iterdir()) for name in "abc")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    ours, theirs = pydicom.dcmread(first[0]), pydicom.dcmread(other[0])
    for tag in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert ours[tag].value != theirs[tag].value
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in first}) == 5


def test_no_patient_is_named(tmp_path: Path) -> None:
    source = replace(AS_IT_IS.source, identity=("Secret^Name", "SECRET-ID"))
    write(replace(AS_IT_IS, source=source), tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert b"secret" not in path.read_bytes().lower()
        one = pydicom.dcmread(path)
        assert not one.PatientName
        assert not one.PatientID


def test_rows_that_are_not_perpendicular_to_columns_are_refused(tmp_path: Path) -> None:
    scan = scan_on(affine([[0.5, 0, 0], [0.1, 0.8, 0], [0, 0, 2.5]]))
    with pytest.raises(ScanRefused, match=r"82\.87 degrees") as caught:  # atan(0.8 / 0.1)
        write(scan, tmp_path / "out")
    assert caught.value.code == "sheared"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"data": np.full((1, *SHAPE), np.nan)}, "non_finite_values"),
        ({"data": np.resize(np.array([0, 70000]), (1, *SHAPE))}, "unsupported_data_type"),
        ({"space_units": "pixel"}, "unknown_spacing"),
    ],
)
def test_what_dicom_cannot_hold_is_refused(tmp_path: Path, change: dict[str, object], code: str) -> None:
    with pytest.raises(ScanRefused) as caught:
        write(replace(AS_IT_IS, **change), tmp_path / "out")  # type: ignore[arg-type]
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("modality", [None, "US"])
def test_a_modality_that_cannot_be_written_is_asked_for(tmp_path: Path, modality: str | None) -> None:
    with pytest.raises(WrongUse, match="modality"):
        write(replace(AS_IT_IS, modality=modality), tmp_path / "out")


def test_two_channels_are_no_series(tmp_path: Path) -> None:
    scan = Scan.from_array(np.zeros((2, *SHAPE)), np.eye(4), modality="MR")
    with pytest.raises(WrongUse, match="one channel, not 2"):
        write(scan, tmp_path / "out")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(WrongUse):
        write(AS_IT_IS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed):
        write(AS_IT_IS, tmp_path / "no" / "such" / "folder")
    assert not list(tmp_path.iterdir())
