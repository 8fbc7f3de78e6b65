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


def test_pictures_are_those_that_faces_are_found_in(tmp_path: Path) -> None:
    sideways = Image.new("RGB", (80, 40), "red")
    exif = sideways.getexif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "b.png")
    Image.fromarray(np.full((8, 8), 1 << 15, np.uint16)).save(tmp_path / "c.png")
    upright, clear, deep = sights(tmp_path, ["a.jpg", "b.png", "c.png"], 4)
    assert isinstance(upright, Image.Image) and upright.size == (40, 80)
    assert isinstance(clear, Image.Image) and _level(clear) == 255
    assert isinstance(deep, Image.Image) and _level(deep) == pytest.approx(127, abs=1)
    shades = [Image.new("L", (8, 8), 80 * n) for n in range(3)]
    shades[0].save(tmp_path / "d.gif", save_all=True, append_images=shades[1:], duration=500)
    assert len(sights(tmp_path, ["d.gif"], 4)) == 3


def test_missing_and_broken_media_are_named(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"gone\.mp4: no such file"):
        sights(tmp_path, ["gone.mp4"], 4)
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    with pytest.raises(EmoVerseError, match=r"broken\.mp4"):
        sights(tmp_path, ["broken.mp4"], 4)
