"""A zip archive is read like the folder that was packed, and what could be a trap is refused."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_builder import picture, save, set_pixels

from unet_med.errors import FileUnreadable
from unet_med.formats import dicom_archive, find_scans, read_scan


def packed(archive: Path, folder: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"patient 1/series A/{path.stem}")
    return archive


def problem(archive: Path) -> str:
    found = find_scans(archive)
    assert not found.sources
    (error,) = found.problems
    assert isinstance(error, FileUnreadable)
    return error.what


def test_a_series_in_an_archive_is_the_series(tmp_path: Path) -> None:
    folder = save(tmp_path / "plain")
    scan = read_scan(packed(tmp_path / "study.zip", folder))
    straight = read_scan(folder)
    np.testing.assert_array_equal(scan.data, straight.data)
    assert scan.grid == straight.grid
    assert scan.source.paths[1] == tmp_path / "study.zip" / "patient 1" / "series A" / "001"
    assert [path.name for path in tmp_path.iterdir() if path != folder] == ["study.zip"]  # nothing was unpacked


def test_an_archive_in_a_folder_stands_among_the_others(tmp_path: Path) -> None:
    folder = save(tmp_path / "in" / "series", change=lambda one, k: setattr(one, "SeriesInstanceUID", "1.2.77"))
    packed(tmp_path / "in" / "b.zip", save(tmp_path / "elsewhere"))
    assert [source.paths[0].parent for source in find_scans(tmp_path / "in").sources] == [
        tmp_path / "in" / "b.zip" / "patient 1" / "series A",
        folder,
    ]


def test_compressed_pixels_come_out_of_an_archive(tmp_path: Path) -> None:
    folder = save(tmp_path / "plain")
    straight = read_scan(folder)
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
        one.save_as(path)
    np.testing.assert_array_equal(read_scan(packed(tmp_path / "study.zip", folder)).data, straight.data)


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    archive = packed(tmp_path / "study.zip", save(tmp_path / "plain"))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("__MACOSX/patient 1/._001", b"rubbish")
        file.writestr("readme.txt", "hello")
    assert len(find_scans(archive).sources) == 1


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "study.zip", save(tmp_path / "plain"))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"x")
    assert "lead outside" in problem(archive)


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    assert "links" in problem(tmp_path / "study.zip")


def test_an_archive_that_expands_without_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_archive, "LARGEST_TOTAL", 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(2_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    assert "would expand" in problem(tmp_path / "bomb.zip")


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_archive, "MOST_MEMBERS", 4)
    assert "5 files" in problem(packed(tmp_path / "study.zip", save(tmp_path / "plain")))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.zip").write_bytes(b"not at all")
    assert "is none" in problem(tmp_path / "study.zip")


def test_a_damaged_member_is_named_and_told_by_the_series_beside_it(tmp_path: Path) -> None:
    archive = packed(tmp_path / "study.zip", save(tmp_path / "plain"), zipfile.ZIP_STORED)
    raw = bytearray(archive.read_bytes())
    raw[raw.index(picture(3).tobytes())] ^= 1  # the check sum no longer fits
    archive.write_bytes(raw)
    found = find_scans(archive)
    assert [Path(str(problem.where)).name for problem in found.problems] == ["003"]
    told = [finding.code for finding in read_scan(found.sources[0]).findings]
    assert told == ["missing_slice", "unreadable_instance"]


def test_pixels_that_do_not_fit_the_check_sum_are_refused(tmp_path: Path) -> None:
    # Large enough that its header can be read without its end.
    large = save(tmp_path / "plain", change=lambda one, k: set_pixels(one, np.full((200, 200), 7 + k, np.uint16)))
    archive = packed(tmp_path / "study.zip", large, zipfile.ZIP_STORED)
    raw = bytearray(archive.read_bytes())
    raw[raw.index(np.full(200, 10, np.uint16).tobytes()) + 60_000] ^= 1
    archive.write_bytes(raw)
    with pytest.raises(FileUnreadable, match="003"):
        read_scan(archive)


def test_an_archive_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    archive = packed(tmp_path / "study.zip", save(tmp_path / "five"))
    assert read_scan(archive).grid.shape[2] == 5
    folder = save(tmp_path / "three")
    for name in ("003.dcm", "004.dcm"):
        (folder / name).unlink()
    assert read_scan(packed(archive, folder)).grid.shape[2] == 3


def test_a_dicomdir_stands_for_the_folder_that_it_lies_in(tmp_path: Path) -> None:
    folder = save(tmp_path / "media" / "images")
    index = tmp_path / "media" / "DICOMDIR"
    one = pydicom.dcmread(folder / "000.dcm")
    one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del one.SOPClassUID, one.PixelData
    one.save_as(index)
    np.testing.assert_array_equal(read_scan(index).data, read_scan(folder).data)
