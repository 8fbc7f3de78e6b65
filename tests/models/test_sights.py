from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.models.processing import Clip
from emoverse.models.sights import clip_of, sights

from ..faces import clips


def _level(image: Image.Image) -> float:
    return float(np.asarray(image).mean())


def test_frames_are_the_middles_of_equal_parts(tmp_path: Path) -> None:
    clip = clip_of(clips.write(tmp_path / "a.mp4", count=80, fps=10), 8)  # 8 seconds
    assert clip.times == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5], abs=0.11)
    assert clip.duration == pytest.approx(8, abs=0.2)
    levels = [_level(frame) for frame in clip.frames]
    assert levels == sorted(levels)  # the clip brightens
    assert len(set(levels)) == 8


@pytest.mark.parametrize(("count", "given"), [(3, 3), (1, 2)])
def test_a_short_clip_gives_what_it_has(tmp_path: Path, count: int, given: int) -> None:
    path = clips.write(tmp_path / "a.mp4", count=count, fps=10)
    clip = clip_of(path, 8)
    assert len(clip.frames) == len(clip.times) == given  # two at least, which encoders need
    assert len(sights(tmp_path, ["a.mp4"], 8)) == count
    (whole,) = sights(tmp_path, ["a.mp4"], 8, native=True)
    assert isinstance(whole, Clip)


def test_a_clip_stays_one_and_stands_after_the_stills(tmp_path: Path) -> None:
    clips.write(tmp_path / "a.mp4", count=20, fps=10)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    found = sights(tmp_path, ["a.mp4", "b.png"], 4, native=True)
    assert [isinstance(sight, Clip) for sight in found] == [False, True]
    assert len(sights(tmp_path, ["a.mp4", "b.png"], 4)) == 5


def test_missing_and_broken_media_are_named(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"gone\.mp4: no such file"):
        sights(tmp_path, ["gone.mp4"], 4)
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    with pytest.raises(EmoVerseError, match=r"broken\.mp4"):
        sights(tmp_path, ["broken.mp4"], 4)
