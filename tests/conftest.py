"""What every test shares."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# A slow machine is no failure. Runs draw much the same inputs; `--hypothesis-profile=luck` looks
# further.
settings.register_profile("luck", deadline=None, max_examples=1000)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

# The tests' pictures and clips are small: threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin every test, its fixtures included, with the same luck, whatever was run before it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real corpora beside the repository; the test is skipped where they are not."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the corpora in {SHARED}, which are not part of the project")
    return SHARED


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EMOVERSE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def compact_weights() -> Path:
    """The compact model's language model; the test is skipped where it was never fetched."""
    from emoverse.models import weights

    if not weights.pulled():
        pytest.skip("needs the compact model's weights; run `emoverse pull compact`")
    return weights.smollm2_dir()
