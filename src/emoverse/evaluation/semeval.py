"""The SemEval-2024 Task 3, subtask 2 format and its official scorer.

The rules are those of the organisers' public script (NUSTM/SemEval-2024_ECAC, CodaLab/evaluation):
pairs are matched by conversation, emotion utterance, emotion and cause utterance; a pair given
twice counts once; pairs of the emotion `neutral` count nowhere; predicted conversations that gold
does not have are not looked at; a gold conversation without a prediction stops the scoring. The
script's 1e-8 in every denominator is kept, so figures agree to the last digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.evaluation.intervals import BOOTSTRAP, intervals
from emoverse.files import parsed_json, read_text
from emoverse.tasks import ecpe, labels
from emoverse.tasks.ecpe import Pair, Turn

_MAIN = "emotion-cause_pairs"
_EPSILON = 1e-8  # the official script's


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


def is_semeval_file(path: Path | str) -> bool:
    """Whether a file of records or answers is a SemEval file instead.

    Raises:
        EmoVerseError: the file is unreadable, or it is a list and no valid JSON.
    """
    return is_semeval(_list(path))


def load_semeval(path: Path | str, only: Collection[str] | None = None) -> list[Conversation]:
    """Read a SemEval subtask 2 file, gold or predicted.

    Args:
        path: the JSON file.
        only: of a submission: the ids of the gold conversations. What the other conversations
            hold is not looked at, nor what is said in any.

    Raises:
        EmoVerseError: the file is no such file, a conversation comes twice, or a pair is not
            `["3_surprise", "1"]`; the sentence names file and conversation.
    """
    rows = _list(path)
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
        if only is not None and name not in only:
            found[name] = Conversation(name, (), ())
            continue
        if not isinstance(row.get(_MAIN), list):
            raise EmoVerseError(f"{place}: the list `{_MAIN}` is missing; add it, if empty.")
        pairs = dict.fromkeys(_pair(pair, place) for pair in row[_MAIN])
        turns = row.get("conversation") or [] if only is None else []
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
    hits: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for item in gold:
        truth, said = set(item.pairs), answers[item.id]
        hits.update(pair.emotion for pair in truth & said)
        predicted.update(pair.emotion for pair in said)
        support.update(pair.emotion for pair in truth)
    per_emotion: dict[str, dict[str, float]] = {
        emotion: _prf(hits[emotion], predicted[emotion], support[emotion])
        | {"support": support[emotion]}
        for emotion in labels.ECPE_EMOTIONS
    }
    six = [(hits[e], predicted[e], support[e]) for e in labels.ECPE_EMOTIONS]
    totals = [sum(column) for column in zip(*six, strict=True)]
    weighted = {
        f"weighted_{name}": sum(
            row[name] * row["support"] / (totals[2] or 1) for row in per_emotion.values()
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


def pairs_of(
    gold: Sequence[Conversation], pred: Sequence[Conversation]
) -> tuple[list[list[Pair]], list[list[Pair]]]:
    """Gold and predicted pairs of every gold conversation, as the bootstrap takes them."""
    said = {conversation.id: conversation.pairs for conversation in pred}
    return [_six(c.pairs) for c in gold], [_six(said[c.id]) for c in gold]


def semeval_figures(gold: Sequence[Conversation], pred: Sequence[Conversation]) -> dict[str, Any]:
    """A block of scores as `emoverse.evaluation.score.block` makes them, under `semeval`.

    Its floors are the rules of thumb over the gold emotions, which a submission does not know:
    they bound what knowing the emotions alone would give.

    Raises:
        EmoVerseError: a gold conversation has no prediction.
    """
    names = ("weighted_f1", "f1", "precision", "recall")
    figures = score_semeval(gold, pred)
    floors = {}
    for name, rule in (
        ("cause = target", ecpe.self_pairs),
        ("target + previous utterance", ecpe.self_and_previous),
    ):
        if not all(conversation.turns for conversation in gold):
            break
        guesses = [
            replace(c, pairs=tuple(pair for t in c.targets for pair in rule(c.turns, t)))
            for c in gold
        ]
        row = score_semeval(gold, guesses)
        floors[f"{name} (gold emotions)"] = {key: row[key] for key in names}
    return {
        "task": "ecpe",
        "protocol": "semeval",
        "n": len(gold),
        "headline": {name: figures[name] for name in names},
        "intervals": intervals("ecpe", *pairs_of(gold, pred)),
        "unparseable": 0,
        "floors": floors,
        "bootstrap": BOOTSTRAP | {"unit": "conversation"},
        "scores": figures,
    }


def _list(path: Path | str) -> Any:
    """The JSON of a file that begins as a list; None for any other, JSONL for one."""
    text = read_text(path)
    return parsed_json(text, path) if text.lstrip().startswith("[") else None


def _six(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.emotion in labels.ECPE_EMOTIONS]


def _prf(hits: int, predicted: int, gold: int) -> dict[str, float]:
    precision = hits / (predicted + _EPSILON)
    recall = hits / (gold + _EPSILON)
    f1 = 2 * precision * recall / (precision + recall + _EPSILON)
    return {"precision": 100 * precision, "recall": 100 * recall, "f1": 100 * f1}


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
