"""Who answers: the model in this process, or one behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from PIL import Image

from emoverse.emt import endpoint as remote
from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import spread
from emoverse.inference.analysis import Analysis
from emoverse.inference.engine import Engine
from emoverse.inference.interview import Interview, Prediction, Question, Watched
from emoverse.serving.metrics import Metrics
from emoverse.serving.problems import Refused, TooLong
from emoverse.serving.queue import Batcher
from emoverse.serving.settings import Settings
from emoverse.tasks import SYSTEM_PROMPT, ecpe, er, eri, fer, msa, task_of

_PARSERS: dict[str, Callable[[str], Any]] = {
    "msa": msa.parse,
    "er": er.parse,
    "fer": lambda text: list(fer.parse(text)),
    "eri": eri.parse,
}
# Phrases, a label, pairs: short. A reason: prose.
_MOST_TOKENS = {"msa": 16, "er": 16, "fer": 96, "eri": 256, "ecpe": 128}
# Pictures of a clip that travel to an endpoint, and pixels of their longer side.
_FRAMES, _SIDE = 8, 448
Result = TypeVar("Result")
Asking = Generator[list[Question], list[Prediction], Result]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer in a chat.

    Attributes:
        text: what the model said.
        task: the task that the question shows, None for any other question.
        label, probabilities: as in `Prediction`.
        finish: `stop` or `length`.
        tokens_in, tokens_out: tokens of words.
    """

    text: str
    task: str | None
    label: Any
    probabilities: dict[str, float]
    finish: str
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a chat's client wants the answer written.

    Attributes:
        most: tokens of the answer; None leaves it to the server.
        temperature, seed: as in OpenAI's API.
    """

    most: int | None = None
    temperature: float = 0.0
    seed: int = 0


class Backend(Protocol):
    """What the server needs of a model.

    Attributes:
        name: what it is called.
        frames: pictures of a clip that it wants, 0 when it only sees a face.
        side: pixels of their longer side, at most.
        alive: whether it can answer.
    """

    name: str
    frames: int
    side: int

    @property
    def alive(self) -> bool:
        """See above."""

    async def start(self) -> None:
        """Get ready to answer."""

    async def stop(self) -> None:
        """Finish what is under way."""

    async def conduct(
        self, interview: Interview, told: Callable[[str], None] | None = None
    ) -> Analysis:
        """Have an interview answered, telling free text so far where it comes word by word."""
        ...

    def check(self, query: str) -> None:
        """Refuse a chat's question that cannot be answered."""

    def check_shown(self, query: str, shown: Watched | None) -> None:
        """Refuse it when it cannot be answered about what it shows."""

    async def chat(
        self,
        system: str | None,
        query: str,
        shown: Watched | None,
        sampling: Sampling,
        told: Callable[[str], None] | None,
    ) -> Said:
        """Answer one question, telling the text so far."""
        ...


class Local:
    """The model in this process, behind a queue."""

    side = spread.SIDE

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        """Put a queue in front of a loaded model."""
        self.name = engine.name
        self.frames = engine.frames
        self._engine = engine
        self._most = settings.limits.tokens
        self._queue = Batcher(
            engine.ask,
            size=settings.batch,
            window=settings.window,
            metrics=metrics,
            check=lambda question: self._check_length(question.record.query),
        )

    @property
    def alive(self) -> bool:
        """Whether the model's thread works."""
        return self._queue.alive

    async def start(self) -> None:
        """Start the model's thread."""
        self._queue.start()

    async def stop(self) -> None:
        """Finish what is under way."""
        await asyncio.to_thread(self._queue.stop)

    async def conduct(
        self, interview: Interview, told: Callable[[str], None] | None = None
    ) -> Analysis:
        """Have an interview answered; `told` is called in the model's thread.

        Raises:
            EmoVerseError: the interview refuses what it was given.
            TooLong: one of its questions is.
        """
        return await self._queue.conduct(interview, told)

    def check(self, query: str) -> None:
        """Refuse what is in none of the five tasks' wording, or too long.

        Raises:
            EmoVerseError: it shows no task, or a conversation in it is malformed.
            TooLong: it has too many words.
        """
        self._check_length(query)
        if task_of(query) == "ecpe":
            ecpe.parse_query(query)

    def check_shown(self, query: str, shown: Watched | None) -> None:
        """Refuse to tell an expression without a face, which would be made up.

        Raises:
            Refused: there is none.
        """
        if task_of(query) == "fer" and (shown is None or not shown.face):
            raise Refused(
                422, "no_face", "There is no face whose expression could be told; send one."
            )

    async def chat(
        self,
        system: str | None,
        query: str,
        shown: Watched | None,
        sampling: Sampling,
        told: Callable[[str], None] | None,
    ) -> Said:
        """Answer a question that the checks let pass, in its likeliest words."""
        task = task_of(query)
        question = Question(Record(query, "", task), shown)
        found = await self._queue.conduct(_single(question), told)
        return Said(
            found.text,
            task,
            found.label,
            dict(found.probabilities),
            "stop",
            self._tokens(query),
            self._tokens(found.text),
        )

    def _tokens(self, text: str) -> int:
        return len(self._engine.model.tokenizer(text)["input_ids"])

    def _check_length(self, query: str) -> None:
        if (count := self._tokens(query)) > self._most:
            raise TooLong(
                f"A question to the model may have {self._most} tokens of words, and this text "
                f"makes one of {count}; send less text, or fewer turns."
            )


class Remote:
    """A model behind an OpenAI-compatible endpoint such as vLLM's."""

    frames = _FRAMES
    side = _SIDE
    alive = True  # whether the endpoint answers is told by each request

    def __init__(self, settings: Settings) -> None:
        """Prepare to ask.

        Raises:
            EmoVerseError: the URL is not one.
        """
        assert settings.endpoint and settings.backend_model
        self.name = settings.backend_model
        self._endpoint = remote.Endpoint(
            settings.endpoint,
            settings.backend_model,
            settings.endpoint_key,
            concurrency=settings.batch,
            timeout=settings.limits.request_seconds,
            retries=2,
        )
        self._client = remote.connect(self._endpoint)
        self._free = asyncio.Semaphore(settings.batch)

    async def start(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    async def stop(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def conduct(
        self, interview: Interview, told: Callable[[str], None] | None = None
    ) -> Analysis:
        """Have an interview answered; each text comes in one piece, so `told` hears nothing.

        Raises:
            EmoVerseError: the interview refuses what it was given.
            Refused: the endpoint gives no answer.
        """
        try:
            questions = next(interview)
            while True:
                answers = await asyncio.gather(*(self._answer(q) for q in questions))
                questions = interview.send(answers)
        except StopIteration as end:
            analysis: Analysis = end.value
            return analysis

    def check(self, query: str) -> None:
        """Any question may be asked."""

    def check_shown(self, query: str, shown: Watched | None) -> None:
        """About anything."""

    async def chat(
        self,
        system: str | None,
        query: str,
        shown: Watched | None,
        sampling: Sampling,
        told: Callable[[str], None] | None,
    ) -> Said:
        """Answer any question; the text comes in one piece.

        Raises:
            Refused: the endpoint gives no answer.
        """
        try:
            task = task_of(query)
        except EmoVerseError:
            task = None
        asked = remote.Question(
            query,
            _pictures(task, shown),
            max_tokens=sampling.most or 512,
            temperature=sampling.temperature,
            seed=sampling.seed,
            system=system or SYSTEM_PROMPT,
        )
        reply = await self._ask(asked)
        label = _label(task, query, reply.text) if task else None
        finish = "length" if reply.finish == "length" else "stop"
        return Said(
            reply.text, task, label, {}, finish, reply.tokens_in or 0, reply.tokens_out or 0
        )

    async def _answer(self, question: Question) -> Prediction:
        task = question.record.task
        asked = remote.Question(
            question.record.query,
            _pictures(task, question.shown),
            max_tokens=_MOST_TOKENS[task],
            system=SYSTEM_PROMPT,
        )
        reply = await self._ask(asked)
        label = _label(task, question.record.query, reply.text)
        return Prediction(question.record.id, reply.text, label)

    async def _ask(self, asked: remote.Question) -> remote.Reply:
        try:
            async with self._free:
                return await remote.ask(self._client, self._endpoint, asked, None)
        except remote.EndpointError:
            # What it said may quote the question or name its address: not for clients or logs.
            raise Refused(
                502, "backend_failed", "The model behind this server gives no answer; try later."
            ) from None


def _single(question: Question) -> Asking[Prediction]:
    (found,) = yield [question]
    return found


def _label(task: str, query: str, text: str) -> Any:
    """An answer read; pairs only as the question allows them.

    A model that is bound by no grammar may name another target, another emotion, or a cause that
    is not there or comes later.
    """
    if task != "ecpe":
        return _PARSERS[task](text)
    try:
        turns, index = ecpe.parse_query(query)
    except EmoVerseError:  # a chat's own wording, which names no target that we could read
        found = ecpe.parse(text) or ()
    else:
        target = next(turn for turn in turns if turn.index == index)
        causes = [turn.index for turn in turns if turn.index <= index]
        allowed = {ecpe.Pair(index, target.emotion, cause) for cause in causes}
        found = tuple(pair for pair in ecpe.parse(text, target) or () if pair in allowed)
    return [[pair.emotion_index, pair.emotion, pair.cause_index] for pair in found]


def _pictures(task: str | None, shown: Watched | None) -> tuple[bytes, ...]:
    """What goes with a question: the peak frame for FER, else frames of the whole clip."""
    if shown is None:
        return ()
    if task == "fer" and shown.track.peak_image is not None:
        buffer = io.BytesIO()
        Image.fromarray(shown.track.peak_image).save(buffer, "JPEG", quality=90)
        return (buffer.getvalue(),)
    return shown.frames
