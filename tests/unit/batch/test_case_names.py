"""What cases are called: paths joined, legal everywhere, never twice, and never with a patient's name or id in them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_med.errors import ScanRefused, WrongUse
from unet_med.scan import Source
from unet_med_pipelines.case_names import holds
from unet_med_pipelines.cases import Case, Input, cases_of, find_inputs, read_table


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def volume(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)
    return path


def cases(*paths: Path, channels: tuple[str, ...] = ("image",)) -> list[Case]:
    return cases_of(find_inputs(paths), channels)


def names(*paths: Path, channels: tuple[str, ...] = ("image",)) -> list[str]:
    return [case.name for case in cases(*paths, channels=channels)]


def series(folder: Path, uid: str = "1.2.3", number: int | None = 4, identity: tuple[str, ...] = ()) -> Input:
    """A DICOM series of two slices below the folder /study."""
    files = (folder / "1.dcm", folder / "2.dcm")
    return Input(Path("/study"), Source("dicom", files, "MR", series_uid=uid, series_number=number, identity=identity))


# -- names of files -------------------------------------------------------------------------------------------------


def test_folders_below_the_input_are_joined_and_suffixes_dropped(tmp_path: Path) -> None:
    volume(tmp_path / "b" / "c" / "scan.one.nii.gz")
    volume(tmp_path / "a.nii")
    assert names(tmp_path) == ["a", "b__c__scan.one"]


def test_a_file_is_named_by_itself(tmp_path: Path) -> None:
    assert names(volume(tmp_path / "deep" / "scan.nii.gz")) == ["scan"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a:b?c.nii.gz", "a_b_c"),
        ("con.nii.gz", "_con"),
        ("LPT1.left.nii.gz", "_LPT1.left"),
        ("console.nii.gz", "console"),
        ("two words.nii.gz", "two words"),
        ("ends with a dot..nii.gz", "ends with a dot"),
        ("Schädel.nii.gz", "Schädel"),
    ],
)
def test_names_are_legal_on_every_file_system(tmp_path: Path, file: str, name: str) -> None:
    assert names(volume(tmp_path / file)) == [name]


def test_a_long_name_is_cut_and_stays_unique(tmp_path: Path) -> None:
    for ending in ("one", "two"):
        volume(tmp_path / ("a" * 120) / ("b" * 120) / f"{ending}.nii.gz")
    found = names(tmp_path)
    assert len(set(found)) == 2
    assert all(len(name.encode()) == 150 and name.startswith("a" * 120 + "__b") for name in found)


def test_two_scans_never_share_a_name(tmp_path: Path) -> None:
    volume(tmp_path / "p" / "Scan.nii.gz")
    volume(tmp_path / "q" / "scan.nii")
    volume(tmp_path / "q" / "other.nii")
    found = names(tmp_path / "p" / "Scan.nii.gz", tmp_path / "q")
    assert len({name.casefold() for name in found}) == 3
    assert re.fullmatch(r"Scan_[0-9a-f]{8}", found[0])
    assert found[1] == "other"
    assert re.fullmatch(r"scan_[0-9a-f]{8}", found[2])


def test_folders_and_underscores_that_would_join_to_one_name_are_told_apart(tmp_path: Path) -> None:
    volume(tmp_path / "a__b" / "c.nii")
    volume(tmp_path / "a" / "b__c.nii")
    assert len(set(names(tmp_path))) == 2


def test_the_same_file_named_twice_is_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = volume(tmp_path / "a" / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert names(file, Path("a"), tmp_path) == ["scan"]


def test_masks_of_a_batch_below_the_input_are_no_scans(tmp_path: Path) -> None:
    volume(tmp_path / "scan.nii.gz")
    volume(tmp_path / "out" / "segmentations" / "scan.nii.gz")
    assert len(names(tmp_path)) == 2
    (tmp_path / "out" / "records").mkdir()
    assert names(tmp_path) == ["scan"]
    assert names(tmp_path / "out" / "segmentations") == ["scan"]  # asked for by name, they are


def test_nothing_to_segment_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no scan here"):
        find_inputs([tmp_path])
    with pytest.raises(WrongUse, match="no such file"):
        find_inputs([tmp_path / "missing"])


# -- DICOM and privacy ----------------------------------------------------------------------------------------------


def test_a_series_is_named_by_folder_number_and_uid() -> None:
    found = cases_of([series(Path("/study/a/t1")), series(Path("/study"), "1.9", None)], ["image"])
    assert [case.name for case in found] == [f"a__t1_s4_{short('1.2.3')}", f"study_{short('1.9')}"]


def test_the_patients_name_and_id_are_hashed_out_of_names_paths_and_messages() -> None:
    each = series(Path("/study/doe_jane/PAT-0042 visit/t1"), identity=("DOE^JANE^^", "pat 0042"))
    (case,) = cases_of([each], ["image"])
    assert case.name == f"{short('doe_jane')}__{short('PAT-0042 visit')}__t1_s4_{short('1.2.3')}"
    assert case.paths == (f"/study/{short('doe_jane')}/{short('PAT-0042 visit')}/t1",)
    message = "/study/doe_jane/PAT-0042 visit/t1/1.dcm: DOE^JANE^^ has pat 0042, the t1 is cut short."
    hidden = case.hide(message)
    assert not re.search("doe|jane|0042", hidden, re.IGNORECASE)
    assert hidden.endswith("/t1/1.dcm: " + f"{short('DOE^JANE^^')} has {short('pat 0042')}, the t1 is cut short.")


@pytest.mark.parametrize(
    ("part", "identity", "told"),
    [
        ("Jane_Doe", "DOE^JANE", True),
        ("doejane1", "DOE^JANE", True),
        ("doe-2019", "DOE^JANE", True),
        ("Muller_1", "MÜLLER^A", True),
        ("IMG_12345_a", "12345", True),
        ("scan-123-45", "12345", True),
        ("Jane Doe", "Doe, Jane", True),
        ("t1", "T1", False),  # two characters are in too many words
        ("doelike", "DOE^JANE", False),  # a part of another word
        ("jane", "Doe, Jane", False),  # one word of a free text
        ("anything", "", False),
    ],
)
def test_a_part_holds_an_identity_whatever_its_spelling(part: str, identity: str, told: bool) -> None:
    assert holds(part, [identity]) is told


# -- several channels -----------------------------------------------------------------------------------------------


def test_numbered_files_are_the_channels_of_a_case(tmp_path: Path) -> None:
    for name in ("p1_0001", "p1_0000", "p2_0000", "p2_0001", "both"):
        volume(tmp_path / f"{name}.nii.gz")
    found = cases(tmp_path, channels=("t1", "flair"))
    assert [(case.name, [source.paths[0].name for source in case.inputs]) for case in found] == [
        ("both", ["both.nii.gz"]),
        ("p1", ["p1_0000.nii.gz", "p1_0001.nii.gz"]),
        ("p2", ["p2_0000.nii.gz", "p2_0001.nii.gz"]),
    ]
    assert not any(case.problem for case in found)


@pytest.mark.parametrize("present", [["0000"], ["0001"], ["0000", "0001", "0002"]])
def test_a_missing_or_extra_channel_fails_its_case_alone(tmp_path: Path, present: list[str]) -> None:
    for number in present:
        volume(tmp_path / f"p1_{number}.nii.gz")
    for number in ("0000", "0001"):
        volume(tmp_path / f"p2_{number}.nii.gz")
    one, two = cases(tmp_path, channels=("t1", "flair"))
    assert (one.name, two.name, two.problem) == ("p1", "p2", None)
    assert isinstance(one.problem, ScanRefused)
    assert one.problem.code == "channel_count"
    assert ", ".join(f"_{number}" for number in present) + "." in one.problem.what


def test_for_one_channel_0000_is_dropped_where_nothing_else_has_the_name(tmp_path: Path) -> None:
    for name in ("a_0000", "b_0000", "b_0001", "c_1234"):
        volume(tmp_path / f"{name}.nii.gz")
    assert names(tmp_path) == ["a", "b_0000", "b_0001", "c_1234"]
    volume(tmp_path / "a.nii.gz")
    assert len(set(names(tmp_path))) == 5


def test_a_table_names_cases_and_channels(tmp_path: Path) -> None:
    volume(tmp_path / "scans" / "one.nii.gz")
    volume(tmp_path / "scans" / "two.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("flair,case,t1,age\nscans/two.nii.gz, first ,scans/one.nii.gz,3\nscans/gone.nii,second,,4\n\n")
    first, second = read_table(table, ["t1", "flair"])
    assert first.name == "first"
    assert [source.paths[0].name for source in first.inputs] == ["one.nii.gz", "two.nii.gz"]
    assert first.problem is None
    assert second.problem is not None
    assert '"t1"' in second.problem.what


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case,t1\na,b\n", 'no column "flair"'),
        ("", 'no column "case", "t1", "flair"'),
        ("case,t1,flair\n", "no rows"),
        ("case,t1,flair\n,a,b\n", "Row 2 has no name"),
        ("case,t1,flair\nx,a,b\nx,c,d\n", '"x"'),
    ],
)
def test_a_table_that_makes_no_sense_is_wrong_use(tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "cases.csv"
    table.write_text(text)
    with pytest.raises(WrongUse, match=words):
        read_table(table, ["t1", "flair"])


def test_a_table_that_is_no_text_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WrongUse, match="cannot be read"):
        read_table(tmp_path / "cases.csv", ["image"])
    with pytest.raises(WrongUse, match="cannot be read"):
        read_table(tmp_path / "missing.csv", ["image"])


def test_rows_whose_names_become_the_same_file_name_are_told_apart(tmp_path: Path) -> None:
    volume(tmp_path / "s.nii")
    (tmp_path / "cases.csv").write_text("case,image\na:b,s.nii\na?b,s.nii\na/b,s.nii\n")
    found = [case.name for case in read_table(tmp_path / "cases.csv", ["image"])]
    assert len(set(found)) == 3
    assert all(re.fullmatch(r"a_b_[0-9a-f]{8}", name) for name in found)
