"""NRRD and MetaImage files: headers written by hand, and what ITK makes of ours."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_med import Grid, Scan, Segmentation, read_scan, read_segmentation, write_scan, write_segmentation
from unet_med.errors import FileUnreadable, ScanRefused

VOXELS = np.arange(24, dtype=np.uint8).reshape((2, 3, 4), order="F")
"""Voxel (i, j, k) holds i + 2 j + 6 k."""

NRRD = {
    "type": "unsigned char",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "2 3 4",
    "space directions": "(2,0,0) (0,3,0) (0,0,4)",
    "kinds": "domain domain domain",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}
METAIMAGE = {
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "10 20 30",
    "ElementSpacing": "2 3 4",
    "DimSize": "2 3 4",
    "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}
LPS_AFFINE = [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]
"""What both headers say, in RAS."""


def nrrd(path: Path, data: bytes = VOXELS.tobytes(order="F"), **changes: str | None) -> Path:
    fields = NRRD | {name.replace("_", " "): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    path.write_bytes("\n".join(["NRRD0004", *lines, "", ""]).encode() + data)
    return path


def metaimage(path: Path, data: bytes = VOXELS.tobytes(order="F"), **changes: str | None) -> Path:
    fields = {**METAIMAGE, **changes}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last line of a header
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    path.write_bytes("\n".join([*lines, ""]).encode() + data)
    return path


def codes(scan: Scan) -> list[str]:
    return [finding.code for finding in scan.findings]


# -- geometry ---------------------------------------------------------------------------------------------------------


def test_a_nrrd_file_by_hand(tmp_path: Path) -> None:
    scan = read_scan(nrrd(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(scan.data[0], VOXELS)
    np.testing.assert_array_equal(scan.grid.affine, LPS_AFFINE)
    assert (scan.source.kind, scan.space_units, scan.modality, codes(scan)) == ("nrrd", "mm", None, [])


def test_a_metaimage_by_hand(tmp_path: Path) -> None:
    scan = read_scan(metaimage(tmp_path / "a.mha"))
    np.testing.assert_array_equal(scan.data[0], VOXELS)
    np.testing.assert_array_equal(scan.grid.affine, LPS_AFFINE)
    assert (scan.source.kind, scan.space_units, codes(scan)) == ("metaimage", "mm", [])


def test_headers_with_their_data_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "my voxels.raw").write_bytes(VOXELS.tobytes(order="F"))
    for path in (
        nrrd(tmp_path / "a.nhdr", b"", data_file="my voxels.raw"),
        metaimage(tmp_path / "a.mhd", b"", ElementDataFile="my voxels.raw"),
    ):
        scan = read_scan(path)
        np.testing.assert_array_equal(scan.data[0], VOXELS)
        np.testing.assert_array_equal(scan.grid.affine, LPS_AFFINE)
        assert scan.source.name == str(path)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("LPS", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1))],
)
def test_every_patient_space_comes_to_ras(space: str, signs: tuple[int, ...], tmp_path: Path) -> None:
    scan = read_scan(nrrd(tmp_path / "a.nrrd", space=space))
    np.testing.assert_array_equal(scan.grid.affine[:3], np.diag(signs) @ [[2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30]])
    assert codes(scan) == []


def test_a_shear_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    """A gantry tilt: each slice 0.7 mm further along y. Squared off it would be wrong by 2.1 mm at the last slice."""
    tilted = nrrd(tmp_path / "a.nrrd", space_directions="(2,0,0) (0,3,0) (0,0.7,4)")
    step = np.hypot(0.7, 4)
    other = metaimage(
        tmp_path / "a.mha",
        TransformMatrix=f"1 0 0 0 1 0 0 {0.7 / step!r} {4 / step!r}".replace("np.float64(", "").replace(")", ""),
        ElementSpacing=f"2 3 {float(step)!r}",
    )
    for path in (tilted, other):
        scan = read_scan(path)
        np.testing.assert_allclose(
            scan.grid.affine[:3], [[-2, 0, 0, -10], [0, -3, -0.7, -20], [0, 0, 4, 30]], atol=1e-12
        )
        assert codes(scan) == ["sheared"]


@pytest.mark.parametrize(
    "path",
    [
        lambda folder: nrrd(folder / "a.nrrd", space=None, space_directions=None, space_origin=None, spacings="2 3 4"),
        lambda folder: nrrd(folder / "a.nrrd", space="scanner-xyz"),
        lambda folder: nrrd(folder / "a.nrrd", space_origin=None),
        lambda folder: metaimage(folder / "a.mha", TransformMatrix=None),
        lambda folder: metaimage(folder / "a.mha", Offset=None),
    ],
)
def test_what_is_missing_for_a_place_in_the_patient_is_told(path, tmp_path: Path) -> None:
    scan = read_scan(path(tmp_path))
    assert codes(scan) == ["no_orientation"]
    assert scan.grid.spacing == (2, 3, 4)


def test_without_a_voxel_size_lengths_are_in_voxels(tmp_path: Path) -> None:
    bare = nrrd(tmp_path / "a.nrrd", space=None, space_directions=None, space_origin=None)
    for path in (bare, metaimage(tmp_path / "a.mha", ElementSpacing=None)):
        scan = read_scan(path)
        assert scan.space_units == "pixel"
        assert "no_pixel_spacing" in codes(scan)


@pytest.mark.parametrize(("unit", "factor"), [("cm", 10), ("um", 0.001), ("m", 1000)])
def test_lengths_are_converted_to_mm(unit: str, factor: float, tmp_path: Path) -> None:
    for path in (
        nrrd(tmp_path / "a.nrrd", space_units=f'"{unit}" "{unit}" "{unit}"'),
        metaimage(tmp_path / "a.mha", DistanceUnits=unit),
    ):
        scan = read_scan(path)
        np.testing.assert_allclose(scan.grid.affine[:3], np.array(LPS_AFFINE)[:3] * factor)
        assert codes(scan) == ["units_converted"]


def test_a_matrix_that_contradicts_the_voxel_size_is_told(tmp_path: Path) -> None:
    scan = read_scan(metaimage(tmp_path / "a.mha", TransformMatrix="2 0 0 0 1 0 0 0 1"))
    assert scan.grid.spacing == (4, 3, 4)
    assert codes(scan) == ["spacing_tag_disagrees"]


def test_a_two_dimensional_file_says_that_it_has_no_thickness(tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd", dimension="2", sizes="4 6", space=None, space_directions=None, space_origin=None,
        kinds=None, spacings="2 3",
    )  # fmt: skip
    scan = read_scan(path)
    assert scan.data.shape == (1, 4, 6, 1)
    assert scan.grid.spacing == (2, 3, 1)
    assert codes(scan) == ["no_orientation", "single_slice"]


@pytest.mark.parametrize(
    "path",
    [
        lambda folder: nrrd(folder / "a.nrrd", space_directions="(2,0,0) (2,0,0) (0,0,4)"),
        lambda folder: nrrd(folder / "a.nrrd", space_directions="(2,0,0) (0,0,0) (0,0,4)"),
        lambda folder: nrrd(folder / "a.nrrd", space_directions="(2,0,0) (0,nan,0) (0,0,4)"),
        lambda folder: nrrd(folder / "a.nrrd", space_directions="(2,0,0) (0,3,0) none"),
        lambda folder: metaimage(folder / "a.mha", TransformMatrix="1 0 0 0 0 0 0 0 1"),
        lambda folder: metaimage(folder / "a.mha", ElementSpacing="2 3 0"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(path, tmp_path: Path) -> None:
    with pytest.raises(ScanRefused, match="where they lie cannot be told") as caught:
        read_scan(path(tmp_path))
    assert caught.value.code == "invalid_geometry"


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "directions", "kinds", "axis"),
    [
        ("2 3 4 2", "(2,0,0) (0,3,0) (0,0,4) none", "domain domain domain list", 3),
        ("2 2 3 4", "none (2,0,0) (0,3,0) (0,0,4)", "vector domain domain domain", 0),
    ],
)
def test_several_values_a_voxel_are_channels_wherever_they_lie(
    sizes: str, directions: str, kinds: str, axis: int, tmp_path: Path
) -> None:
    stored = np.stack([VOXELS, VOXELS + 100], axis=axis)
    changes = {"dimension": "4", "sizes": sizes, "space_directions": directions, "kinds": kinds}
    path = nrrd(tmp_path / "a.nrrd", stored.tobytes(order="F"), **changes)
    np.testing.assert_array_equal(read_scan(path, channels=2).data, [VOXELS, VOXELS + 100])
    with pytest.raises(ScanRefused, match="2 values a voxel") as caught:
        read_scan(path)
    assert caught.value.code == "too_many_channels"


def test_a_fourth_dimension_of_a_metaimage_is_channels(tmp_path: Path) -> None:
    stored = np.stack([VOXELS, VOXELS + 100], axis=3)
    path = metaimage(
        tmp_path / "a.mha", stored.tobytes(order="F"), NDims="4", DimSize="2 3 4 2", ElementSpacing="2 3 4 1",
        Offset="10 20 30 0", TransformMatrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
    )  # fmt: skip
    scan = read_scan(path, channels=2)
    np.testing.assert_array_equal(scan.data, [VOXELS, VOXELS + 100])
    np.testing.assert_array_equal(scan.grid.affine, LPS_AFFINE)


def test_big_endian_and_floating_point(tmp_path: Path) -> None:
    voxels = VOXELS / 8
    voxels[0, 0, 0] = np.nan
    path = nrrd(tmp_path / "a.nrrd", voxels.astype(">f8").tobytes(order="F"), type="double", endian="big")
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.data[0], voxels)
    assert scan.data.dtype == np.float64
    assert codes(scan) == ["non_finite_values"]


# -- damage -----------------------------------------------------------------------------------------------------------


def test_damaged_compressed_data_are_noticed_although_itk_does_not(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 9, (30, 30, 30)).astype(np.uint8)
    packed = bytearray(zlib.compress(voxels.tobytes(order="F")))
    size = {"DimSize": "30 30 30", "CompressedData": "True", "CompressedDataSize": str(len(packed))}
    good = metaimage(tmp_path / "good.mha", bytes(packed), **size)
    np.testing.assert_array_equal(read_scan(good).data[0], voxels)

    packed[len(packed) // 2] ^= 255
    damaged = metaimage(tmp_path / "damaged.mha", bytes(packed), **size)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(damaged))) != voxels.T).any()
    with pytest.raises(FileUnreadable, match=r"cut short|damaged"):
        read_scan(damaged)


@pytest.mark.parametrize("stated", [None, "20"])
def test_compressed_data_of_unknown_length_are_refused_because_itk_misreads_them(
    stated: str | None, tmp_path: Path
) -> None:
    packed = zlib.compress(VOXELS.tobytes(order="F"))
    with pytest.raises(FileUnreadable, match=f"CompressedDataSize.* which is {len(packed)} bytes"):
        read_scan(metaimage(tmp_path / "a.mha", packed, CompressedData="True", CompressedDataSize=stated))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (lambda folder: nrrd(folder / "a.nrrd", b"few"), "promises 2 x 3 x 4 voxels in 24 bytes"),
        (lambda folder: metaimage(folder / "a.mha", b"few"), "promises 2 x 3 x 4 voxels in 24 bytes"),
        (lambda folder: nrrd(folder / "a.nrrd", sizes="90000 90000 90000"), "the file holds fewer"),
        (lambda folder: metaimage(folder / "a.mha", DimSize="90000 90000 90000"), "the file holds fewer"),
        (lambda folder: nrrd(folder / "a.nrrd", zlib.compress(b"few"), encoding="gzip"), "damaged"),
        (
            lambda folder: metaimage(
                folder / "a.mha", zlib.compress(b"few"), CompressedData="True", CompressedDataSize="11"
            ),
            "holds fewer",
        ),
        (lambda folder: nrrd(folder / "a.nhdr", b"", data_file="a.raw"), r"a\.raw, which is not there"),
        (lambda folder: metaimage(folder / "a.mhd", b"", ElementDataFile="a.raw"), r"a\.raw, which is not there"),
        (lambda folder: nrrd(folder / "a.nrrd", type="cabbage"), "damaged"),
        (lambda folder: metaimage(folder / "a.nrrd"), "no NRRD file"),
        (lambda folder: nrrd(folder / "a.mha"), "no MetaImage file"),
    ],
)
def test_each_damage_has_its_words(path, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = path(tmp_path)
    with pytest.raises(FileUnreadable, match=message) as caught:
        read_scan(place)
    assert caught.value.where == str(place)
    assert capfd.readouterr() == ("", "")  # ITK prints past Python


# -- writing ----------------------------------------------------------------------------------------------------------


@given(
    matrix=st.tuples(*[st.floats(-3, 3)] * 9).filter(lambda m: abs(np.linalg.det(np.reshape(m, (3, 3)))) > 0.5),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
)
@settings(deadline=None, max_examples=60)
def test_a_mask_lies_where_its_scan_does_sheared_or_not(
    tmp_path_factory: pytest.TempPathFactory,
    matrix: tuple[float, ...],
    origin: tuple[float, ...],
    shape: tuple[int, int, int],
) -> None:
    """Any affine at all; ITK itself is asked where a voxel lies."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(matrix, (3, 3))
    affine[:3, 3] = origin
    labels = (np.arange(np.prod(shape)).reshape(shape) % 300).astype(np.uint16)
    path = tmp_path_factory.mktemp("mask") / "mask.nrrd"
    write_segmentation(Segmentation(labels, Grid(shape, affine), ()), path, "nrrd")
    back = read_segmentation(path)
    np.testing.assert_array_equal(back.labels, labels)
    np.testing.assert_allclose(back.grid.affine, affine, atol=1e-9)

    image = sitk.ReadImage(str(path))
    marked = tuple(n - 1 for n in shape)
    assert image[marked] == labels[marked]
    world = affine @ (*marked, 1)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(marked), world[:3] * (-1, -1, 1), atol=1e-6)


@pytest.mark.parametrize("type", ["bool", "i1", "u2", "i4", "f2", "f4", "f8", ">i2"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_scan_comes_back_as_it_was_written(type: str, channels: int, tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(channels, 2, 3, 4), scale=50).astype(type)
    scan = Scan.from_array(data, np.diag((2.0, 3, 4, 1)))
    write_scan(scan, tmp_path / "a.nrrd", "nrrd")
    back = read_scan(tmp_path / "a.nrrd", channels=channels)
    np.testing.assert_array_equal(back.data, data)
    assert back.grid.is_close(scan.grid, 1e-9)


def test_pixels_stay_pixels(tmp_path: Path) -> None:
    """ITK writes a voxel size of 1 in any case; the next reader must not take that for a millimetre."""
    grid = Grid((2, 3, 1), np.diag((-1.0, -1, 1, 1)))
    write_segmentation(Segmentation(VOXELS[:, :, :1], grid, (), "pixel"), tmp_path / "a.nrrd", "nrrd")
    back = read_segmentation(tmp_path / "a.nrrd")
    assert back.space_units == "pixel"
    assert back.grid == grid


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    mask = Segmentation(VOXELS, Grid((2, 3, 4), np.eye(4)), ())
    for name in ("a.nrrd", "b.nrrd"):
        write_segmentation(mask, tmp_path / name, "nrrd")
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()
