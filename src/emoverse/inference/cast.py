"""Who is who over a whole film.

Every part of a film tells its persons apart by itself (`emoverse.faces.people`). Here they are
recognised as persons of earlier parts, by what their faces looked like on average. Without evidence
a person is a new one: an actor may get two numbers, where the light or the hair is quite another,
but two people share one only where their faces agree.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.faces.face import overlap
from emoverse.faces.people import Likeness
from emoverse.faces.records import Box

# Correlation of mean looks, and the distance of mean shapes (unit size), that together make one
# person. Over eight people of eight real clips, in parts of 3 s, none of 561 pairs of two people
# agree so far, and 58 in 100 pairs of one person do, more as the means get surer. Looks alone must
# agree much better: of 389 portraits of different people 8 in 1000 pairs agree by more than 0.75.
AGREEMENT = ((0.65, 0.025), (0.75, 0.05), (0.88, float("inf")))
# Shapes of fewer faces are too noisy to tell anything.
_LEAST_FACES = 5
# Who was seen in the same place this short a time ago, without a cut in between, may have turned
# the head: there, looks that no cut between people leaves are enough (`faces.people`).
_RECENT, _OVERLAP, _STILL_ALIKE = 1.5, 0.3, 0.65


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A person in a part of a film.

    Attributes:
        likeness: what their face looked like.
        first, last: when, in seconds of the film, and the face's box then.
    """

    likeness: Likeness
    first: tuple[float, Box]
    last: tuple[float, Box]


class Cast:
    """The persons of a film so far, numbered from 1 in order of appearance."""

    def __init__(self, cuts: Sequence[float] = ()) -> None:
        """Begin with nobody.

        Args:
            cuts: seconds of the film's hard cuts, rising.
        """
        self._cuts = cuts
        self._known: dict[int, Sighting] = {}

    def __len__(self) -> int:
        return len(self._known)

    def recognise(
        self, seen: Sequence[Sighting], at_once: Collection[tuple[int, int]] = ()
    ) -> list[int | None]:
        """Number the persons of a part.

        Args:
            seen: each of them; remembered.
            at_once: places of persons that one picture shows, so that they are two people.

        Returns:
            A number for each, in order; None for a face that is nobody known and was seen too
            briefly to know it again.
        """
        found = sorted(
            (
                (agreement, number, place)
                for place, one in enumerate(seen)
                for number, known in self._known.items()
                if (agreement := self._agreement(known, one)) > 0
            ),
            key=lambda match: (-match[0], match[1:]),
        )
        taken: dict[int, int] = {}
        for _, number, place in found:
            if place not in taken and _free(number, place, taken, at_once):
                taken[place] = number
        # The newcomers, best seen first, may be the same person in several shots.
        fresh: dict[int, Likeness] = {}
        for place in sorted(range(len(seen)), key=lambda place: -seen[place].likeness.count):
            likeness = seen[place].likeness
            if place in taken or likeness.count < _LEAST_FACES:
                continue
            same = [n for n, one in fresh.items() if agree(one, likeness)]
            number = next(
                (n for n in same if _free(n, place, taken, at_once)),
                max((*self._known, *fresh), default=0) + 1,
            )
            fresh.setdefault(number, likeness)
            taken[place] = number
        for place, number in taken.items():
            self.remember(number, seen[place])
        return [taken.get(place) for place in range(len(seen))]

    def remember(self, number: int, seen: Sighting) -> None:
        """Add to what a person is known to look like."""
        known = self._known.get(number)
        if known is None:
            self._known[number] = seen
            return
        last = max(known.last, seen.last, key=lambda spot: spot[0])
        self._known[number] = Sighting(added(known.likeness, seen.likeness), known.first, last)

    def _agreement(self, known: Sighting, seen: Sighting) -> float:
        """How surely both are one person; 0 is not surely enough."""
        alike = looks_alike(known.likeness, seen.likeness)
        near = abs(seen.first[0] - known.last[0]) <= _RECENT
        if near and alike >= _STILL_ALIKE and not self._cut(known.last[0], seen.first[0]):
            shared = overlap(known.last[1], seen.first[1])
            if shared >= _OVERLAP:
                return 1 + shared
        return alike if agree(known.likeness, seen.likeness) else 0.0

    def _cut(self, one: float, other: float) -> bool:
        early, late = sorted((one, other))
        return bisect_right(self._cuts, late) > bisect_right(self._cuts, early)


def same_people(
    known: Mapping[int, Likeness], apart: Collection[tuple[int, int]]
) -> dict[int, int]:
    """Join numbers that turned out to be one person, now that all there is to see was seen.

    Args:
        known: what every number looked like.
        apart: pairs of numbers that one picture showed.

    Returns:
        For every number the lowest of its person's.
    """
    groups = {number: {number} for number in known}
    looks = dict(known)
    joined = True
    while joined:
        joined = False
        pairs = sorted(
            (-looks_alike(looks[one], looks[other]), one, other)
            for one, other in combinations(sorted(groups), 2)
        )
        for _, one, other in pairs:
            if one not in groups or other not in groups:
                continue  # joined by now
            crossing = {(a, b) for a in groups[one] for b in groups[other]}
            if agree(looks[one], looks[other]) and not any(
                pair in apart or pair[::-1] in apart for pair in crossing
            ):
                groups[one] |= groups.pop(other)
                looks[one] = added(looks[one], looks.pop(other))
                joined = True
    return {number: first for first, group in groups.items() for number in group}


def agree(one: Likeness, other: Likeness) -> bool:
    """Whether two faces agree so far that they are one person's, see `AGREEMENT`."""
    alike = looks_alike(one, other)
    if alike < AGREEMENT[0][0]:
        return False
    apart = float("inf")
    if min(one.count, other.count) >= _LEAST_FACES:
        apart = shape_distance(one, other)
    return any(alike >= looks and apart <= shape for looks, shape in AGREEMENT)


def looks_alike(one: Likeness, other: Likeness) -> float:
    """Correlation of mean looks, -1..1; 0 where there are none."""
    if one.looks is None or other.looks is None:
        return 0.0
    length = float(np.linalg.norm(one.looks) * np.linalg.norm(other.looks))
    return float(one.looks @ other.looks) / max(length, 1e-9)


def shape_distance(one: Likeness, other: Likeness) -> float:
    """Between mean shapes of unit size, turned onto each other."""
    first, second = one.shape / one.count, other.shape / other.count
    return float(np.linalg.norm(first - _turned(second, first)))


def dump(seen: Sighting) -> dict[str, Any]:
    """A sighting as JSON values, about a kilobyte."""
    one = seen.likeness
    return {
        "first": _spot(seen.first),
        "last": _spot(seen.last),
        "faces": one.count,
        "shape": _packed(one.shape / one.count),
        "looks": None if one.looks is None else _packed(one.looks / one.count),
    }


def load(stored: Mapping[str, Any]) -> Sighting:
    """What `dump` made, but for rounding."""
    count = int(stored["faces"])
    looks = None if stored["looks"] is None else _unpacked(stored["looks"]) * count
    shape = _unpacked(stored["shape"]).reshape(-1, 3) * count
    return Sighting(Likeness(shape, looks, count), _when(stored["first"]), _when(stored["last"]))


def _free(
    number: int, place: int, taken: Mapping[int, int], at_once: Collection[tuple[int, int]]
) -> bool:
    """Whether no one else with a person's number is in the same picture."""
    mine = [other for other, known in taken.items() if known == number]
    return not any((place, other) in at_once or (other, place) in at_once for other in mine)


def _spot(place: tuple[float, Box]) -> list[float]:
    return [round(value, 2) for value in (place[0], *place[1])]


def _when(spot: Sequence[float]) -> tuple[float, Box]:
    time, *box = map(float, spot)
    x0, y0, x1, y1 = box
    return time, (x0, y0, x1, y1)


def added(known: Likeness, seen: Likeness) -> Likeness:
    """What both show together."""
    looks = None if known.looks is None or seen.looks is None else known.looks + seen.looks
    shape = known.shape + _turned(seen.shape, known.shape)
    return Likeness(shape, looks, known.count + seen.count)


def _turned(points: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (p, 3) rotated as near as possible to others (Kabsch 1976)."""
    left, _, right = np.linalg.svd(points.T @ goal)
    mirror = np.diag([1.0, 1.0, float(np.sign(np.linalg.det(left @ right)))])
    turned: NDArray[np.float64] = points @ (left @ mirror @ right)
    return turned


def _packed(values: NDArray[np.float64]) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode("ascii")


def _unpacked(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text), dtype="<f2").astype(np.float64)
