"""The SemEval-2024 Task 3, subtask 2 format and its official scorer.

The rules are those of the organisers' public script (NUSTM/SemEval-2024_ECAC, CodaLab/evaluation):
pairs are matched by conversation, emotion utterance, emotion and cause utterance; a pair given
twice counts once; pairs of the emotion `neutral` count nowhere; predicted conversations that gold
does not have are not looked at; a gold conversation without a prediction stops the scoring. The
script adds 1e-8 to every denominator, which is left out here (it moves no printed digit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.files import read_json
from emoverse.tasks import labels
from emoverse.tasks.ecpe import Pair, Turn

_MAIN = "emotion-cause_pairs"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with its pairs, each once; `turns` is empty where a file leaves them out."""

    id: str
    turns: tuple[Turn, ...]
    pairs: tuple[Pair, ...]

    def causes(self, target: int) -> tuple[Pair, ...]:
        """The pairs of one emotion utterance."""
        return tuple(pair for pair in self.pairs if pair.emotion_index == target)

    @property
    def targets(self) -> tuple[int, ...]:
        """Indices of the utterances that are not neutral."""
        return tuple(turn.index for turn in self.turns if turn.emotion != "neutral")


def is_semeval(rows: Any) -> bool:
    """Whether JSON looks like a SemEval file: a list of objects with `conversation_ID`."""
    return (
        isinstance(rows, list)
        and bool(rows)
        and isinstance(rows[0], Mapping)
        and "conversation_ID" in rows[0]
    )


def load_semeval(path: Path | str) -> list[Conversation]:
    """Read a SemEval subtask 2 file, gold or predicted.

    Raises:
        EmoVerseError: the file is no such file, a conversation comes twice, or a pair is not
            `["3_surprise", "1"]`; the sentence names file and conversation.
    """
    rows = read_json(path)
    if not is_semeval(rows):
        raise EmoVerseError(
            f"{path}: not a SemEval file; it must be a JSON list of objects with `conversation_ID`."
        )
    found: dict[str, Conversation] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or "conversation_ID" not in row:
            raise EmoVerseError(f"{path}, conversation {number}: `conversation_ID` is missing.")
        name = str(row["conversation_ID"])
        place = f"{path}, conversation {name}"
        if name in found:
            raise EmoVerseError(f"{place}: comes twice; keep one of them.")
        if not isinstance(row.get(_MAIN), list):
            raise EmoVerseError(f"{place}: the list `{_MAIN}` is missing; add it, if empty.")
        pairs = dict.fromkeys(_pair(pair, place) for pair in row[_MAIN])
        turns = row.get("conversation") or []
        found[name] = Conversation(
            name,
            tuple(_turn(turn, position, place) for position, turn in enumerate(turns, 1)),
            tuple(pairs),
        )
    return list(found.values())


def score_semeval(gold: Sequence[Conversation], pred: Sequence[Conversation]) -> dict[str, Any]:
    """Score as the official script does.

    Args:
        gold: every conversation to score.
        pred: must hold all of them; others are ignored and counted in `extra_conversations`.

    Returns:
        protocol, n (gold conversations), precision, recall, f1 (micro), weighted_precision,
        weighted_recall, weighted_f1 (the competition's main figure), per_emotion (precision,
        recall, f1, support), extra_conversations, unparseable (always 0); figures in percent.

    Raises:
        EmoVerseError: a gold conversation has no prediction.
    """
    answers = {conversation.id: set(conversation.pairs) for conversation in pred}
    missing = [conversation.id for conversation in gold if conversation.id not in answers]
    if missing:
        raise EmoVerseError(
            f"Conversation {missing[0]} has no prediction ({len(missing)} of {len(gold)} are "
            "missing); give each one an entry, with an empty pair list where nothing was found."
        )
    truths = {(item.id, pair) for item in gold for pair in item.pairs}
    guesses = {(item.id, pair) for item in gold for pair in answers[item.id]}
    per_emotion: dict[str, dict[str, float]] = {}
    totals = [0, 0, 0]
    for emotion in labels.ECPE_EMOTIONS:
        mine = {item for item in truths if item[1].emotion == emotion}
        said = {item for item in guesses if item[1].emotion == emotion}
        counts = (len(mine & said), len(said), len(mine))
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        per_emotion[emotion] = _prf(*counts) | {"support": len(mine)}
    support = totals[2] or 1
    weighted = {
        f"weighted_{name}": sum(
            row[name] * row["support"] / support for row in per_emotion.values()
        )
        for name in ("precision", "recall", "f1")
    }
    return {
        "protocol": "semeval",
        "n": len(gold),
        **_prf(*totals),
        **weighted,
        "per_emotion": per_emotion,
        "extra_conversations": len(answers) - len(gold),
        "unparseable": 0,
    }


def _prf(hits: int, predicted: int, gold: int) -> dict[str, float]:
    return {
        "precision": 100 * hits / predicted if predicted else 0.0,
        "recall": 100 * hits / gold if gold else 0.0,
        "f1": 200 * hits / (predicted + gold) if predicted + gold else 0.0,
    }


def _pair(value: Any, place: str) -> Pair:
    try:
        target, cause = value
        index, _, word = str(target).partition("_")
        # Subtask 1 writes the cause as `1_its words`; the words are not scored here.
        pair = Pair(int(index), word, int(str(cause).partition("_")[0]))
    except (TypeError, ValueError):
        raise EmoVerseError(
            f'{place}: the pair {value!r} is malformed; write it as ["3_surprise", "1"].'
        ) from None
    if word not in labels.EMOTIONS:
        raise EmoVerseError(
            f"{place}: the emotion {word!r} is unknown; use one of {', '.join(labels.EMOTIONS)}."
        )
    return pair


def _turn(value: Any, position: int, place: str) -> Turn:
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise EmoVerseError(f"{place}, utterance {position}: a text field `text` is missing.")
    return Turn(
        int(value.get("utterance_ID", position)),
        str(value.get("speaker", "")),
        value["text"],
        labels.emotion(str(value.get("emotion", "neutral"))) or "neutral",
    )
