"""The page's table of a conversation as a request, and its mistakes in sentences for people.

Rows are counted from 1 on, as the table counts them.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from emoverse.serving.problems import Refused
from emoverse.serving.schemas import MOST_TURNS, Dialogue

_FIELDS = {
    "speaker": "the speaker's name",
    "text": "the text",
    "emotion": "the emotion",
    "clip": "the clip's path",
}
_TOLD = 3  # mistakes at once


def dialogue(value: Any) -> Dialogue:
    """The conversation that the table holds, under the API's limits.

    Raises:
        Refused: it is none, or a row has neither words nor a clip.
    """
    try:
        asked = Dialogue.model_validate(value)
    except ValidationError as error:
        told = dict.fromkeys(_sentence(found) for found in error.errors())
        raise Refused(422, "bad_request", " ".join(list(told)[:_TOLD])) from None
    for row, turn in enumerate(asked.turns, 1):
        if not turn.text.strip() and turn.clip is None:
            raise Refused(422, "no_words", _wordless(row))
    return asked


def _wordless(row: int) -> str:
    return f"Row {row} has no words; write them or remove it."


def _sentence(found: Any) -> str:
    """One of pydantic's errors; never the value, for that may be private."""
    match found["loc"]:
        case ("turns", int(place), str(field), *_):
            return _of_field(place + 1, field, found["type"], found.get("ctx", {}))
        case ("turns", int(place)):
            return f"Row {place + 1} is no utterance; remove it."
        case ("turns",) if found["type"] == "too_short":
            return "There is no utterance yet; write one into the table."
        case ("turns",) if found["type"] == "too_long":
            return f"The table has over {MOST_TURNS} rows; remove some."
    return "This is no conversation; fill in the table."


def _of_field(row: int, field: str, kind: str, bounds: dict[str, Any]) -> str:
    if field not in _FIELDS:
        return f"Row {row} has an unknown field; a row has speaker, text, emotion and clip."
    if kind == "missing":
        return _wordless(row)
    name = _FIELDS[field]
    if kind == "string_too_long":
        most = bounds["max_length"]
        return f"Row {row}: {name} may have at most {most} characters; shorten it."
    if kind == "string_too_short":
        return f"Row {row}: {name} is empty; write it or leave it out."
    return f"Row {row}: {name} must be a text."
