"""Which frames are looked at: a grid first, then every frame where the peak may hide.

The sum of action units (Eq 1) jumps from frame to frame, so that a grid alone misses its peak. The
frames between two grid points are therefore looked at as well whenever one of the two comes near
the highest sum so far; how near is measured on the clip itself. In 304 pieces of 3 to 6 seconds of
real clips, with a grid of 7.5 frames a second, this looked at 53 to 60 % of the frames and found
the peak of all frames, within two, in 94 % (`benchmarks/build.py` measures it again).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.landmarks import Detector, Face
from emoverse.faces.video import Frame, Shot

# The frames in between are looked at when a grid point comes this close to the highest sum so
# far, in mean steps between grid points, and at least by the smallest step that tells anything.
_REACH = 1.0
_LEAST_REACH = 0.2
_FIRST_REACH = 1.0
# Decoded frames kept in between; sparser grids are not filled in.
_MOST_BETWEEN = 12
# The tiles that find small faces are searched in every this many grid points, or in all frames
# as long as they find more people than the whole picture does.
_SEARCH_EVERY = 20
# Where no face is seen, every this many frames get a second look.
_RETRY_EVERY = 4

Seen = tuple[Frame, list[Face], bool]
"""A frame, its faces, and whether it lies on the grid."""


def watch(
    shots: Iterator[Shot],
    eyes: Detector,
    strength: Callable[[list[Face]], float],
    *,
    refine: bool = True,
) -> Iterator[Seen]:
    """Look at a clip's grid points, and at the frames between them where the peak may be.

    Args:
        shots: of one clip, in order of time.
        eyes: an open detector in image mode.
        strength: the sum of Eq 1 of a frame's strongest face; 0 when none counts.
        refine: False looks at the grid alone.

    Returns:
        An iterator of what was seen, in order of time.
    """
    search = _Search(eyes)
    between: list[Shot] = []
    steps = 0.0
    points = 0
    best = before = 0.0
    reach = _FIRST_REACH
    for shot in shots:
        if not shot.due:
            if refine and len(between) <= _MOST_BETWEEN:
                between.append(shot)
            continue
        image = shot.image()
        faces = search.faces(image)
        now = strength(faces)
        best = max(best, now)
        if points:
            steps += abs(now - before)
            reach = max(_LEAST_REACH, _REACH * steps / points)
        if _worth(between, max(before, now), best - reach):
            for frame, found in _all(between, search):
                best = max(best, strength(found))
                yield frame, found, False
        between = []
        before = now
        points += 1
        yield Frame(shot.index, shot.timestamp, image), faces, True
    if _worth(between, before, best - reach):
        yield from ((frame, found, False) for frame, found in _all(between, search))


def _worth(between: list[Shot], near: float, wanted: float) -> bool:
    return 0 < len(between) <= _MOST_BETWEEN and near > 0 and near >= wanted


def _all(between: list[Shot], search: _Search) -> Iterator[tuple[Frame, list[Face]]]:
    for shot in between:
        image = shot.image()
        yield Frame(shot.index, shot.timestamp, image), search.more(image)


class _Search:
    """Finds the faces of successive frames at little more than one detection a frame."""

    def __init__(self, eyes: Detector) -> None:
        self._eyes = eyes
        self._seen = 0
        self._crowded = False
        self._last = False
        self._known: tuple[NDArray[np.uint8], list[Face]] | None = None

    def faces(self, image: NDArray[np.uint8]) -> list[Face]:
        """The faces of the next grid point."""
        number = self._seen
        self._seen += 1
        if (again := self._same(image)) is not None:
            return again
        if number % _SEARCH_EVERY == 0:
            whole = self._eyes.detect(image, thorough=False)
            found = self._eyes.detect(image, thorough=True, known=whole)
            self._crowded = len(found) > len(whole)
        else:
            found = self._eyes.detect(image, thorough=self._crowded)
            if not found and not self._crowded and (self._last or number % _RETRY_EVERY == 0):
                found = self._eyes.detect(image)
        self._last = bool(found)
        self._known = image, found
        return found

    def more(self, image: NDArray[np.uint8]) -> list[Face]:
        """The faces of a frame between grid points."""
        if (again := self._same(image)) is not None:
            return again
        return self._eyes.detect(image, thorough=self._crowded)

    def _same(self, image: NDArray[np.uint8]) -> list[Face] | None:
        # Stills inside clips, title cards and doubled frames repeat to the bit.
        if self._known is not None and np.array_equal(self._known[0], image):
            return self._known[1]
        return None
