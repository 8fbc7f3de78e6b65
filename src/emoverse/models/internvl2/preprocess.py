"""Pictures and clips as InternVL2 sees them: dynamic tiles, a thumbnail, ImageNet statistics.

The arithmetic is that of the code OpenGVLab publishes with the checkpoints (`dynamic_preprocess`,
`load_video`), with Pillow alone; transformers' own video processor needs torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from emoverse.errors import EmoVerseError
from emoverse.faces.video import frames

SIDE = 448
SEGMENTS = 8
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def grid(
    width: int, height: int, *, least: int = 1, most: int = 12, side: int = SIDE
) -> tuple[int, int]:
    """Columns and rows of tiles whose shape is nearest to the picture's.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        least: fewest tiles allowed.
        most: most tiles allowed.
        side: of a tile, pixels.

    Of two grids equally near, the larger is taken when the picture has more than half its pixels.
    """
    shape = width / height
    best, nearest = (1, 1), float("inf")
    for columns, rows in _grids(least, most):
        distance = abs(shape - columns / rows)
        if distance < nearest:
            best, nearest = (columns, rows), distance
        elif distance == nearest and width * height > 0.5 * side * side * columns * rows:
            best = (columns, rows)
    return best


def tiles(
    picture: Image.Image,
    *,
    least: int = 1,
    most: int = 12,
    thumbnail: bool = True,
    side: int = SIDE,
) -> list[Image.Image]:
    """A picture as tiles, row by row, with the whole picture last when there are several.

    Args:
        picture: any size and mode.
        least: fewest tiles allowed.
        most: most tiles allowed.
        thumbnail: whether several tiles are followed by the whole picture.
        side: of a tile, pixels.

    Returns:
        RGB pictures of side x side pixels.
    """
    picture = picture.convert("RGB")
    columns, rows = grid(*picture.size, least=least, most=most, side=side)
    canvas = picture.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    found = [
        canvas.crop((x * side, y * side, (x + 1) * side, (y + 1) * side))
        for y in range(rows)
        for x in range(columns)
    ]
    if thumbnail and len(found) > 1:
        found.append(picture.resize((side, side), Image.Resampling.BICUBIC))
    return found


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Tiles or frames as the vision tower's input.

    Args:
        pictures: RGB, all of one size.

    Returns:
        (n, 3, side, side) float32, ImageNet-normalised.
    """
    stack = np.stack([np.asarray(picture.convert("RGB"), np.float32) for picture in pictures])
    normal = (stack / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def frame_numbers(count: int, segments: int = SEGMENTS) -> list[int]:
    """Which frames of a clip are looked at: the middles of equal segments.

    Args:
        count: frames in the clip, at least 1.
        segments: frames wanted; a short clip gives some of its frames twice.
    """
    length = (count - 1) / segments
    return [int(length / 2 + np.round(length * n)) for n in range(segments)]


def clip_frames(
    path: Path | str, *, segments: int = SEGMENTS, side: int = SIDE
) -> list[Image.Image]:
    """Frames of a clip, one tile each.

    Args:
        path: a video, or a picture (a clip of one frame).
        segments: frames wanted.
        side: pixels.

    Returns:
        `segments` RGB pictures of side x side pixels, in order.

    Raises:
        EmoVerseError: the file is missing or cannot be decoded.
    """
    # Containers often tell a wrong number of frames, so they are counted first.
    count = sum(1 for _ in frames(path))
    if not count:
        raise EmoVerseError(f"{path}: no frame could be decoded; check the file.")
    wanted = frame_numbers(count, segments)
    seen: dict[int, Image.Image] = {}
    for number, frame in enumerate(frames(path)):
        if number in wanted:
            picture = Image.fromarray(frame.image)
            seen[number] = picture.resize((side, side), Image.Resampling.BICUBIC)
    return [seen[number] for number in wanted]


@cache
def _grids(least: int, most: int) -> tuple[tuple[int, int], ...]:
    """Grids of `least` to `most` tiles, small ones first.

    The published code puts them into a set before sorting by size, so that of two grids with
    equally many tiles the set's order decides; that set is built here in the same way.
    """
    found = {
        (columns, rows)
        for n in range(least, most + 1)
        for columns in range(1, n + 1)
        for rows in range(1, n + 1)
        if least <= columns * rows <= most
    }
    return tuple(sorted(found, key=lambda each: each[0] * each[1]))
