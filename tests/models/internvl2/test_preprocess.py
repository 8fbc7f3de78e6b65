"""Pictures become tiles as in the published code, and pixels as by the book."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoImageProcessor

from emoverse.models.internvl2.preprocess import clip_frames, frame_numbers, grid, pixels, tiles

from .conftest import Converted


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 6, 1), max(width // 6, 1), 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _matrix(old: int, new: int) -> np.ndarray:
    """(new, old) weights of an antialiased bicubic resize along one side."""
    scale = old / new
    support = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distance = (np.arange(old)[None] + 0.5 - centres[:, None]) / support
    weights = _cubic(distance)
    return weights / weights.sum(axis=1, keepdims=True)


def _resized(image: np.ndarray, width: int, height: int, *, across_first: bool) -> np.ndarray:
    """Bicubic in float64, rounded to whole grey levels after each direction, as Pillow does."""
    image = image.astype(float)
    for across in (across_first, not across_first):
        if across:
            image = np.matmul(_matrix(image.shape[1], width), image)
        else:
            image = np.tensordot(_matrix(image.shape[0], height), image, axes=1)
        image = np.clip(np.floor(image + 0.5), 0, 255)
    return image


def _normal(image: np.ndarray) -> np.ndarray:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((image / 255 - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "side", "columns", "rows"),
    [
        ((448, 448), 448, 1, 1),
        ((500, 240), 448, 2, 1),
        ((225, 225), 112, 2, 2),
        ((320, 180), 112, 4, 2),
        ((160, 120), 112, 4, 3),
        ((75, 300), 112, 1, 4),
    ],
)
def test_tiles_are_the_resized_picture_cut_up(
    size: tuple[int, int], side: int, columns: int, rows: int
) -> None:
    picture = _noise(*size)
    array = np.asarray(picture)
    found = pixels(tiles(picture, side=side))
    count = columns * rows
    assert grid(*size, side=side) == (columns, rows)
    assert found.shape == (count + (count > 1), 3, side, side)
    assert found.dtype == np.float32
    tiled = found[:count].reshape(rows, columns, 3, side, side).transpose(2, 0, 3, 1, 4)
    _close(tiled.reshape(3, rows * side, columns * side), array)
    if count > 1:
        _close(found[-1], array)


def _close(found: np.ndarray, picture: np.ndarray) -> None:
    """Equal to 1e-3, but for the odd number where rounding falls the other way by a grey level.

    Versions of Pillow differ in which direction they resize first.
    """
    height, width = found.shape[1:]
    differences = [
        np.abs(found - _normal(_resized(picture, width, height, across_first=first)))
        for first in (True, False)
    ]
    nearest = min(differences, key=lambda each: float(np.mean(each > 1e-3)))
    assert np.mean(nearest > 1e-3) < 2e-3
    assert nearest.max() < 1.01 / 255 / 0.224


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 3000), height=st.integers(1, 3000), most=st.integers(1, 12))
def test_the_grid_is_the_nearest_shape(width: int, height: int, most: int) -> None:
    columns, rows = grid(width, height, most=most)
    assert 1 <= columns * rows <= most
    best = min(
        abs(width / height - c / r) for c in range(1, most + 1) for r in range(1, most // c + 1)
    )
    assert abs(width / height - columns / rows) == best


def test_a_large_picture_takes_the_larger_of_two_equal_grids() -> None:
    assert grid(400, 400) == (1, 1)
    assert grid(700, 700) == (2, 2)  # more than half of 4 tiles' pixels
    assert grid(1500, 1500) == (3, 3)


def test_grey_and_transparent_pictures_become_rgb() -> None:
    for mode in ("L", "RGBA", "P"):
        assert [t.mode for t in tiles(_noise(900, 450).convert(mode))] == ["RGB"] * 3


def test_transformers_own_image_processor_agrees(converted: Converted) -> None:
    """Its settings are those written beside the model; it runs on Pillow without torchvision."""
    theirs = AutoImageProcessor.from_pretrained(converted.target)
    for size in ((300, 100), (90, 60), (56, 56)):
        picture = _noise(*size)
        found = theirs(picture, return_tensors="np")["pixel_values"]
        mine = pixels(tiles(picture, side=56))
        assert found.shape == mine.shape
        assert np.abs(found - mine).max() < 1.01 / 255 / 0.224
        assert np.mean(np.abs(found - mine) > 1e-3) < 1e-2


@given(count=st.integers(1, 500), segments=st.integers(1, 16))
def test_frames_are_spread_over_the_clip(count: int, segments: int) -> None:
    found = frame_numbers(count, segments)
    assert len(found) == segments
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] < count
    assert max(np.diff([0, *found, count - 1]), default=0) <= count / segments + 1


def test_frame_numbers_of_the_published_code() -> None:
    # int(segment / 2 + round(segment * n)) with segment = 99 / 8
    assert frame_numbers(100) == [6, 18, 31, 43, 56, 68, 80, 93]


def test_a_clip_gives_eight_frames_in_order(tmp_path: Path) -> None:
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(40):
            array = np.full((48, 64, 3), 6 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    found = clip_frames(path)
    assert [picture.size for picture in found] == [(448, 448)] * 8
    levels = [float(np.asarray(picture).mean()) for picture in found]
    assert levels == pytest.approx([6 * n for n in frame_numbers(40)], abs=6)
    assert pixels(found).shape == (8, 3, 448, 448)


def test_a_still_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    _noise(100, 80).save(path)
    found = clip_frames(path)
    assert len(found) == 8
    assert all(np.array_equal(np.asarray(found[0]), np.asarray(other)) for other in found)
