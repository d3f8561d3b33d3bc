"""Several files of one patient become the channels of one scan, or are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from unet_med import Scan
from unet_med.channels import join_channels
from unet_med.errors import ScanRefused

AFFINE = np.diag((1.0, 1, 2, 1))


def scan(value: float = 0, affine: np.ndarray = AFFINE, modality: str | None = "MR") -> Scan:
    return Scan.from_array(np.full((4, 5, 3), value, np.int16), affine, modality=modality)


def test_channels_come_in_the_order_of_the_card() -> None:
    joined = join_channels([scan(7), scan(9)], ["t1", "flair"])
    assert joined.channels == ("t1", "flair")
    assert joined.data[:, 0, 0, 0].tolist() == [7, 9]
    assert joined.data.dtype == np.int16
    assert joined.modality == "MR"
    assert join_channels([scan(), scan(modality=None)], ["a", "b"]).modality is None


def test_other_grids_are_refused_with_their_distance() -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 0.5
    with pytest.raises(ScanRefused, match=r'"flair" lies on another grid .* 0\.5 mm apart\. .*--align') as caught:
        join_channels([scan(), scan(affine=moved)], ["t1", "flair"])
    assert caught.value.code == "grids_differ"
    moved[0, 3] = 0.005  # below the tolerance
    assert len(join_channels([scan(), scan(affine=moved)], ["t1", "flair"]).data) == 2


def test_align_interpolates_onto_the_first() -> None:
    ramp = np.broadcast_to(np.arange(8.0).reshape(8, 1, 1), (8, 5, 3))
    other = Scan.from_array(ramp, np.diag((0.5, 1, 2, 1)))  # half the spacing: index 2 i
    joined = join_channels([scan(), other], ["t1", "flair"], align=True)
    assert joined.data[1, :, 2, 1].tolist() == [0, 2, 4, 6]
    assert [finding.code for finding in joined.findings] == ["resampled_to_match"]


def test_counts_must_fit() -> None:
    with pytest.raises(ScanRefused, match="1 images for 2 channels") as caught:
        join_channels([scan()], ["t1", "flair"])
    assert caught.value.code == "channel_count"
    four = Scan.from_array(np.zeros((2, 4, 5, 3)), AFFINE)
    with pytest.raises(ScanRefused, match="2 channels of its own"):
        join_channels([four, scan()], ["t1", "flair"])
