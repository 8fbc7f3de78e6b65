"""How far two pieces of prose use the same words, in percent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from emoverse.tasks import labels
from emoverse.tasks._metrics import prf

# Words that carry no clue of their own: function words, and what every description says.
_EMPTY_WORDS = (
    "a about after all also an and any are as at be because been being but by can could did do "
    "does during for from given had has have he her hers him his how i if in into is it its may "
    "might more most my no nor not of on or our out over own s she should so some such t than "
    "that the their them then there these they this those through to too up us very was we were "
    "what when where which while who whom why will with would you your "
    "person people man woman speaker video frame scene text subtitle audio seem seems appear "
    "appears indicate indicates indicating suggest suggests suggesting show shows showing emotion "
    "emotions emotional feel feels feeling state likely possibly overall"
)
_EMPTY = frozenset(_EMPTY_WORDS.split())


def words(prose: str) -> list[str]:
    """Lower-case runs of letters and digits, in order."""
    return re.findall(r"[a-z0-9]+", prose.lower())


def clues(prose: str) -> list[str]:
    """The words that may be evidence: no function words, no stock phrases, no emotion words."""
    return [w for w in words(prose) if w not in _EMPTY and w not in labels.EMOTION_WORDS]


def bag_f1(gold: Sequence[str], pred: Sequence[str]) -> float:
    """F1 of two bags of words in percent; two empty bags agree fully."""
    if not gold and not pred:
        return 100.0
    return prf((Counter(gold) & Counter(pred)).total(), len(pred), len(gold))["f1"]


def rouge_l(gold: Sequence[str], pred: Sequence[str]) -> float:
    """F1 of the longest common subsequence in percent (Lin 2004)."""
    return prf(_common_subsequence(gold, pred), len(pred), len(gold))["f1"]


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for column, other in enumerate(b, 1):
            best = diagonal + 1 if word == other else max(row[column], row[column - 1])
            diagonal, row[column] = row[column], best
    return row[-1]
