"""Reasons that say no more than their query shows.

A reason written by somebody who saw and heard a clip speaks of clothes, rooms, voices and of who
the person is. A record without that clip would teach a model to make such things up, so they are
taken out: people become "the person", and what is said of voice and surroundings is dropped.
"""

from __future__ import annotations

import re

_REFUSAL = re.compile(
    r"^\W*(i can(no|')t|i am (unable|not able)|i'm (unable|not able)|as an ai)\b", re.I
)
_ADJECTIVE = (
    r"(?:(?:very|young(?:er)?|old(?:er)?|elderly|middle-aged|little|asian|chinese|western|black|"
    r"white|caucasian|african|female|male|bald(?:ing)?|bearded|blond(?:e)?|long-haired|"
    r"short-haired|same|first|second|other|main|curly-haired|teenage|pregnant)\s+)*"
)
_NOUN = (
    r"(?:gentle)?(?:man|woman|boy|girl|lady|male|female|guy|child|kid|individual|speaker|"
    r"protagonist|character|subject|actor|actress|officer|soldier|king|queen|princess|prince|"
    r"mother|father|teacher|student|doctor|nurse|girl)"
)
# "a person sits on a couch, displaying raised brows": the place goes, the display stays.
_PLACE = re.compile(
    r"\b(a|the) person,? (?:(?:is |are )?(?:in|wearing|with|dressed|sitting|seated|standing|lying|"
    r"stands?|sits?|lies|walks?|poses|rides|holds?|holding)\b[^.;\"]*?),? "
    r"(displaying|exhibiting|showing|expressing|displays|exhibits|shows|expresses)\b",
    re.I,
)
_SHOWS = {
    "displaying": "displays",
    "exhibiting": "exhibits",
    "showing": "shows",
    "expressing": "expresses",
}
_FIRST = re.compile(rf"\b(?:a|an|one) {_ADJECTIVE}{_NOUN}\b(?!-)", re.I)
_AGAIN = re.compile(rf"\bthe {_ADJECTIVE}{_NOUN}\b(?!-)", re.I)
_VOICE = r"(?:tone|voice|intonation|speech|pitch|vocal\w*)"
_MANNER = r"(?:(?:his|her|their|the|a|an|of|in|is|with|and|or|[a-z'-]+(?:ly)?) ?){0,4}"
_OF_VOICE = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf",? (?:combined with|accompanied by|along with|together with|coupled with|while speaking"
        rf"(?: in| with)?|speaking(?: in| with)?|and speaks (?:in|with)|with|in|and) "
        rf"(?:a|an|his|her|their|the) (?:[a-z-]+,? ){{0,3}}{_VOICE}(?: and (?:intonation|tone))?"
        rf"(?= ?[,.;]| suggests?\b| convey| indicat| impl|$)",
        rf"(?:,? and|,) {_VOICE}(?: and intonation)?(?= ?[,.;]| suggest| convey| indicat| impl)",
    )
)
_UNSEEN = re.compile(
    r"\b(tone|tones|voice|intonation|audio|sound\w*|speech|vocal\w*|pitch|loud\w*|backgrounds?|"
    r"room|stage|dress\w*|wear\w*|suit|hair\w*|shirt|attire|cloth\w*|uniform|seated|sits?|sitting|"
    r"stands?|standing|lies|lying|desk|couch|chair|table|window|holding|holds|camera|sword|gun|"
    r"scene|atmosphere|objects?|walks?|walking|another person|two people|men|women|people|"
    r"body language|gestures?|posture|setting|outdoors?|street|office|phone|bed|car|field|music|"
    r"book|books|garden|forest|lit|dimly|equipment|microphone|hands?|head|arms?|tears?)\b",
    re.I,
)
_HANGING = re.compile(
    r"(this|these|such|the combination|the overall|it|that|however|despite,)\b", re.I
)
_FEWEST_WORDS = 10
_SHE = {
    "he": "they", "she": "they", "himself": "themselves", "herself": "themselves",
    "his": "their", "him": "them", "her": "them", "hers": "theirs",
}  # fmt: skip
# "her" is "their" in front of what is hers, and "them" in front of these words.
_HER = re.compile(
    r"\bher(?= (?!(?:to|in|at|on|with|for|and|but|or|by|from|because|when|while|feel)\b)[a-z])",
    re.I,
)
_VERB = re.compile(
    r"\b(he|she)((?: (?:also|then|still|may|might|could|must|now|likely))*) ([a-z]+)\b", re.I
)
_PLURAL = {"is": "are", "was": "were", "has": "have", "does": "do", "isn't": "aren't"}


def grounded(prose: str) -> str | None:
    """A reason without what only the clip shows; None when nothing that explains is left.

    The wearer of an expression is "the person" and "they": neither words nor action units tell
    gender, age or origin. Sentences about voice, clothes and surroundings go. What stands between
    quotation marks is what was said, and stays.
    """
    if _REFUSAL.search(prose):
        return None
    text = re.sub(r"([.,;:])(?=[A-Z])", r"\1 ", " ".join(prose.split()))
    quotes = re.findall(r'"[^"]*"', text)
    for number, quote in enumerate(quotes):
        text = text.replace(quote, f"QUOTE{number}{quote[-2] if quote[-2:-1] in '.!?' else ''}", 1)
    text = _plain(text)
    text = re.sub(r" (?:and|but),", ",", text)
    kept: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", text):
        hanging = not kept and _HANGING.match(sentence)
        if not hanging and not _UNSEEN.search(sentence):
            kept.append(sentence)
    told = " ".join(kept)
    told = re.sub(r"QUOTE(\d+)\b[.!?]?", lambda m: quotes[int(m[1])], told)
    return told if len(told.split()) >= _FEWEST_WORDS else None


def _plain(text: str) -> str:
    """Its people are "the person" and "they"; what is said of voice in passing is cut out."""
    for pattern in _OF_VOICE:
        text = pattern.sub("", text)
    text = _FIRST.sub(lambda m: _case("a person", m[0]), text)
    text = _AGAIN.sub(lambda m: _case("the person", m[0]), text)
    text = _PLACE.sub(lambda m: f"{m[1]} person {_SHOWS.get(m[2].lower(), m[2])}", text)
    text = _VERB.sub(lambda m: f"{_case('they', m[1])}{m[2]} {_plural(m[3], m[2])}", text)
    text = _HER.sub(lambda m: _case("their", m[0]), text)
    return re.sub(
        rf"\b({'|'.join(_SHE)})\b", lambda m: _case(_SHE[m[0].lower()], m[0]), text, flags=re.I
    )


def _plural(verb: str, between: str) -> str:
    if re.search(r"\b(may|might|could|must)\b", between):
        return verb
    if verb in _PLURAL:
        return _PLURAL[verb]
    if verb.endswith("ies"):
        return f"{verb[:-3]}y"
    if re.search(r"(ss|sh|ch|x|o)es$", verb):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb


def _case(word: str, like: str) -> str:
    return word.capitalize() if like[0].isupper() else word
