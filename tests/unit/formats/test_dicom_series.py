"""A DICOM series becomes a scan whose every voxel lies where the headers say, or its fault is named."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_builder import (
    COLUMNS,
    CT,
    ORIGIN,
    PET,
    ROWS,
    SPACING,
    codes,
    picture,
    positions,
    read,
    save,
    set_pixels,
)
from pydicom.dataset import Dataset

from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats import dicom_series
from unet_med.formats.dicom_files import is_dicom
from unet_med.formats.dicom_find import find_series
from unet_med.scan import FINDING_CODES, Severity, Source

# 15 degrees about the row axis, with the step straight up: what a tilted gantry gives.
TILTED = (1, 0, 0, 0, 0.965926, -0.258819)
# Rows toward (0.6, 0.8, 0), columns toward (-0.48, 0.36, 0.8): perpendicular unit vectors in whole hundredths.
OBLIQUE = (0.6, 0.8, 0, -0.48, 0.36, 0.8)
OBLIQUE_NORMAL = np.array([0.64, -0.48, 0.6])


def refusal(folder: Path) -> ScanRefused:
    with pytest.raises(ScanRefused) as caught:
        read(folder)
    assert caught.value.code in FINDING_CODES
    assert "Secret" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    return caught.value


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# -- geometry -----------------------------------------------------------------------------------------------------


def test_voxels_lie_where_position_orientation_and_spacing_put_them(tmp_path: Path) -> None:
    scan = read(save(tmp_path))
    assert scan.data.shape == (1, COLUMNS, ROWS, 5)
    # LPS to RAS: x and y change sign. Columns are 0.5 mm apart, rows 0.8 mm, slices 3 mm.
    expected = [[-0.5, 0, 0, 20], [0, -0.8, 0, -30], [0, 0, 3, 100], [0, 0, 0, 1]]
    np.testing.assert_allclose(scan.grid.affine, expected, atol=1e-9)
    assert scan.data[0, 5, 2, 4] == 4025  # column 5, row 2, slice 4
    assert scan.modality == "MR"
    assert scan.units == "arbitrary"
    assert not scan.findings
    assert not scan.data.flags.writeable


def test_a_tilted_gantry_keeps_its_shear_and_is_named_with_its_angle(tmp_path: Path) -> None:
    scan = read(save(tmp_path, orientation=TILTED))
    expected = [[-0.5, 0, 0, 20], [0, -0.772741, 0, -30], [0, -0.207055, 3, 100], [0, 0, 0, 1]]
    np.testing.assert_allclose(scan.grid.affine, expected, atol=1e-5)
    (finding,) = scan.findings
    assert finding.code == "gantry_tilt"
    assert "15.00 degrees" in finding.message


def test_an_oblique_series_lies_where_simpleitk_says(tmp_path: Path) -> None:
    places = [np.array(ORIGIN) + 2.5 * k * OBLIQUE_NORMAL for k in range(5)]
    scan = read(save(tmp_path, places, OBLIQUE))
    peer = SimpleITK.ReadImage([str(path) for path in sorted(tmp_path.iterdir())])
    for index in ((0, 0, 0), (5, 0, 0), (0, 3, 0), (2, 1, 4)):
        x, y, z = peer.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(scan.grid.world(index), (-x, -y, z), atol=1e-4)
        assert scan.data[(0, *index)] == peer.GetPixel(index)
    assert not scan.findings


def test_slices_ascend_along_the_normal_whatever_names_and_numbers_say(tmp_path: Path) -> None:
    def misnumber(one: Dataset, k: int) -> None:
        one.InstanceNumber = (3, 1, 5, 2, 4)[k]
        one.SliceLocation = -k

    straight = read(save(tmp_path / "straight"))
    folder = save(tmp_path / "series", change=misnumber)
    for path, name in zip(sorted(folder.iterdir()), "gbace", strict=True):
        path.rename(folder / name)
    scan = read(folder)
    np.testing.assert_array_equal(scan.data, straight.data)
    assert scan.grid == straight.grid
    assert [path.name for path in scan.source.paths] == list("gbace")


def test_a_stack_that_descends_is_turned_to_ascend(tmp_path: Path) -> None:
    scan = read(save(tmp_path, positions(step=(0, 0, -3))))
    assert scan.grid.affine[2].tolist() == [0, 0, 3, 88]
    assert scan.data[0, 0, 0].tolist() == [4000, 3000, 2000, 1000, 0]


def test_files_of_one_series_are_joined_from_several_folders(tmp_path: Path) -> None:
    folder = save(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (folder / "003.dcm").rename(tmp_path / "b" / "x")
    scan = read(tmp_path)
    assert scan.grid.shape[2] == 5
    assert not scan.findings


def test_a_missing_slice_leaves_the_others_at_their_true_places(tmp_path: Path) -> None:
    folder = save(tmp_path, positions(6))
    (folder / "002.dcm").unlink()
    scan = read(folder)
    assert scan.grid.slice_offsets == pytest.approx((0, 3, 9, 12, 15))
    assert scan.grid.world((0, 0, 2)) == pytest.approx((20, -30, 109))
    assert scan.data[0, 0, 0].tolist() == [0, 1000, 3000, 4000, 5000]
    (finding,) = scan.findings
    assert finding.code == "missing_slice"
    assert "1 missing slice " in finding.message
    assert "after slice 2 of 5" in finding.message


def test_uneven_slices_keep_their_positions(tmp_path: Path) -> None:
    places = [(*ORIGIN[:2], z) for z in (100, 103, 106, 110.4, 114.8)]
    scan = read(save(tmp_path, places))
    assert scan.grid.slice_offsets == pytest.approx((0, 3, 6, 10.4, 14.8))
    assert [scan.grid.world((0, 0, k))[2] for k in range(5)] == pytest.approx([100, 103, 106, 110.4, 114.8])
    assert codes(scan) == ["uneven_spacing"]


def test_uneven_slices_of_a_tilted_stack_keep_their_positions(tmp_path: Path) -> None:
    places = [(-20.0, 30.0, z) for z in (100, 103, 106, 110.4, 114.8)]
    scan = read(save(tmp_path, places, TILTED))
    for k, place in enumerate(places):
        assert scan.grid.world((0, 0, k)) == pytest.approx((20, -30, place[2]), abs=1e-6)
    assert codes(scan) == ["gantry_tilt", "uneven_spacing"]


def test_an_uneven_slice_that_lies_a_little_aside_is_told(tmp_path: Path) -> None:
    places = [(-20.0 + 0.05 * (z == 106), 30.0, z) for z in (100, 103, 106, 110.4, 114.8)]
    scan = read(save(tmp_path, places))
    assert codes(scan) == ["uneven_spacing", "position_jitter"]
    assert "0.050 mm" in scan.findings[1].message


def test_positions_rounded_to_a_tenth_are_one_even_stack_and_a_note_says_how_far_they_stray(tmp_path: Path) -> None:
    places = [(*ORIGIN[:2], round(100 + 1.1719 * k, 1)) for k in range(20)]
    scan = read(save(tmp_path, places))
    assert scan.grid.slice_offsets is None
    (finding,) = scan.findings
    assert (finding.code, finding.severity) == ("position_jitter", Severity.NOTE)


@pytest.mark.parametrize("which", range(5))
def test_no_slice_moves_by_a_fiftieth_of_a_millimetre_unnoticed(tmp_path: Path, which: int) -> None:
    places = positions()
    places[which] = places[which] + (0, 0, 0.02)
    assert codes(read(save(tmp_path / "along", places))) == ["position_jitter"]
    places = positions()
    places[which] = places[which] + (0.02, 0, 0)
    assert codes(read(save(tmp_path / "aside", places))) == ["position_jitter"]


def test_a_corner_that_moves_by_more_than_a_hundredth_of_a_millimetre_in_small_parts_is_told(tmp_path: Path) -> None:
    def spaced(between_rows: float, between_columns: float) -> Callable[[Dataset, int], None]:
        def change(one: Dataset, k: int) -> None:
            if k == 4:
                one.PixelSpacing = [SPACING[0] + between_rows, SPACING[1] + between_columns]

        return change

    # 3 steps between rows and 5 between columns: 0.0072 mm down and 0.0078 mm to the right are 0.0106 mm.
    assert codes(read(save(tmp_path / "both", change=spaced(0.0024, 0.00156)))) == ["position_jitter"]
    # 0.009 mm to the right by the position, and at the last column 0.006 mm more.
    places = positions()
    places[4] = places[4] + (0.009, 0, 0)
    assert codes(read(save(tmp_path / "sum", places, change=spaced(0, 0.0012)))) == ["position_jitter"]
    assert codes(read(save(tmp_path / "one", places))) == []


def test_a_slice_far_aside_of_the_stack_is_refused(tmp_path: Path) -> None:
    places = positions()
    places[2] = places[2] + (12, 0, 0)
    error = refusal(save(tmp_path, places))
    assert error.code == "not_collinear"
    assert "12.00 mm" in error.what
    assert str(error.where).endswith("002.dcm")


def test_one_slice_is_as_thick_as_its_tag_says(tmp_path: Path) -> None:
    scan = read(save(tmp_path, positions(1)))
    assert scan.grid.shape == (COLUMNS, ROWS, 1)
    assert scan.grid.affine[:3, 2].tolist() == [0, 0, 3]
    assert codes(scan) == ["single_slice"]


def test_one_slice_without_a_thickness_is_refused(tmp_path: Path) -> None:
    def thin(one: Dataset, k: int) -> None:
        del one.SliceThickness

    assert refusal(save(tmp_path, positions(1), change=thin)).code == "missing_geometry"


def test_positions_count_and_a_spacing_tag_that_disagrees_is_told(tmp_path: Path) -> None:
    def lie(one: Dataset, k: int) -> None:
        one.SpacingBetweenSlices = 4
        one.SliceThickness = 9

    scan = read(save(tmp_path, change=lie))
    assert scan.grid.spacing == pytest.approx((0.5, 0.8, 3))
    (finding,) = scan.findings
    assert finding.code == "spacing_tag_disagrees"
    assert "4 mm" in finding.message
    assert "3 mm" in finding.message


def test_slices_missing_at_the_end_are_told_when_the_header_counts_more(tmp_path: Path) -> None:
    def count(one: Dataset, k: int) -> None:
        one.ImagesInAcquisition = 7

    (finding,) = read(save(tmp_path, change=count)).findings
    assert finding.code == "missing_slice"
    assert "7 images" in finding.message


def test_orientations_with_three_decimals_are_made_perpendicular_and_noted(tmp_path: Path) -> None:
    def rounded(one: Dataset, k: int) -> None:
        one.ImageOrientationPatient = [0.6, 0.8, 0.001, -0.48, 0.36, 0.8]
        one.PixelSpacing = [20, 20]

    places = [np.array(ORIGIN) + 2.5 * k * OBLIQUE_NORMAL for k in range(3)]
    scan = read(save(tmp_path, places, change=rounded))
    assert codes(scan) == ["position_jitter"]
    row, column = scan.grid.affine[:3, 0], scan.grid.affine[:3, 1]
    assert abs(row @ column) < 1e-9


# -- what is no single stack ----------------------------------------------------------------------------------------


def turn(one: Dataset) -> None:
    one.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def tilt(one: Dataset) -> None:
    one.ImageOrientationPatient = [1, 0, 0, 0, 0.995, 0.0998749]


MIXED: dict[str, tuple[Callable[[Dataset], Any], str]] = {
    "mixed_orientation": (tilt, "1 of 1.000, 0.000, 0.000, 0.000, 0.995, 0.100"),
    "mixed_matrix": (lambda one: set_pixels(one, np.zeros((3, 6), np.int16)), "1 of 6 x 3"),
    "mixed_spacing": (lambda one: setattr(one, "PixelSpacing", [0.8, 0.6]), "0.8 x 0.6 mm"),
    "mixed_frame_of_reference": (lambda one: setattr(one, "FrameOfReferenceUID", "1.2.7"), "2 different"),
    "missing_geometry": (lambda one: delattr(one, "ImagePositionPatient"), "ImagePositionPatient"),
    "colour_image": (lambda one: setattr(one, "PhotometricInterpretation", "PALETTE COLOR"), "PALETTE COLOR"),
    "monochrome1": (lambda one: setattr(one, "PhotometricInterpretation", "MONOCHROME1"), "MONOCHROME1"),
    "invalid_rescale": (lambda one: one.update({"RescaleSlope": "0", "RescaleIntercept": "0"}), "slope 0"),
    "unsupported_data_type": (lambda one: setattr(one, "HighBit", 11), "highest at 11"),
}


@pytest.mark.parametrize("code", MIXED)
def test_one_slice_that_does_not_fit_the_others_is_refused_by_name(tmp_path: Path, code: str) -> None:
    change, words = MIXED[code]
    error = refusal(save(tmp_path, change=lambda one, k: change(one) if k == 2 else None))
    assert error.code == code
    assert words in error.what


@pytest.mark.parametrize(
    ("tag", "value", "code"),
    [
        ("PixelSpacing", [0, 0], "invalid_spacing"),
        ("PixelSpacing", [0.5], "missing_geometry"),
        ("ImageOrientationPatient", [1, 0, 0, 0.2, 0.5, 0], "invalid_orientation"),
        ("ImageOrientationPatient", [], "missing_geometry"),
        ("ImagePositionPatient", [], "missing_geometry"),
        ("ImagePositionPatient", ["1E300", 0, 0], "invalid_geometry"),
        ("PixelSpacing", ["1E300", 1], "invalid_spacing"),
        ("ImageOrientationPatient", ["1E300", 0, 0, 0, 1, 0], "invalid_orientation"),
        ("PixelSpacing", ["1E-300", 1], "invalid_geometry"),
    ],
)
def test_geometry_that_cannot_be_meant_is_refused(tmp_path: Path, tag: str, value: Any, code: str) -> None:
    assert refusal(save(tmp_path, change=lambda one, k: setattr(one, tag, value))).code == code


def test_decimal_commas_are_no_numbers(tmp_path: Path) -> None:
    folder = save(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"-20\\30\\10", b"-20\\30\\1,"))
    assert refusal(folder).code == "missing_geometry"


def test_images_that_share_a_place_are_refused_and_what_tells_them_apart_is_named(tmp_path: Path) -> None:
    def echo(one: Dataset, k: int) -> None:
        one.EchoTime = (4.5, 9.0)[k // 3]

    # The second echo lacks a slice and has another one twice, so it is no volume.
    error = refusal(save(tmp_path, [*positions(3), *positions(2), positions(2)[0]], change=echo))
    assert error.code == "repeated_position"
    assert "6 images lie at 3 positions" in error.what
    assert "EchoTime (4.5, 9.0)" in error.what


def test_images_of_one_place_that_moved_a_little_between_them_are_no_thin_slices(tmp_path: Path) -> None:
    moved = [place + np.array((0, 0, 0.03)) for place in positions(3)]
    folder = save(tmp_path, [*positions(3), *moved], change=lambda one, k: setattr(one, "InstanceNumber", 1))
    assert refusal(folder).code == "repeated_position"


def test_thick_slabs_at_small_steps_are_a_stack(tmp_path: Path) -> None:
    def slab(one: Dataset, k: int) -> None:
        one.SliceThickness = 20

    scan = read(save(tmp_path, positions(step=(0, 0, 0.3)), change=slab))
    assert scan.grid.shape[2] == 5
    assert scan.grid.spacing[2] == pytest.approx(0.3)


def test_a_missing_slice_shows_in_the_thinnest_stack(tmp_path: Path) -> None:
    folder = save(tmp_path, positions(6, (0, 0, 0.15)))
    (folder / "003.dcm").unlink()
    assert codes(read(folder)) == ["missing_slice"]


def test_images_side_by_side_in_one_plane_are_refused(tmp_path: Path) -> None:
    aside = [place + np.array((50, 0, 0)) for place in positions(3)]
    assert refusal(save(tmp_path, [*positions(3), *aside])).code == "several_stacks"


def test_an_equal_copy_of_a_slice_is_used_once_and_told(tmp_path: Path) -> None:
    folder = save(tmp_path)
    shutil.copy(folder / "001.dcm", folder / "copy")
    scan = read(folder)
    assert scan.data[0, 0, 0].tolist() == [0, 1000, 2000, 3000, 4000]
    assert codes(scan) == ["duplicate_slice"]


def test_a_copy_with_another_rescale_is_another_image(tmp_path: Path) -> None:
    def rescale(one: Dataset, k: int) -> None:
        one.RescaleSlope, one.RescaleIntercept = (2 if k == 5 else 1), 0
        if k == 5:
            set_pixels(one, picture(4))

    assert refusal(save(tmp_path, [*positions(5), positions(5)[4]], change=rescale)).code == "repeated_position"


# -- objects that are not read --------------------------------------------------------------------------------------


def enhanced(one: Dataset, k: int) -> None:
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"


def many_frames(one: Dataset, k: int) -> None:
    one.NumberOfFrames = 3
    one.PixelData = one.PixelData * 3


@pytest.mark.parametrize("change", [enhanced, many_frames])
def test_frames_that_nothing_places_are_refused_by_name(tmp_path: Path, change: Callable[..., None]) -> None:
    error = refusal(save(tmp_path, change=change))
    assert error.code == "missing_geometry"
    assert "multi-frame" in error.what


def mosaic(one: Dataset, k: int) -> None:
    one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


def hidden_mosaic(one: Dataset, k: int) -> None:
    block = one.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", 4)


def other_mosaic(one: Dataset, k: int) -> None:
    one.ImageType = ["ORIGINAL", "PRIMARY", "EPI", "VFRAME"]


@pytest.mark.parametrize(
    ("change", "code"),
    [(mosaic, "siemens_mosaic"), (hidden_mosaic, "siemens_mosaic"), (other_mosaic, "vendor_mosaic")],
)
def test_mosaics_are_refused_by_name(tmp_path: Path, change: Callable[..., None], code: str) -> None:
    assert refusal(save(tmp_path, change=change)).code == code


def test_another_makers_private_tag_is_no_mosaic(tmp_path: Path) -> None:
    def other(one: Dataset, k: int) -> None:
        one.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x0A, "US", 4)

    assert read(save(tmp_path, change=other)).grid.shape[2] == 5


def test_a_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        one.PixelData = pydicom.encaps.encapsulate([b"a film"])
        one["PixelData"].VR = "OB"
        pydicom.dcmwrite(path, one)
    error = refusal(folder)
    assert error.code == "unsupported_transfer_syntax"
    assert "MPEG2" in error.what


def test_more_than_one_channel_cannot_be_had(tmp_path: Path) -> None:
    sources, _ = find_series(files_in(save(tmp_path)))
    with pytest.raises(ScanRefused) as caught:
        dicom_series.read(sources[0], channels=2)
    assert caught.value.code == "channel_count"


@pytest.mark.parametrize(("slope", "intercept"), [("1E300", "0"), ("1.5", "1E300"), ("0", "1"), ("", "1"), ("1", None)])
def test_a_rescale_that_cannot_be_meant_is_refused(tmp_path: Path, slope: str, intercept: str | None) -> None:
    def rescale(one: Dataset, k: int) -> None:
        one.RescaleSlope = slope
        if intercept is not None:
            one.RescaleIntercept = intercept

    assert refusal(save(tmp_path, change=rescale)).code == "invalid_rescale"


# -- values -----------------------------------------------------------------------------------------------------------


def test_ct_values_are_whole_hounsfield_units(tmp_path: Path) -> None:
    def ct(one: Dataset, k: int) -> None:
        one.SOPClassUID, one.Modality = CT, "CT"
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        set_pixels(one, picture(0).astype(np.uint16), bits=12)

    scan = read(save(tmp_path, change=ct))
    assert scan.units == "HU"
    assert scan.data.dtype == np.int16
    assert scan.data[0, 5, 3, 0] == 35 - 1024


def test_pet_values_are_rescaled_slice_by_slice(tmp_path: Path) -> None:
    def pet(one: Dataset, k: int) -> None:
        one.SOPClassUID, one.Modality, one.Units = PET, "PT", "BQML"
        one.RescaleSlope, one.RescaleIntercept = 0.25 * (k + 1), 0

    scan = read(save(tmp_path, change=pet))
    assert scan.units == "Bq/ml"
    assert scan.data.dtype == np.float32
    assert [float(scan.data[0, 1, 0, k]) for k in range(3)] == [0.25, 1001 * 0.5, 2001 * 0.75]


def test_whole_rescales_that_vary_stay_whole_numbers(tmp_path: Path) -> None:
    def scaled(one: Dataset, k: int) -> None:
        one.RescaleSlope, one.RescaleIntercept = k + 1, -k

    scan = read(save(tmp_path, change=scaled))
    assert scan.data.dtype == np.int32
    assert scan.data[0, 1, 0].tolist() == [1, 2001, 6001, 12001, 20001]


def test_large_rescaled_values_do_not_wrap_around(tmp_path: Path) -> None:
    def large(one: Dataset, k: int) -> None:
        set_pixels(one, np.full((ROWS, COLUMNS), 60000, np.uint16))
        one.RescaleSlope, one.RescaleIntercept = 10, 5

    assert (read(save(tmp_path, change=large)).data == 600005).all()


def test_signed_12_bit_values_keep_their_sign_and_lose_what_stands_above_them(tmp_path: Path) -> None:
    def overlay(one: Dataset, k: int) -> None:
        # -1 in 12 bits is 0xFFF; the four bits above hold rubbish.
        set_pixels(one, np.full((ROWS, COLUMNS), 0x5FFF, np.int16), bits=12)

    assert (read(save(tmp_path, change=overlay)).data == -1).all()


def test_big_endian_files_give_the_same_native_values(tmp_path: Path) -> None:
    straight = read(save(tmp_path / "little"))
    folder = tmp_path / "big"
    folder.mkdir()
    for path in (tmp_path / "little").iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
        one.PixelData = np.frombuffer(one.PixelData, "<i2").astype(">i2").tobytes()
        pydicom.dcmwrite(folder / path.name, one, implicit_vr=False, little_endian=False, force_encoding=True)
    scan = read(folder)
    assert scan.data.dtype.isnative
    np.testing.assert_array_equal(scan.data, straight.data)


def test_rle_compressed_slices_give_the_same_values(tmp_path: Path) -> None:
    straight = read(save(tmp_path / "plain"))
    packed = save(tmp_path / "rle")
    for path in packed.iterdir():
        one = pydicom.dcmread(path)
        one.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
        one.save_as(path)
    np.testing.assert_array_equal(read(packed).data, straight.data)


def test_padding_is_kept_counted_and_told(tmp_path: Path) -> None:
    def padded(one: Dataset, k: int) -> None:
        pixels = picture(k)
        pixels[0, :2] = -2000
        set_pixels(one, pixels)
        one.PixelPaddingValue = -2000

    scan = read(save(tmp_path, change=padded))
    assert scan.data[0, 0, 0, 0] == -2000
    (finding,) = scan.findings
    assert finding.code == "padding_values"
    assert finding.message.startswith("10 voxels")  # two in each of five slices


def test_monochrome1_is_used_as_stored_and_told(tmp_path: Path) -> None:
    scan = read(save(tmp_path, change=lambda one, k: setattr(one, "PhotometricInterpretation", "MONOCHROME1")))
    assert scan.data[0, 5, 2, 4] == 4025
    assert codes(scan) == ["monochrome1"]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_cut_short_is_refused_and_named(tmp_path: Path) -> None:
    folder = save(tmp_path)
    cut = folder / "003.dcm"
    cut.write_bytes(cut.read_bytes()[:-10])
    error = refusal(folder)
    assert error.code == "unreadable_instance"
    assert error.where is not None
    assert error.where.endswith("003.dcm")


def test_a_header_cut_short_is_a_problem_and_told_by_the_series_beside_it(tmp_path: Path) -> None:
    folder = save(tmp_path)
    cut = folder / "004.dcm"
    cut.write_bytes(cut.read_bytes()[:400])
    sources, problems = find_series(files_in(folder))
    assert [Path(str(problem.where)).name for problem in problems] == ["004.dcm"]
    assert isinstance(problems[0], FileUnreadable)
    (finding,) = dicom_series.read(sources[0]).findings
    assert finding.code == "unreadable_instance"
    assert finding.message.startswith("1 file ")


def test_a_size_that_no_file_could_hold_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    def huge(one: Dataset, k: int) -> None:
        one.Rows = one.Columns = 65535

    error = refusal(save(tmp_path, positions(1), change=huge))
    assert error.code == "unreadable_instance"
    assert "8590 MB" in error.what


def test_files_without_preamble_are_dicom_and_read(tmp_path: Path) -> None:
    straight = read(save(tmp_path / "whole"))
    folder = save(tmp_path / "bare")
    for k, path in enumerate(sorted(folder.iterdir())):
        whole = path.read_bytes()
        if k % 2:
            path.write_bytes(whole[132:])  # file meta information first
        else:
            one = pydicom.dcmread(path)
            with path.open("wb") as file:  # the data set alone
                pydicom.filewriter.write_dataset(pydicom.filebase.DicomFileLike(file), one)
        assert is_dicom(path)
    np.testing.assert_array_equal(read(folder).data, straight.data)


def test_what_is_no_dicom_is_told_from_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("DICM is a mark")
    (tmp_path / "group8").write_bytes(b"\x08\x00" + bytes(range(200)))
    (tmp_path / "empty").touch()
    assert [is_dicom(path) for path in sorted(tmp_path.iterdir())] == [False, False, False]
    assert not is_dicom(tmp_path)
    assert find_series(sorted(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"hello", "holds no DICOM data")])
def test_a_file_named_like_dicom_that_is_none_is_a_problem(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "image.dcm").write_bytes(content)
    sources, problems = find_series([tmp_path / "image.dcm"])
    assert not sources
    assert words in str(problems[0])


def test_two_series_in_a_folder_are_two_sources(tmp_path: Path) -> None:
    def split(one: Dataset, k: int) -> None:
        if k % 2:
            one.SeriesInstanceUID, one.SeriesNumber, one.Modality = "1.2.9", 1, "OT"

    sources, problems = find_series(files_in(save(tmp_path, change=split)))
    assert not problems
    assert [[path.name for path in source.paths] for source in sources] == [
        ["001.dcm", "003.dcm"],
        ["000.dcm", "002.dcm", "004.dcm"],
    ]
    assert [source.series_number for source in sources] == [1, 3]
    assert [source.modality for source in sources] == [None, "MR"]
    assert sources[1].series_uid == "1.2.4"
    assert sources[1].description == "t1 of a test"
    assert sources[1].identity == ("Secret^Name", "SECRET-ID")


def test_one_series_uid_for_two_patients_gives_two_sources(tmp_path: Path) -> None:
    folder = save(tmp_path, change=lambda one, k: setattr(one, "PatientID", "AB"[k // 3]))
    assert [len(source.paths) for source in find_series(files_in(folder))[0]] == [3, 2]


@pytest.mark.parametrize(
    "other", ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.481.3"]
)
def test_segmentations_reports_and_structure_sets_are_no_scans(tmp_path: Path, other: str) -> None:
    def change(one: Dataset, k: int) -> None:
        if k == 4:
            one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = other

    sources, problems = find_series(files_in(save(tmp_path, change=change)))
    assert not problems
    assert [len(source.paths) for source in sources] == [4]


def test_odd_headers_neither_warn_nor_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path)
    for path in folder.iterdir():
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"1.2.4\0", b"1.2.x\0").replace(b"t1 of a test", b"\xff\xfe of a test"))
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        scan = read(folder)
    assert scan.grid.shape[2] == 5
    assert not caught
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"gone\.dcm"):
        dicom_series.read(Source("dicom", (tmp_path / "gone.dcm",)))


def test_random_damage_gives_a_scan_or_a_refusal_and_nothing_else(tmp_path: Path) -> None:
    whole = save(tmp_path, positions(1)).joinpath("000.dcm").read_bytes()
    random = np.random.default_rng(9)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in random.integers(132, len(whole), size=3):
            damaged[at] ^= 1 << int(random.integers(8))
        path = tmp_path / "000.dcm"
        path.write_bytes(damaged[: int(random.integers(200, len(whole) + 1))] if random.random() < 0.3 else damaged)
        sources, _ = find_series([path])
        for source in sources:
            with suppress(ScanRefused, FileUnreadable):
                dicom_series.read(source)
