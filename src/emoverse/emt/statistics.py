"""What a built dataset holds, beside the paper's Table I."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emoverse.emt.record import Record, Splits
from emoverse.tasks import TASKS, ecpe, er, labels, msa

# Table I of the paper. An entry is an utterance (with an MSA and an ER query) or an ECPE target:
# 25,859 + 7,081 = 32,940.
PAPER: Mapping[str, int] = {"msa": 25859, "er": 25859, "fer": 15870, "eri": 4839, "ecpe": 7081}
PAPER_ENTRIES = 32940


def statistics(splits: Splits) -> dict[str, Any]:
    """Count everything.

    Args:
        splits: records by split.

    Returns:
        `records` and `entries` (ours, all splits), `paper` (Table I), `tasks`: per task its
        `records`, `splits`, `sources` (source to split to count), `labels` (split to label to
        count), `media` (records with a picture or clip), `lengths` in words of `text`, `query`
        and `response` (n, min, median, mean, p95, max); `samples` (source to split to distinct
        samples), `hours` (source to hours of speech, where the corpus states times), `words`
        (words of an MSA or ER utterance to how many have them) and `causes` (how many
        utterances before its target a cause lies, to count; below 0 it comes later).
    """
    records = [record for part in splits.values() for record in part]
    found = {
        task: _task([record for record in records if record.task == task], splits)
        for task in TASKS
        if any(record.task == task for record in records)
    }
    return {
        "records": len(records),
        "entries": sum(
            len({entry(record) for record in part if record.source != "paired"})
            for part in splits.values()
        ),
        "paper": {"entries": PAPER_ENTRIES, "tasks": dict(PAPER)},
        "tasks": found,
        "samples": _samples(splits),
        "hours": _hours(records),
        "words": dict(sorted(_words(records).items())),
        "causes": dict(sorted(_distances(records).items())),
    }


def entry(record: Record) -> str:
    """The entry of Table I a record belongs to: its sample, or for ECPE its target."""
    return record.id if record.task == "ecpe" else str(record.meta.get("sample", record.id))


def label_words(record: Record) -> tuple[str, ...]:
    """The labels a record counts under.

    MSA: its sentiment; ER and ERI: its emotion; ECPE: the target's emotion; FER: its AU codes.
    Labels are read from the answer where the record has none, as in the authors' files.
    """
    if record.task == "fer":
        return tuple(map(str, record.label)) if isinstance(record.label, list) else ()
    if record.task == "msa":
        word = msa.parse(record.response)
    elif record.task == "er":
        word = record.label or er.parse(record.response)
    elif record.task == "ecpe":
        turns, target = ecpe.parse_query(record.query)
        word = next(turn.emotion for turn in turns if turn.index == target)
    else:
        word = record.label or labels.stated(record.response, labels.EMOTION_WORDS)
    return (str(word),) if word else ()


def spread(values: Iterable[float]) -> dict[str, float]:
    """n, min, median, mean, p95 and max of some numbers; n alone when there are none."""
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        return {"n": 0}
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return {
        "n": n,
        "min": ordered[0],
        "median": middle,
        "mean": round(sum(ordered) / n, 2),
        "p95": ordered[min(n - 1, round(0.95 * (n - 1)))],
        "max": ordered[-1],
    }


def _task(records: Sequence[Record], splits: Splits) -> dict[str, Any]:
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    told: dict[str, Counter[str]] = defaultdict(Counter)
    of = {id(record): split for split, part in splits.items() for record in part}
    for record in records:
        split = of[id(record)]
        sources[record.source or "unnamed"][split] += 1
        told[split].update(label_words(record))
    fields = {
        "text": [record.text for record in records if record.text],
        "query": [record.query for record in records],
        "response": [record.response for record in records],
    }
    return {
        "records": len(records),
        "splits": dict(Counter(of[id(record)] for record in records)),
        "sources": {source: dict(counts) for source, counts in sorted(sources.items())},
        "labels": {split: dict(counts.most_common()) for split, counts in told.items()},
        "media": sum(bool(record.media) for record in records),
        "lengths": {
            name: spread(len(text.split()) for text in texts) for name, texts in fields.items()
        },
    }


def _samples(splits: Splits) -> dict[str, dict[str, int]]:
    names: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for split, part in splits.items():
        for record in part:
            names[record.source or "unnamed"][split].add(str(record.meta.get("sample", record.id)))
    return {
        source: {split: len(ids) for split, ids in found.items()}
        for source, found in sorted(names.items())
    }


def _hours(records: Iterable[Record]) -> dict[str, float]:
    seconds: dict[str, dict[str, float]] = defaultdict(dict)
    for record in records:
        if isinstance(stated := record.meta.get("seconds"), int | float):
            seconds[record.source][f"{record.split}/{entry(record)}"] = float(stated)
    return {source: round(sum(own.values()) / 3600, 2) for source, own in sorted(seconds.items())}


def _words(records: Iterable[Record]) -> Counter[int]:
    said = {
        (record.split, entry(record)): len(record.text.split())
        for record in records
        if record.text and record.task in ("msa", "er") and record.source != "paired"
    }
    return Counter(said.values())


def _distances(records: Iterable[Record]) -> Counter[int]:
    return Counter(
        effect - cause
        for record in records
        if record.task == "ecpe" and record.label
        for effect, _, cause in record.label
    )
