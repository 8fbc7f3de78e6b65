"""Action units: their names, the phrases that stand for them, and the emotions that show them.

Sources:
    FACS: Ekman & Friesen, Facial Action Coding System, 1978 - codes and names.
    EMFACS: Ekman & Friesen, EMFACS-7, 1983 - the emotion prototypes.
    MERR: Cheng et al., Emotion-LLaMA, NeurIPS 2024 - the phrases, each aligned with one AU in its
        4,000 fine-grained annotations, and the intensity words.
    OpenFace 2: Baltrusaitis et al., FG 2018 - which AUs are measured, on which scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """One action unit.

    Attributes:
        code: two digits, `AU12`.
        name: the FACS name, `Lip Corner Puller`.
        phrase: how the paper's captions put it, `Grinning`.
        synonyms: MERR's other phrases.
    """

    code: str
    name: str
    phrase: str
    synonyms: tuple[str, ...] = ()


def _row(code: str, name: str, phrase: str, synonyms: str = "") -> ActionUnit:
    return ActionUnit(code, name, phrase, tuple(synonyms.split(" | ")) if synonyms else ())


# MERR's phrases are kept as they are, odd ones included ("Insecure" for AU15): they are what the
# captions say. "Eyes narrowing" is AU06 and "Slightly puzzled" AU25 there, without exception.
ACTION_UNITS = (
    _row(
        "AU01",
        "Inner Brow Raiser",
        "Eyebrow raised",
        "Frown | Head lifting wrinkles | Lift eyebrows",
    ),
    _row("AU02", "Outer Brow Raiser", "Outer brow lift", "Outer brow arch | Elevate outer brow"),
    _row(
        "AU04",
        "Brow Lowerer",
        "Frowns furrowed",
        "Lower eyebrows | Lower the brow | A look of disapprroval",  # MERR's spelling
    ),
    _row(
        "AU05",
        "Upper Lid Raiser",
        "Eyes widened",
        "Pupil enlargement | Raise upper eyelids | Lift upper eyelids",
    ),
    _row(
        "AU06",
        "Cheek Raiser",
        "Eyes narrowing",
        "Slight decrease in eyebrows | smile, Pleasure | Slightly lower eyebrows",
    ),
    _row("AU07", "Lid Tightener", "Tightening of eyelids", "Facial tightness"),
    _row(
        "AU09",
        "Nose Wrinkler",
        "Wrinkle the nose",
        "Curl the nose | Pucker the nose | Make a face",
    ),
    _row(
        "AU10",
        "Upper Lip Raiser",
        "Upper lip lift",
        "Lips apart showing teeth | Curl the lips upwards",
    ),
    _row("AU12", "Lip Corner Puller", "Grinning", "Show teeth | Toothy smile | Big smile"),
    _row(
        "AU14",
        "Dimpler",
        "Cheek dimple",
        "Hollow on the face when smiling | Indentation when smiling",
    ),
    _row(
        "AU15",
        "Lip Corner Depressor",
        "Downturned corners of the mouth",
        "Insecure | Slight frown | Downturned lips | Slight drooping of the mouth | "
        "Lower Lip Depressor | Downward mouth curvature",
    ),
    _row(
        "AU17",
        "Chin Raiser",
        "Lift the chin",
        "Lips forming an upward curve | Lips arching | Chin held high",
    ),
    _row(
        "AU20",
        "Lip Stretcher",
        "Tense lips stretched",
        "Nostrils enlarge | Anxiously stretched lips | Nasal flaring",
    ),
    _row(
        "AU23",
        "Lip Tightener",
        "Press the lips together",
        "Tighten the lips | Purse the lips",
    ),
    _row("AU25", "Lips Part", "Slightly puzzled", "lips slightly parted | Open the lips"),
    _row(
        "AU26",
        "Jaw Drop",
        "Wide-mouthed",
        "Open mouth wide | Mouth Stretch | Lips elongated",
    ),
    _row(
        "AU28",
        "Lip Suck",
        "Draw in lips",
        "Pucker lips | Bring lips together | Purse lips",
    ),
    _row("AU45", "Blink", "Blinking"),
)
BY_CODE: Mapping[str, ActionUnit] = {unit.code: unit for unit in ACTION_UNITS}

OPENFACE_PRESENCES = tuple(BY_CODE)  # the columns AUxx_c, 0 or 1
OPENFACE_INTENSITIES = tuple(code for code in BY_CODE if code != "AU28")  # AUxx_r, 0..5

# The prototypes, and the wide lists with the further AUs some annotations allow. AU16, which
# EMFACS adds to disgust, is left out: OpenFace does not measure it.
EMOTION_AUS: Mapping[str, tuple[str, ...]] = {
    "anger": ("AU04", "AU05", "AU07", "AU23"),
    "sadness": ("AU01", "AU04", "AU15"),
    "surprise": ("AU01", "AU02", "AU05", "AU26"),
    "disgust": ("AU09", "AU15"),
    "joy": ("AU06", "AU12", "AU14"),
    "neutral": (),
    "fear": ("AU01", "AU02", "AU04", "AU05", "AU07", "AU20", "AU26"),
    "contempt": ("AU12", "AU14"),
}
EMOTION_AUS_WIDE: Mapping[str, tuple[str, ...]] = {
    **EMOTION_AUS,
    "anger": ("AU04", "AU05", "AU07", "AU10", "AU17", "AU23"),
    "sadness": ("AU01", "AU04", "AU14", "AU15"),
    "disgust": ("AU09", "AU10", "AU15"),
}
EMOTION_SOURCES: Mapping[str, str] = {
    "anger": "EMFACS 4+5+7+23; wide list: 10, 17 as in MERR",
    "sadness": "EMFACS 1+4+15; wide list: 14, which MERR's annotations hardly bear out",
    "surprise": "EMFACS 1+2+5B+26; the same in MERR",
    "disgust": "EMFACS 9+15(+16); wide list: 10 as in Du, Tao & Martinez, PNAS 2014",
    "joy": "EMFACS 6+12; 14 as in MERR",
    "neutral": "no AU by definition",
    "fear": "EMFACS 1+2+4+5+7+20+26; the same in MERR",
    "contempt": "EMFACS R12A+R14A; OpenFace does not tell the sides apart",
}

# MERR's words for an intensity in 0..5: each holds from its bound up to the next. At or below
# 0.10 MERR names no AU. Read off 554 (value, word) pairs, which this table fits without an
# error; only the last bound is a guess within (4.75, 5].
INTENSITY_WORDS = (
    ("barely", 0.11),
    ("slightly", 0.2),
    ("moderately", 1.0),
    ("strongly", 2.5),
    ("very strongly", 5.0),
)


def intensity_word(intensity: float) -> str | None:
    """MERR's word for an intensity in 0..5; None when the AU is too weak to be named."""
    # OpenFace prints two decimals, and MERR's bounds are on those.
    words = [word for word, bound in INTENSITY_WORDS if round(intensity, 2) >= bound]
    return words[-1] if words else None


def codes_in(text: str) -> tuple[str, ...]:
    """The AUs a caption names by code, FACS name or phrase, once each, in order; never raises."""
    plain = re.sub(r" ?, ?", ", ", " ".join(text.lower().split()))
    found = _MENTION.findall(plain)
    codes = (f"AU{int(number):02}" if number else _PHRASES[phrase] for number, phrase in found)
    return tuple(dict.fromkeys(code for code in codes if code in BY_CODE))


_PHRASES = {
    phrase.lower(): unit.code
    for unit in ACTION_UNITS
    for phrase in (unit.name, unit.phrase, *unit.synonyms)
}
# Longest first, so that "slight frown" (AU15) is not read as "frown" (AU01).
_MENTION = re.compile(
    r"\bau ?([0-9]{1,2})(?![0-9])|\b("
    + "|".join(map(re.escape, sorted(_PHRASES, key=len, reverse=True)))
    + r")\b"
)
