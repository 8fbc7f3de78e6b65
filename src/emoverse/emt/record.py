"""The EMT record: one query, one response, its media, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.files import read_text, write_text
from emoverse.tasks import TASKS, task_of


@dataclass(frozen=True, slots=True)
class Record:
    """One instruction sample (DESIGN "Record").

    Attributes:
        query: the user's turn, identifier included.
        response: the gold answer, "" when there is none.
        task: `msa`, `er`, `fer`, `eri` or `ecpe`.
        images, videos: media paths, absolute or relative to a media root.
        label: the structured gold (emotion, score, AU codes or pairs), None in authors' files.
        meta: what else is known (dialogue, speaker, context...).
    """

    query: str
    response: str
    task: str
    id: str = ""
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    source: str = ""
    split: str = ""
    text: str | None = None
    label: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def media(self) -> tuple[str, ...]:
        """Images and videos together, images first."""
        return self.images + self.videos


Splits = Mapping[str, list[Record]]
"""The records of a dataset by split."""


def load_records(path: Path | str) -> list[Record]:
    """Read records from JSONL or a JSON list, ours or the authors' (query/response/videos).

    Args:
        path: a `.json` list or a `.jsonl` file, UTF-8.

    Returns:
        The records in file order; the task of an authors' record is read from its wording, and
        a missing id becomes the 0-based position.

    Raises:
        EmoVerseError: the file is missing or a record is malformed; names file and record.
    """
    content = read_text(path)
    if content.lstrip().startswith("["):
        try:
            rows = [(f"record {number}", row) for number, row in enumerate(json.loads(content), 1)]
        except json.JSONDecodeError as error:
            raise EmoVerseError(
                f"{path}, line {error.lineno}: not valid JSON ({error.msg}); mend that line."
            ) from None
    else:
        rows = []
        for number, line in enumerate(content.split("\n"), 1):
            if not line.strip():
                continue
            try:
                rows.append((f"line {number}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise EmoVerseError(
                    f"{path}, line {number}: not valid JSON ({error.msg}); mend or delete it."
                ) from None
    return [
        _from_row(row, f"{path}, {place}", position) for position, (place, row) in enumerate(rows)
    ]


def dump_records(path: Path | str, records: Iterable[Record]) -> Path:
    """Write records as JSONL, one object a line, empty fields left out, atomically."""
    lines = (json.dumps(to_row(record), ensure_ascii=False) for record in records)
    return write_text(path, "".join(line + "\n" for line in lines))


def to_row(record: Record) -> dict[str, Any]:
    """The record as plain JSON values, empty fields left out."""
    row: dict[str, Any] = {"id": record.id, "task": record.task}
    row |= {"query": record.query, "response": record.response}
    for name in ("images", "videos"):
        if value := getattr(record, name):
            row[name] = list(value)
    for name in ("source", "split"):
        if value := getattr(record, name):
            row[name] = value
    for name in ("text", "label"):
        if (value := getattr(record, name)) is not None:
            row[name] = value
    if record.meta:
        row["meta"] = dict(record.meta)
    return row


def _from_row(row: Any, place: str, position: int) -> Record:
    if not isinstance(row, dict) or not isinstance(row.get("query"), str):
        raise EmoVerseError(f"{place}: a record needs a text field `query`; add it or delete it.")
    response = row.get("response", "")
    if not isinstance(response, str):
        raise EmoVerseError(f"{place}: `response` must be text; put the answer in quotes.")
    media = {}
    for name in ("images", "videos"):
        value = row.get(name) or []
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise EmoVerseError(f"{place}: `{name}` must be a list of paths.")
        media[name] = tuple(value)
    try:
        task = row.get("task") or task_of(row["query"])
    except EmoVerseError as error:
        raise EmoVerseError(f"{place}: {error}") from None
    if task not in TASKS:
        raise EmoVerseError(f"{place}: task {task!r} is unknown; use one of {', '.join(TASKS)}.")
    return Record(
        query=row["query"],
        response=response,
        task=task,
        id=str(row.get("id", position)),
        source=row.get("source", ""),
        split=row.get("split", ""),
        text=row.get("text"),
        label=row.get("label"),
        meta=row.get("meta") or {},
        **media,
    )
