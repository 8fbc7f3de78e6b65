"""A few frames spread evenly over a clip, for models that see whole pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emoverse.faces import video
from emoverse.faces.video import Frame

SIDE = 1024
"""Pixels of a frame's longer side, at most."""

_QUALITY = 95


def spread(
    path: Path | str,
    count: int,
    *,
    start: float = 0.0,
    end: float | None = None,
    side: int = SIDE,
    max_pixels: int | None = None,
) -> tuple[list[Frame], float]:
    """The frames nearest to the middles of `count` equal parts of a clip, each once.

    Args:
        path: a video, or a still, which has one frame.
        count: frames wanted; a clip with fewer gives what it has.
        start: seconds; what lies before is no part of the clip, and times count from here.
        end: likewise; None is the end of the video.
        side: pixels of a frame's longer side, at most.
        max_pixels: as in `video.lazy_frames`.

    Returns:
        The frames in order, and the seconds that they are spread over (0 for a still).

    Raises:
        EmoVerseError: it cannot be read.
    """
    duration = video.probe(path).duration
    span = max(0.0, (duration if end is None else min(end, duration)) - start)
    rate = 2 * count / span if span > 0 else None
    found = list(
        video.frames(path, max_fps=rate, max_side=side, start=start, end=end, max_pixels=max_pixels)
    )
    times = np.array([frame.timestamp for frame in found])
    middles = (np.arange(count) + 0.5) * span / count
    nearest = {int(np.abs(times - middle).argmin()) for middle in middles}
    return [found[place] for place in sorted(nearest)], max(span, float(times[-1]))


def jpegs(
    path: Path | str,
    count: int,
    *,
    start: float = 0.0,
    end: float | None = None,
    side: int = SIDE,
    max_pixels: int | None = None,
) -> tuple[bytes, ...]:
    """The frames of `spread` as JPEG files."""
    frames, _ = spread(path, count, start=start, end=end, side=side, max_pixels=max_pixels)
    return tuple(jpeg(frame.image) for frame in frames)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (height, width, 3) RGB, as a JPEG file without coarser colours."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
