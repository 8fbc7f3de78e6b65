"""Which frames are looked at: a grid first, then every frame where the peak may hide.

The sum of action units (Eq 1) jumps from frame to frame, so that a grid alone misses its peak. The
frames between two grid points are therefore looked at as well, the most promising first, as long
as one of the two points comes near the highest sum so far; how near is measured on the clip
itself. Where a clip is too long to keep, this is done stretch by stretch. In pieces of 3 to 8
seconds of real clips, with a grid of 9 frames a second, this looks at about half of the frames and
finds the peak of all frames, within two, in more than nine of ten (`benchmarks/build.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.landmarks import Detector, Face
from emoverse.faces.video import Shot

# The frames in between are looked at when a grid point comes this close to the highest sum so
# far, in mean steps between grid points, and at least by the smallest step that tells anything.
_REACH = 1.25
_LEAST_REACH = 0.2
_FIRST_REACH = 1.0
# Decoded frames kept in between; sparser grids are not filled in.
_MOST_BETWEEN = 12
# Bytes of decoded frames kept until it is known which of them are looked at.
_MOST_HELD = 128_000_000
# The tiles that find small faces are searched in every this many grid points, or in all frames
# as long as they find more people than the whole picture does.
_SEARCH_EVERY = 20
# Where no face is seen, every this many frames get a second look.
_RETRY_EVERY = 4

Seen = tuple[Shot, list[Face], bool]
"""A frame, its faces, and whether it lies on the grid."""


@dataclass(slots=True, eq=False)
class _Point:
    """A grid point: its faces, their strength, and the frames up to the next one."""

    shot: Shot
    faces: list[Face]
    strength: float
    after: list[Shot] = field(default_factory=list)
    filled: list[tuple[Shot, list[Face]]] = field(default_factory=list)


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
    stretch: list[_Point] = []
    held = points = 0
    steps = best = 0.0
    before: float | None = None
    for shot in shots:
        if shot.due:
            if held >= _MOST_HELD or not refine:
                best = _fill(stretch, search, strength, best, _reach(steps, points))
                yield from _told(stretch)
                stretch, held = [], 0
            faces = search.faces(shot.image())
            point = _Point(shot, faces, strength(faces))
            best = max(best, point.strength)
            steps += 0.0 if before is None else abs(point.strength - before)
            points += before is not None
            before = point.strength
            stretch.append(point)
            held += shot.size
        elif refine and stretch and len(stretch[-1].after) <= _MOST_BETWEEN:
            stretch[-1].after.append(shot)
            held += shot.size
    _fill(stretch, search, strength, best, _reach(steps, points))
    yield from _told(stretch)


def _told(stretch: list[_Point]) -> Iterator[Seen]:
    for point in stretch:
        yield point.shot, point.faces, True
        yield from ((shot, faces, False) for shot, faces in point.filled)


def _reach(steps: float, points: int) -> float:
    return max(_LEAST_REACH, _REACH * steps / points) if points else _FIRST_REACH


def _fill(
    stretch: list[_Point],
    search: _Search,
    strength: Callable[[list[Face]], float],
    best: float,
    reach: float,
) -> float:
    """Look at the frames between points, nearest to the highest sum first; returns that sum."""
    following = [*(point.strength for point in stretch[1:]), 0.0]
    near = [max(point.strength, after) for point, after in zip(stretch, following, strict=False)]
    for place in sorted(range(len(stretch)), key=lambda place: -near[place]):
        if near[place] <= 0 or near[place] < best - reach:
            break
        if len(stretch[place].after) <= _MOST_BETWEEN:
            for shot in stretch[place].after:
                faces = search.more(shot.image())
                best = max(best, strength(faces))
                stretch[place].filled.append((shot, faces))
    return best


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
