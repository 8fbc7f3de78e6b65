"""What the page asks of the server, and how far it is: snapshots that a generator yields.

The same limits hold as for the API: a place among the pending requests, decoding in the sandbox,
the model's queue, the time that an answer may take.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.inference.analysis import Analysis, Answer
from emoverse.inference.dialogue import dialogue_interview
from emoverse.inference.interview import (
    CLIP_TASKS,
    Interview,
    Prediction,
    Question,
    Watched,
    clip_interview,
)
from emoverse.serving.backends import Backend
from emoverse.serving.logs import log
from emoverse.serving.media import of_dialogue
from emoverse.serving.page_clips import Held
from emoverse.serving.problems import Refused
from emoverse.serving.schemas import MOST_TEXT, Dialogue
from emoverse.serving.service import Service

_TICK = 1.0  # seconds without news after which a snapshot is sent again, so that a stop is noticed
_REST = 0.08  # between two snapshots


@dataclass(frozen=True, slots=True)
class Step:
    """How far it is.

    Attributes:
        doing: in words, for people.
        analyses: what was found so far, by model; complete when `done`.
        reasons: by model, the reason as far as it is written.
        text: what was heard, None when nothing was or nothing was listened to.
        done: nothing follows.
    """

    doing: str
    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    done: bool = False


Tell = Callable[[Step], None]


def read_clip(
    service: Service, held: Held, text: str, models: Sequence[str]
) -> AsyncGenerator[Step, None]:
    """Have models read a clip; closing the generator ends the work.

    Args:
        service: the server.
        held: the clip.
        text: what is said in it, "" when unknown.
        models: keys of `service.models`.

    Raises:
        Refused: a limit is passed, or there is nothing to read.
        EmoVerseError: a model cannot read it.
    """
    if len(text) > MOST_TEXT:
        raise Refused(422, "too_long", f"The text has over {MOST_TEXT} characters; cut it.")
    strange = [model for model in models if model not in service.models]
    if strange:
        raise Refused(404, "model_not_found", "This server has no such model; choose another.")

    async def work(tell: Tell) -> None:
        tell(Step(f"Looking at the faces in {held.name} …"))
        if held.piece is None:
            held.piece = await service.sandbox.watch(held.path, held.name)
        watched = held.piece.watched
        if not watched.face and not text.strip():
            raise Refused(
                422,
                "nothing_to_read",
                f"No face was found in {held.name}, and there is no text; write what is said.",
            )
        progress = _Progress(tell, asyncio.get_running_loop())
        for model in models:
            progress.seen(model, _finished(clip_interview(watched, text, (), model)))
        await asyncio.gather(
            *(_ask(service.models[model], watched, text, model, progress) for model in models)
        )
        progress.end()

    return _snapshots(service, work)


def hear_clip(service: Service, held: Held) -> AsyncGenerator[Step, None]:
    """Have what is said in a clip recognised; closing the generator ends the work.

    Raises:
        Refused: a limit is passed, or this server recognises no speech.
    """

    async def work(tell: Tell) -> None:
        tell(Step(f"Listening to {held.name} …"))
        text = await service.hearing.clip(held.path, held.name)
        told = "Check the words, and have the clip read." if text else "Nothing is said in it."
        tell(Step(told, text=text, done=True))

    return _snapshots(service, work)


def read_dialogue(service: Service, asked: Dialogue, model: str) -> AsyncGenerator[Step, None]:
    """Have a model read a conversation; closing the generator ends the work.

    Args:
        service: the server.
        asked: the conversation; clips lie under the server's roots.
        model: key of `service.models`.

    Raises:
        Refused: a limit is passed.
        EmoVerseError: a turn is malformed, or a clip cannot be read.
    """
    turns, files = of_dialogue(asked, service.settings.roots)

    async def work(tell: Tell) -> None:
        seen: dict[str, Watched] = {}
        for name, file in files.items():
            tell(Step(f"Looking at the faces in {name} …"))
            seen[name] = (await service.sandbox.watch(file, name)).watched
        tell(Step("Reading the conversation …"))
        loop = asyncio.get_running_loop()

        def heard(number: int, count: int) -> None:
            loop.call_soon_threadsafe(tell, Step(f"{number} of {count} emotions told …"))

        interview = dialogue_interview(turns, lambda name: seen[name], model)
        open_turns = sum(1 for turn in turns if not turn.get("emotion"))
        analysis = await service.models[model].conduct(_counted(interview, open_turns, heard))
        tell(Step("Done.", {model: analysis}, done=True))

    return _snapshots(service, work)


def sentence(error: BaseException) -> str:
    """What people are told of an error: a mistake in its own words, a fault of ours in none."""
    if isinstance(error, Refused | EmoVerseError):
        return str(error)
    log("page_fault", error=error)
    return "The server failed; see its log."


class _Progress:
    """The state of several models' answers; models tell it of news from their own threads."""

    def __init__(self, tell: Tell, loop: asyncio.AbstractEventLoop) -> None:
        self._tell = tell
        self._loop = loop
        self._analyses: dict[str, Analysis] = {}
        self._reasons: dict[str, str] = {}

    def seen(self, model: str, analysis: Analysis) -> None:
        """A first or a final analysis, in the loop's thread."""
        self._analyses[model] = analysis
        self._told()

    def answered(self, model: str, answers: Mapping[str, Answer]) -> None:
        """Answers so far, from a model's thread."""
        self._loop.call_soon_threadsafe(self._answered, model, dict(answers))

    def writing(self, model: str, text: str) -> None:
        """The reason so far, from a model's thread."""
        self._loop.call_soon_threadsafe(self._writing, model, text)

    def end(self) -> None:
        """Every model is done."""
        self._tell(Step("Done.", dict(self._analyses), dict(self._reasons), done=True))

    def _answered(self, model: str, answers: Mapping[str, Answer]) -> None:
        self.seen(model, replace(self._analyses[model], answers=answers))

    def _writing(self, model: str, text: str) -> None:
        self._reasons[model] = text
        self._told()

    def _told(self) -> None:
        answered = any(analysis.answers for analysis in self._analyses.values())
        doing = "Writing the reason …" if answered else "Asking the model …"
        self._tell(Step(doing, dict(self._analyses), dict(self._reasons)))


async def _ask(
    backend: Backend, watched: Watched, text: str, model: str, progress: _Progress
) -> None:
    """One model's answers; the reason, a question that stands alone, is told as it grows."""
    alone: list[str] = []

    def listened() -> Interview:
        inner = clip_interview(watched, text, CLIP_TASKS, model)
        answers: dict[str, Answer] = {}
        try:
            questions = next(inner)
            while True:
                alone[:] = [question.record.task for question in questions]
                found = yield questions
                answers |= {
                    question.record.task: _answer(question, prediction)
                    for question, prediction in zip(questions, found, strict=True)
                }
                progress.answered(model, answers)
                questions = inner.send(found)
        except StopIteration as end:
            analysis: Analysis = end.value
            return analysis

    def told(so_far: str) -> None:
        if alone == ["eri"]:
            # A token may end within a letter, which is shown when it is whole.
            progress.writing(model, so_far.rstrip("\N{REPLACEMENT CHARACTER}"))

    progress.seen(model, await backend.conduct(listened(), told))


def _answer(question: Question, found: Prediction) -> Answer:
    record = question.record
    return Answer(
        record.task, record.query, found.text, found.label, found.probabilities, found.seconds
    )


def _counted(
    interview: Interview, count: int, heard: Callable[[int, int], None]
) -> Generator[list[Question], list[Prediction], Analysis]:
    """A conversation's interview that tells how many emotions of `count` are known."""
    number = 0
    try:
        questions = next(interview)
        while True:
            found = yield questions
            number += sum(question.record.task == "er" for question in questions)
            if number:
                heard(number, count)
            questions = interview.send(found)
    except StopIteration as end:
        analysis: Analysis = end.value
        return analysis


def _finished(interview: Interview) -> Analysis:
    """The analysis of an interview that has nothing to ask."""
    try:
        next(interview)
    except StopIteration as end:
        analysis: Analysis = end.value
        return analysis
    raise AssertionError("an interview without tasks asks nothing")


async def _snapshots(
    service: Service, work: Callable[[Tell], Awaitable[Any]]
) -> AsyncGenerator[Step, None]:
    """The newest step now and then, until the work is done; closing this ends the work."""
    loop = asyncio.get_running_loop()
    seconds = service.settings.limits.request_seconds
    end = loop.time() + seconds
    news: asyncio.Queue[Step | None] = asyncio.Queue()
    step = Step("Waiting …")
    with service.places.taken():
        task = asyncio.ensure_future(work(news.put_nowait))
        task.add_done_callback(lambda _: news.put_nowait(None))
        try:
            while True:
                if service.stopping:
                    raise Refused(503, "stopping", "The server is stopping; try again later.")
                if loop.time() > end:
                    raise Refused(
                        504, "timeout", f"No answer in {seconds:g} seconds; ask for less."
                    )
                with contextlib.suppress(asyncio.TimeoutError):
                    fresh = await asyncio.wait_for(news.get(), _TICK)
                    step = fresh or step
                over = task.done()
                while not news.empty():
                    step = news.get_nowait() or step
                if over:
                    await task
                yield step
                if over:
                    return
                await asyncio.sleep(_REST)
        finally:
            task.cancel()
            await asyncio.wait({task})
