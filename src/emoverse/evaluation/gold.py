"""What is right: the gold of a record, the label an answer states, and names of their own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.tasks import ecpe, emotion_wheel, er, eri, fer, labels, msa


def gold_label(record: Record) -> Any:
    """The gold of a record: its `label`, else its response parsed.

    Returns:
        msa: a float in [-3, 3] or a sentiment; er: an emotion; ecpe: pairs; fer: AU codes; eri:
        prose.

    Raises:
        EmoVerseError: neither can be read.
    """
    label, response = record.label, record.response
    found: Any = None
    if record.task == "msa":
        found = _msa_gold(label) if label is not None else msa.parse(response)
    elif record.task == "er":
        found = labels.emotion(str(label)) if label is not None else er.parse(response)
    elif record.task == "ecpe":
        found = _pairs(label) if label is not None else read_answer(record, response)
    elif record.task == "fer":
        found = tuple(map(str, label)) if isinstance(label, list | tuple) else fer.parse(response)
    else:
        found = response or None
    if found is None:
        shown = repr(label if label is not None else response)[:60]
        raise EmoVerseError(
            f"Record {record.id} ({record.task}): its gold answer {shown} cannot be read; mend "
            "`label` or `response`."
        )
    return found


def read_answer(record: Record, text: str, *, open_vocabulary: bool = False) -> Any:
    """The label a model's answer states, None when it states none (fer: then no AU).

    An MSA answer that is a bare score counts as positive from 0 up. With `open_vocabulary` an ER
    answer without one of the known words ("Elated.") is read by the emotion wheel.
    """
    if record.task == "ecpe":
        turns, target = ecpe.parse_query(record.query)
        return ecpe.parse(text, next(turn for turn in turns if turn.index == target))
    if record.task == "msa" and (value := msa.parse_score(text)) is not None:
        return "positive" if value >= 0 else "negative"
    if record.task == "er" and open_vocabulary:
        return er.parse(text) or emotion_wheel.label(text)
    parsers: Mapping[str, Callable[[str], Any]] = {
        "msa": msa.parse,
        "er": er.parse,
        "fer": fer.parse,
        "eri": eri.parse,
    }
    return parsers[record.task](text)


def conversation_key(record: Record) -> str:
    """A short name of the conversation an ECPE query is about, the same for all its targets."""
    turns, _ = ecpe.parse_query(record.query)
    return turns_key(turns)


def turns_key(turns: Sequence[ecpe.Turn]) -> str:
    """A short name of a conversation by what is said in it, spacing and case aside."""
    said = "\n".join("".join(f"{turn.speaker}:{turn.text}".lower().split()) for turn in turns)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def unique_ids(records: Sequence[Record]) -> list[Record]:
    """The records with ids that occur once: a repeated id gets its task, then a number, added."""
    seen: Counter[str] = Counter(record.id for record in records)
    named = [
        replace(record, id=f"{record.id}/{record.task}") if seen[record.id] > 1 else record
        for record in records
    ]
    again: Counter[str] = Counter()
    result = []
    for record in named:
        again[record.id] += 1
        number = again[record.id]
        result.append(replace(record, id=f"{record.id}/{number}") if number > 1 else record)
    return result


def _msa_gold(label: Any) -> float | str | None:
    if isinstance(label, int | float) and not isinstance(label, bool):
        return float(label)
    try:
        return float(label)
    except (TypeError, ValueError):
        return labels.sentiment(str(label))


def _pairs(label: Any) -> tuple[ecpe.Pair, ...] | None:
    if isinstance(label, str):
        return ecpe.parse(label)
    try:
        rows = [(int(target), labels.emotion(word), int(cause)) for target, word, cause in label]
    except (AttributeError, TypeError, ValueError):
        return None
    pairs = [ecpe.Pair(target, word, cause) for target, word, cause in rows if word]
    return tuple(dict.fromkeys(pairs)) if len(pairs) == len(rows) else None
