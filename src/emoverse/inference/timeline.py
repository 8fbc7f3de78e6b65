"""A film's answers put together: who showed what when, and what caused it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.faces.people import Likeness
from emoverse.inference import cast
from emoverse.inference.journal import Journal
from emoverse.inference.listening import film_rows

# What a line holds for later runs and for the page, and nobody reads.
_INNER = ("sighting", "portrait", "picture", "at_once")


def film_result(book: Journal, model: str) -> dict[str, Any]:
    """Everything a journal knows about its film, as JSON values without pictures.

    Args:
        book: of a film, finished or not.
        model: name of the model that answered.

    Returns:
        film (width, height, fps, duration...), model, warnings, utterances (with `causes`, the
        numbers of the utterances that caused the emotion), moments, pairs, timeline (name to its
        utterances in order), people (the film's persons), emotions (name to counts), and
        unfinished, the number of parts without an answer.

    Raises:
        EmoVerseError: a line is malformed, or there is no plan yet.
    """
    rows = film_rows(book)
    plan = next(rows, None)
    if plan is None:
        raise EmoVerseError(f"{book.path} holds no answer yet; run the same command again.")
    numbers = _numbers(book)
    utterances: list[dict[str, Any]] = []
    moments: list[dict[str, Any]] = []
    pairs: list[list[Any]] = []
    for row in rows:
        if row["kind"] == "causes":
            pairs += row["pairs"]
        else:
            kept = moments if row["kind"] == "moment" else utterances
            kept.append(_read_alone(row, numbers))
    pairs.sort()
    causes: dict[int, list[int]] = {}
    for target, _, cause in pairs:
        causes.setdefault(target, []).append(cause)
    for one in utterances:
        one["causes"] = causes.get(one["number"], [])
    unread = len(plan["parts"]) - len(utterances) - len(moments)
    lines = _timeline([*utterances, *moments])
    return {
        "film": plan["film"],
        "model": model,
        "warnings": plan["warnings"],
        "utterances": utterances,
        "moments": moments,
        "pairs": pairs,
        "timeline": lines,
        "emotions": {
            name: dict(Counter(one["emotion"] for one in line if one["emotion"]).most_common())
            for name, line in lines.items()
        },
        "people": _people([*utterances, *moments]),
        "unfinished": unread,
    }


def pictures(book: Journal) -> Iterator[tuple[int, str | None, dict[int, str]]]:
    """Stream the pictures of a film's parts: number, peak frame, and new persons' portraits.

    All are JPEGs in base64.
    """
    for row in film_rows(book):
        if row["kind"] in ("utterance", "moment"):
            faces = {one["person"]: one["portrait"] for one in row["people"] if "portrait" in one}
            yield row["number"], row["picture"], {n: face for n, face in faces.items() if face}


def _numbers(book: Journal) -> dict[int, int]:
    """The lines' numbers of persons to the film's, by all that was seen of them."""
    known: dict[int, Likeness] = {}
    apart: set[tuple[int, int]] = set()
    for row in film_rows(book):
        for one in row.get("people", ()):
            number, seen = one["person"], cast.load(one["sighting"]).likeness
            known[number] = cast.added(known[number], seen) if number in known else seen
        apart |= {(one, other) for one, other in row.get("at_once", ())}
    return cast.same_people(known, apart)


def _read_alone(row: Mapping[str, Any], numbers: Mapping[int, int]) -> dict[str, Any]:
    """A part without what only later runs and the page read, persons by their final numbers."""
    told = {name: value for name, value in row.items() if name not in _INNER}
    seen: dict[int, dict[str, Any]] = {}
    for one in row["people"]:
        number = numbers[one["person"]]
        person = seen.setdefault(number, {"person": number, "seconds": 0.0, "peak": 0.0})
        person["seconds"] = round(person["seconds"] + one["seconds"], 2)
        person["peak"] = max(person["peak"], one["peak"])
    told["people"] = list(seen.values())
    told["person"] = numbers.get(row["person"])
    if row["peak"]:
        told["peak"] = row["peak"] | {"person": numbers.get(row["peak"]["person"])}
    meant = told["person"] if row["text"] else (told["peak"] or {}).get("person")
    told["who"] = row["speaker"] or (None if meant is None else f"Person {meant}")
    return told


def _timeline(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["number"]):
        if row["answers"]:
            lines.setdefault(row["who"] or "Someone", []).append(
                {
                    "number": row["number"],
                    "start": row["start"],
                    "end": row["end"],
                    "emotion": _label(row, "er"),
                    "sentiment": _label(row, "msa"),
                }
            )
    return lines


def _people(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The film's persons: when they were seen, and whose name they most often spoke under."""
    found: dict[int, dict[str, Any]] = {}
    names: dict[int, Counter[str]] = {}
    for row in sorted(rows, key=lambda row: row["number"]):
        for one in row["people"]:
            person = found.setdefault(
                one["person"], {"person": one["person"], "parts": [], "seconds": 0.0}
            )
            person["parts"].append(row["number"])
            person["seconds"] = round(person["seconds"] + one["seconds"], 2)
        if row["person"] is not None and row["speaker"]:
            names.setdefault(row["person"], Counter())[row["speaker"]] += 1
    for number, person in found.items():
        said = names.get(number, Counter()).most_common(1)
        # Twice and in most of the cases: subtitles do not say who is in the picture.
        sure = said and said[0][1] >= 2 and said[0][1] > 0.5 * names[number].total()
        person["speaks_as"] = said[0][0] if sure else None
    return [found[number] for number in sorted(found)]


def _label(row: Mapping[str, Any], task: str) -> str | None:
    label = (row["answers"].get(task) or {}).get("label")
    return None if label is None else str(label)
