"""What tests share: where the real scans are, and the affines that geometry is tested on."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the checkout; where it is absent, tests of it are skipped with the reason."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"real scans are not at hand (no folder {folder.relative_to(REPOSITORY.parent)} beside the checkout)"
        )
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY
