"""Many interviews at once: what several clips ask for is answered in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from emoverse.errors import EmoVerseError
from emoverse.inference.analysis import Analysis
from emoverse.inference.interview import Interview, Prediction, Question

BATCH = 12
"""Clips that are worth answering together."""

_Item = TypeVar("_Item")
Ask = Callable[[Sequence[Question]], list[Prediction]]
"""What answers questions: `Engine.ask`."""


def together(ask: Ask, interviews: Sequence[Interview]) -> list[Analysis | EmoVerseError]:
    """Conduct interviews side by side.

    Args:
        ask: answers the questions of all.
        interviews: not begun.

    Returns:
        For every interview its analysis, or why it refused what it was given.
    """
    results: dict[int, Analysis | EmoVerseError] = {}
    open_: dict[int, list[Question]] = {}

    def step(number: int, answers: list[Prediction] | None) -> None:
        talk = interviews[number]
        try:
            open_[number] = next(talk) if answers is None else talk.send(answers)
        except StopIteration as end:
            results[number] = end.value
        except EmoVerseError as error:
            results[number] = error

    for number in range(len(interviews)):
        step(number, None)
    while open_:
        asked, open_ = open_, {}
        answers = iter(ask([question for some in asked.values() for question in some]))
        for number, some in asked.items():
            step(number, [next(answers) for _ in some])
    return [results[number] for number in range(len(interviews))]


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
