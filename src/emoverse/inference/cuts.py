"""Where a film cuts from one shot to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emoverse.faces import video

_FPS = 8.0
_SIDE = 64
# A cut changes the picture this many times as much as its neighbours changed, and by at least
# this much of the full range: the adaptive rule of PySceneDetect, whose own package would bring
# a second build of OpenCV beside MediaPipe's.
_RATIO = 2.5
_LEAST = 0.08
_NEIGHBOURS = 2
# Shots shorter than this are flashes or strobes.
_SHORTEST = 0.5


def cuts(path: Path | str, told: Callable[[float], None] | None = None) -> Iterator[float]:
    """Stream the times of hard cuts, in bounded memory.

    Args:
        path: a video.
        told: is called with the seconds of every frame that is looked at.

    Returns:
        An iterator of seconds, rising; to within 1/8 s.

    Raises:
        EmoVerseError: the clip cannot be read, see `emoverse.faces.video.probe`.
    """
    window: deque[tuple[float, float]] = deque(maxlen=2 * _NEIGHBOURS + 1)
    last = 0.0
    # The quiet end lets the last changes be judged like the others.
    for time, change in chain(_changes(path, told), [(float("inf"), 0.0)] * _NEIGHBOURS):
        window.append((time, change))
        found = _judged(window)
        if found is not None and found - last >= _SHORTEST:
            last = found
            yield found


def _judged(window: deque[tuple[float, float]]) -> float | None:
    """The time of the middle change when it is a cut; the first ones have fewer neighbours."""
    middle = len(window) - 1 - _NEIGHBOURS
    if middle < 0:
        return None
    time, change = window[middle]
    others = [other for place, (_, other) in enumerate(window) if place != middle]
    around = sum(others) / len(others)
    return time if change >= _LEAST and change >= _RATIO * max(around, 0.01) else None


def _changes(
    path: Path | str, told: Callable[[float], None] | None
) -> Iterator[tuple[float, float]]:
    """For each sampled frame but the first, its mean difference from the frame before, 0..1."""
    before: NDArray[np.int16] | None = None
    for frame in video.frames(path, max_fps=_FPS, max_side=_SIDE):
        if told:
            told(frame.timestamp)
        seen = frame.image.astype(np.int16)
        if before is not None and before.shape == seen.shape:
            yield frame.timestamp, float(np.abs(seen - before).mean()) / 255
        before = seen
