"""ERI, emotion reason inference: prose that names the emotional state and its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from emoverse.tasks import labels
from emoverse.tasks._metrics import check_lengths, prf

IDENTIFIER = "<reason>"
QUESTION = "What is the emotional state of the person in the video? Please tell me the reason."


def query(text: str | None = None, caption: str | None = None) -> str:
    """The authors' ERI query; transcript and expression caption go in front when known."""
    if text is None and caption is None:
        return QUESTION
    says = f"The person says: '{text}' " if text is not None else ""
    face = f"Facial expression: {caption.rstrip(' .')}. " if caption else ""
    return f"{says}{IDENTIFIER} {face}{QUESTION}"


def answer(prose: str) -> str:
    """The gold response: the prose on one line."""
    return " ".join(prose.split())


def parse(prose: str) -> str | None:
    """The prose on one line; None when it holds no word."""
    return answer(prose) if re.search(r"\w", prose) else None


def emotions(prose: str) -> tuple[str, ...]:
    """The canonical emotions the prose affirms, in order of first mention."""
    return labels.mentioned(prose, labels.EMOTION_WORDS)


def score(gold: Sequence[str], pred: Sequence[str | None]) -> dict[str, Any]:
    """Mean agreement of reasons in percent.

    Returns:
        n; rouge_l, F1 of the longest common word subsequence (Lin 2004); token_f1, F1 of the bags
        of words; label_overlap, Jaccard index of the emotions mentioned, over the n_label samples
        whose gold mentions one; unparseable.

    Raises:
        EmoVerseError: the lengths differ.
    """
    check_lengths(gold, pred)
    rouge, bags, overlap = [], [], []
    for truth, guess in zip(gold, pred, strict=True):
        a, b = _words(truth), _words(guess or "")
        rouge.append(prf(_common_subsequence(a, b), len(b), len(a))["f1"])
        bags.append(prf((Counter(a) & Counter(b)).total(), len(b), len(a))["f1"])
        if named := set(emotions(truth)):
            guessed = set(emotions(guess or ""))
            overlap.append(100 * len(named & guessed) / len(named | guessed))
    return {
        "n": len(gold),
        "rouge_l": _mean(rouge),
        "token_f1": _mean(bags),
        "label_overlap": _mean(overlap),
        "n_label": len(overlap),
        "unparseable": sum(guess is None for guess in pred),
    }


def _words(prose: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", prose.lower())


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for column, other in enumerate(b, 1):
            best = diagonal + 1 if word == other else max(row[column], row[column - 1])
            diagonal, row[column] = row[column], best
    return row[-1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / (len(values) or 1)
