"""Open-vocabulary emotion words, placed on Plutchik's wheel and from there on our labels.

Sources:
    The wheel, its three rings and the primary dyads between neighbours: R. Plutchik, "The Nature of
    Emotions", American Scientist 89 (2001), after his theory of 1980.
    Which further words belong to which emotion: the 135 words of Shaver, Schwartz, Kirson &
    O'Connor, "Emotion Knowledge", J. Pers. Soc. Psychol. 52 (1987), without the few that name no
    emotion by themselves ("arousal", "insult"); the everyday adjectives beside them are ours.
    The metric over sets of words grouped by a wheel: Lian et al., "OV-MER", ICML 2025.

Shaver's "love" lies on the wheel as Plutchik has it, between joy and trust; his "disgust",
"revulsion", "loathing" and "contempt", a branch of anger there, go to Plutchik's disgust.
Trust and anticipation have no counterpart among MELD's seven labels, and calm words none on the
wheel.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from emoverse.tasks import labels
from emoverse.tasks._metrics import check_lengths, prf

PETALS = ("joy", "trust", "fear", "surprise", "sadness", "disgust", "anger", "anticipation")
# From the outer, mild ring to the inner, intense one.
RINGS: Mapping[str, tuple[str, str, str]] = {
    "joy": ("serenity", "joy", "ecstasy"),
    "trust": ("acceptance", "trust", "admiration"),
    "fear": ("apprehension", "fear", "terror"),
    "surprise": ("distraction", "surprise", "amazement"),
    "sadness": ("pensiveness", "sadness", "grief"),
    "disgust": ("boredom", "disgust", "loathing"),
    "anger": ("annoyance", "anger", "rage"),
    "anticipation": ("interest", "anticipation", "vigilance"),
}
DYADS: Mapping[str, tuple[str, str]] = {
    "love": ("joy", "trust"),
    "submission": ("trust", "fear"),
    "awe": ("fear", "surprise"),
    "disapproval": ("surprise", "sadness"),
    "remorse": ("sadness", "disgust"),
    "contempt": ("disgust", "anger"),
    "aggressiveness": ("anger", "anticipation"),
    "optimism": ("anticipation", "joy"),
}
_FURTHER = {
    "joy": "cheerfulness amusement bliss blissful gaiety glee gleeful jolliness jolly joviality "
    "jovial enjoyment gladness glad jubilation jubilant elation elated satisfaction satisfied "
    "ecstatic euphoria euphoric enthusiasm enthusiastic zeal zest exhilaration exhilarated "
    "thrill thrilled contentment content contented pleasure pleased pride proud triumph triumphant "
    "rapture enthrallment relief relieved serene overjoyed playful",
    "trust": "trusting accepting admiring grateful gratitude respect respectful confident "
    "confidence",
    "fear": "alarm alarmed fright horror horrified panic panicked hysteria mortification "
    "tenseness tense uneasiness uneasy apprehensive distress distressed dread scare nervousness "
    "timid intimidated threatened",
    "surprise": "startled stunned astounded bewildered bewilderment speechless",
    "sadness": "suffering agony hurt anguish anguished depression despair desperate hopelessness "
    "hopeless gloom gloomy glumness glum unhappiness woe melancholy melancholic disappointment "
    "disappointed dismay dismayed displeasure shame ashamed guilt guilty regret regretful "
    "neglected alienation isolation isolated loneliness lonely rejection rejected homesickness "
    "homesick defeat defeated dejection dejected insecurity insecure embarrassment embarrassed "
    "humiliation humiliated pity sympathy heartbroken upset pensive",
    "disgust": "bored averse aversion repelled revolted nauseated",
    "anger": "aggravation aggravated agitation agitated grouchiness grouchy grumpiness grumpy "
    "exasperation exasperated outrage outraged wrath hostility hostile ferocity bitterness bitter "
    "hate hatred spite spiteful vengefulness vengeful dislike resentment resentful envy envious "
    "jealousy jealous torment indignant indignation enraged",
    "anticipation": "interested expectant curious curiosity vigilant eager eagerness anticipating",
}
_FURTHER_DYADS = {
    "love": "adoration affection affectionate fondness fond attraction caring tenderness tender "
    "compassion sentimentality passion infatuation longing loving",
    "awe": "awed",
    "remorse": "remorseful",
    "contempt": "contemptuous scorn scornful disdain disdainful",
    "disapproval": "disapproving",
    "aggressiveness": "aggressive aggression",
    "optimism": "optimistic hope hopeful",
    "submission": "submissive",
}


def _words() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for word, label in labels.EMOTION_WORDS.items():
        if label in PETALS:
            found[word] = (label,)
    for petal in PETALS:
        found |= dict.fromkeys((*RINGS[petal], *_FURTHER[petal].split()), (petal,))
    for dyad, petals in DYADS.items():
        found |= dict.fromkeys((dyad, *_FURTHER_DYADS[dyad].split()), petals)
    return found


WORDS: Mapping[str, tuple[str, ...]] = _words()
"""Lower-case word to its petal, or to the two petals it lies between."""


def petals(word: str) -> tuple[str, ...]:
    """Where a single word lies on the wheel: one petal, two for a dyad, () off the wheel."""
    return WORDS.get(word.strip(" \t\r\n.,;:!?\"'“”").lower(), ())


def label(text: str) -> str | None:
    """The emotion label of the first word in a text that the wheel brings to one.

    Words under a negation do not count. A dyad gives the first of its petals that is a label
    (contempt: disgust; optimism: joy). None when no word lies on a petal with a label.
    """
    for word in _mentioned(text):
        for petal in WORDS[word]:
            if petal in labels.EMOTIONS:
                return petal
    return None


def petals_in(text: str) -> frozenset[str]:
    """Every petal that a text's affirmed words lie on."""
    return frozenset(petal for word in _mentioned(text) for petal in WORDS[word])


def score(gold: Sequence[Collection[str]], pred: Sequence[Collection[str]]) -> dict[str, Any]:
    """OV-MER's set-level agreement of emotion words, grouped by the wheel's petals.

    Args:
        gold: emotion words a sample; samples without any are left out.
        pred: emotion words a sample, same length.

    Returns:
        n (samples scored), precision and recall (means over samples, in percent), average (of the
        two, OV-MER's main figure), off_the_wheel: predicted words without a place, each of which
        is a group of its own and so right only when gold has that very word.

    Raises:
        EmoVerseError: the lengths differ.
    """
    check_lengths(gold, pred)
    rows = [(_groups(a), _groups(b)) for a, b in zip(gold, pred, strict=True) if a]
    each = [prf(len(a & b), len(b), len(a)) for a, b in rows]
    mean = {
        name: sum(row[name] for row in each) / (len(each) or 1) for name in ("precision", "recall")
    }
    return {
        "n": len(rows),
        **mean,
        "average": sum(mean.values()) / 2,
        "off_the_wheel": sum(not petals(word) for words in pred for word in words),
    }


def _groups(words: Collection[str]) -> frozenset[str]:
    return frozenset(group for word in words for group in petals(word) or (word.strip().lower(),))


def _mentioned(text: str) -> tuple[str, ...]:
    return labels.mentioned(re.sub(r"\s+", " ", text), _ITSELF)


_ITSELF = {word: word for word in WORDS}
