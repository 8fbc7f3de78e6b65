"""A build that is killed at any moment goes on, and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import drawn
from .conftest import tree


def _build(raw: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "emoverse", "build", "--workers", "2"]
    command += ["--meld", str(raw / "meld"), "--mosei", str(raw / "mosei"), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _killed(raw: Path, out: Path, results: int, luck: random.Random) -> bool:
    """Start a build and kill it some time after its `results`-th result; False if it got done."""
    process = _build(raw, out)
    while process.poll() is None and len(list(out.glob("faces/*/*.json"))) < results:
        time.sleep(0.01)
    time.sleep(luck.random() * 0.5)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path, landmarker: Path) -> None:
    raw = tmp_path / "raw"
    drawn.meld(raw / "meld", clips=12)
    drawn.mosei(raw / "mosei", [(0.0, 1.5), (1.5, 4.5)])
    (raw / "meld" / "train" / "train_splits" / "dia0_utt5.mp4").write_bytes(b"corrupt" * 99)
    assert _build(raw, tmp_path / "whole").wait() == 0
    seed = int.from_bytes(os.urandom(4), "big")
    luck = random.Random(seed)
    out = tmp_path / "killed"
    kills = sum(_killed(raw, out, results, luck) for results in (0, 2, 5, 8, 11))
    assert kills >= 3, f"seed {seed}"
    assert _build(raw, out).wait() == 0
    assert tree(out) == tree(tmp_path / "whole"), f"seed {seed}"
