"""Answers to figures: the gold of a record, the label of an answer, one block of scores a task."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.intervals import LEVEL, RESAMPLES, SEED, intervals
from emoverse.evaluation.semeval import Conversation, is_semeval, load_semeval, score_semeval
from emoverse.files import read_json, read_text
from emoverse.tasks import ecpe, er, eri, fer, labels, msa

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "msa": ("acc2_np", "acc2_nn", "f1_np", "f1_nn"),
    "er": ("weighted_f1", "accuracy", "macro_f1"),
    "ecpe": ("weighted_f1", "f1", "precision", "recall"),
    "fer": ("f1", "precision", "recall"),
    "eri": ("rouge_l", "token_f1", "label_overlap"),
}
PROTOCOLS = ("paper", "strict", "semeval")
BOOTSTRAP = {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED}


@dataclass(frozen=True, slots=True)
class Scored:
    """The items a protocol scores, gold and prediction side by side.

    Attributes:
        records: the scored records; gold, pred: what the task's scorer takes.
        units: what the bootstrap resamples (conversations), None for the records.
    """

    task: str
    protocol: str
    records: tuple[Record, ...]
    texts: tuple[str, ...]
    gold: tuple[Any, ...]
    pred: tuple[Any, ...]
    units: tuple[str, ...] | None

    def score(self, pred: Sequence[Any] | None = None) -> dict[str, Any]:
        """The task scorer's figures, of other predictions when given (a floor's)."""
        guesses = self.pred if pred is None else pred
        if self.task == "ecpe":
            return ecpe.score(self.gold, guesses, self.protocol)
        scorers: Mapping[str, Callable[..., dict[str, Any]]] = {
            "msa": msa.score,
            "er": er.score,
            "fer": fer.score,
            "eri": eri.score,
        }
        return scorers[self.task](self.gold, guesses)

    def headline(self, figures: Mapping[str, Any]) -> dict[str, float | None]:
        """The figures that stand in a table, in percent; None where one is undefined."""
        return {name: figures[name] for name in HEADLINES[self.task] if name in figures}


def score_files(task: str, gold: Path | str, pred: Path | str, protocol: str) -> dict[str, Any]:
    """Score a file of answers against a file of records (or SemEval conversations).

    Args:
        task: `msa`, `er` or `ecpe` (`fer` and `eri` work too).
        gold: our records, the authors' JSON, or SemEval JSON for `ecpe` under `semeval`.
        pred: the same formats with the answer in `response`, or `predictions.jsonl` with `text`.
            Rows are matched by `id` where all have one, else by position.
        protocol: `paper`, `strict` or `semeval`.

    Returns:
        task, protocol, n, headline, intervals, unparseable, floors and the task's full `scores`.

    Raises:
        EmoVerseError: a file is unreadable, an answer is missing, or the protocol does not fit.
    """
    check_protocol(protocol, task)
    if protocol == "semeval":
        return _semeval_block(load_semeval(gold), load_semeval(pred))
    for path in (gold, pred):
        if _looks_semeval(path):
            raise EmoVerseError(f"{path} is a SemEval file; score it with `--protocol semeval`.")
    everything = unique_ids(load_records(gold))
    records = [record for record in everything if record.task == task]
    if not records:
        raise EmoVerseError(f"{gold} has no {task} records; check `--task`.")
    return block(prepare(task, records, _answers(pred, everything, records), protocol))


def check_protocol(protocol: str, task: str = "ecpe") -> None:
    """Raise EmoVerseError unless the protocol exists and fits the task."""
    if protocol not in PROTOCOLS:
        raise EmoVerseError(f"Protocol {protocol!r} is unknown; use {', '.join(PROTOCOLS)}.")
    if task not in HEADLINES:
        raise EmoVerseError(f"Task {task!r} is unknown; use {', '.join(HEADLINES)}.")
    if protocol == "semeval" and task != "ecpe":
        raise EmoVerseError(f"Protocol `semeval` is for ecpe; use `paper` or `strict` for {task}.")


def prepare(task: str, records: Sequence[Record], texts: Sequence[str], protocol: str) -> Scored:
    """Gold and predicted labels of one task's records, without the targets `paper` leaves out.

    Raises:
        EmoVerseError: a record has no gold that can be read; names it.
    """
    rows = []
    for record, text in zip(records, texts, strict=True):
        truth = gold_label(record)
        if task == "ecpe" and protocol == "paper" and not truth:
            continue
        rows.append((record, text, truth, read_answer(record, text)))
    kept, said, gold, pred = zip(*rows, strict=True) if rows else ((), (), (), ())
    units = tuple(conversation_key(record) for record in kept) if task == "ecpe" else None
    return Scored(task, protocol, kept, said, gold, pred, units)


def block(scored: Scored, floors: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """One task's part of `scores.json`.

    Args:
        scored: gold and predictions.
        floors: name to headline figures; None computes those that need no training data.
    """
    from emoverse.evaluation.floors import plain_floors  # floors stand on this module

    figures = scored.score()
    return {
        "task": scored.task,
        "protocol": scored.protocol,
        "n": len(scored.records),
        "headline": scored.headline(figures),
        "intervals": intervals(scored.task, scored.gold, scored.pred, scored.units),
        "unparseable": figures.get("unparseable", 0),
        "floors": {name: dict(row) for name, row in (floors or plain_floors(scored)).items()},
        "bootstrap": BOOTSTRAP | {"unit": "conversation" if scored.units else "record"},
        "scores": figures,
    }


def gold_label(record: Record) -> Any:
    """The gold of a record: its `label`, else its response parsed.

    Returns:
        msa: a float in [-3, 3] or a sentiment; er: an emotion; ecpe: pairs; fer: AU codes; eri:
        prose.

    Raises:
        EmoVerseError: neither can be read.
    """
    label, response = record.label, record.response
    found: Any = None
    if record.task == "msa":
        found = _msa_gold(label) if label is not None else msa.parse(response)
    elif record.task == "er":
        found = labels.emotion(str(label)) if label is not None else er.parse(response)
    elif record.task == "ecpe":
        found = _pairs(label) if label is not None else read_answer(record, response)
    elif record.task == "fer":
        found = tuple(map(str, label)) if isinstance(label, list | tuple) else fer.parse(response)
    else:
        found = response or None
    if found is None:
        shown = repr(label if label is not None else response)[:60]
        raise EmoVerseError(
            f"Record {record.id} ({record.task}): its gold answer {shown} cannot be read; mend "
            "`label` or `response`."
        )
    return found


def read_answer(record: Record, text: str) -> Any:
    """The label a model's answer states, None when it states none (fer: then no AU)."""
    if record.task == "ecpe":
        turns, target = ecpe.parse_query(record.query)
        return ecpe.parse(text, next(turn for turn in turns if turn.index == target))
    parsers: Mapping[str, Callable[[str], Any]] = {
        "msa": msa.parse,
        "er": er.parse,
        "fer": fer.parse,
        "eri": eri.parse,
    }
    return parsers[record.task](text)


def conversation_key(record: Record) -> str:
    """A short name of the conversation an ECPE query is about, the same for all its targets."""
    turns, _ = ecpe.parse_query(record.query)
    return turns_key(turns)


def turns_key(turns: Sequence[ecpe.Turn]) -> str:
    """A short name of a conversation by what is said in it, spacing and case aside."""
    said = "\n".join("".join(f"{turn.speaker}:{turn.text}".lower().split()) for turn in turns)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def unique_ids(records: Sequence[Record]) -> list[Record]:
    """The records with ids that occur once: a repeated id gets its task, then a number, added."""
    seen: Counter[str] = Counter(record.id for record in records)
    named = [
        replace(record, id=f"{record.id}/{record.task}") if seen[record.id] > 1 else record
        for record in records
    ]
    again: Counter[str] = Counter()
    result = []
    for record in named:
        again[record.id] += 1
        number = again[record.id]
        result.append(replace(record, id=f"{record.id}/{number}") if number > 1 else record)
    return result


def _answers(path: Path | str, gold: Sequence[Record], wanted: Sequence[Record]) -> list[str]:
    rows = _rows(path)
    texts = [_answer_text(row, f"{path}, answer {n}") for n, row in enumerate(rows, 1)]
    if rows and all("id" in row for row in rows):
        by_id = {str(row["id"]): text for row, text in zip(rows, texts, strict=True)}
        missing = [record.id for record in wanted if record.id not in by_id]
        if missing:
            raise EmoVerseError(
                f"{path}: no answer for record {missing[0]} ({len(missing)} of {len(wanted)} are "
                "missing); answer every record."
            )
        return [by_id[record.id] for record in wanted]
    if len(texts) == len(wanted):
        return texts
    if len(texts) == len(gold):
        places = {record.id: place for place, record in enumerate(gold)}
        return [texts[places[record.id]] for record in wanted]
    raise EmoVerseError(
        f"{path}: {len(texts)} answers for {len(wanted)} records; give one each, in order, or an "
        "`id` with every answer."
    )


def _rows(path: Path | str) -> list[dict[str, Any]]:
    content = read_text(path)
    if content.lstrip().startswith("["):
        rows: list[Any] = read_json(path)
    else:
        rows = []
        for number, line in enumerate(content.split("\n"), 1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise EmoVerseError(
                    f"{path}, line {number}: not valid JSON ({error.msg}); mend or delete it."
                ) from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise EmoVerseError(f"{path}, answer {number}: an answer must be a JSON object.")
    return rows


def _answer_text(row: Mapping[str, Any], place: str) -> str:
    value = row["text"] if "text" in row and "query" not in row else row.get("response")
    if not isinstance(value, str):
        raise EmoVerseError(f"{place}: it needs the answer as text in `response` or `text`.")
    return value


def _looks_semeval(path: Path | str) -> bool:
    if not read_text(path).lstrip().startswith("["):
        return False
    return is_semeval(read_json(path))


def _semeval_block(gold: list[Conversation], pred: list[Conversation]) -> dict[str, Any]:
    figures = score_semeval(gold, pred)
    floors = {}
    for name, pairs_of in (
        ("cause = target", ecpe.self_pairs),
        ("target + previous utterance", ecpe.self_and_previous),
    ):
        if not all(conversation.turns for conversation in gold):
            break
        guesses = [
            replace(c, pairs=tuple(pair for t in c.targets for pair in pairs_of(c.turns, t)))
            for c in gold
        ]
        row = score_semeval(gold, guesses)
        floors[f"{name} (gold emotions)"] = {key: row[key] for key in HEADLINES["ecpe"]}
    said = {conversation.id: conversation.pairs for conversation in pred}
    return {
        "task": "ecpe",
        "protocol": "semeval",
        "n": len(gold),
        "headline": {name: figures[name] for name in HEADLINES["ecpe"]},
        "intervals": intervals(
            "ecpe", [_six(c.pairs) for c in gold], [_six(said[c.id]) for c in gold]
        ),
        "unparseable": 0,
        "floors": floors,
        "bootstrap": BOOTSTRAP | {"unit": "conversation"},
        "scores": figures,
    }


def _six(pairs: Sequence[ecpe.Pair]) -> list[ecpe.Pair]:
    return [pair for pair in pairs if pair.emotion in labels.ECPE_EMOTIONS]


def _msa_gold(label: Any) -> float | str | None:
    if isinstance(label, int | float) and not isinstance(label, bool):
        return float(label)
    try:
        return float(label)
    except (TypeError, ValueError):
        return labels.sentiment(str(label))


def _pairs(label: Any) -> tuple[ecpe.Pair, ...] | None:
    if isinstance(label, str):
        return ecpe.parse(label)
    try:
        rows = [(int(target), labels.emotion(word), int(cause)) for target, word, cause in label]
    except (AttributeError, TypeError, ValueError):
        return None
    pairs = [ecpe.Pair(target, word, cause) for target, word, cause in rows if word]
    return tuple(dict.fromkeys(pairs)) if len(pairs) == len(rows) else None
