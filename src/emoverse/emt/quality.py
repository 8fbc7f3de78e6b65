"""Quality control of a built dataset: what is double, contradictory, unreadable or badly cut.

Nothing is changed here: `check` reports, `without` leaves out what the user names. Only training
records are ever left out, so that held-out sets stay as they were published.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from emoverse.emt.leaks import leaks, talks
from emoverse.emt.media import Medium
from emoverse.emt.record import Record, Splits
from emoverse.errors import EmoVerseError
from emoverse.tasks import ecpe, er, labels, msa

# What is looked for, in the order it is told.
KINDS: Mapping[str, str] = {
    "leak": "training conversations that a held-out split also has",
    "overlap": "training questions that a held-out split also asks",
    "duplicate": "questions asked twice in one split, with the same answer",
    "contradiction": "questions asked twice with different answers",
    "opposed": "utterances whose sentiment and emotion exclude each other",
    "mismatch": "records whose answer does not say their label",
    "unanswerable": "ECPE answers with a cause that is no candidate",
    "unreadable": "pictures and clips that are missing or cannot be read",
    "pace": "clips too short or too long for their words",
}
_LABELLED = ("msa", "er", "ecpe")  # tasks whose answers are labels, not prose
_SHORT = 5  # words; shorter questions without a clip ("Yeah.") recur by chance
# Words a second. Auctioneers reach about 7; below a quarter of a word the clip holds more.
_FASTEST = 7.0
_SLOWEST = 0.25
_LONG = 5.0  # seconds; shorter clips may hold a mere "No."
_PLAIN = re.compile(r"[^\w<>]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a key of `KINDS`.
        records: ids of the records concerned, with their split: `train:meld/...`.
        message: one sentence.
        drop: ids of the training records to leave out, () when there is none to blame.
    """

    kind: str
    records: tuple[str, ...]
    message: str
    drop: tuple[str, ...] = ()


def check(
    splits: Splits,
    seen: Mapping[str, Medium],
    links: Mapping[tuple[str, int], str] | None = None,
) -> list[Finding]:
    """Look for everything in `KINDS`.

    Args:
        splits: records by split (`emoverse.emt.dataset.read`).
        seen: what the pictures and clips are (`emoverse.emt.media.inspect`); those that are not
            in it are told apart by their paths alone.
        links: which MELD utterance an ECF one is (`emoverse.corpora.ecf.meld_links`).

    Returns:
        Findings in the order of `KINDS`.
    """
    records = [record for part in splits.values() for record in part]
    return [
        *_leaks(records, links),
        *_doubles(splits, seen),
        *_opposed(records),
        *(finding for record in records for finding in _wrong_answer(record)),
        *_unreadable(records, seen),
        *_pace(records, seen),
    ]


def summary(findings: Collection[Finding]) -> dict[str, dict[str, int]]:
    """Per kind: how many findings there are, and how many training records they would drop."""
    out = {}
    for kind in KINDS:
        mine = [finding for finding in findings if finding.kind == kind]
        drop = {name for finding in mine for name in finding.drop}
        out[kind] = {"findings": len(mine), "droppable": len(drop)}
    return out


def without(
    splits: Splits, findings: Collection[Finding], kinds: Collection[str]
) -> tuple[dict[str, list[Record]], list[tuple[Record, Finding]]]:
    """The dataset without the training records that findings of these kinds blame.

    Returns:
        The splits that remain, and what was left out, each with the first reason.

    Raises:
        EmoVerseError: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise EmoVerseError(f"{kind!r} cannot be dropped; name one of {', '.join(KINDS)}.")
    reasons: dict[str, Finding] = {}
    for finding in findings:
        if finding.kind in kinds:
            for name in finding.drop:
                reasons.setdefault(name, finding)
    kept = dict(splits)
    train = splits.get("train", [])
    kept["train"] = [record for record in train if record.id not in reasons]
    dropped = [(record, reasons[record.id]) for record in train if record.id in reasons]
    return kept, dropped


def _leaks(records: list[Record], links: Mapping[tuple[str, int], str] | None) -> Iterator[Finding]:
    for leak in leaks(talks(records), links):
        yield Finding(
            "leak",
            tuple(f"train:{name}" for name in leak.talk.records),
            str(leak),
            leak.talk.records,
        )


def _doubles(splits: Splits, seen: Mapping[str, Medium]) -> Iterator[Finding]:
    groups: dict[tuple[str, ...], list[tuple[str, Record]]] = defaultdict(list)
    for split, part in splits.items():
        for record in part:
            if record.media or len((record.text or record.query).split()) >= _SHORT:
                files = (seen[path].content if path in seen else path for path in record.media)
                key = (record.task, _PLAIN.sub(" ", record.query.lower()).strip(), *files)
                groups[key].append((split, record))
    found: dict[str, list[Finding]] = {"overlap": [], "duplicate": [], "contradiction": []}
    for group in groups.values():
        if len(group) > 1:
            for finding in _of_group(group):
                found[finding.kind].append(finding)
    yield from (finding for part in found.values() for finding in part)


def _of_group(group: list[tuple[str, Record]]) -> Iterator[Finding]:
    task = group[0][1].task
    what = f"{task.upper()} question {_start(group[0][1])}"
    parts: dict[str, list[Record]] = defaultdict(list)
    for split, record in group:
        parts[split].append(record)
    train = tuple(record.id for record in parts.get("train", ()))
    if train and len(parts) > 1:
        others = " and ".join(split for split in parts if split != "train")
        yield Finding("overlap", _names(group), f"{what} is in train and in {others}", train)
    for split, members in parts.items():
        answers: dict[str, list[Record]] = defaultdict(list)
        for record in members:
            answers[record.response].append(record)
        for same in answers.values():
            if len(same) > 1:
                more = tuple(record.id for record in same[1:])
                yield Finding(
                    "duplicate",
                    _names([(split, record) for record in same]),
                    f"{what} is asked {len(same)} times in {split}",
                    more if split == "train" else (),
                )
    said = sorted({record.response for _, record in group})
    if task in _LABELLED and len(said) > 1:
        words = " and ".join(repr(answer) for answer in said)
        yield Finding("contradiction", _names(group), f"{what} is answered {words}", train)


def _opposed(records: list[Record]) -> Iterator[Finding]:
    samples: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record.task in ("msa", "er") and "sample" in record.meta and record.source != "paired":
            samples[record.split, str(record.meta["sample"])][record.task] = record
    for pair in samples.values():
        if len(pair) < 2 or not isinstance(pair["er"].label, str):
            continue
        sentiment = _sentiment(pair["msa"])
        implied = labels.polarity_of_emotion(pair["er"].label)
        if implied and sentiment and implied != sentiment:
            both = [(record.split, record) for record in (pair["msa"], pair["er"])]
            yield Finding(
                "opposed",
                _names(both),
                f"{pair['er'].meta['sample']} is {sentiment} and shows {pair['er'].label}",
                tuple(record.id for split, record in both if split == "train"),
            )


def _wrong_answer(record: Record) -> Iterator[Finding]:
    if record.label is None or record.task not in _LABELLED:
        return
    if record.task == "ecpe":
        _, target = ecpe.parse_query(record.query)
        pairs = {tuple(pair) for pair in record.label}
        told = ecpe.parse(record.response) or ()
        right = {(p.emotion_index, p.emotion, p.cause_index) for p in told} == pairs
        late = sorted(cause for _, _, cause in pairs if cause > target)
        if late:
            causes = ", ".join(map(str, late))
            yield _own(record, "unanswerable", f"asks for causes up to {target}, answers {causes}")
    elif record.task == "er":
        right = er.parse(record.response) == record.label
    else:
        # A score of 0 counts as non-negative in Acc2 N/N; it has no word of its own.
        right = msa.parse(record.response) == (_sentiment(record) or "positive")
    if not right:
        yield _own(record, "mismatch", f"answers {record.response!r}, its label is {record.label}")


def _unreadable(records: list[Record], seen: Mapping[str, Medium]) -> Iterator[Finding]:
    users: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for path in record.media:
            if path in seen and seen[path].problem:
                users[path].append(record)
    for path, mine in users.items():
        yield Finding(
            "unreadable",
            _names([(record.split, record) for record in mine]),
            f"{path}: {seen[path].problem}",
            tuple(record.id for record in mine if record.split == "train"),
        )


def _pace(records: list[Record], seen: Mapping[str, Medium]) -> Iterator[Finding]:
    samples: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.text and record.task in ("msa", "er", "eri") and record.source != "paired":
            name = str(record.meta.get("sample", record.id))
            samples[record.split, name].append(record)
    for mine in samples.values():
        seconds = _seconds(mine[0], seen)
        count = len((mine[0].text or "").split())
        if seconds is None:
            continue
        slow = seconds > _LONG and count < _SLOWEST * seconds
        fast = count >= _SHORT and count > _FASTEST * seconds
        if slow or fast:
            yield Finding(
                "pace",
                _names([(record.split, record) for record in mine]),
                f"{mine[0].meta.get('sample', mine[0].id)}: {count} words in {seconds:.2f} s",
                tuple(record.id for record in mine if record.split == "train"),
            )


def _seconds(record: Record, seen: Mapping[str, Medium]) -> float | None:
    """Length of the record's clip; of the corpus's own cut when there is no clip."""
    if len(record.videos) == 1 and record.videos[0] in seen:
        return seen[record.videos[0]].seconds
    stated = record.meta.get("seconds")
    return float(stated) if isinstance(stated, int | float) else None


def _sentiment(record: Record) -> str | None:
    if isinstance(record.label, int | float):
        return labels.sentiment_of_score(record.label)
    return record.label if record.label in labels.SENTIMENTS else None


def _own(record: Record, kind: str, what: str) -> Finding:
    drop = (record.id,) if record.split == "train" else ()
    return Finding(kind, (f"{record.split}:{record.id}",), f"{record.id} {what}", drop)


def _names(group: list[tuple[str, Record]]) -> tuple[str, ...]:
    return tuple(f"{split}:{record.id}" for split, record in group)


def _start(record: Record) -> str:
    text = record.text or record.query
    return repr(text if len(text) <= 48 else f"{text[:47]}…")
