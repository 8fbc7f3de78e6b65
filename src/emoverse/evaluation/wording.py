"""What a model writes, kept in a log as it comes, and what its phrases are worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.runs import fingerprint, logged
from emoverse.inference.engine import Engine
from emoverse.inference.phrases import TASKS, TIMES, Phrases, gather

_UNSEEN = 10  # one answer in so many is not counted, and shows what the rest is worth
_TIMED = 30  # of those, how many of a task are written once more


@dataclass(frozen=True, slots=True)
class Worded:
    """A record, and what the model writes about it."""

    record: Record
    text: str


def word(
    engine: Engine,
    records: Sequence[Record],
    log: Path,
    media_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Worded]:
    """The model's answers; those in `log` already are not asked for again.

    Args:
        engine: the model.
        records: FER and ERI.
        log: a JSONL file for this model's answers, grown as they come.
        media_root: where relative media paths start.
        progress: called with (written, all) records.

    Returns:
        The answers to records whose pictures are there.

    Raises:
        EmoVerseError: another process writes that file.
    """

    def rows(waiting: Sequence[Record]) -> Iterator[Mapping[str, Any]]:
        answered = engine.answer(waiting, media_root)
        for record, found in zip(waiting, answered, strict=True):
            if not found.media_missing:  # or it would never be asked for again
                yield {"key": fingerprint(record), "text": found.text}

    done = logged(records, log, rows, progress)
    found = [(record, done.get(fingerprint(record))) for record in records]
    return [Worded(record, row["text"]) for record, row in found if row]


def counted(
    engine: Engine, worded: Sequence[Worded]
) -> tuple[dict[str, Phrases], dict[str, list[Record]]]:
    """The phrases of all answers but some, and the records of those, by task.

    Tasks whose answers have nothing in common are left out.

    Raises:
        EmoVerseError: that is so of every task.
    """
    found, unseen = {}, {}
    for task in TASKS:
        mine = [one for one in worded if one.record.task == task]
        if not mine:
            continue
        held = set(sorted(fingerprint(one.record) for one in mine)[::_UNSEEN])
        texts = [one.text for one in mine if fingerprint(one.record) not in held]
        gathered = gather(engine.reader.answer(text) for text in texts)
        if gathered.following:
            found[task] = gathered
            unseen[task] = [one.record for one in mine if fingerprint(one.record) in held][:_TIMED]
    if not worded:
        raise EmoVerseError("No record's picture or clip was found; check the media's folder.")
    if not found:
        raise EmoVerseError(
            f"No {TIMES} of {len(worded)} answers have anything in common; give more records."
        )
    return found, unseen


def seconds_an_answer(
    engine: Engine,
    records: Mapping[str, Sequence[Record]],
    phrases: Mapping[str, Phrases],
    media_root: Path | None = None,
) -> dict[str, float]:
    """Wall seconds an answer, written one by one with these phrases, by task.

    Args:
        engine: the model; it keeps the phrases.
        records: of each task, one at least.
        phrases: by task.
        media_root: where relative media paths start.
    """
    engine.phrases = phrases
    found = {}
    for task, some in records.items():
        list(engine.answer(some[:1], media_root))  # what is done at first use is not timed
        start = time.perf_counter()
        for record in some:
            list(engine.answer([record], media_root))
        found[task] = round((time.perf_counter() - start) / len(some), 3)
    return found
