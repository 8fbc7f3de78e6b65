"""Training conversations that a held-out split also has.

MELD and ECF are both cut from *Friends*: most ECF conversations are MELD dialogues, and the
training part of ECF 2.0 holds nearly all of MELD's test set. A model trained on the one must not
be scored on the other without knowing. Shared conversations are found by what is said and by
whom, and by ECF's own list of MELD clips where it is given.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from emoverse.corpora.tables import natural
from emoverse.emt.record import Record
from emoverse.tasks import ecpe

_WORDS = re.compile(r"[a-z0-9]+")
# MELD writes "it's", ECF "it is" (and drops possessives): the words that differ are not compared.
_LOOSE = re.compile(
    r"'(?:s|m|re|ve|ll|d|em)\b|\b(?:is|am|are|was|has|have|had|will|would|do|does|did|not|us|them|"
    r"ca|can|cannot|wo|a)\b"
)
_VIDEO = re.compile(r"((?:mosei|mosi)/.+)_[^_]+")
_TELLING = 4  # words from which on an utterance is unlikely to recur elsewhere
_SHARE = 0.5  # of the shorter conversation must recur, in order
_ALIKE = 0.75  # of the shorter utterance's words must recur


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation (or one speaker's video) of a split.

    Attributes:
        id: e.g. `meld/train/dia3`, `ecf/train/17`, `mosei/<video>`.
        turns: (speaker in lower case or None, words that are compared) in spoken order.
        records: ids of the records that are asked about it.
    """

    id: str
    source: str
    split: str
    turns: tuple[tuple[str | None, tuple[str, ...]], ...]
    records: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """A training conversation, the held-out one it repeats, and how many turns they share."""

    talk: Talk
    other: str
    shared: int

    def __str__(self) -> str:
        return f"{self.talk.id} shares {self.shared} turns with {self.other}"


def talks(records: Iterable[Record]) -> list[Talk]:
    """The conversations behind records; records that belong to none are left out."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        sample = _VIDEO.fullmatch(str(record.meta.get("sample", "")))
        name = record.meta.get("dialogue") or (sample[1] if sample else None)
        if name and record.source != "paired":
            groups[str(name), record.split].append(record)
    return [
        Talk(
            id=name,
            source=members[0].source,
            split=split,
            turns=tuple((_name(speaker), words(text)) for speaker, text in _turns(members)),
            records=tuple(member.id for member in members),
        )
        for (name, split), members in groups.items()
    ]


def leaks(found: Sequence[Talk], links: Mapping[tuple[str, int], str] | None = None) -> list[Leak]:
    """Training conversations that a `valid` or `test` split repeats.

    Args:
        found: the conversations of all splits.
        links: which MELD utterance an ECF one is (`emoverse.corpora.ecf.meld_links`). With them
            a conversation of MELD's held-out splits counts though these be not in the data.

    Returns:
        One leak for each training conversation and held-out one, in the order of `found`.
    """
    train = [talk for talk in found if talk.split == "train"]
    held = [talk for talk in found if talk.split in ("valid", "test")]
    known = {(leak.talk.id, leak.other): leak for leak in _linked(train, held, links or {})}
    for leak in matches(train, held):
        known.setdefault((leak.talk.id, leak.other), leak)
    order = {talk.id: place for place, talk in enumerate(train)}
    return sorted(known.values(), key=lambda leak: (order[leak.talk.id], natural(leak.other)))


def matches(left: Sequence[Talk], right: Sequence[Talk]) -> Iterator[Leak]:
    """Conversations of `left` that `right` repeats, by words and speakers.

    Half of the shorter one's turns must recur in the same order, at least one of them with
    four words or more; where both name the speakers, these must agree in most of the turns.
    """
    index: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for place, talk in enumerate(right):
        for _, said in talk.turns:
            if len(said) >= _TELLING:
                index[said].add(place)
    for talk in left:
        near = {place for _, said in talk.turns for place in index.get(said, ())}
        for place in sorted(near):
            shared = _shared(talk.turns, right[place].turns)
            if shared:
                yield Leak(talk, right[place].id, shared)


def words(text: str) -> tuple[str, ...]:
    """The words of an utterance that MELD and ECF spell alike."""
    plain = text.lower().replace("’", "'").replace("n't", " not")
    return tuple(_WORDS.findall(_LOOSE.sub(" ", plain)))


def _linked(
    train: Sequence[Talk], held: Sequence[Talk], links: Mapping[tuple[str, int], str]
) -> Iterator[Leak]:
    ecf = {talk.id.rpartition("/")[2]: talk for talk in train if talk.source == "ecf"}
    kept = {talk.id.rpartition("/")[2] for talk in held if talk.source == "ecf"}
    meld = {talk.id: talk for talk in train if talk.source == "meld"}
    shared: dict[tuple[str, str], int] = defaultdict(int)
    for (conversation, _), clip in links.items():
        split, dialogue = clip.replace("dev_", "valid_", 1).rsplit("_", 1)[0].split("_", 1)
        shared[conversation, f"meld/{split}/{dialogue}"] += 1
    for (conversation, dialogue), count in shared.items():
        if conversation in ecf and not dialogue.startswith("meld/train/"):
            yield Leak(ecf[conversation], dialogue, count)
        elif conversation in kept and dialogue in meld:
            yield Leak(meld[dialogue], f"ecf/{conversation}", count)


def _turns(members: Sequence[Record]) -> list[tuple[str | None, str]]:
    if members[0].task == "ecpe":
        return [(turn.speaker, turn.text) for turn in ecpe.parse_query(members[0].query)[0]]
    said = {
        str(record.meta.get("sample", record.id)): (record.meta.get("speaker"), record.text or "")
        for record in members
    }
    return [said[sample] for sample in sorted(said, key=natural)]


def _name(speaker: str | None) -> str | None:
    return speaker.strip().lower() if speaker else None


def _shared(
    left: Sequence[tuple[str | None, tuple[str, ...]]],
    right: Sequence[tuple[str | None, tuple[str, ...]]],
) -> int:
    """Turns that recur in the same order; 0 when too few, or said by others."""
    best = [0] * (len(right) + 1)
    agreeing = opposed = telling = 0
    for speaker, said in left:
        row = [0]
        for place, (other, answer) in enumerate(right):
            alike = _alike(said, answer)
            row.append(max(best[place] + alike, best[place + 1], row[place]))
            if alike and len(said) >= _TELLING:
                telling += 1
                agreeing += speaker is not None and speaker == other
                opposed += None not in (speaker, other) and speaker != other
        best = row
    enough = best[-1] >= max(1, _SHARE * min(len(left), len(right)))
    return best[-1] if enough and telling and opposed <= agreeing else 0


def _alike(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    if not left or not right:
        return False
    if left == right:
        return True
    shorter = min(len(left), len(right))
    if shorter < _TELLING:
        return False
    rest = list(right)
    common = 0
    for word in left:
        if word in rest:
            rest.remove(word)
            common += 1
    return common >= _ALIKE * shorter
