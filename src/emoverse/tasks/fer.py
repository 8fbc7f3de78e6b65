"""FER, facial expression captions: the action units of the peak frame as phrases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from emoverse.tasks import _overlap, action_units
from emoverse.tasks._metrics import check_lengths, prf

IDENTIFIER = "<caption>"
QUESTION = "Detail the facial expressions used in the image."


def query() -> str:
    """The authors' FER query; it carries no identifier."""
    return QUESTION


def answer(phrases: Iterable[str]) -> str:
    """The gold response: `Eyes narrowing; Slightly puzzled`."""
    return "; ".join(phrases)


def phrases() -> dict[str, str]:
    """Every phrase a caption may consist of, in the paper's and in MERR's style, to its AU code."""
    words = [word for word, _ in action_units.INTENSITY_WORDS]
    return {
        phrase: unit.code
        for unit in action_units.ACTION_UNITS
        for phrase in (
            unit.phrase,
            *unit.synonyms,
            unit.name,
            *(f"{word} {unit.name}" for word in words),
        )
    }


def parse(text: str) -> tuple[str, ...]:
    """The AU codes a caption names ("AU06"), once each, in order; () when it names none.

    Codes, FACS names, the paper's phrases and MERR's are all understood.
    """
    return action_units.codes_in(text)


def sample_scores(
    gold: Sequence[Iterable[str]],
    pred: Sequence[Iterable[str]],
    captions: Sequence[tuple[str, str]] | None = None,
) -> list[dict[str, float]]:
    """Precision, recall and F1 of every sample's AU set, and its caption's overlap when given.

    Raises:
        EmoVerseError: the lengths differ.
    """
    check_lengths(gold, pred)
    rows = []
    for truth, guess in zip(map(set, gold), map(set, pred), strict=True):
        row = prf(len(truth & guess), len(guess), len(truth)) if truth or guess else prf(1, 1, 1)
        rows.append(row)
    if captions is not None:
        check_lengths(rows, captions)
        for row, (written, said) in zip(rows, captions, strict=True):
            a, b = _overlap.words(written), _overlap.words(said)
            row |= {"caption_f1": _overlap.bag_f1(a, b), "caption_rouge_l": _overlap.rouge_l(a, b)}
    return rows


def score(
    gold: Sequence[Iterable[str]],
    pred: Sequence[Iterable[str]],
    captions: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """How well the named AU sets agree, in percent.

    Args:
        gold: AU codes per sample.
        pred: AU codes per sample, same length.
        captions: (gold caption, answer) per sample, for the overlap of their words.

    Returns:
        n; precision, recall, f1 as means over samples (two empty sets agree fully); micro, the
        same over pooled AUs; per_au, for every AU seen, with its support; unparseable, the answers
        that name no AU where gold has one; with captions also caption_f1 (bags of words) and
        caption_rouge_l (Lin 2004).

    Raises:
        EmoVerseError: the lengths differ.
    """
    samples = sample_scores(gold, pred, captions)
    pairs = [(set(truth), set(guess)) for truth, guess in zip(gold, pred, strict=True)]
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
    names = ["precision", "recall", "f1"]
    if captions is not None:
        names += ["caption_f1", "caption_rouge_l"]
    mean = {name: sum(row[name] for row in samples) / (len(samples) or 1) for name in names}
    per_au = {code: prf(*row) | {"support": row[2]} for code, row in counts.items()}
    return {
        "n": len(pairs),
        **mean,
        "micro": micro,
        "per_au": per_au,
        "unparseable": sum(bool(truth) and not guess for truth, guess in pairs),
    }
