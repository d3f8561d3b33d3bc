"""Real clinical masks of two people, and the numbers that another implementation found for them.

Ours is the convention of the columns hd95_mm, assd_mm and nsd_*: surface elements between voxels, weighted by area
(package Surface-Distance-Based-Measures 0.1, which is not called here).
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from unet_med.segmentation import Label
from unet_med_pipelines.evaluation.scores import Evaluation, Score, evaluate

ORGANS = (
    *("Brainstem", "Spinal-Cord", "Mandible", "Parotid-Rt"),
    *("Parotid-Lt", "Submandibular-Rt", "Orbit-Lt", "Optic-Nerve-Lt"),
)
TABLE = tuple(Label(value, name) for value, name in enumerate(ORGANS, start=1))


@pytest.fixture(scope="module")
def folders(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both observers lie in one folder; here each has one, by links."""
    masks = shared_data / "two-observers" / "masks"
    parts = []
    for observer in "ab":
        folder = tmp_path_factory.mktemp(f"observer_{observer}")
        for mask in masks.glob(f"*_observer_{observer}.nii.gz"):
            (folder / mask.name).symlink_to(mask)
        parts.append(folder)
    return parts[0], parts[1]


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "two-observers" / "reference_metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def compare(folders: tuple[Path, Path], tolerance: float) -> Evaluation:
    return evaluate(*folders, table=TABLE, tolerance=tolerance, case_key=r"case_\d+")


@pytest.mark.parametrize("tolerance", [1, 2, 3])
def test_every_number_agrees(folders: tuple[Path, Path], expected: list[dict[str, str]], tolerance: int) -> None:
    found: dict[tuple[str, str], Score] = {(s.case, s.label.name): s for s in compare(folders, tolerance).scores}
    assert len(found) == len(expected) == 80
    for row in expected:
        score = found[row["case"], row["organ"]]
        assert score.agreement is not None
        assert score.agreement.overlap.prediction == int(row["voxels_a"])
        assert score.agreement.overlap.reference == int(row["voxels_b"])
        assert score.agreement.dice == pytest.approx(float(row["dice"]), abs=1e-6)
        if row["hd95_mm"]:
            assert score.agreement.hd95 == pytest.approx(float(row["hd95_mm"]), abs=1e-3)
            assert score.agreement.assd == pytest.approx(float(row["assd_mm"]), abs=1e-3)
            assert score.agreement.nsd == pytest.approx(float(row[f"nsd_{tolerance}mm"]), abs=1e-3)


def test_an_organ_that_one_observer_did_not_draw(folders: tuple[Path, Path]) -> None:
    one_sided = [score for score in compare(folders, 1).scores if score.reason]
    assert [(score.case, score.label.name) for score in one_sided] == [
        ("case_08", "Submandibular-Rt"),
        ("case_10", "Submandibular-Rt"),
    ]
    for score in one_sided:
        assert score.reason == "in the prediction only"
        assert score.agreement is not None
        assert score.agreement.dice == score.agreement.nsd == 0
        assert score.agreement.hd95 is not None
        assert score.agreement.hd95 > 100
