"""The peak frame: when, and on whom, the expression is strongest (Eq 1 and 2 of the paper)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from emoverse.errors import EmoVerseError
from emoverse.faces.records import AUFrame

# OpenFace calls a face tracked above about 0.7; our own confidence falls to that at a head turn
# of some 53 degrees.
MIN_CONFIDENCE = 0.7


def score(frame: AUFrame, aus: Collection[str] | None = None) -> float:
    """S_f of Eq 1: the sum of a frame's AU intensities, over `aus` or over all."""
    return sum(value for code, value in frame.intensities.items() if aus is None or code in aus)


def trusted(frame: AUFrame, min_confidence: float = MIN_CONFIDENCE) -> bool:
    """Whether a frame may become the peak: its source is sure enough of the face."""
    return frame.success and frame.confidence >= min_confidence


def peak(
    frames: Sequence[AUFrame],
    *,
    aus: Collection[str] | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> AUFrame:
    """Find the peak frame.

    Eq 1 per person: the frame with the highest sum of AU intensities. Eq 2 over persons: the one
    whose peak is highest. Ties go to the earliest frame, then to the lowest person.

    Args:
        frames: any order, any number of persons.
        aus: sum over these codes only, e.g. an emotion's; all of them by default, as in Eq 1.
        min_confidence: frames below it, or with `success` False, are left out.

    Returns:
        The peak frame of the person with the highest peak.

    Raises:
        EmoVerseError: there is no frame, or none that can be trusted.
    """
    if not frames:
        raise EmoVerseError("There is no peak without frames; no face was measured.")
    peaks = peaks_by_person(frames, aus=aus, min_confidence=min_confidence)
    if not peaks:
        best = max(frame.confidence for frame in frames)
        raise EmoVerseError(
            f"None of {len(frames)} measured faces is reliable (highest confidence {best:.2f}, "
            f"needed {min_confidence:.2f}); lower min_confidence or use a clearer clip."
        )
    return _strongest(peaks.values(), aus)


def peaks_by_person(
    frames: Iterable[AUFrame],
    *,
    aus: Collection[str] | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> dict[int, AUFrame]:
    """Every person's own peak (Eq 1), persons in rising order; those without one are left out."""
    by_person: dict[int, list[AUFrame]] = {}
    for frame in frames:
        if trusted(frame, min_confidence):
            by_person.setdefault(frame.person, []).append(frame)
    return {person: _strongest(by_person[person], aus) for person in sorted(by_person)}


def _strongest(frames: Iterable[AUFrame], aus: Collection[str] | None) -> AUFrame:
    return min(frames, key=lambda frame: (-score(frame, aus), frame.frame, frame.person))
