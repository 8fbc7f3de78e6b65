"""One thread owns the model; the questions of many requests are answered together.

Every request is an interview (`emoverse.inference.interview`). Between two batches the thread
takes in new interviews and drops cancelled ones, so that a request joins at the next batch and
does not wait for others to finish.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from emoverse.inference.engine import Told
from emoverse.inference.interview import Prediction, Question
from emoverse.serving.metrics import Metrics

Result = TypeVar("Result")
Ask = Callable[[Sequence[Question], Told | None], list[Prediction]]


@dataclass(slots=True, eq=False)
class _Talk:
    """One interview under way.

    Attributes:
        waiting: places in `questions` that are not answered yet.
        told: hears the text of its single question as it is written.
    """

    interview: Generator[list[Question], list[Prediction], Any]
    future: Future[Any]
    told: Callable[[str], None] | None
    questions: list[Question] = field(default_factory=list)
    answers: dict[int, Prediction] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)


class Batcher:
    """A queue in front of a model."""

    def __init__(
        self,
        ask: Ask,
        *,
        size: int,
        window: float,
        metrics: Metrics,
        check: Callable[[Question], None] = lambda _: None,
    ) -> None:
        """Make a queue; `start` sets it to work.

        Args:
            ask: answers questions of one task.
            size: most questions answered together.
            window: seconds that a first question waits for company.
            metrics: where batches are counted.
            check: refuses a question, and with it its interview, before it waits.
        """
        self._ask = ask
        self._check = check
        self._size = size
        self._window = window
        self._metrics = metrics
        self._new: deque[_Talk] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way, then end the thread."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    async def conduct(
        self,
        interview: Generator[list[Question], list[Prediction], Result],
        told: Callable[[str], None] | None = None,
    ) -> Result:
        """Have an interview answered; cancelling this drops its open questions.

        Args:
            interview: what to ask.
            told: gets the text so far of free-text answers, in the model's thread.

        Raises:
            EmoVerseError: the interview refuses what it was given.
        """
        talk = _Talk(interview, Future(), told)
        with self._changed:
            if not self._open:
                raise RuntimeError("the queue is closed")
            self._new.append(talk)
            self._changed.notify()
        result: Result = await asyncio.wrap_future(talk.future)
        return result

    def _run(self) -> None:
        talks: list[_Talk] = []
        while True:
            with self._changed:
                while not talks and not self._new and self._open:
                    self._changed.wait()
                if not talks and not self._new:
                    return
                idle = not talks
            if idle and self._window:
                time.sleep(self._window)
            with self._changed:
                fresh = list(self._new)
                self._new.clear()
            talks += fresh
            try:
                self._advance(talks, fresh)
            except Exception as error:  # the thread must outlive every fault
                for talk in filter(_lives, talks):
                    _fail(talk, error)
            talks = [talk for talk in talks if _lives(talk)]

    def _advance(self, talks: list[_Talk], fresh: Sequence[_Talk]) -> None:
        """Begin the fresh ones of some talks, answer one batch, and go on where all is answered."""
        for talk in fresh:
            self._step(talk, None)
        open_ = [talk for talk in talks if _lives(talk)]
        self._metrics.queued.set(sum(len(talk.waiting) for talk in open_))
        if open_:
            self._answer(_chosen(open_, self._size))
        for talk in filter(_lives, open_):
            if not talk.waiting and len(talk.answers) == len(talk.questions):
                self._step(talk, [talk.answers[n] for n in range(len(talk.questions))])

    def _answer(self, batch: list[tuple[_Talk, int]]) -> None:
        start = time.perf_counter()
        questions = [talk.questions[place] for talk, place in batch]

        def told(row: int, text: str) -> bool:
            talk = batch[row][0]
            if talk.told is not None:
                talk.told(text)
            return not talk.future.cancelled()

        try:
            found = self._ask(questions, told)
        except Exception as error:
            if len(batch) > 1:  # a question that cannot be answered must not take others along
                for row in batch:
                    if _lives(row[0]):  # an earlier question of the same talk may have ended it
                        self._answer([row])
                return
            _fail(batch[0][0], error)
            return
        self._metrics.batch.observe(len(batch))
        task = questions[0].record.task
        self._metrics.model_seconds.labels(task).observe(time.perf_counter() - start)
        for (talk, place), answer in zip(batch, found, strict=True):
            talk.answers[place] = answer

    def _step(self, talk: _Talk, answers: list[Prediction] | None) -> None:
        """Send answers (None at the start) and take the next questions, or the result."""
        try:
            interview = talk.interview
            talk.questions = next(interview) if answers is None else interview.send(answers)
            for question in talk.questions:
                self._check(question)
        except StopIteration as end:
            talk.questions = []
            talk.waiting.clear()
            _settle(talk, end.value, None)
        except Exception as error:
            _fail(talk, error)
        else:
            talk.answers = {}
            talk.waiting = deque(range(len(talk.questions)))


def _chosen(talks: Sequence[_Talk], size: int) -> list[tuple[_Talk, int]]:
    """The oldest question, and others of its task; taken off what waits."""
    oldest = talks[0]
    task = oldest.questions[oldest.waiting[0]].record.task
    chosen: list[tuple[_Talk, int]] = []
    for talk in talks:
        for place in list(talk.waiting):
            if len(chosen) < size and talk.questions[place].record.task == task:
                talk.waiting.remove(place)
                chosen.append((talk, place))
    return chosen


def _fail(talk: _Talk, error: Exception) -> None:
    talk.waiting.clear()
    talk.questions = []
    talk.interview.close()
    _settle(talk, None, error)


def _settle(talk: _Talk, result: Any, error: Exception | None) -> None:
    if talk.future.set_running_or_notify_cancel():
        if error is None:
            talk.future.set_result(result)
        else:
            talk.future.set_exception(error)


def _lives(talk: _Talk) -> bool:
    return not talk.future.done()
