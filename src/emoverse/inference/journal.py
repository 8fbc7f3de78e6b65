"""Answers on disk, line by line, so that a killed run goes on where it was.

A journal is a JSONL file. Its first line says what the answers rest on; a run that rests on
something else does not go on with it. Lines are only ever added, each in one write that reaches the
disk before the next answer is begun: a kill can tear the last line, which the next run cuts off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from emoverse.errors import EmoVerseError
from emoverse.files import utf8

VERSION = 1
_LONGEST_HEAD = 1 << 20  # a file that is no journal may be one endless line


class Journal:
    """An open journal; made by `journal`."""

    def __init__(self, path: Path) -> None:
        """Take a file whose first line is right; use `journal` instead."""
        self.path = path

    def rows(self) -> Iterator[dict[str, Any]]:
        """Stream the lines so far, without the first.

        Raises:
            EmoVerseError: a line is not JSON; the sentence names it.
        """
        with open(self.path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if number > 1:
                    yield _row(self.path, number, line)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a line; it is on the disk when this returns."""
        with open(self.path, "ab") as sink:
            sink.write(_written(row))
            sink.flush()
            os.fsync(sink.fileno())


@contextmanager
def journal(path: Path | str, kind: str, basis: Mapping[str, Any]) -> Iterator[Journal]:
    """Open a journal to go on with it, or begin one.

    Args:
        path: the JSONL file; its folder is made.
        kind: what is read, `film` or `folder`.
        basis: everything that the answers rest on, as JSON values.

    Raises:
        EmoVerseError: the file is another kind's, or rests on something else, or another process
            is writing to it.
    """
    path = Path(path)
    if path.is_dir():
        raise EmoVerseError(f"{path} is a folder; name a file for the answers with --jsonl.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Held by the system for this process, so that a kill lets go of it.
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise EmoVerseError(
            f"{path}: another run is writing to it; wait for it, or name another file with --jsonl."
        ) from None
    try:
        first = {"kind": kind, "version": VERSION, "basis": dict(basis)}
        opened = Journal(path)
        if path.is_file() and path.stat().st_size:
            _check(path, first)
            _drop_torn_line(path)
        if not path.is_file() or not path.stat().st_size:
            opened.add(first)
        yield opened
    finally:
        lock.release()


def _written(row: Mapping[str, Any]) -> bytes:
    return utf8(json.dumps(row, ensure_ascii=False) + "\n")


def _check(path: Path, first: Mapping[str, Any]) -> None:
    head = _written(first)
    with open(path, "rb") as lines:
        raw = lines.readline(_LONGEST_HEAD)
    if len(raw) < len(head) and head.startswith(raw):
        return  # torn; any other line without an end is somebody's
    wanted, line = json.loads(head), raw.decode(errors="replace")
    try:
        known = _row(path, 1, line) if line.endswith("\n") else {}
    except EmoVerseError:
        known = {}
    if known.get("kind") != wanted["kind"] or known.get("version") != VERSION:
        raise EmoVerseError(
            f"{path} holds something else than answers about a {wanted['kind']}; name another file "
            "with --jsonl."
        )
    was, now = known.get("basis") or {}, wanted["basis"]
    other = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    if other:
        named = ", ".join(name.replace("_", " ") for name in other)
        raise EmoVerseError(
            f"{path} was made with other settings ({named}); delete it to begin anew, or name "
            "another file with --jsonl."
        )


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise EmoVerseError(
            f"{path}, line {number}: not a line of answers; delete that line, or the file to begin "
            "anew."
        )
    return row


def _drop_torn_line(path: Path) -> None:
    """Cut off what follows the last line break, looking from the end."""
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end
        while whole > 0:
            start = max(0, whole - (1 << 16))
            file.seek(start)
            place = file.read(whole - start).rfind(b"\n")
            if place >= 0:
                whole = start + place + 1
                break
            whole = start
        if whole < end:
            file.truncate(whole)
