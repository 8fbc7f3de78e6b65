"""Who speaks: the person whose mouth opens and closes most over a clip."""

from __future__ import annotations

from collections.abc import Iterable

from emoverse.errors import EmoVerseError
from emoverse.faces.peak import MIN_CONFIDENCE, trusted
from emoverse.faces.records import AUFrame

# Lips part, jaw drops.
_MOUTH = ("AU25", "AU26")
# Seconds between two looks at a mouth: closer together, noise adds up; further apart, syllables
# (four to five a second) are missed and a cut may lie between.
_SHORTEST, _LONGEST = 0.08, 0.5


def activity(
    frames: Iterable[AUFrame], *, min_confidence: float = MIN_CONFIDENCE
) -> dict[int, float]:
    """How much every person's mouth moved.

    Args:
        frames: any order, any number of persons.
        min_confidence: frames below it, or with `success` False, are left out.

    Returns:
        Person to the summed change of AU25 + AU26 over the clip, persons in rising order. It is a
        sum and not a mean: who speaks is seen longer than who looks up once.
    """
    last: dict[int, tuple[float, float]] = {}
    moved: dict[int, float] = {}
    for frame in sorted(frames, key=lambda frame: frame.timestamp):
        if not trusted(frame, min_confidence):
            continue
        opening = sum(frame.intensities.get(code, 0.0) for code in _MOUTH)
        moved.setdefault(frame.person, 0.0)
        before = last.get(frame.person)
        if before is not None and frame.timestamp - before[0] < _SHORTEST:
            continue
        if before is not None and frame.timestamp - before[0] <= _LONGEST:
            moved[frame.person] += abs(opening - before[1])
        last[frame.person] = frame.timestamp, opening
    return dict(sorted(moved.items()))


def speaker(frames: Iterable[AUFrame], *, min_confidence: float = MIN_CONFIDENCE) -> int:
    """The person with the most mouth activity; ties go to the lowest number.

    Raises:
        EmoVerseError: no frame can be trusted.
    """
    moved = activity(frames, min_confidence=min_confidence)
    if not moved:
        raise EmoVerseError(
            "Nobody's mouth is seen reliably, so the speaker is unknown; choose the person by the "
            "strongest expression (max) or lower min_confidence."
        )
    return min(moved, key=lambda person: (-moved[person], person))
