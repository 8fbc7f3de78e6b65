"""Action units as text (Eq 3 of the paper)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from emoverse.errors import EmoVerseError
from emoverse.tasks import labels
from emoverse.tasks.action_units import (
    BY_CODE,
    EMOTION_AUS,
    EMOTION_AUS_WIDE,
    INTENSITY_WORDS,
    intensity_word,
)

Style = Literal["paper", "merr"]

# From where on an AU is told. FACS A ("trace") is 1 on the 0..5 scale, about where OpenFace calls
# an AU present; MERR also names what it calls slight, see `action_units.INTENSITY_WORDS`.
THRESHOLDS: Mapping[Style, float] = {"paper": 1.0, "merr": dict(INTENSITY_WORDS)["slightly"]}
THRESHOLD = THRESHOLDS["paper"]
MOST_PHRASES = 5


@dataclass(frozen=True, slots=True)
class Caption:
    """What a face shows.

    Attributes:
        phrases: at most five, strongest AU first.
        codes: the AUs behind the phrases, same order.
        fallback: True when the emotion was unknown or shares no AU with the face, so that all of
            the face's AUs are told instead of Eq 3's.
        empty: True when Eq 3's intersection was empty: an emotion that has AUs was named and the
            face shows none of them. What `empty_intersections` counts.
    """

    phrases: tuple[str, ...]
    codes: tuple[str, ...]
    fallback: bool
    empty: bool = False


def caption(
    intensities: Mapping[str, float],
    emotion: str | None,
    style: Style = "paper",
    threshold: float | None = None,
) -> tuple[str, ...]:
    """The phrases of `describe`; () when no AU is active."""
    return describe(intensities, emotion, style=style, threshold=threshold).phrases


def describe(
    intensities: Mapping[str, float],
    emotion: str | None = None,
    *,
    style: Style = "paper",
    threshold: float | None = None,
    wide: bool = False,
) -> Caption:
    """Put a face's action units into words.

    Eq 3: AU_common(f, e) = AU_frame(f) ∩ AU_emotion(e). Without an emotion, or when they have
    nothing in common, the AUs of the frame are told and `fallback` is set.

    Args:
        intensities: AU code to 0..5.
        emotion: the labelled emotion, any common word for it; None when unknown.
        style: `paper` says `Grinning`, `merr` says `moderately Lip Corner Puller`.
        threshold: an AU is active from this intensity on; by default the style's `THRESHOLDS`.
        wide: allow the further AUs some annotations give an emotion (`EMOTION_AUS_WIDE`).

    Returns:
        The caption; empty when no AU is active.

    Raises:
        EmoVerseError: the emotion or the style is not known.
    """
    if style not in ("paper", "merr"):
        raise EmoVerseError(f"Caption style must be paper or merr, not {style!r}.")
    expected = set(aus_of(emotion, wide))
    least = THRESHOLDS[style] if threshold is None else threshold
    shown = active(intensities, least)
    common = [code for code in shown if code in expected]
    codes = tuple((common or shown)[:MOST_PHRASES])
    phrases = tuple(_phrase(code, intensities[code], style) for code in codes)
    return Caption(
        phrases,
        codes,
        fallback=not common and bool(codes),
        empty=bool(expected) and not common,
    )


def active(intensities: Mapping[str, float], threshold: float = THRESHOLD) -> list[str]:
    """AU_frame of Eq 3: the AUs that a face shows, strongest first."""
    return sorted(
        (code for code, value in intensities.items() if code in BY_CODE and value >= threshold),
        key=lambda code: (-intensities[code], code),
    )


def empty_intersections(captions: Iterable[Caption]) -> int:
    """How many captions Eq 3 left without a common AU."""
    return sum(one.empty for one in captions)


def aus_of(emotion: str | None, wide: bool = False) -> tuple[str, ...]:
    """AU_emotion of Eq 3: the AUs that show an emotion; () for none.

    Raises:
        EmoVerseError: the emotion is not known.
    """
    if emotion is None:
        return ()
    table = EMOTION_AUS_WIDE if wide else EMOTION_AUS
    name = emotion.strip().lower()
    canonical = name if name in table else labels.emotion(name)
    if canonical is None:
        raise EmoVerseError(f"Emotion {emotion!r} is not known; use one of {', '.join(table)}.")
    return table[canonical]


def _phrase(code: str, intensity: float, style: Style) -> str:
    unit = BY_CODE[code]
    if style == "paper":
        return unit.phrase
    word = intensity_word(intensity)
    return f"{word} {unit.name}" if word else unit.name
