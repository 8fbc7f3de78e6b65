"""The label words of every task, their synonyms, and how to find one in a model's prose."""

from __future__ import annotations

import re
from collections.abc import Mapping

# MELD's names, in the order the authors' ER prompt lists them.
EMOTIONS = ("anger", "sadness", "surprise", "disgust", "joy", "neutral", "fear")
ECPE_EMOTIONS = tuple(emotion for emotion in EMOTIONS if emotion != "neutral")
SENTIMENTS = ("positive", "negative")

_EMOTION_SYNONYMS = {
    "anger": "angry angrily annoyed annoyance irritated irritation furious fury rage mad "
    "frustrated frustration",
    "sadness": "sad sadly unhappy sorrow sorrowful depressed grief miserable misery",
    "surprise": "surprised surprising astonished astonishment amazed amazement shocked shock",
    "disgust": "disgusted disgusting revulsion repulsed",
    "joy": "joyful joyous happy happiness happily delighted delight cheerful amused amusement "
    "excited excitement",
    "neutral": "calm",
    "fear": "fearful afraid scared frightened terrified terror worried worry anxious anxiety "
    "nervous",
}
_SENTIMENT_SYNONYMS = {"positive": "positively pos", "negative": "negatively neg"}


def _index(synonyms: Mapping[str, str]) -> dict[str, str]:
    return {word: label for label, words in synonyms.items() for word in (label, *words.split())}


EMOTION_WORDS: Mapping[str, str] = _index(_EMOTION_SYNONYMS)
SENTIMENT_WORDS: Mapping[str, str] = _index(_SENTIMENT_SYNONYMS)

# A negation rules its clause: "not happy or sad", "neither positive nor negative". A few set
# phrases only look like one.
_NEGATED = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|unsure|uncertain|cannot|rather than|instead of)\b"
    r"|n['’]t\b)(?!\s+(?:a\s+)?(?:doubt|only)\b)"
    r".*?(?=[.,;:!?\n]|\b(?:but|however|rather|instead)\b|\Z)",
    re.DOTALL,
)


def emotion(word: str) -> str | None:
    """The canonical emotion a single word names ("Happy." gives "joy"), None if it names none."""
    return EMOTION_WORDS.get(_bare(word))


def sentiment(word: str) -> str | None:
    """The sentiment a single word names: "positive" or "negative"; None for any other word."""
    return SENTIMENT_WORDS.get(_bare(word))


def sentiment_of_score(score: float) -> str | None:
    """The sentiment of a MOSEI score in [-3, 3]: by its sign; None for 0 (and for NaN)."""
    return "positive" if score > 0 else "negative" if score < 0 else None


def mentioned(text: str, words: Mapping[str, str]) -> tuple[str, ...]:
    """The labels a text affirms, once each, in order of first mention.

    Args:
        text: any prose; words under a negation ("not happy") do not count.
        words: lower-case word to label, e.g. `EMOTION_WORDS`.
    """
    found = re.findall(rf"\b(?:{_either(words)})\b", _affirmed(text))
    return tuple(dict.fromkeys(words[word] for word in found))


def stated(text: str, words: Mapping[str, str]) -> str | None:
    """The one label a text settles on.

    When it mentions several, the first that closely follows "is", "label" or "represents" wins,
    else the first of all.

    Args:
        text: any prose; words under a negation do not count.
        words: lower-case word to label.

    Returns:
        A label, or None when the text affirms none.
    """
    labels = mentioned(text, words)
    if len(labels) > 1:
        marked = re.search(
            rf"\b(?:is|label|represents?)\b(?:\W+\w+){{0,3}}?\W+({_either(words)})\b",
            _affirmed(text),
        )
        if marked:
            return words[marked[1]]
    return labels[0] if labels else None


def _affirmed(text: str) -> str:
    return _NEGATED.sub(" ", text.lower())


def _either(words: Mapping[str, str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def _bare(word: str) -> str:
    return word.strip(" \t\r\n.,;:!?\"'“”").lower()


def polarity_of_emotion(emotion: str) -> str | None:
    """The sentiment an emotion implies, as MELD annotates it; None for surprise and neutral."""
    if emotion in ("anger", "sadness", "disgust", "fear"):
        return "negative"
    return "positive" if emotion == "joy" else None
