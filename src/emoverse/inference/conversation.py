"""Conversations of any length: what a turn is asked with, and in which windows causes are found.

A model learns from conversations of at most a few dozen turns, and the cost of causes grows with
about the third power of a conversation's length. So a turn sees the turns just before it, and
causes are looked for in windows that slide over the conversation: each has `WINDOW` turns and
begins `STRIDE` turns after the one before; it is asked about the turns that no window before it
held. Every turn is thus asked about once, with at least `WINDOW - STRIDE` turns before it wherever
there are so many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from emoverse.emt.record import Record
from emoverse.inference.interview import Prediction, Question
from emoverse.inference.together import Ask
from emoverse.tasks import ecpe

# MELD's longest training dialogue, and all but two of ECF's.
WINDOW = 24
# In ECF's training set no cause lies more than 14 turns back.
STRIDE = 10
CONTEXT = WINDOW - 1
"""Most earlier turns that stand before an utterance when its emotion is asked for."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a conversation, in places from 0 on.

    Attributes:
        number: from 0 on.
        first, stop: the turns that are shown.
        asked: the first turn that is asked about; the last is `stop - 1`.
    """

    number: int
    first: int
    stop: int
    asked: int


@dataclass(frozen=True, slots=True)
class Causes:
    """What a window's answers say.

    Attributes:
        pairs: (emotion utterance, emotion, cause utterance).
        probabilities: for every utterance that was asked about, each cause's probability.
    """

    pairs: tuple[tuple[int, str, int], ...] = ()
    probabilities: Mapping[int, Mapping[int, float]] = field(default_factory=dict)


def windows(count: int) -> list[Window]:
    """The windows of a conversation of `count` turns."""
    found: list[Window] = []
    while not found or found[-1].stop < count:
        first = STRIDE * len(found)
        asked = found[-1].stop if found else 0
        found.append(Window(len(found), first, min(first + WINDOW, count), asked))
    return found


def find_causes(ask: Ask, turns: Sequence[ecpe.Turn], asked: int) -> Causes:
    """Ask for the causes of a window's emotions; see `cause_questions`."""
    questions = cause_questions(turns, asked)
    return found_causes(turns, ask(questions) if questions else [])


def cause_questions(turns: Sequence[ecpe.Turn], asked: int) -> list[Question]:
    """What is asked about the emotions of a window.

    Args:
        turns: of the window, in order; their `index` may be any rising numbers.
        asked: place of the first turn that is asked about, from 0 on.
    """
    # As in training, a conversation is numbered from 1 on.
    shown = [replace(turn, index=place) for place, turn in enumerate(turns, 1)]
    return [
        Question(Record(ecpe.query(shown, turn.index), "", "ecpe", id=str(turn.index)))
        for turn in shown[asked:]
        if turn.emotion != "neutral"
    ]


def found_causes(turns: Sequence[ecpe.Turn], answers: Iterable[Prediction]) -> Causes:
    """What the answers to `cause_questions` say, in the turns' own numbers."""
    numbers = {place: turn.index for place, turn in enumerate(turns, 1)}
    pairs: list[tuple[int, str, int]] = []
    probabilities: dict[int, dict[int, float]] = {}
    for answer in answers:
        pairs += [
            (numbers[int(e)], str(emotion), numbers[int(c)]) for e, emotion, c in answer.label
        ]
        probabilities[numbers[int(answer.id)]] = {
            numbers[int(place)]: value for place, value in answer.probabilities.items()
        }
    return Causes(tuple(pairs), probabilities)
