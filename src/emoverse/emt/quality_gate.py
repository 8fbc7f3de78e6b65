"""Which generated descriptions and reasons are good enough to be gold answers.

Every check is a rule that can be read and argued with; none asks another model. The bounds were
set on MERR's 4,000 published reasons (15 to 79 words, at least 18 % English function words).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from emoverse.tasks import labels

DESCRIPTION_WORDS = (10, 250)
REASON_WORDS = (12, 150)
LEAST_FUNCTION_WORDS = 0.12
LEAST_LATIN = 0.9
LEAST_FRESH_TRIGRAMS = 0.6

CHECKS = {
    "empty": "no word in it",
    "refusal": "the model declined",
    "cut": "stopped by the token limit in mid-sentence",
    "language": "not English prose",
    "length": "too short or too long",
    "repetition": "the same words over and over",
    "label": "names another emotion than the label, or none",
    "action_units": "claims a face that contradicts the measured action units",
}
"""The checks by name, in the order they are made."""

# What common prose says of a face, by the AU that it claims. Only wordings that mean the face:
# MERR's own phrases for AU15 and AU25 ("Insecure", "Slightly puzzled") mean a mood in prose.
FACE_WORDS = {
    "AU12": "smile | smiles | smiling | grin | grins | grinning | laughing | beaming",
    "AU15": "mouth turned down | mouth is turned down | turned-down mouth | downturned mouth | "
    "downturned lips | downturned corners of the mouth | corners of the mouth turned down | "
    "corners of the mouth are turned down | drooping mouth | pouting",
    "AU05": "eyes widened | widened eyes | eyes wide open | eyes are wide open | wide eyes | "
    "wide-eyed | eyes are wide | eyes wide",
    "AU07": "eyes narrowed | narrowed eyes | eyes are narrowed | squinting | squints | "
    "tightened eyelids",
    "AU45": "eyes closed | closed eyes | eyes are closed | eyes shut | eyes are shut",
    "AU26": "mouth open | mouth is open | open mouth | open-mouthed | jaw dropped | dropped jaw | "
    "wide-mouthed | mouth wide open | agape",
    "AU23": "pressed lips | lips pressed | lips are pressed | tight-lipped | pursed lips | "
    "lips pursed | lips tightly pressed | mouth closed | mouth is closed | closed mouth",
}
# Opposite movements of the same part (FACS Investigator's Guide, 2002, alternatives and opposed
# actions): lip corners up or down, lids wide or narrow or shut, jaw open or lips pressed.
OPPOSED = (
    ({"AU12"}, {"AU15"}),
    ({"AU05"}, {"AU06", "AU07", "AU45"}),
    ({"AU26"}, {"AU23", "AU28"}),
)

_FACE = {phrase: code for code, phrases in FACE_WORDS.items() for phrase in phrases.split(" | ")}
_ENGLISH = (
    "a about an and are as at be because been being but by can could do does for from had has "
    "have he her his i in into is it its may might not of on or she so such that the their them "
    "they this to towards was were what when which while who with would"
)
_FUNCTION_WORDS = frozenset(_ENGLISH.split())
_REFUSAL = re.compile(
    r"\A\W*(?:i['’]?m|i am|we['’]?re|we are)?\s*(?:very |so )?(?:sorry|afraid)\b[,.]? (?:but )?i\b|"
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b|"
    r"\bi(?:['’]m| am)? (?:can(?:no|['’])t|can not|un?able to|not able to|won['’]t|will not|"
    r"do not|don['’]t) (?:really )?(?:help|assist|provide|determine|identify|describe|analy[sz]e|"
    r"answer|comply|infer|see|view|process|fulfil+|have access|engage|speculate)\b|"
    r"\bno (?:image|images|frames|video|clip) (?:was|were|is|are|has been|have been) "
    r"(?:provided|attached|given|shared)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|(?<!\w)'[^']*'(?!\w)|‘[^’]*’(?!\w)")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a text was turned down: the check's name and what it saw."""

    check: str
    detail: str


def check_description(
    text: str, *, finish: str = "stop", refusal: bool = False
) -> Rejection | None:
    """Check a description of person and scene.

    Args:
        text: the model's answer.
        finish: why the server stopped; `length` when its token limit did.
        refusal: the server itself marked a refusal.

    Returns:
        The first failed check, None when it is good.
    """
    return _prose(text, DESCRIPTION_WORDS, finish, refusal)


def check_reason(
    text: str,
    *,
    label: str | None,
    aus: Collection[str] = (),
    finish: str = "stop",
    refusal: bool = False,
) -> Rejection | None:
    """Check a reason against what is known of the clip.

    Args:
        text: the model's answer.
        label: the clip's emotion or sentiment; None when it has none, then it is not checked.
        aus: codes of all AUs that were measured at the peak frame. A caption, which Eq 3 keeps to
            the label's, is not enough: of a sad face's smile it says nothing.
        finish: why the server stopped, as in `check_description`.
        refusal: the server itself marked a refusal.

    Returns:
        The first failed check, None when it is good.
    """
    plain = _QUOTED.sub(" ", text)  # what the person says is no claim of the model's
    return _prose(text, REASON_WORDS, finish, refusal) or _label(plain, label) or _face(plain, aus)


def whole_sentences(text: str) -> str:
    """The text up to the end of its last complete sentence; "" when none is complete."""
    ends = list(re.finditer(r"[.!?][\"'”’)]*(?=\s|\Z)", text))
    return text[: ends[-1].end()] if ends else ""


def _prose(text: str, bounds: tuple[int, int], finish: str, refusal: bool) -> Rejection | None:
    words = re.findall(r"\w+(?:['’-]\w+)*", text)
    if not words:
        return Rejection("empty", CHECKS["empty"])
    plain = _QUOTED.sub(" ", text)
    declined = _REFUSAL.search(plain)
    if refusal or declined:
        return Rejection("refusal", declined[0].strip() if declined else "marked by the server")
    if finish == "length" and whole_sentences(text) != text:
        return Rejection("cut", f"... {text[-40:]}")
    if language := _language(plain):
        return Rejection("language", language)
    if not bounds[0] <= len(words) <= bounds[1]:
        return Rejection("length", f"{len(words)} words, not {bounds[0]} to {bounds[1]}")
    runs = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    fresh = len(set(runs)) / len(runs)
    if fresh < LEAST_FRESH_TRIGRAMS:
        return Rejection("repetition", f"only {fresh:.0%} of its three-word runs are different")
    return None


def _language(text: str) -> str | None:
    letters = [sign for sign in text if sign.isalpha()]
    latin = sum(sign < "\u0250" for sign in letters)
    if latin < LEAST_LATIN * len(letters):
        return f"{latin} of {len(letters)} letters are Latin"
    words = re.findall(r"[^\W\d_]+", text.lower())
    known = sum(word in _FUNCTION_WORDS for word in words)
    if known < LEAST_FUNCTION_WORDS * len(words):
        return f"{known} of {len(words)} words are English function words"
    return None


def _label(text: str, label: str | None) -> Rejection | None:
    if label is None:
        return None
    emotions = labels.mentioned(text, labels.EMOTION_WORDS)
    if polarity := labels.sentiment(label):
        polarities = {labels.polarity_of_emotion(emotion) for emotion in emotions}
        named: Collection[str | None] = polarities | {labels.stated(text, labels.SENTIMENT_WORDS)}
        wanted: str = polarity
    else:
        named, wanted = emotions, labels.emotion(label) or label
        settled = labels.stated(text, labels.EMOTION_WORDS)
        if settled and _opposite(settled, wanted):
            return Rejection("label", f"settles on {settled}, labelled {wanted}")
    if wanted in named:
        return None
    told = ", ".join(sorted(name for name in named if name)) or "no emotion"
    return Rejection("label", f"names {told}, labelled {wanted}")


def _opposite(one: str, other: str) -> bool:
    polarities = {labels.polarity_of_emotion(one), labels.polarity_of_emotion(other)}
    return polarities == set(labels.SENTIMENTS)


def _face(text: str, measured: Collection[str]) -> Rejection | None:
    claimed = set(labels.mentioned(text, _FACE))
    shown = set(measured)
    for one, other in OPPOSED:
        for side, against in ((one, other), (other, one)):
            # A face with both sides measured is mixed, and either may be told.
            if claimed & side and shown & against and not shown & side:
                said, seen = min(claimed & side), ", ".join(sorted(shown & against))
                return Rejection("action_units", f"claims {said}, measured {seen}")
    return None
