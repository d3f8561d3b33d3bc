"""What lies in a folder, without reading a pixel."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unet_med import Scan, find_scans, read_scan, write_scan
from unet_med.errors import FileUnreadable, ScanRefused

SCAN = Scan.from_array(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.eye(4), modality="MR")


def names(path: Path, folder: Path) -> list[str]:
    return [str(source.paths[0].relative_to(folder)) for source in find_scans(path).sources]


def test_a_tree_is_searched_in_order_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in (
        "b/2.nii", "b/1.NII.GZ", "a.nrrd", "c.mha", "c.mhd", "c.zraw", "d.nhdr", "d.raw", "e.png", "f.tiff", "g.jpeg",
        "h.bmp", "cases.csv", "notes.txt", "dataset.json", ".hidden.nii.gz", ".cache/x.nii", "README.md", "x.gz",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"nobody looks into these")
    found = find_scans(tmp_path)
    assert found.problems == ()
    assert [(str(source.paths[0].relative_to(tmp_path)), source.kind) for source in found.sources] == [
        ("a.nrrd", "nrrd"),
        ("b/1.NII.GZ", "nifti"),
        ("b/2.nii", "nifti"),
        ("c.mha", "metaimage"),
        ("c.mhd", "metaimage"),
        ("d.nhdr", "nrrd"),
        ("e.png", "picture"),
        ("f.tiff", "picture"),
        ("g.jpeg", "picture"),
        ("h.bmp", "picture"),
    ]


def test_a_header_and_its_image_are_one_source_named_by_the_header(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.img", "b.img"):
        (tmp_path / name).touch()
    found = find_scans(tmp_path)
    assert [source.paths for source in found.sources] == [(tmp_path / "a.hdr",)]
    assert [problem.where for problem in found.problems] == [str(tmp_path / "b.img")]
    assert "b.hdr, is not beside it" in str(found.problems[0])
    assert find_scans(tmp_path / "a.img").sources[0].paths == (tmp_path / "a.hdr",)


def test_dicom_files_are_put_together_to_series_and_stand_among_the_others(tmp_path: Path) -> None:
    write_scan(SCAN, tmp_path / "b", "dicom")
    write_scan(SCAN, tmp_path / "a.nii", "nifti")
    write_scan(SCAN, tmp_path / "c.nii", "nifti")
    sources = find_scans(tmp_path).sources
    assert [source.kind for source in sources] == ["nifti", "dicom", "nifti"]
    assert sources[1].name == str(tmp_path / "b")
    assert len(sources[1].paths) == 4
    np.testing.assert_array_equal(read_scan(tmp_path / "b").grid.spacing, (1, 1, 1))


def test_a_dicom_file_needs_no_suffix(tmp_path: Path) -> None:
    write_scan(SCAN, tmp_path / "series", "dicom")
    file = sorted((tmp_path / "series").iterdir())[0].rename(tmp_path / "IM0001")
    (source,) = find_scans(file).sources
    assert (source.kind, source.paths) == ("dicom", (file,))


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.nii").touch()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert names(tmp_path, tmp_path) == ["a/x.nii"]


def test_a_link_that_leads_nowhere_is_a_problem_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "gone.nii")
    (tmp_path / "b.nii").touch()
    found = find_scans(tmp_path)
    assert names(tmp_path, tmp_path) == ["b.nii"]
    assert [problem.where for problem in found.problems] == [str(tmp_path / "a.nii")]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    assert find_scans(tmp_path).sources == ()


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that may be entered, with a folder and a file in it that may not; the test is nobody, not root."""
    find_scans(Path(__file__).parent)  # what has to be imported is, before files become unreadable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "locked").mkdir()
        for place in ("locked/a.nii", "b.nii", "c.nii"):
            (folder / place).write_bytes(b"something")
        (folder / "locked").chmod(0)
        (folder / "b.nii").chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
            yield folder
            os.seteuid(0)
        else:
            yield folder
        (folder / "locked").chmod(0o755)


def test_what_cannot_be_opened_is_a_problem_and_the_rest_goes_on(locked: Path) -> None:
    found = find_scans(locked)
    assert [source.paths[0].name for source in found.sources] == ["c.nii"]
    assert [problem.where for problem in found.problems] == [str(locked / "b.nii"), str(locked / "locked")]
    assert all(isinstance(problem, FileUnreadable) for problem in found.problems)
    assert all("Permission denied" in str(problem) for problem in found.problems)
    with pytest.raises(FileUnreadable, match="Permission denied"):
        read_scan(locked / "b.nii")
    with pytest.raises(FileUnreadable, match="Permission denied"):
        read_scan(locked / "locked" / "a.nii")
    with pytest.raises(FileUnreadable, match="Permission denied"):
        read_scan(locked / "locked")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="No such file") as caught:
        find_scans(tmp_path / "nowhere.nii")
    assert caught.value.where == str(tmp_path / "nowhere.nii")


def test_a_file_of_another_kind_is_told_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK\3\4 and so on" * 50)
    with pytest.raises(FileUnreadable, match=r"NIfTI.*NRRD.*DICOM"):
        find_scans(tmp_path / "a.docx")


def test_a_folder_is_a_scan_if_it_holds_exactly_one(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="no scan in this folder"):
        read_scan(tmp_path)
    write_scan(SCAN, tmp_path / "a.nii", "nifti")
    np.testing.assert_array_equal(read_scan(tmp_path).data, SCAN.data)
    write_scan(SCAN, tmp_path / "b.nii", "nifti")
    with pytest.raises(ScanRefused, match=r"2 scans here, and one is needed: a\.nii, b\.nii") as caught:
        read_scan(tmp_path)
    assert caught.value.code == "several_series"


def test_looking_for_scans_loads_no_library_for_them() -> None:
    script = (
        "import sys; from unet_med import find_scans; find_scans('tests'); "
        "print(sorted({'torch', 'monai', 'nibabel', 'SimpleITK', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
