"""Works off jobs, one part of a video after another, and tells who listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference.interview import Watched, clip_interview
from emoverse.inference.listening import PIECE
from emoverse.inference.transcripts import Cue, joined
from emoverse.serving.backends import Backend
from emoverse.serving.hearing import Hearing
from emoverse.serving.jobs import ENDED, Row, Store
from emoverse.serving.logs import log
from emoverse.serving.media import under_roots
from emoverse.serving.metrics import Metrics
from emoverse.serving.problems import Refused, TooLong
from emoverse.serving.sandbox import Piece, Sandbox
from emoverse.serving.schemas import MOST_TEXT
from emoverse.serving.settings import Settings
from emoverse.serving.talk import Talk

_STATES = ("queued", "running", *ENDED)
_HEARTBEAT = 15.0
_TOLD = 16  # parts that are read at once for a listener
# Parts in a row that cannot be read; then the rest most likely cannot either.
_MOST_FAILED = 3


class Runner:
    """One job at a time; requests of the moment mix with it at the model and the decoders."""

    def __init__(
        self,
        store: Store,
        backend: Backend,
        sandbox: Sandbox,
        hearing: Hearing,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        """Make a runner; `start` sets it to work."""
        self._roots = settings.roots
        self._store = store
        self._backend = backend
        self._sandbox = sandbox
        self._hearing = hearing
        self._limits = settings.limits
        self._keep_days = settings.keep_days
        self._metrics = metrics
        self._work: asyncio.Task[None] | None = None
        self._current: tuple[str, asyncio.Task[None]] | None = None
        self._news: asyncio.Future[None] | None = None  # held, or it may be collected
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._version = 0
        self.stopping = False

    def start(self) -> None:
        """Work off what is queued, and what will be."""
        self._work = asyncio.create_task(self._run())

    def stop_soon(self) -> None:
        """Begin nothing new, and let event streams end."""
        self.stopping = True
        self._wake.set()
        self._news = asyncio.ensure_future(self._tell())

    async def stop(self) -> None:
        """Finish the part at hand, if it takes not too long; the job goes back to the queue."""
        self.stop_soon()
        if self._work is None:
            return
        waited = [self._work, *([self._news] if self._news else [])]
        _, slow = await asyncio.wait(waited, timeout=self._limits.decode_seconds)
        if slow:
            if self._current:
                self._store.requeue(self._current[0])
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work

    def wake(self) -> None:
        """A job was added."""
        self._wake.set()
        self._count()

    def delete(self, job: str) -> None:
        """Forget a job that has ended."""
        self._store.delete(job)
        self._count()

    async def cancel(self, job: str) -> bool:
        """End a job now.

        Returns:
            False when it had ended before.
        """
        ended = self._store.end(job, "cancelled")
        if self._current and self._current[0] == job:
            self._current[1].cancel()
        await self._tell()
        return ended

    async def events(self, job: str, start: int) -> AsyncIterator[bytes]:
        """A job's course as server-sent events: `part`, `progress` and at last `end`.

        Args:
            job: its id.
            start: number of the first part wanted; the events' ids are the parts' numbers.
        """
        shown = ""
        while True:
            version = self._version
            row = self._store.get(job)
            if row is None:
                return
            while found := await asyncio.to_thread(self._store.parts, job, start, _TOLD):
                for number, part in found:
                    yield _event("part", part, number)
                    start = number + 1
            state = {"state": row.state, "done": row.done, "duration": row.duration}
            if row.heard is not None:
                state["heard"] = row.heard
            if (now := json.dumps(state)) != shown:
                shown = now
                yield _event("progress", state)
            if row.state in ENDED:
                yield _event("end", state | {"error": row.error})
                return
            if self.stopping:
                return
            try:
                async with self._changed:
                    await asyncio.wait_for(self._newer(version), _HEARTBEAT)
            except asyncio.TimeoutError:
                yield b": still here\n\n"

    async def _run(self) -> None:
        while not self.stopping:
            if self._keep_days is not None:
                self._store.forget(self._keep_days * 86_400)
            row = self._store.take(self._hearing.able)
            self._count()
            if row is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            task = asyncio.create_task(self._work_off(row))
            self._current = (row.id, task)
            try:
                await task
            except asyncio.CancelledError:
                if not task.cancelled():  # we are cancelled, not the job
                    task.cancel()
                    raise
            finally:
                self._current = None
            await self._tell()

    async def _work_off(self, row: Row) -> None:
        try:
            if await self._read(row):
                self._store.end(row.id, "done")
            else:
                self._store.requeue(row.id)
        except (Refused, EmoVerseError) as error:
            self._store.end(row.id, "failed", str(error))
        except Exception as error:
            log("job_fault", error=error)
            self._store.end(row.id, "failed", "The server failed; see its log.")

    async def _read(self, row: Row) -> bool:
        """Read the parts that are not read yet; False when the server stops before the end."""
        file = Path(row.file)
        if not row.uploaded:  # the roots may be others than when the job was added
            file = under_roots(row.file, self._roots)
        if row.request.get("transcribe"):
            heard = await self._hear(row, file)
            if heard is None:
                return False
            row = heard
        if row.request.get("by") == "utterance":
            return await self._read_utterances(row, file)
        number = self._store.read(row.id)
        done, duration, failed = row.done, row.duration, 0
        while not (number and done >= duration):
            if self.stopping:
                return False
            window = (done, done + float(row.request["part"]))
            try:
                piece = await self._sandbox.watch(
                    file, row.name, seconds=self._limits.job_seconds, window=window
                )
            except Refused as error:
                failed += 1
                if not number or failed == _MOST_FAILED:
                    raise
                done = min(window[1], duration)
                watched = _unseen(row.name, done - window[0], str(error))
                part = await self._part(
                    Piece(watched, window[0], done, duration, done >= duration), row
                )
                if "error" in part:  # no words either
                    part["error"] = str(error)
            else:
                failed = 0
                done, duration = piece.end, piece.duration
                part = await self._part(piece, row)
            self._store.add_part(row.id, number, part, done, duration)
            await self._tell()
            number += 1
        return True

    async def _hear(self, row: Row, file: Path) -> Row | None:
        """The job with its words, as far as they were not recognised before; None as `_read`."""
        seconds = self._limits.job_seconds
        duration = row.duration or await self._sandbox.duration(file, row.name, seconds=seconds)
        done, language, failed = row.heard or 0.0, row.request["language"], 0
        while done < duration:
            if self.stopping:
                return None
            end = min(done + PIECE, duration)
            try:
                cues, done = await self._hearing.piece(
                    file, row.name, (done, end), language, seconds=seconds, last=end == duration
                )
            except Refused:
                failed += 1
                if failed == _MOST_FAILED:
                    raise
                continue  # a process that was too slow may not be so again
            failed = 0
            lines = row.request["transcript"] + [asdict(cue) for cue in cues]
            row = replace(row, request=row.request | {"transcript": lines, "heard": done})
            self._store.keep(row.id, row.request, duration)
            await self._tell()
        # A sentence may go on in the next piece.
        cues = joined(Cue(**line) for line in row.request["transcript"])
        if row.request["by"] == "utterance" and not cues:
            raise EmoVerseError(
                f"No words were recognised in {row.name}; have it read by parts, or give a "
                "transcript."
            )
        lines = [asdict(cue) for cue in cues]
        return replace(row, request=row.request | {"transcript": lines}, duration=duration)

    async def _part(self, piece: Piece, row: Row) -> dict[str, Any]:
        part: dict[str, Any] = {"start": piece.start, "end": piece.end}
        tasks = row.request["tasks"]
        try:
            text = _said(row.request["transcript"], piece)
            interview = clip_interview(piece.watched, text, tasks, self._backend.name)
            part["analysis"] = (await self._backend.conduct(interview)).to_json()
        except (EmoVerseError, TooLong) as error:  # a part without face and words, most often
            part["error"] = str(error)
        return part

    async def _read_utterances(self, row: Row, file: Path) -> bool:
        """The same with a part for every utterance, and causes as soon as they can be asked for."""
        duration = row.duration or await self._sandbox.duration(
            file, row.name, seconds=self._limits.job_seconds
        )
        said, tasks = row.request["transcript"], row.request["tasks"]
        talk = Talk(said, tasks, self._backend.name, duration)
        for _, known in await asyncio.to_thread(self._store.parts, row.id):
            talk.take(known)
        failed = 0
        while (at := talk.following()) is not None:
            if self.stopping:
                return False
            part: dict[str, Any] = {"start": at.start, "end": at.end, "speaker": at.speaker}
            try:
                piece = await self._sandbox.watch(
                    file, row.name, seconds=self._limits.job_seconds, window=(at.start, at.end)
                )
                failed, watched = 0, piece.watched
            except Refused as error:
                failed += 1
                if failed == _MOST_FAILED:
                    raise
                watched = _unseen(row.name, at.end - at.start, str(error))
            try:
                part["analysis"] = (await self._backend.conduct(talk.ask(watched))).to_json()
            except (EmoVerseError, TooLong) as error:
                part["error"] = str(error)
            talk.take(part)
            if causes := talk.ask_causes():
                try:
                    part["pairs"] = talk.pairs(await self._backend.conduct(causes))
                except TooLong as error:
                    part["error"] = str(error)
            last = talk.following() is None
            done = duration if last else min(at.end, duration)
            self._store.add_part(row.id, at.number - 1, part, done, duration)
            await self._tell()
        await self._tell_late(row, talk, duration)
        return True

    async def _tell_late(self, row: Row, talk: Talk, duration: float) -> None:
        """A part without an answer for each line that is not read."""
        number = self._store.read(row.id)
        for cue in talk.late[max(0, number - talk.count) :]:
            part = {
                "start": cue.start,
                "end": cue.end,
                "speaker": cue.speaker,
                "error": f"This line of the transcript lies after the video's end ({duration:.1f} "
                "s) and was left out.",
            }
            self._store.add_part(row.id, number, part, duration, duration)
            number += 1
        await self._tell()

    async def _newer(self, version: int) -> None:
        await self._changed.wait_for(lambda: self._version != version)

    async def _tell(self) -> None:
        self._count()
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    def _count(self) -> None:
        counts = self._store.count()
        for state in _STATES:
            self._metrics.jobs.labels(state).set(counts.get(state, 0))


def _unseen(name: str, seconds: float, why: str) -> Watched:
    """A part whose picture cannot be read; its words can."""
    info = VideoInfo(Path(name), 0, 0, 0.0, seconds, 0, 0, has_audio=False)
    return Watched(name, FaceTrack(info, warnings=(why,)))


def _said(transcript: list[dict[str, Any]], piece: Piece) -> str | None:
    """The lines whose middle lies in a part; what comes after the video goes with its last.

    Raises:
        TooLong: they are more than a clip may come with.
    """
    lines = [
        line["text"]
        for line in transcript
        if piece.start
        <= (line["start"] + line["end"]) / 2
        < (math.inf if piece.last else piece.end)
    ]
    said = " ".join(lines)
    if len(said) > MOST_TEXT:
        raise TooLong(
            f"The lines of this part have over {MOST_TEXT} characters; shorten the parts."
        )
    return said or None


def _event(kind: str, value: dict[str, Any], number: int | None = None) -> bytes:
    head = f"event: {kind}\n" + ("" if number is None else f"id: {number}\n")
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
