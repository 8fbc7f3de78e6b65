"""FER, facial expression captions: the action units of the peak frame as phrases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from emoverse.tasks import action_units
from emoverse.tasks._metrics import check_lengths, prf

IDENTIFIER = "<caption>"
QUESTION = "Detail the facial expressions used in the image."


def query() -> str:
    """The authors' FER query; it carries no identifier."""
    return QUESTION


def answer(phrases: Iterable[str]) -> str:
    """The gold response: `Eyes narrowing; Slightly puzzled`."""
    return "; ".join(phrases)


def parse(text: str) -> tuple[str, ...]:
    """The AU codes a caption names ("AU06"), once each, in order; () when it names none.

    Codes, FACS names, the paper's phrases and MERR's are all understood.
    """
    return action_units.codes_in(text)


def score(gold: Sequence[Iterable[str]], pred: Sequence[Iterable[str]]) -> dict[str, Any]:
    """How well the named AU sets agree, in percent.

    Args:
        gold: AU codes per sample.
        pred: AU codes per sample, same length.

    Returns:
        n; precision, recall, f1 as means over samples (two empty sets agree fully); micro, the
        same over pooled AUs; per_au, for every AU seen, with its support.

    Raises:
        EmoVerseError: the lengths differ.
    """
    check_lengths(gold, pred)
    pairs = [(set(truth), set(guess)) for truth, guess in zip(gold, pred, strict=True)]
    samples = [
        prf(len(truth & guess), len(guess), len(truth)) if truth or guess else prf(1, 1, 1)
        for truth, guess in pairs
    ]
    seen = sorted(set().union(*(truth | guess for truth, guess in pairs)))
    counts = {
        code: (
            sum(code in truth and code in guess for truth, guess in pairs),
            sum(code in guess for _, guess in pairs),
            sum(code in truth for truth, _ in pairs),
        )
        for code in seen
    }
    micro = prf(*(sum(column) for column in zip((0, 0, 0), *counts.values(), strict=True)))
    mean = {
        name: sum(row[name] for row in samples) / (len(samples) or 1)
        for name in ("precision", "recall", "f1")
    }
    per_au = {code: prf(*row) | {"support": row[2]} for code, row in counts.items()}
    return {"n": len(pairs), **mean, "micro": micro, "per_au": per_au}
