"""Which DICOM series a rule means, and what becomes of a study then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from unet_med import Scan, Source, find_scans, write_scan
from unet_med.errors import ScanRefused, WrongUse
from unet_med_pipelines.cases import Input, cases_of, chosen, find_inputs
from unet_med_pipelines.series_rule import SeriesRule

T1 = Source("dicom", (Path("a"),), modality="MR", description="T1w MPRAGE sag", series_number=3, series_uid="1.2.3")
CT = Source("dicom", (Path("b"),), modality="CT", description="Thorax, 1.0 B40f", series_number=4, series_uid="1.2.4")
SILENT = Source("dicom", (Path("c"),), header={"stack": "stack 2 of 3: 20 axial slices, EchoTime 80"})


@pytest.mark.parametrize(
    ("rule", "fitting"),
    [
        ("modality=MR", [T1]),
        ("modality=mr", [T1]),
        ("modality=CT|MR", [T1, CT]),
        ("modality!=MR", [CT, SILENT]),
        ("description=T1", [T1]),
        ("description=t1w.*sag", [T1]),
        ("description=^mprage", []),
        ("description!=thorax", [T1, SILENT]),
        (r"description=\\d{1,3}w", []),
        (r"description=B\d{1,3}f,modality=CT", [CT]),
        ("description=Thorax, 1", [CT]),
        ("number=3", [T1]),
        ("number!=3", [CT, SILENT]),
        ("uid=1.2.4", [CT]),
        ("uid=1.2", []),
        ("stack=EchoTime 80", [SILENT]),
        ("stack!=localizer", [T1, CT, SILENT]),
        (" modality = MR , description = T1 ", [T1]),
        ("modality=MR,description=Thorax", []),
        ("Modality=MR", [T1]),
    ],
)
def test_all_conditions_of_a_rule_hold_for_what_it_means(rule: str, fitting: list[Source]) -> None:
    parsed = SeriesRule.parse(rule)
    assert [source for source in (T1, CT, SILENT) if parsed.fits(source)] == fitting


def test_a_rule_does_not_speak_of_other_files() -> None:
    assert SeriesRule.parse("modality=MR,slices>=7").fits(Source("nifti", (Path("a.nii"),)))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("", '"" in the rule "" is no condition'),
        ("MR", '"MR" in the rule "MR" is no condition'),
        ("modality=", "is no condition"),
        ("modality=MR,", '"" in the rule "modality=MR," is no condition'),
        ("modalty=MR", '"modalty".*is nothing that a series is chosen by'),
        ("modality=MR,descr=T1", '"descr"'),
        ("slices>20", "is no condition"),
        ("slices>=many", '"many" is no number of slices'),
        ("slices!=3", '"slices" is compared by = or >= or <=, not by !='),
        ("modality>=MR", '"modality" is compared by = or !=, not by >='),
        ("description=T1(", r'"T1\(" is no regular expression .*backslash'),
    ],
)
def test_what_is_no_rule_is_told_with_the_grammar(rule: str, words: str) -> None:
    with pytest.raises(WrongUse, match=words) as caught:
        SeriesRule.parse(rule)
    if "regular" not in words:
        assert "slices>=20" in str(caught.value)


# -- studies --------------------------------------------------------------------------------------------------------


def series(folder: Path, count: int = 4, modality: str = "MR", **tags: object) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_scan(Scan.from_array(np.zeros((6, 5, count), np.int16), np.eye(4), modality=modality), folder, "dicom")
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.update({"StudyInstanceUID": "1.1", "SeriesInstanceUID": f"1.2.{folder.name}", **tags})
        one.save_as(file)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """T1, T2 and a localizer of one patient, all MR, and a CT."""
    series(tmp_path / "1", 3, SeriesDescription="localizer", SeriesNumber=1)
    series(tmp_path / "2", SeriesDescription="T2 tse", SeriesNumber=2)
    series(tmp_path / "3", SeriesDescription="T1 mprage", SeriesNumber=3)
    series(tmp_path / "4", 9, "CT", SeriesDescription="head", SeriesNumber=4)
    return tmp_path


def rules(*texts: str) -> list[SeriesRule]:
    return [SeriesRule.parse(text) for text in texts]


def numbers(sources: tuple[Source, ...]) -> list[int | None]:
    return [source.series_number for source in sources]


@pytest.mark.parametrize(
    ("rule", "fitting"), [("slices>=4", [2, 3, 4]), ("slices=9", [4]), ("slices<=4,modality=MR", [1, 2, 3])]
)
def test_slices_are_counted(rule: str, fitting: list[int], study: Path) -> None:
    sources = tuple(source for source in find_scans(study).sources if SeriesRule.parse(rule).fits(source))
    assert numbers(sources) == fitting


def test_without_a_rule_every_series_is_a_case(study: Path) -> None:
    found = find_inputs([study])
    assert chosen(found, []) == found
    assert [numbers(case.inputs) for case in cases_of(found, ["image"])] == [[1], [2], [3], [4]]


def test_with_a_rule_a_model_of_one_channel_gets_a_case_for_each_series_that_fits(study: Path) -> None:
    found = chosen(find_inputs([study]), rules("modality=MR,description!=localizer"))
    assert [numbers(case.inputs) for case in cases_of(found, ["image"], rules("modality=MR"))] == [[2], [3]]


def test_a_series_that_is_refused_is_not_left_out_for_its_slices(study: Path) -> None:
    for file in (study / "2").iterdir():
        one = pydicom.dcmread(file)
        del one.ImagePositionPatient
        one.save_as(file)
    assert [numbers((each.source,)) for each in chosen(find_inputs([study]), rules("slices>=4")) if each.source] == [
        [2], [3], [4],
    ]  # fmt: skip


def test_what_cannot_be_read_stays_so_that_it_is_told(study: Path) -> None:
    (study / "broken.dcm").touch()
    kept = chosen(find_inputs([study]), rules("modality=CT"))
    assert [each.problem is not None for each in kept] == [False, True]


def test_the_channels_of_a_model_are_series_of_one_study_each_chosen_by_its_rule(study: Path) -> None:
    asked = rules("description=T1", "description=T2")
    (case,) = cases_of(chosen(find_inputs([study]), asked), ["t1", "t2"], asked)
    assert numbers(case.inputs) == [3, 2]
    assert case.problem is None


def test_two_studies_are_two_cases(study: Path) -> None:
    series(study / "b" / "5", SeriesDescription="T1", SeriesNumber=5, StudyInstanceUID="1.9")
    series(study / "b" / "6", SeriesDescription="T2", SeriesNumber=6, StudyInstanceUID="1.9")
    asked = rules("description=T1", "description=T2")
    cases = cases_of(chosen(find_inputs([study]), asked), ["t1", "t2"], asked)
    assert [numbers(case.inputs) for case in cases] == [[3, 2], [5, 6]]
    assert len({case.name for case in cases}) == 2


@pytest.mark.parametrize(
    ("second", "words", "code"),
    [
        ("description=flair", 'No series of this study fit the rule for the channel "t2"', "channel_count"),
        ("description=T", '2 series of this study fit the rule for the channel "t2"', "several_series"),
    ],
)
def test_a_study_without_exactly_one_series_for_a_channel_is_a_case_that_fails(
    second: str, words: str, code: str, study: Path
) -> None:
    asked = rules("description=T1", second)
    (case,) = cases_of(chosen(find_inputs([study]), asked), ["t1", "t2"], asked)
    assert isinstance(case.problem, ScanRefused)
    assert case.problem.code == code
    assert words in str(case.problem)


@pytest.mark.parametrize("given", [[], ["description=T1"]])
def test_a_model_of_several_channels_asks_for_a_rule_for_each(given: list[str], study: Path) -> None:
    with pytest.raises(WrongUse, match="Give --series 2 times, for t1, t2 in this order"):
        cases_of(find_inputs([study]), ["t1", "t2"], rules(*given))


def test_several_rules_for_one_channel_contradict_each_other() -> None:
    with pytest.raises(WrongUse, match="Give --series once"):
        cases_of([Input(Path("a"), T1)], ["image"], rules("modality=MR", "modality=CT"))
