from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emoverse.inference.cuts import cuts

from ..faces.clips import write


def _scene(seed: int, count: int, speed: int = 1) -> list[np.ndarray]:
    """A textured picture that pans a little, as a held camera does."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (9, 16, 3), np.uint8)
    wide = coarse.repeat(12, axis=0).repeat(12, axis=1)
    return [np.roll(wide, step * speed, axis=1)[:96, :160] for step in range(count)]


def test_hard_cuts_are_found_and_motion_is_none(tmp_path: Path) -> None:
    frames = _scene(1, 60) + _scene(2, 45) + _scene(3, 75)
    clip = write(tmp_path / "film.mp4", frames, fps=30)
    assert list(cuts(clip)) == pytest.approx([2.0, 3.5], abs=0.13)


def test_a_cut_near_the_end_is_found(tmp_path: Path) -> None:
    clip = write(tmp_path / "film.mp4", _scene(1, 60) + _scene(2, 4), fps=30)
    assert list(cuts(clip)) == pytest.approx([2.0], abs=0.13)


def test_one_shot_has_no_cut(tmp_path: Path) -> None:
    assert not list(cuts(write(tmp_path / "still.mp4", _scene(1, 1) * 60)))
    assert not list(cuts(write(tmp_path / "pan.mp4", _scene(1, 90, speed=2))))
    assert not list(cuts(write(tmp_path / "brighter.mp4", count=60)))


def test_a_strobe_is_not_many_shots(tmp_path: Path) -> None:
    one, two = _scene(1, 1), _scene(2, 1)
    clip = write(tmp_path / "strobe.mp4", (one * 4 + two * 4) * 12, fps=30)
    times = list(cuts(clip))
    assert all(late - early >= 0.5 for early, late in pairwise(times))
