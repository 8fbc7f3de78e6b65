"""Gold and predictions side by side, as a protocol scores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import conversation_key, gold_label, read_answer
from emoverse.evaluation.predictions import Answer
from emoverse.tasks import ecpe, er, eri, fer, msa
from emoverse.tasks.action_units import BY_CODE

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "msa": (
        *("acc2_np", "acc2_nn", "f1_np", "f1_nn"),
        *("acc7", "acc7_intervals", "acc5", "mae", "corr"),
    ),
    "er": ("weighted_f1", "accuracy", "macro_f1"),
    "ecpe": ("weighted_f1", "f1", "precision", "recall"),
    "fer": ("f1", "precision", "recall", "caption_f1", "caption_rouge_l"),
    "eri": ("rouge_l", "token_f1", "clue_overlap", "label_overlap", "wheel_overlap"),
}
PROTOCOLS = ("paper", "strict", "semeval")
GIVEN = "given by the model"
DERIVED = "3 * (p(positive) - p(negative)), a stand-in: the model was asked for a label only"


@dataclass(frozen=True, slots=True)
class Scored:
    """The items a protocol scores, gold and prediction side by side.

    Attributes:
        records, answers: the scored records and what was said to them.
        gold, pred: what the task's scorer takes.
        units: what the bootstrap resamples (the conversations), None for the records.
        values: msa: the model's scores in [-3, 3]; None when there are none.
        values_from: where they come from, `GIVEN` or `DERIVED`.
        through_wheel: er: answers that only the emotion wheel could read; None when not asked.
    """

    task: str
    protocol: str
    records: tuple[Record, ...]
    answers: tuple[Answer, ...]
    gold: tuple[Any, ...]
    pred: tuple[Any, ...]
    units: tuple[str, ...] | None
    values: tuple[float | None, ...] | None = None
    values_from: str | None = None
    through_wheel: int | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The answers as they were written."""
        return tuple(answer.text for answer in self.answers)

    @property
    def captions(self) -> tuple[tuple[str, str], ...] | None:
        """fer: (gold caption, answer) where every record has a gold caption."""
        if self.task != "fer" or not all(record.response for record in self.records):
            return None
        return tuple((r.response, a.text) for r, a in zip(self.records, self.answers, strict=True))

    def score(self) -> dict[str, Any]:
        """The task scorer's figures."""
        if self.task == "msa":
            return msa.score(self.gold, self.pred, self.values)
        if self.task == "fer":
            return fer.score(self.gold, self.pred, self.captions)
        return self.score_of(self.pred)

    def score_of(
        self, pred: Sequence[Any], values: Sequence[float | None] | None = None
    ) -> dict[str, Any]:
        """The figures of other predictions, a floor's, and for msa its scores.

        For fer the phrases of the predicted action units are taken for the caption.
        """
        if self.task == "ecpe":
            return ecpe.score(self.gold, pred, self.protocol)
        if self.task == "msa":
            return msa.score(self.gold, pred, values)
        if self.task == "fer":
            written = self.captions and [
                (caption, _caption(codes))
                for (caption, _), codes in zip(self.captions, pred, strict=True)
            ]
            return fer.score(self.gold, pred, written)
        scorers: Mapping[str, Callable[..., dict[str, Any]]] = {"er": er.score, "eri": eri.score}
        return scorers[self.task](self.gold, pred)

    def headline(self, figures: Mapping[str, Any]) -> dict[str, float | None]:
        """The figures that stand in a table, in percent (but mae and corr).

        None: undefined, as all are of no records.
        """
        return {
            name: figures[name] if self.records else None
            for name in HEADLINES[self.task]
            if name in figures
        }


def check_protocol(protocol: str, task: str = "ecpe") -> None:
    """Raise EmoVerseError unless the protocol exists and fits the task."""
    if protocol not in PROTOCOLS:
        raise EmoVerseError(f"Protocol {protocol!r} is unknown; use {', '.join(PROTOCOLS)}.")
    if task not in HEADLINES:
        raise EmoVerseError(f"Task {task!r} is unknown; use {', '.join(HEADLINES)}.")
    if protocol == "semeval" and task != "ecpe":
        raise EmoVerseError(f"Protocol `semeval` is for ecpe; use `paper` or `strict` for {task}.")


def prepare(
    task: str,
    records: Sequence[Record],
    answers: Sequence[Answer],
    protocol: str,
    *,
    derive_scores: bool = False,
    open_vocabulary: bool = False,
) -> Scored:
    """Gold and predicted labels of one task's records, without the targets `paper` leaves out.

    Args:
        task: one of the five.
        records: of that task.
        answers: one a record.
        protocol: `paper` or `strict`.
        derive_scores: msa: where the model gave no score, take 3 * (p(positive) - p(negative)) of
            its probabilities for one. That is no sentiment score, and the block says so.
        open_vocabulary: er: read answers outside the known words by the emotion wheel; the block
            says how many.

    Raises:
        EmoVerseError: a record has no gold that can be read; names it.
    """
    rows = []
    for record, answer in zip(records, answers, strict=True):
        truth = gold_label(record)
        if task == "ecpe" and protocol == "paper" and not truth:
            continue
        label = read_answer(record, answer.text, open_vocabulary=open_vocabulary)
        rows.append((record, answer, truth, label))
    kept, said, gold, pred = zip(*rows, strict=True) if rows else ((), (), (), ())
    values, values_from = _values(said, derive_scores) if task == "msa" else (None, None)
    wheel = None
    if task == "er" and open_vocabulary:
        wheel = sum(
            label is not None and er.parse(answer.text) is None
            for answer, label in zip(said, pred, strict=True)
        )
    units = _units(task, kept)
    return Scored(task, protocol, kept, said, gold, pred, units, values, values_from, wheel)


def _units(task: str, records: Sequence[Record]) -> tuple[str, ...] | None:
    """The conversation of every record: what is said in one hangs together.

    A record without one stands for itself; None where none has one.
    """
    if task == "ecpe":
        return tuple(conversation_key(record) for record in records)
    if not any("dialogue" in record.meta for record in records):
        return None
    return tuple(str(record.meta.get("dialogue", record.id)) for record in records)


def _caption(codes: Sequence[str]) -> str:
    """A caption that names these action units."""
    return fer.answer(BY_CODE[code].phrase if code in BY_CODE else code for code in codes)


def _values(
    answers: Sequence[Answer], derive: bool
) -> tuple[tuple[float | None, ...] | None, str | None]:
    given = tuple(
        answer.score if answer.score is not None else msa.parse_score(answer.text)
        for answer in answers
    )
    if any(value is not None for value in given):
        return given, GIVEN
    if not derive or not any(answer.probabilities for answer in answers):
        return None, None
    derived = tuple(
        3 * (answer.probabilities.get("positive", 0.0) - answer.probabilities.get("negative", 0.0))
        if answer.probabilities
        else None
        for answer in answers
    )
    return derived, DERIVED
