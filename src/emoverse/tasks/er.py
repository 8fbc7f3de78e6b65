"""ER, emotion recognition: one of seven emotions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.tasks import labels
from emoverse.tasks._metrics import accuracy, by_class, check_lengths, macro_f1, weighted_f1

IDENTIFIER = "<emotion>"
QUESTION = "Please determine which emotion label in the video represents:"
# What the authors' MOSEI records say instead of MELD's names.
_WORDINGS = {"meld": {}, "mosei": {"sadness": "sad", "joy": "happy"}}


def query(
    text: str | None = None,
    *,
    wording: str = "meld",
    speaker: str | None = None,
    context: Sequence[tuple[str, str]] = (),
) -> str:
    """The authors' ER query.

    Args:
        text: what the person says; None when unknown.
        wording: `meld` or `mosei` (sad and happy in place of sadness and joy).
        speaker: who speaks now; used with `context` only.
        context: earlier (speaker, text) turns, oldest first; they go in front of the query.
    """
    before = ""
    if context:
        turns = "".join(f"{who}: {said}\n" for who, said in context)
        now = f"Now {speaker} speaks.\n" if speaker else ""
        before = f"The conversation so far:\n{turns}{now}"
    says = f"The person says: '{text}' " if text is not None else ""
    *most, last = _words(wording)
    return f"{before}{says}{IDENTIFIER} {QUESTION} {', '.join(most)} or {last}."


def answer(emotion: str, wording: str = "meld") -> str:
    """The gold response: `joy` gives "Joy.", in MOSEI's wording "Happy."."""
    return f"{_WORDINGS[wording].get(emotion, emotion).capitalize()}."


def choices(wording: str = "meld") -> tuple[str, ...]:
    """Every allowed answer, in the order of `labels.EMOTIONS`."""
    return tuple(answer(emotion, wording) for emotion in labels.EMOTIONS)


def parse(text: str) -> str | None:
    """Read a canonical emotion out of any answer; None when it settles on none."""
    return labels.stated(text, labels.EMOTION_WORDS)


def score(gold: Sequence[str], pred: Sequence[str | None]) -> dict[str, Any]:
    """Accuracy and F1 in percent over the seven emotions (the paper's Table IV).

    Args:
        gold: canonical emotions.
        pred: canonical emotions or None (unparseable, counted wrong), same length.

    Returns:
        n, accuracy, weighted_f1, macro_f1 (over the emotions gold has), per_class (precision,
        recall, f1, support), confusion (gold to predicted counts, with an `unparseable` column)
        and unparseable.

    Raises:
        EmoVerseError: the lengths differ, or a label is not a canonical emotion.
    """
    check_lengths(gold, pred)
    if strange := set(gold).union(guess for guess in pred if guess) - set(labels.EMOTIONS):
        raise EmoVerseError(
            f"{min(strange)!r} is not an emotion label; use one of {', '.join(labels.EMOTIONS)}."
        )
    columns = (*labels.EMOTIONS, "unparseable")
    confusion = {row: dict.fromkeys(columns, 0) for row in labels.EMOTIONS}
    for emotion, guess in zip(gold, pred, strict=True):
        confusion[emotion][guess or "unparseable"] += 1
    return {
        "n": len(gold),
        "accuracy": accuracy(gold, pred),
        "weighted_f1": weighted_f1(gold, pred),
        "macro_f1": macro_f1(gold, pred),
        "per_class": by_class(gold, pred, labels.EMOTIONS),
        "confusion": confusion,
        "unparseable": sum(guess is None for guess in pred),
    }


def _words(wording: str) -> list[str]:
    return [_WORDINGS[wording].get(emotion, emotion) for emotion in labels.EMOTIONS]
