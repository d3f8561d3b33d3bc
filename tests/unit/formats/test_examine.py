"""What headers tell of a scan is what reading it gives, and no voxel is needed for it."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_builder import positions, save
from PIL import Image

from unet_med import find_scans, read_scan
from unet_med.errors import FileUnreadable, ScanRefused
from unet_med.formats import Examination, examine
from unet_med.formats.outline import Outline

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 3, 0.3, -10], [0, 0, 4, 50], [0, 0, 0, 1]])  # slices drift: sheared
NUMBERS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def look(path: Path, channels: int = 1) -> Examination:
    (source,) = find_scans(path).sources
    return examine(source, channels=channels)


def outline(path: Path, channels: int = 1) -> Outline:
    seen = look(path, channels)
    assert seen.refusal is None
    assert seen.outline is not None
    return seen.outline


def nifti(path: Path, data: np.ndarray = NUMBERS, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def nrrd(path: Path) -> Path:
    image = sitk.GetImageFromArray(NUMBERS.T)
    image.SetSpacing((2, 3, 4))
    sitk.WriteImage(image, str(path))
    return path


def picture(path: Path, mode: str = "L") -> Path:
    Image.new(mode, (5, 3)).save(path)
    return path


def jittered(folder: Path) -> Path:
    return save(folder, positions(step=(0.0, 0.8, 3.0)))  # shifted by 0.8 mm a slice: as by a tilted gantry


WELL = {
    "nifti": lambda folder: nifti(folder / "a.nii"),
    "nifti, packed": lambda folder: nifti(folder / "a.nii.gz"),
    "nifti, whole numbers": lambda folder: nifti(folder / "a.nii", NUMBERS.astype(np.int16)),
    "nrrd": lambda folder: nrrd(folder / "a.nrrd"),
    "metaimage": lambda folder: nrrd(folder / "a.mha"),
    "picture": lambda folder: picture(folder / "a.png"),
    "dicom": lambda folder: save(folder / "a"),
    "tilted dicom": lambda folder: jittered(folder / "a"),
    "uneven dicom": lambda folder: save(folder / "a", np.delete(positions(7), [2, 5], axis=0)),
}


@pytest.mark.parametrize("make", WELL.values(), ids=WELL)
def test_headers_give_the_grid_and_the_findings_that_reading_gives(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path)
    seen, scan = outline(path), read_scan(path)
    assert seen.grid.distance(scan.grid) == 0
    assert seen.grid.slice_offsets == scan.grid.slice_offsets
    assert seen.findings == scan.findings
    assert (seen.units, seen.space_units, seen.modality) == (scan.units, scan.space_units, scan.modality)
    assert seen.channels == len(scan.channels)


def test_the_grid_of_a_nifti_file_is_that_of_its_sform(tmp_path: Path) -> None:
    seen = outline(nifti(tmp_path / "a.nii"))
    np.testing.assert_allclose(seen.grid.affine, AFFINE, atol=1e-6)
    assert seen.grid.shape == (2, 3, 4)
    assert [finding.code for finding in seen.findings] == ["units_unknown", "sheared"]


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "several volumes": (lambda folder: nifti(folder / "a.nii", np.zeros((2, 3, 4, 5), np.uint8)), "too_many_channels"),
    "complex": (lambda folder: nifti(folder / "a.nii", np.zeros((2, 3, 4), np.complex64)), "unsupported_data_type"),
    "colours for print": (lambda folder: picture(folder / "a.jpg", "CMYK"), "colour_image"),
    "a slope of 0": (
        lambda folder: save(
            folder / "a", change=lambda one, k: one.update({"RescaleSlope": "0", "RescaleIntercept": "1"})
        ),
        "invalid_rescale",
    ),
    "no place": (
        lambda folder: save(folder / "a", change=lambda one, k: one.pop("ImagePositionPatient")),
        "missing_geometry",
    ),
}


@pytest.mark.parametrize(("make", "code"), BAD.values(), ids=BAD)
def test_headers_refuse_what_reading_refuses_in_the_same_words(
    make: Callable[[Path], Any], code: str, tmp_path: Path
) -> None:
    make(tmp_path)
    for source in find_scans(tmp_path).sources:
        seen = examine(source)
        assert isinstance(seen.refusal, ScanRefused)
        with pytest.raises(ScanRefused) as caught:
            read_scan(source)
        assert str(caught.value) == str(seen.refusal)
        assert seen.refusal.code == code
        assert seen.outline is None


def test_a_file_that_is_shorter_than_its_header_says_is_told_without_reading_it(tmp_path: Path) -> None:
    for path in (nifti(tmp_path / "a.nii"), nrrd(tmp_path / "a.nrrd"), nrrd(tmp_path / "a.mha")):
        path.write_bytes(path.read_bytes()[:-9])
        seen = look(path)
        assert isinstance(seen.refusal, FileUnreadable), path
        assert "cut short" in str(seen.refusal)


def test_itk_does_not_print_what_it_thinks_of_a_header(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = nrrd(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(b"DimSize", b"dimsize"))  # ITK's names have capitals
    assert isinstance(look(path).refusal, FileUnreadable)
    assert capfd.readouterr() == ("", "")


def test_what_only_voxels_can_tell_is_named(tmp_path: Path) -> None:
    def same_place(one: pydicom.Dataset, k: int) -> None:
        one.ImagePositionPatient[2] = 100 + 3 * (k // 2)

    def padded(one: pydicom.Dataset, k: int) -> None:
        one.PixelPaddingValue = -2000

    assert outline(nifti(tmp_path / "float.nii")).undecided == ("non_finite_values",)
    assert outline(nifti(tmp_path / "whole.nii", NUMBERS.astype(np.uint8))).undecided == ()
    assert outline(picture(tmp_path / "colour.png", "RGB")).undecided == ("colour_as_grey", "colour_image")
    assert outline(picture(tmp_path / "colour.png", "RGB"), channels=3).undecided == ()
    assert outline(picture(tmp_path / "clear.png", "RGBA"), channels=3).undecided == ("colour_image",)
    twice = outline(save(tmp_path / "twice", positions(4), change=same_place))
    assert twice.undecided == ("duplicate_slice", "repeated_position")
    assert outline(save(tmp_path / "padded", change=padded)).undecided == ("padding_values",)


def test_several_channels_are_seen_as_the_model_needs_them(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((2, 3, 4, 5), np.uint8))
    assert outline(path, channels=5).channels == 5
    assert isinstance(look(path, channels=4).refusal, ScanRefused)


def test_no_voxel_is_decoded(tmp_path: Path) -> None:
    """Voxels that nobody could read do not matter: a compressed stream of noise, a picture and a DICOM file without."""
    whole = gzip.compress(nifti(tmp_path / "a.nii").read_bytes(), 9)
    (tmp_path / "a.nii").unlink()
    noise = np.random.default_rng(0).bytes(2000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:400] + noise)[:-30])
    assert outline(tmp_path / "a.nii.gz").grid.shape == (2, 3, 4)
    picture(tmp_path / "b.png")
    content = (tmp_path / "b.png").read_bytes()
    at = content.index(b"IDAT") + 4
    (tmp_path / "b.png").write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
    assert outline(tmp_path / "b.png").grid.shape == (5, 3, 1)
    save(tmp_path / "c", change=lambda one, k: setattr(one, "PixelData", b""))
    assert outline(tmp_path / "c").grid.shape == (6, 4, 5)
    for path in ("a.nii.gz", "b.png", "c"):
        with pytest.raises((FileUnreadable, ScanRefused)):
            read_scan(tmp_path / path)


def test_looking_at_headers_loads_no_network(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii")
    nrrd(tmp_path / "b.nrrd")
    picture(tmp_path / "c.png")
    save(tmp_path / "d")
    script = (
        "import sys; from unet_med import find_scans; from unet_med.formats import examine\n"
        f"seen = [examine(source) for source in find_scans({str(tmp_path)!r}).sources]\n"
        "print(len(seen), sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4 []"


# -- what is no scan ------------------------------------------------------------------------------------------------


def report(folder: Path) -> Path:
    """A structured report, as it lies beside the images of many studies."""

    def change(one: pydicom.Dataset, k: int) -> None:
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        for tag in ("PixelData", "Rows", "Columns"):
            del one[tag]

    return save(folder, positions(1), change=change) / "000.dcm"


def test_dicom_objects_that_are_no_scans_are_counted_by_kind(tmp_path: Path) -> None:
    save(tmp_path / "images")
    path = report(tmp_path / "report")
    found = find_scans(tmp_path)
    assert [source.name for source in found.sources] == [str(tmp_path / "images")]
    assert found.objects == {path: "Comprehensive SR Storage"}
    assert found.problems == ()


def test_an_object_that_is_no_scan_is_called_by_its_name(tmp_path: Path) -> None:
    path = report(tmp_path)
    with pytest.raises(FileUnreadable, match=r"no scan but a Comprehensive SR Storage\. .*series of images"):
        read_scan(path)
    with pytest.raises(FileUnreadable, match=r"no scan in this folder\..*other kinds: Comprehensive SR Storage"):
        read_scan(tmp_path)


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"no DICOM at all", "holds no DICOM data")])
def test_a_file_that_is_named_like_dicom_does_not_vanish(content: bytes, words: str, tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "100.dcm").write_bytes(content)
    found = find_scans(tmp_path)
    assert len(found.sources) == 1
    assert [problem.where for problem in found.problems] == [str(tmp_path / "100.dcm")]
    assert words in str(found.problems[0])
    (finding,) = outline(tmp_path).findings
    assert finding.code == "unreadable_instance"
    with pytest.raises(FileUnreadable, match=words):
        read_scan(tmp_path / "100.dcm")
