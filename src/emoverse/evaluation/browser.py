"""The error browser: wrong answers beside what was said, seen and right."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

from PIL import Image

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.reliability import polarity, right
from emoverse.evaluation.scored import Scored
from emoverse.faces import video
from emoverse.tasks import ecpe, eri, fer

ERRORS = 200
PICTURES = 60
_BEFORE = 6  # utterances of a conversation told before the target
SIDE = 160  # pixels of a thumbnail's longer side
_QUALITY = 68


def errors(scored: Scored, media_root: Path | None) -> tuple[list[dict[str, Any]], int]:
    """What the browser shows, and how many answers there are to choose from.

    msa, er, ecpe: the first `ERRORS` wrong answers in file order. fer, eri, which are right by
    degrees: the `ERRORS` with the lowest overlap, lowest first.

    Args:
        scored: gold and predictions.
        media_root: where relative media paths start; None is the working folder.

    Returns:
        Rows (id, gold, kind, pred, fault, answer, text, before, speaker, sure in percent,
        picture as a data URI), and the count of wrong answers (fer, eri: of all).
    """
    places, total = _places(scored)
    rows = [
        _row(
            scored.task,
            scored.records[place],
            scored.answers[place],
            scored.gold[place],
            scored.pred[place],
        )
        for place in places
    ]
    seen = [scored.records[place] for place in places[:PICTURES]]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        pictures = pool.map(lambda record: picture(record, media_root), seen)
        for row, found in zip_longest(rows, pictures):
            row["picture"] = found
    return rows, total


def speaker(record: Record) -> str | None:
    """Who speaks: `meta.speaker`, or the target utterance's speaker of an ECPE query."""
    if record.task == "ecpe":
        return _target(record).speaker
    name = record.meta.get("speaker")
    return str(name) if name else None


def picture(record: Record, media_root: Path | None) -> str | None:
    """A small JPEG of the record's picture, or of the middle of its clip, as a data URI.

    Returns:
        None when there are no media, or none that can be read.
    """
    for name in record.media:
        try:
            return thumbnail((media_root or Path()) / name)
        except EmoVerseError:
            continue
    return None


def thumbnail(path: Path, side: int = SIDE) -> str:
    """A small JPEG of a picture or of the middle of a clip, as a data URI.

    Raises:
        EmoVerseError: the file cannot be read.
    """
    middle = video.probe(path).duration / 2
    found = video.lazy_frames(path, max_side=side, start=middle, threads=1)
    try:
        frame = next(found, None)
    except EmoVerseError:  # nothing decodes from there on; its beginning does
        frame = None
    frame = frame or next(iter(video.lazy_frames(path, max_side=side, threads=1)))
    sink = io.BytesIO()
    Image.fromarray(frame.image()).save(sink, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def _places(scored: Scored) -> tuple[list[int], int]:
    if scored.task in ("fer", "eri"):
        overlap = _overlaps(scored)
        return sorted(range(len(overlap)), key=lambda at: overlap[at])[:ERRORS], len(overlap)
    rows = zip(scored.gold, scored.pred, strict=True)
    wrong = [at for at, (gold, pred) in enumerate(rows) if not right(scored.task, gold, pred)]
    return wrong[:ERRORS], len(wrong)


def _overlaps(scored: Scored) -> Sequence[float]:
    if scored.task == "fer":
        return [row["f1"] for row in fer.sample_scores(scored.gold, scored.pred)]
    return [row["token_f1"] for row in eri.sample_scores(scored.gold, scored.pred)]


def _row(task: str, record: Record, answer: Answer, gold: Any, pred: Any) -> dict[str, Any]:
    return {
        "id": record.id,
        "gold": _shown(task, gold),
        "kind": _kind(task, record, gold),
        "pred": _shown(task, pred) if pred is not None else "unparseable",
        "fault": _fault(task, gold, pred),
        "answer": answer.text,
        "text": _said(task, record),
        "before": _before(record) if task == "ecpe" else [],
        "speaker": speaker(record) or "",
        "sure": _sure(task, answer, pred),
    }


def _kind(task: str, record: Record, gold: Any) -> str:
    """What the gold filter offers: a label, for ecpe the target's emotion."""
    if task == "ecpe":
        return _target(record).emotion
    if task == "msa":
        return polarity(gold) or "zero"
    return str(gold) if task == "er" else ""


def _fault(task: str, gold: Any, pred: Any) -> str:
    """What the answer filter offers: the label given, for ecpe what is wrong with the causes."""
    if pred is None:
        return "unparseable"
    if task != "ecpe":
        return str(pred) if task in ("msa", "er") else ""
    said, truth = set(pred), set(gold)
    if not said:
        return "no cause named"
    if said > truth:
        return "causes too many"
    return "causes missing" if said < truth else "other causes"


def _sure(task: str, answer: Answer, pred: Any) -> float | None:
    """How sure the model was of its answer in percent; for ecpe of its least sure cause."""
    shares: Mapping[str, float] = answer.probabilities
    if pred is None or task in ("fer", "eri"):
        return None
    keys = [str(pair.cause_index) for pair in pred] if task == "ecpe" else [pred]
    found = [shares[key] for key in keys if key in shares]
    return round(100 * min(found), 1) if found else None


def _shown(task: str, label: Any) -> str:
    if task == "ecpe":
        return ecpe.answer(label).replace(";", "; ") or "no cause"
    if task == "fer":
        return ", ".join(label) or "no action unit"
    if isinstance(label, float):
        sign = polarity(label)
        return f"{sign} ({label:+.2g})" if sign else "zero"
    return str(label)


def _said(task: str, record: Record) -> str:
    if record.text or task == "fer":  # a caption is of a picture, and its query is always the same
        return record.text or ""
    if task != "ecpe":
        return record.query
    turn = _target(record)
    return f"{turn.index}_{turn.emotion}. {turn.speaker}: {turn.text}"


def _before(record: Record) -> list[str]:
    """The conversation up to the target, its last lines."""
    turns, target = ecpe.parse_query(record.query)
    earlier = [turn for turn in turns if turn.index < target][-_BEFORE:]
    return [f"{turn.index}_{turn.emotion}. {turn.speaker}: {turn.text}" for turn in earlier]


def _target(record: Record) -> ecpe.Turn:
    turns, target = ecpe.parse_query(record.query)
    return next(turn for turn in turns if turn.index == target)
