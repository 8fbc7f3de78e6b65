"""Who is who: faces of sampled frames joined to persons.

Two steps. While frames arrive, a face continues the track whose last face lay nearest (box
overlap and landmark distance). At the end, tracks that never meet and whose mean face shapes agree
are one person: so a jump cut does not multiply people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.landmarks import Face, overlap

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


@dataclass(slots=True, eq=False)
class _Track:
    face: Face
    first: float
    last: float
    shapes: NDArray[np.float64]
    count: int = 1


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

    def update(self, faces: Sequence[Face], timestamp: float) -> list[int]:
        """Take the faces of the next frame.

        Args:
            faces: of one frame, in pixels of pictures of one size.
            timestamp: seconds, rising from call to call.

        Returns:
            A track number for every face, in its order; see `persons`.
        """
        pairs = sorted(
            (distance, i, j)
            for j, track in enumerate(self._tracks)
            if timestamp - track.last <= self._gap
            for i, face in enumerate(faces)
            if (distance := _distance(face, track.face)) is not None
        )
        taken: dict[int, int] = {}
        for _, i, j in pairs:
            if i not in taken and j not in taken.values():
                taken[i] = j
        return [self._add(face, timestamp, taken.get(i)) for i, face in enumerate(faces)]

    def persons(self) -> list[int]:
        """The person of every track; persons are numbered from 0 in order of appearance."""
        groups: list[list[int]] = []
        for number, track in enumerate(self._tracks):
            best = min(
                (
                    (self._shape_distance(group, track), index)
                    for index, group in enumerate(groups)
                    if all(self._apart(self._tracks[other], track) for other in group)
                ),
                default=(np.inf, -1),
            )
            if best[0] < _SAME_SHAPE:
                groups[best[1]].append(number)
            else:
                groups.append([number])
        return [
            next(person for person, group in enumerate(groups) if number in group)
            for number in range(len(self._tracks))
        ]

    def _add(self, face: Face, timestamp: float, number: int | None) -> int:
        shape = self._shape(face.landmarks)
        if number is None:
            self._tracks.append(_Track(face, timestamp, timestamp, shape))
            return len(self._tracks) - 1
        track = self._tracks[number]
        track.face, track.last = face, timestamp
        track.shapes = track.shapes + shape
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


def _distance(first: Face, second: Face) -> float | None:
    size = max(first.box[2] - first.box[0], second.box[2] - second.box[0], 1e-9)
    apart = np.linalg.norm(first.landmarks[:, :2] - second.landmarks[:, :2], axis=1)
    distance = float(apart.mean()) / size
    near = overlap(first.box, second.box) >= _LEAST_OVERLAP or distance <= _FARTHEST
    return distance if near else None
