"""A model's scores of all allowed answers, kept in a log as they come.

A run that was stopped goes on, and whatever is fitted to them again asks nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoverse.emt.record import Record
from emoverse.evaluation.runs import fingerprint, logged
from emoverse.inference.engine import Engine
from emoverse.tasks import ecpe

TASKS_BY_LABEL = ("msa", "er", "ecpe")
MOST = 3000  # of a task; more hardly move two to eight numbers
FOLDS = 5  # of cross-validation


@dataclass(frozen=True, slots=True)
class Weighed:
    """A record's question as the model weighs it.

    Attributes:
        record: which it is.
        answers: the allowed answers in words.
        logs: (answers,) log-probabilities, not normalised.
    """

    record: Record
    answers: tuple[str, ...]
    logs: NDArray[np.float64]


def left_out(records: Sequence[Record], trained: Sequence[Record]) -> list[Record]:
    """The records whose query is not among those that a model was trained on."""
    seen = {record.query for record in trained}
    return [record for record in records if record.query not in seen]


def draw(
    records: Sequence[Record], limit: int = MOST, tasks: Sequence[str] = TASKS_BY_LABEL
) -> list[Record]:
    """At most `limit` records of each task, the same ones every time.

    A conversation's ECPE records come together or not at all.
    """
    chosen: set[int] = set()
    for task in tasks:
        mine = [place for place, record in enumerate(records) if record.task == task]
        # FER's queries are all the same: its pictures tell its records apart.
        order = sorted(mine, key=lambda place: (lot(records[place]), fingerprint(records[place])))
        chosen |= set(order[:limit])
    return [record for place, record in enumerate(records) if place in chosen]


def weigh(
    engine: Engine,
    records: Sequence[Record],
    log: Path,
    media_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Weighed]:
    """The model's scores of all allowed answers; those in `log` already are not asked for again.

    Args:
        engine: the model; its own calibration plays no part.
        records: MSA, ER and ECPE.
        log: a JSONL file for this model's scores, grown as they come.
        media_root: where relative media paths start.
        progress: called with (weighed, all) records.

    Raises:
        EmoVerseError: a query is malformed, or another process writes that file.
    """
    done = logged(records, log, lambda waiting: _rows(engine, waiting, media_root), progress)
    found = [(record, done[fingerprint(record)]) for record in records]
    return [
        Weighed(record, tuple(row["answers"]), np.array(row["logs"], float))
        for record, row in found
    ]


def lot(record: Record) -> str:
    """A record's lot, the same for all targets of a conversation."""
    name = record.query
    if record.task == "ecpe":
        turns, _ = ecpe.parse_query(name)
        name = "\n".join(turn.text for turn in turns)
    return hashlib.sha256(name.encode()).hexdigest()


def fold(record: Record) -> int:
    """The fold of a record in cross-validation, the same for all targets of a conversation."""
    return int(lot(record)[:8], 16) % FOLDS


def _rows(
    engine: Engine, records: Sequence[Record], media_root: Path | None
) -> Iterator[Mapping[str, Any]]:
    for posed, logs in engine.weigh(records, media_root):
        yield {
            "key": fingerprint(posed.record),
            "answers": posed.answers,
            "logs": [round(float(value), 5) for value in logs],
        }
