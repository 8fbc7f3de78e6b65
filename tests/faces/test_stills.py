from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces import video

from .clips import corners, quadrants


def test_a_still_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    Image.fromarray(quadrants(64, 48)).save(path)
    info = video.probe(path)
    assert (info.width, info.height, info.frames, info.fps, info.duration) == (64, 48, 1, 0, 0)
    (frame,) = video.frames(path, max_fps=3)
    assert corners(frame.image) == "rgbw"


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (6, "brwg"), (8, "gwrb")],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, seen: str) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quadrants(64, 48)).save(path, exif=exif, quality=95)
    info = video.probe(path)
    (frame,) = video.frames(path)
    assert corners(frame.image) == seen
    assert frame.image.shape[:2] == (info.height, info.width)


def test_max_side_keeps_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(quadrants(2000, 1000)).save(path)
    (frame,) = video.frames(path, max_side=500)
    assert frame.image.shape == (250, 500, 3)
    assert corners(frame.image) == "rgbw"


def test_transparency_lies_on_white_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(clear)
    assert next(video.frames(clear)).image.min() == 255
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(deep)
    assert next(video.frames(deep)).image.mean() == pytest.approx(127, abs=1)


def test_grey_and_palette_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "P", "1", "CMYK"):
        path = tmp_path / f"{mode}.tiff"
        Image.new(mode, (9, 7)).save(path)
        assert next(video.frames(path)).image.shape == (7, 9, 3)


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    pictures = [Image.new("RGB", (16, 16), (i * 60, 0, 0)) for i in range(4)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    times = [frame.timestamp for frame in video.frames(path)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_damaged_image_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(EmoVerseError, match="damaged"):
        list(video.frames(path))


def test_an_animated_picture_says_that_one_was_used(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    pictures = [Image.new("RGB", (16, 16), (i * 60, 0, 0)) for i in range(4)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    notes: list[str] = []
    assert len(list(video.frames(path, warnings=notes))) == 1
    assert any("only the first of its 4" in note for note in notes)
