"""Which frames are looked at: a grid first, then those between where the peak may hide.

The sum of action units (Eq 1) jumps from frame to frame, so that a grid alone misses its peak. The
gaps between two grid points are therefore halved, and their halves again, the most promising
first, as long as a gap may hold more than the highest sum so far: more than the higher of its two
ends by what the sum changes, on this very clip, over a gap of that length. Where a clip is too
long to keep, this is done stretch by stretch. On 135 windows of 3.6 to 6 seconds of real clips,
with a grid of 5 frames a second, this looked at two frames of five and found the peak of all
frames, within two, in 19 of 20; `benchmarks/build.py` measures it.

Faces are looked for in the whole picture, and where it does not show one that was there a moment
ago, around its place. The tiles that find small faces are searched only now and then, at cuts,
and while nobody is seen.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.face import Face, overlap
from emoverse.faces.landmarks import Detector
from emoverse.faces.video import LazyFrame

# How far a sum may rise inside a gap, in mean steps between grid points a second of the gap; and
# the least mean step that tells anything.
_REACH = 15.0
_LEAST_STEP = 0.15
_FIRST_STEP = 0.8
# Decoded frames kept in between; sparser grids are not filled in.
_MOST_BETWEEN = 12
# Bytes of decoded frames kept until it is known which of them are looked at.
_MOST_HELD = 128_000_000
# Grid points after which the tiles are searched again; fewer where no face is seen.
_SEARCH_EVERY = 40
_RETRY_EVERY = 8
# Grid points for which a face that was lost is looked for around its last place.
_REMEMBERED = 8
# Overlap (intersection over union) from which on a face is the one that was followed.
_STILL = 0.3
# Mean difference of two pictures, in grey levels of 255, from which on they are two shots of a
# film; and the points that are compared, in each direction.
_CUT = 30.0
_POINTS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was measured of a face while its picture was at hand.

    Attributes:
        intensities: AU code to 0..5.
        looks: (300,) see `people.looks`.
    """

    intensities: dict[str, float]
    looks: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What was seen in a picture.

    Attributes:
        faces: the faces.
        strength: the sum of Eq 1 of the strongest one; 0 when none counts.
        readings: what the caller measured of each face.
    """

    faces: list[Face]
    strength: float
    readings: list[Reading]


Measure = Callable[[NDArray[np.uint8], list[Face]], Sight]
Seen = tuple[LazyFrame, Sight, bool]
"""A frame, what was seen in it, and whether it lies on the grid."""


@dataclass(slots=True, eq=False)
class _Point:
    """A grid point, what was seen there, and the frames up to the next one."""

    frame: LazyFrame
    sight: Sight
    after: list[LazyFrame] = field(default_factory=list)
    filled: dict[int, Sight] = field(default_factory=dict)


def watch(
    frames: Iterator[LazyFrame], eyes: Detector, measure: Measure, *, refine: bool = True
) -> Iterator[Seen]:
    """Look at a clip's grid points, and at the frames between them where the peak may be.

    Args:
        frames: of one clip, in order of time.
        eyes: an open detector in image mode.
        measure: takes a picture and its faces.
        refine: False looks at the grid alone.

    Returns:
        An iterator of what was seen, in order of time.
    """
    search = _Search(eyes, measure)
    stretch: list[_Point] = []
    held = points = 0
    steps = best = 0.0
    before: float | None = None
    for frame in frames:
        if frame.due:
            if held >= _MOST_HELD or not refine:
                best = _fill(stretch, search, best, _step(steps, points))
                yield from _told(stretch)
                stretch, held = [], 0
            sight = search.next(frame.image())
            best = max(best, sight.strength)
            steps += 0.0 if before is None else abs(sight.strength - before)
            points += before is not None
            before = sight.strength
            stretch.append(_Point(frame, sight))
            held += frame.size
        elif refine and stretch and len(stretch[-1].after) <= _MOST_BETWEEN:
            stretch[-1].after.append(frame)
            held += frame.size
    _fill(stretch, search, best, _step(steps, points))
    yield from _told(stretch)


def _told(stretch: list[_Point]) -> Iterator[Seen]:
    for point in stretch:
        yield point.frame, point.sight, True
        yield from ((point.after[at], point.filled[at], False) for at in sorted(point.filled))


def _step(steps: float, points: int) -> float:
    return max(_LEAST_STEP, steps / points) if points else _FIRST_STEP


def _fill(stretch: list[_Point], search: _Search, best: float, step: float) -> float:
    """Look into gaps, the most promising first; returns the highest sum."""
    gaps: list[tuple[float, int, int, int]] = []  # (-most that may be inside, point, first, end)

    def offer(place: int, first: int, end: int) -> None:
        """A gap of a point's frames `first` to `end`, the end left out."""
        point = stretch[place]
        sides = [point.filled[first - 1] if first else point.sight]
        if end < len(point.after):
            sides.append(point.filled[end])
        elif place + 1 < len(stretch):
            sides.append(stretch[place + 1].sight)
        highest = max(side.strength for side in sides)
        if first < end and highest > 0:
            most = highest + _REACH * step * (end - first + 1) * _apart(point)
            heapq.heappush(gaps, (-most, place, first, end))

    for place, point in enumerate(stretch):
        if len(point.after) <= _MOST_BETWEEN:
            offer(place, 0, len(point.after))
    while gaps and -gaps[0][0] >= best:
        _, place, first, end = heapq.heappop(gaps)
        point, middle = stretch[place], (first + end) // 2
        around = point.filled[first - 1] if first else point.sight
        point.filled[middle] = search.between(point.after[middle].image(), around)
        best = max(best, point.filled[middle].strength)
        offer(place, first, middle)
        offer(place, middle + 1, end)
    return best


def _apart(point: _Point) -> float:
    """Seconds from frame to frame after a grid point that has frames after it."""
    return (point.after[-1].timestamp - point.frame.timestamp) / len(point.after)


class _Search:
    """Finds the faces of successive pictures at little more than one detection a picture."""

    def __init__(self, eyes: Detector, measure: Measure) -> None:
        self._eyes, self._measure = eyes, measure
        self._since = _SEARCH_EVERY  # grid points since the tiles were searched
        self._followed: list[tuple[Face, int]] = []  # with the grid points since it was seen
        self._known: tuple[NDArray[np.uint8], Sight] | None = None

    def next(self, image: NDArray[np.uint8]) -> Sight:
        """What the next grid point shows."""
        if (again := self._same(image)) is not None:
            return again
        self._since += 1
        if self._since >= _SEARCH_EVERY or self._is_cut(image):
            found = self._everywhere(image)
            self._followed = []
        else:
            near = [face for face, _ in self._followed]
            found = self._eyes.detect(image, thorough=False, near=near)
            if not found and self._since >= _RETRY_EVERY:
                found = self._everywhere(image, found)
        self._follow(found)
        sight = self._measure(image, found)
        self._known = image, sight
        return sight

    def between(self, image: NDArray[np.uint8], around: Sight) -> Sight:
        """What a frame between grid points shows; `around` was seen shortly before."""
        if (again := self._same(image)) is not None:
            return again
        found = self._eyes.detect(image, thorough=False, near=around.faces)
        return self._measure(image, found)

    def _everywhere(self, image: NDArray[np.uint8], whole: list[Face] | None = None) -> list[Face]:
        self._since = 0
        return self._eyes.detect(image, thorough=True, known=whole)

    def _follow(self, found: list[Face]) -> None:
        lost = (
            (face, gone + 1)
            for face, gone in self._followed
            if gone < _REMEMBERED
            and not any(overlap(face.box, other.box) >= _STILL for other in found)
        )
        self._followed = [*((face, 0) for face in found), *lost]

    def _is_cut(self, image: NDArray[np.uint8]) -> bool:
        if self._known is None or self._known[0].shape != image.shape:
            return True
        return float(np.abs(_thumbnail(image) - _thumbnail(self._known[0])).mean()) >= _CUT

    def _same(self, image: NDArray[np.uint8]) -> Sight | None:
        # Stills inside clips, title cards and doubled frames repeat to the bit. A few rows tell
        # most of the others apart.
        if self._known is None:
            return None
        known, sight = self._known
        few = np.array_equal(known[::_POINTS], image[::_POINTS])
        return sight if few and np.array_equal(known, image) else None


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.int16]:
    down, right = (max(1, side // _POINTS) for side in image.shape[:2])
    return image[::down, ::right].astype(np.int16)
