"""The face landmark model, where it was fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from emoverse.models import weights


@pytest.fixture(scope="session")
def landmarker() -> Path:
    """The face landmark model; the test is skipped where it was never fetched."""
    path = weights.cache_dir() / weights.FACE_LANDMARKER.file
    if not path.is_file():
        pytest.skip("needs the face landmark model; run `emoverse pull compact`")
    return path
