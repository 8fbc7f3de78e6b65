"""ERI, emotion reason inference: prose that names the emotional state and its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from emoverse.tasks import _overlap, emotion_wheel, labels
from emoverse.tasks._metrics import check_lengths

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


def sample_scores(gold: Sequence[str], pred: Sequence[str | None]) -> list[dict[str, float]]:
    """The figures of `score`, one dict a sample; the overlaps of emotions only where gold has one.

    Raises:
        EmoVerseError: the lengths differ.
    """
    check_lengths(gold, pred)
    rows = []
    for truth, guess in zip(gold, pred, strict=True):
        said = guess or ""
        row = {
            "rouge_l": _overlap.rouge_l(_overlap.words(truth), _overlap.words(said)),
            "token_f1": _overlap.bag_f1(_overlap.words(truth), _overlap.words(said)),
            "clue_overlap": _overlap.bag_f1(_overlap.clues(truth), _overlap.clues(said)),
        }
        if named := set(emotions(truth)):
            guessed = set(emotions(said))
            row["label_overlap"] = 100 * len(named & guessed) / len(named | guessed)
        if petals := emotion_wheel.petals_in(truth):
            found = emotion_wheel.petals_in(said)
            row["wheel_overlap"] = 100 * len(petals & found) / len(petals | found)
        rows.append(row)
    return rows


def score(gold: Sequence[str], pred: Sequence[str | None]) -> dict[str, Any]:
    """Mean agreement of reasons in percent.

    Returns:
        n; rouge_l, F1 of the longest common word subsequence (Lin 2004); token_f1, F1 of the bags
        of words; clue_overlap, the same F1 over content words alone (no function words, no stock
        phrases, no emotion words), a lexical stand-in for EMER's judged clue overlap;
        label_overlap, Jaccard index of the emotions mentioned, over the n_label samples whose
        gold mentions one; wheel_overlap, the same over the petals of the emotion wheel, which
        knows more words; unparseable. A mean over no sample is None.

    Raises:
        EmoVerseError: the lengths differ.
    """
    rows = sample_scores(gold, pred)
    means = {
        name: _mean([row[name] for row in rows if name in row])
        for name in ("rouge_l", "token_f1", "clue_overlap", "label_overlap", "wheel_overlap")
    }
    return {
        "n": len(rows),
        **means,
        "n_label": sum("label_overlap" in row for row in rows),
        "unparseable": sum(guess is None for guess in pred),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
