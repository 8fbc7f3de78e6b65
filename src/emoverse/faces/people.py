"""Who is who: faces of sampled frames joined to persons.

Two steps. While frames arrive, a face continues the track whose last face lay nearest (box
overlap and landmark distance), unless it looks like somebody else: so a cut to another person in
the same place starts a new track. At the end, tracks that never meet and whose mean looks or mean
face shapes agree are one person: so a jump cut does not multiply people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.crop import SIZE, alignment
from emoverse.faces.face import Face, overlap

# Points that hardly move with the expression: eye corners, nose, forehead, face outline.
_RIGID = (
    *(33, 133, 362, 263, 6, 197, 195, 5, 4, 1, 98, 327, 168, 8, 9, 151, 10),
    *(127, 356, 234, 454, 93, 323, 132, 361, 50, 280),
)
_LEAST_OVERLAP = 0.3
# Mean landmark distance as a share of the face's size.
_FARTHEST = 0.5
# Seconds a face may be gone and still continue its track.
_LONGEST_GAP = 1.5
# Distance of mean shapes (unit size): the same person measured 0.010 to 0.015 across cuts,
# different people 0.027 and more. Means of few faces are too noisy to tell.
_SAME_SHAPE = 0.02
_LEAST_FACES = 5
# Correlation of looks. Mean looks of one person across cuts measured 0.81 to 0.97, of different
# people in one clip up to 0.51; from frame to frame 0.67 and more in 99 of 100, across cuts
# between people up to 0.53. A track broken in vain is joined again at the end.
_SAME_LOOKS = 0.75
_OTHER_LOOKS = 0.65
# The part of the aligned crop that is looked at: brows, eyes and nose, not the mouth that talks.
_LOOKS_ROWS, _LOOKS_COLUMNS, _CELL = (2, 62), (8, 88), 4


@dataclass(slots=True, eq=False)
class _Track:
    face: Face
    first: float
    last: float
    shapes: NDArray[np.float64]
    looks: NDArray[np.float64] | None
    latest: NDArray[np.float64] | None
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """What a person looked like: sums over `count` faces, so that likenesses can be added.

    Attributes:
        shape: (p, 3) of unit size; one tracker's are turned alike, two trackers' are not.
        looks: (300,), see `looks`; None where no picture was given.
        count: faces.
    """

    shape: NDArray[np.float64]
    looks: NDArray[np.float64] | None
    count: int


class Tracker:
    """Joins faces to tracks, and tracks to persons."""

    def __init__(self, interval: float = 0.0) -> None:
        """Start without people.

        Args:
            interval: seconds between sampled frames; sparse samples get a longer memory.
        """
        self._gap = max(_LONGEST_GAP, 1.5 * interval)
        self._tracks: list[_Track] = []
        self._reference: NDArray[np.float64] | None = None

    def update(
        self,
        faces: Sequence[Face],
        timestamp: float,
        image: NDArray[np.uint8] | None = None,
        *,
        seen: Sequence[NDArray[np.float64]] | None = None,
    ) -> list[int]:
        """Take the faces of the next frame.

        Args:
            faces: of one frame, in pixels of pictures of one size.
            timestamp: seconds, rising from call to call.
            image: the frame itself, uint8 (height, width, 3); without it and `seen`, only places
                and shapes tell people apart.
            seen: what `looks` gives of every face, to spare the picture.

        Returns:
            A track number for every face, in its order; see `persons`.
        """
        known: list[NDArray[np.float64] | None] = [None] * len(faces)
        if seen is not None:
            known = list(seen)
        elif image is not None:
            known = [looks(image, face) for face in faces]
        pairs = sorted(
            (distance, i, j)
            for j, track in enumerate(self._tracks)
            if timestamp - track.last <= self._gap
            for i, face in enumerate(faces)
            if (distance := _distance(face, track.face)) is not None
            and _alike(known[i], track.latest, 1.0) >= _OTHER_LOOKS
        )
        taken: dict[int, int] = {}
        for _, i, j in pairs:
            if i not in taken and j not in taken.values():
                taken[i] = j
        return [self._add(face, known[i], timestamp, taken.get(i)) for i, face in enumerate(faces)]

    def persons(self) -> list[int]:
        """The person of every track; persons are numbered from 0 in order of appearance."""
        groups: list[list[int]] = []
        for number, track in enumerate(self._tracks):
            best = max(
                (
                    (self._likeness(group, track), -index)
                    for index, group in enumerate(groups)
                    if all(self._apart(self._tracks[other], track) for other in group)
                ),
                default=(0.0, 0),
            )
            if best[0] > 0:
                groups[-best[1]].append(number)
            else:
                groups.append([number])
        return [
            next(person for person, group in enumerate(groups) if number in group)
            for number in range(len(self._tracks))
        ]

    def likeness(self, tracks: Sequence[int]) -> Likeness:
        """What the faces of some tracks, all of one person, looked like."""
        chosen = [self._tracks[number] for number in tracks]
        seen = [track.looks for track in chosen if track.looks is not None]
        return Likeness(
            np.sum([track.shapes for track in chosen], axis=0),
            np.sum(seen, axis=0) if len(seen) == len(chosen) else None,
            sum(track.count for track in chosen),
        )

    def _add(
        self,
        face: Face,
        seen: NDArray[np.float64] | None,
        timestamp: float,
        number: int | None,
    ) -> int:
        shape = self._shape(face.landmarks)
        if number is None:
            self._tracks.append(_Track(face, timestamp, timestamp, shape, seen, seen))
            return len(self._tracks) - 1
        track = self._tracks[number]
        track.face, track.last = face, timestamp
        track.shapes = track.shapes + shape
        if seen is not None:
            track.looks = seen if track.looks is None else track.looks + seen
            track.latest = seen
        track.count += 1
        return number

    def _shape(self, landmarks: NDArray[Any]) -> NDArray[np.float64]:
        points = landmarks[list(_RIGID)].astype(np.float64)
        points -= points.mean(axis=0)
        points /= max(float(np.linalg.norm(points)), 1e-9)
        if self._reference is None:
            self._reference = points
        left, _, right = np.linalg.svd(points.T @ self._reference)
        turned: NDArray[np.float64] = points @ (left @ right)
        return turned

    def _likeness(self, group: list[int], track: _Track) -> float:
        """How surely a track shows the person of a group; 0 and less: it does not."""
        by_shape = 1 - self._shape_distance(group, track) / _SAME_SHAPE
        known = [self._tracks[number].looks for number in group]
        if track.looks is None or any(one is None for one in known):
            return by_shape
        alike = _alike(np.sum([one for one in known if one is not None], axis=0), track.looks, 0.0)
        # Shapes alone once agreed by chance between people who look nothing like each other.
        return alike - _SAME_LOOKS if by_shape <= 0 or alike < _OTHER_LOOKS else max(by_shape, 0.01)

    def _shape_distance(self, group: list[int], track: _Track) -> float:
        known = [self._tracks[number] for number in group]
        count = sum(other.count for other in known)
        if min(count, track.count) < _LEAST_FACES:
            return float("inf")
        mean = np.sum([other.shapes for other in known], axis=0) / count
        return float(np.linalg.norm(mean - track.shapes / track.count))

    @staticmethod
    def _apart(first: _Track, second: _Track) -> bool:
        return first.last < second.first or second.last < first.first


def looks(image: NDArray[np.uint8], face: Face) -> NDArray[np.float64]:
    """What a face looks like between forehead and upper lip, whatever the light.

    Args:
        image: uint8 (height, width, 3) RGB that the face was found in.
        face: the face.

    Returns:
        (300,) grey values of the aligned crop, zero mean and unit length.
    """
    matrix = alignment(face.landmarks, SIZE)
    # Two points a cell and direction are enough to average out noise.
    rows, columns = np.mgrid[
        _LOOKS_ROWS[0] : _LOOKS_ROWS[1] : _CELL // 2,
        _LOOKS_COLUMNS[0] : _LOOKS_COLUMNS[1] : _CELL // 2,
    ]
    x, y = np.tensordot(matrix[:, :2], np.stack([columns, rows]), 1) + matrix[:, 2, None, None]
    height, width = image.shape[:2]
    x = np.clip(x.astype(np.int64), 0, width - 1)
    y = np.clip(y.astype(np.int64), 0, height - 1)
    grey = image[y, x].mean(axis=-1)
    cells = grey.reshape(grey.shape[0] // 2, 2, grey.shape[1] // 2, 2).mean(axis=(1, 3)).ravel()
    cells = cells - cells.mean()
    unit: NDArray[np.float64] = cells / max(float(np.linalg.norm(cells)), 1e-9)
    return unit


def _alike(
    first: NDArray[np.float64] | None, second: NDArray[np.float64] | None, unknown: float
) -> float:
    """Correlation of two looks, -1..1."""
    if first is None or second is None:
        return unknown
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / max(length, 1e-9)


def _distance(first: Face, second: Face) -> float | None:
    size = max(first.box[2] - first.box[0], second.box[2] - second.box[0], 1e-9)
    apart = np.linalg.norm(first.landmarks[:, :2] - second.landmarks[:, :2], axis=1)
    distance = float(apart.mean()) / size
    near = overlap(first.box, second.box) >= _LEAST_OVERLAP or distance <= _FARTHEST
    return distance if near else None
