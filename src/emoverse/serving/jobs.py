"""Jobs on disk: what was asked, how far it is, what was found. They outlive the server."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from emoverse.serving.media import private_folder

ENDED = ("done", "failed", "cancelled")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    file TEXT NOT NULL,
    uploaded INTEGER NOT NULL,
    request TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    duration REAL NOT NULL DEFAULT 0,
    done REAL NOT NULL DEFAULT 0,
    error TEXT
);
CREATE TABLE IF NOT EXISTS parts (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    part TEXT NOT NULL,
    PRIMARY KEY (job, number)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created);
"""


# Jobs whose words are to be recognised, and are not yet to the end.
_UNHEARD = """
    coalesce(json_extract(request, '$.transcribe'), 0)
    AND (duration = 0 OR coalesce(json_extract(request, '$.heard'), 0) < duration)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A job as it is stored.

    Attributes:
        id: random, not to be guessed.
        state: `queued`, `running`, or one of `ENDED`.
        name: what the client calls the video.
        file: where it lies.
        uploaded: it is the server's own copy, deleted when the job ends.
        request: a `JobRequest` but for its clip, as JSON values; its transcript grows while it is
            recognised, and `heard` tells up to which second it was.
        created, updated: ISO 8601, UTC.
        duration: seconds of video; 0 until it is known.
        done: seconds of video that are read.
        error: why it failed, None otherwise.
    """

    id: str
    state: str
    name: str
    file: str
    uploaded: bool
    request: dict[str, Any]
    created: str
    updated: str
    duration: float
    done: float
    error: str | None

    @property
    def heard(self) -> float | None:
        """Seconds that were listened to; None where nothing is recognised."""
        return float(self.request.get("heard", 0)) if self.request.get("transcribe") else None


class Store:
    """Jobs in an SQLite file (WAL); may be used from several threads."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`; jobs that were running are queued again."""
        self.folder = private_folder(folder)
        self.uploads = private_folder(folder / "uploads")
        self._lock = threading.Lock()
        self._base = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False)
        with self._lock, self._base:
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.execute("PRAGMA foreign_keys=ON")
            self._base.executescript(_SCHEMA)
            self._base.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
        self._sweep()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def add(self, name: str, file: Path, uploaded: bool, request: dict[str, Any]) -> Row:
        """Store a new job; it is on disk when this returns."""
        now = _now()
        job = secrets.token_urlsafe(16)
        self._write(
            "INSERT INTO jobs (id, state, name, file, uploaded, request, created, updated) "
            "VALUES (?, 'queued', ?, ?, ?, ?, ?, ?)",
            (job, name, str(file), int(uploaded), json.dumps(request), now, now),
        )
        found = self.get(job)
        assert found is not None
        return found

    def get(self, job: str) -> Row | None:
        """A job; None when there is none of that id."""
        found = self._rows("WHERE id = ?", (job,))
        return found[0] if found else None

    def newest(self, count: int, start: int = 0) -> list[Row]:
        """The newest jobs but for the first `start` of them."""
        return self._rows("ORDER BY created DESC LIMIT ? OFFSET ?", (count, start))

    def take(self, hears: bool = True) -> Row | None:
        """The oldest queued job, now running; None when none waits.

        Args:
            hears: also jobs whose words are still to be recognised.
        """
        with self._lock, self._base, closing(self._base.cursor()) as cursor:
            cursor.execute(
                "UPDATE jobs SET state = 'running', updated = ? WHERE id = "
                "(SELECT id FROM jobs WHERE state = 'queued' "
                f"{'' if hears else f'AND NOT ({_UNHEARD}) '}ORDER BY created LIMIT 1) "
                "RETURNING id",
                (_now(),),
            )
            found = cursor.fetchone()
        return self.get(found[0]) if found else None

    def requeue(self, job: str) -> None:
        """Put a running job back; its parts stay."""
        self._write(
            "UPDATE jobs SET state = 'queued', updated = ? WHERE id = ? AND state = 'running'",
            (_now(), job),
        )

    def keep(self, job: str, request: dict[str, Any], duration: float) -> None:
        """Store a request to which what was heard was added, and the video's length."""
        self._write(
            "UPDATE jobs SET request = ?, duration = ?, updated = ? WHERE id = ?",
            (json.dumps(request, ensure_ascii=False), duration, _now(), job),
        )

    def add_part(
        self, job: str, number: int, part: dict[str, Any], done: float, duration: float
    ) -> None:
        """Store what was found in a part, and how far the job is."""
        with self._lock, self._base:
            self._base.execute(
                "INSERT OR REPLACE INTO parts (job, number, part) VALUES (?, ?, ?)",
                (job, number, json.dumps(part, ensure_ascii=False)),
            )
            self._base.execute(
                "UPDATE jobs SET done = ?, duration = ?, updated = ? WHERE id = ?",
                (done, duration, _now(), job),
            )

    def parts(self, job: str, start: int = 0, count: int = -1) -> list[tuple[int, dict[str, Any]]]:
        """Parts from number `start` on, `count` at most (-1: all), in order, with their numbers."""
        with self._lock, closing(self._base.cursor()) as cursor:
            cursor.execute(
                "SELECT number, part FROM parts WHERE job = ? AND number >= ? ORDER BY number "
                "LIMIT ?",
                (job, start, count),
            )
            rows = cursor.fetchall()
        return [(int(number), json.loads(part)) for number, part in rows]

    def read(self, job: str) -> int:
        """How many parts there are."""
        with self._lock, closing(self._base.cursor()) as cursor:
            cursor.execute("SELECT COUNT(*) FROM parts WHERE job = ?", (job,))
            return int(cursor.fetchone()[0])

    def end(self, job: str, state: str, error: str | None = None) -> bool:
        """End a job and delete its upload.

        Args:
            job: its id.
            state: one of `ENDED`.
            error: why it failed.

        Returns:
            False when it had ended before.
        """
        with self._lock, self._base, closing(self._base.cursor()) as cursor:
            cursor.execute(
                "UPDATE jobs SET state = ?, error = ?, updated = ? "
                "WHERE id = ? AND state IN ('queued', 'running') RETURNING file, uploaded",
                (state, error, _now(), job),
            )
            found = cursor.fetchone()
        if found and found[1]:
            Path(found[0]).unlink(missing_ok=True)
        return found is not None

    def delete(self, job: str) -> None:
        """Forget a job that has ended."""
        with self._lock, self._base:
            self._base.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def forget(self, seconds: float) -> None:
        """Forget jobs that ended longer ago than that."""
        end = _stamp(datetime.now(timezone.utc) - timedelta(seconds=seconds))
        with self._lock, self._base:
            self._base.execute(
                "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND updated < ?", (end,)
            )

    def held(self) -> int:
        """Bytes of the uploads that lie here."""
        size = 0
        for file in self.uploads.iterdir():
            with suppress(FileNotFoundError):  # its job may end meanwhile
                size += file.stat().st_size
        return size

    def count(self) -> dict[str, int]:
        """Number of jobs by state."""
        with self._lock, closing(self._base.cursor()) as cursor:
            cursor.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state")
            return {str(state): int(number) for state, number in cursor.fetchall()}

    def _sweep(self) -> None:
        """Delete uploads that no job waits for: their requests died with an earlier server."""
        with self._lock, closing(self._base.cursor()) as cursor:
            cursor.execute("SELECT file FROM jobs WHERE uploaded AND state = 'queued'")
            kept = {str(file) for (file,) in cursor.fetchall()}
        for file in self.uploads.iterdir():
            if str(file) not in kept:
                file.unlink(missing_ok=True)

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock, self._base:
            self._base.execute(statement, values)

    def _rows(self, condition: str, values: tuple[Any, ...]) -> list[Row]:
        columns = ", ".join(Row.__slots__)
        with self._lock, closing(self._base.cursor()) as cursor:
            cursor.execute(f"SELECT {columns} FROM jobs {condition}", values)
            rows = cursor.fetchall()
        made = [dict(zip(Row.__slots__, row, strict=True)) for row in rows]
        return [
            Row(**r | {"uploaded": bool(r["uploaded"]), "request": json.loads(r["request"])})
            for r in made
        ]


def _now() -> str:
    return _stamp(datetime.now(timezone.utc))


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")
