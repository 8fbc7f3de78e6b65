"""The MECPE text form of ECF 1.0: conversations as blocks of plain lines.

<conversation id> <number of utterances>
(emotion utterance,cause utterance),...        or `null`, or an empty line: no pair
<index> | <speaker> | <emotion> | <text> | <time or clip>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emoverse.corpora import tables
from emoverse.corpora.records import Problem, Utterance
from emoverse.errors import EmoVerseError
from emoverse.tasks import labels

_HEADER = re.compile(r"(\S+) ([0-9]+)\s*")
_PAIRS = re.compile(r"\s*(?:null|(?:\([0-9]+,[0-9]+\)(?:,|\s)*)*)\s*")
_PAIR = re.compile(r"\(([0-9]+),([0-9]+)\)")
_TIME = r"([0-9]+):([0-9]{2}):([0-9]{2}(?:\.[0-9]+)?)"
_SPAN = re.compile(rf"(?:(\S+?):\s*)?{_TIME}\s*-\s*{_TIME}")

Clips = Mapping[str, Sequence[Path]]
"""The clips of a folder by their path below it, and by their name; both without suffix."""


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance line; `place` is its last field: a time span, a clip name or nothing."""

    index: int
    speaker: str
    emotion: str
    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One block: 1-based (emotion utterance, cause utterance) pairs and the lines in order."""

    id: str
    pairs: tuple[tuple[int, int], ...]
    lines: tuple[Line, ...]


def parse(path: Path | str, problems: list[Problem]) -> list[Conversation]:
    """Read a MECPE text file; a malformed block is added to `problems` and skipped.

    Raises:
        EmoVerseError: the file is missing or has no conversation at all.
    """
    path = Path(path)
    lines = tables.text_of(path).split("\n")
    talks: list[Conversation] = []
    seen: set[str] = set()
    at = 0
    while at < len(lines):
        header = _HEADER.fullmatch(lines[at])
        if header is None:
            if lines[at].strip():
                problems.append(Problem(path, at + 1, "no header `<conversation id> <utterances>`"))
                at = _next_header(lines, at + 1)
            else:
                at += 1
            continue
        try:
            if header[1] in seen:
                raise _BlockError(at + 1, "was already in this file")
            seen.add(header[1])
            talks.append(_block(header[1], int(header[2]), lines, at))
            at += 2 + int(header[2])
        except _BlockError as error:
            problems.append(Problem(path, error.line, f"conversation {header[1]}: {error}"))
            at = _next_header(lines, at + 1)
    if not talks:
        raise EmoVerseError(
            f"{path}: no conversation in the MECPE text form there; use ECF's own text file."
        )
    return talks


def dumps(talks: Iterable[Conversation]) -> str:
    """The text form of `talks`; `parse` reads it back."""
    out: list[str] = []
    for talk in talks:
        out.append(f"{talk.id} {len(talk.lines)}")
        out.append(",".join(f"({at},{cause})" for at, cause in talk.pairs) or "null")
        out += [
            " | ".join((str(line.index), line.speaker, line.emotion, line.text, line.place))
            for line in talk.lines
        ]
    return "\n".join(out) + "\n"


def utterances(talk: Conversation, split: str, clips: Clips | None = None) -> list[Utterance]:
    """The conversation's utterances; start and end (seconds in the episode) where given."""
    causes: dict[int, set[int]] = {}
    for at, cause in talk.pairs:
        causes.setdefault(at, set()).add(cause)
    found = []
    for line in talk.lines:
        start, end = span(line.place)
        own = utterance_id(talk.id, line.index)
        clip, problem = clip_of(f"{own}.mp4", clips)
        found.append(
            Utterance(
                id=own,
                corpus="ecf",
                split=split,
                dialogue=talk.id,
                index=line.index,
                text=line.text,
                speaker=line.speaker or None,
                start=start,
                end=end,
                emotion=labels.emotion(line.emotion),
                causes=tuple(sorted(causes.get(line.index, ()))),
                clip=clip,
                clip_problem=problem,
            )
        )
    return found


def conversation_ids(path: Path | str) -> set[str]:
    """Ids of the conversations in a MECPE text file, to cut the same split out of the JSON.

    Raises:
        EmoVerseError: the file is missing, not in the text form, or has a malformed block.
    """
    problems: list[Problem] = []
    talks = parse(path, problems)
    if problems:
        raise EmoVerseError(f"{problems[0]}; mend it, or the split would be incomplete.")
    return {talk.id for talk in talks}


def meld_links(path: Path | str) -> dict[tuple[str, int], str]:
    """Which MELD clip an ECF utterance is: (conversation id, index) → `train_dia559_utt0`.

    Reads `all_data_pair_ECFvsMELD.txt`; utterances without a MELD clip are left out. The name
    is also the id of the utterance in `meld.read`, save that `dev_` is there `valid_`.

    Raises:
        EmoVerseError: the file is missing, not in the text form, or has a malformed block.
    """
    problems: list[Problem] = []
    talks = parse(path, problems)
    if problems:
        raise EmoVerseError(f"{problems[0]}; mend it, or links would be missing.")
    return {
        (talk.id, line.index): line.place for talk in talks for line in talk.lines if line.place
    }


def span(place: str) -> tuple[float | None, float | None]:
    """Start and end in seconds of `Friends_S1E1: 00:01:19.037 - 00:01:25.417`, else Nones."""
    match = _SPAN.fullmatch(place.strip())
    if match is None:
        return None, None
    times = match.groups()[1:]
    start, end = (
        round(int(hours) * 3600 + int(minutes) * 60 + float(rest), 3)
        for hours, minutes, rest in (times[:3], times[3:])
    )
    return start, end


def utterance_id(conversation: str, index: int) -> str:
    """`dia1utt1`; conversations that are not numbered keep their name: `valid_dia0utt1`."""
    return f"{'dia' if conversation.isdecimal() else ''}{conversation}utt{index}"


def clip_of(name: str, clips: Clips | None) -> tuple[Path | None, str | None]:
    """The clip that `name` leads to among `clips`, and why it cannot be used."""
    if clips is None:
        return None, None
    place = Path(name).with_suffix("")
    found = clips.get(place.as_posix()) or clips.get(place.name, ())
    # MELD's names, for one, come again in every split: a guess would be another utterance's clip.
    if len(found) > 1:
        return None, f"{len(found)} clips in the folder of clips are called {place.name}"
    clip = found[0] if found else None
    return clip, tables.clip_problem(clip)


class _BlockError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _block(name: str, count: int, lines: list[str], at: int) -> Conversation:
    pairs_line = lines[at + 1] if at + 1 < len(lines) else ""
    if _PAIRS.fullmatch(pairs_line) is None:
        raise _BlockError(at + 2, f"pairs {pairs_line[:40]!r} are not (3,1),(3,3)")
    found = []
    for index in range(1, count + 1):
        number = at + 1 + index
        line = lines[number] if number < len(lines) else ""
        found.append(_line(line, index, number + 1))
    pairs = tuple((int(effect), int(cause)) for effect, cause in _PAIR.findall(pairs_line))
    for pair in pairs:
        if not all(1 <= index <= count for index in pair):
            raise _BlockError(at + 2, f"pair {pair} names an utterance that is not there")
    return Conversation(name, pairs, tuple(found))


def _line(line: str, index: int, number: int) -> Line:
    # An empty last field loses its blank in editors that trim lines; the text may hold ` | `.
    parts = (line + " " if line.endswith(" |") else line).split(" | ")
    if len(parts) < 5 or parts[0].strip() != str(index):
        raise _BlockError(number, f"no line `{index} | speaker | emotion | text | time`")
    if labels.emotion(parts[2]) is None:
        raise _BlockError(number, f"emotion {parts[2]!r} is unknown")
    text = " | ".join(parts[3:-1]).strip()
    if not text:
        raise _BlockError(number, "no text")
    return Line(index, parts[1].strip(), parts[2].strip(), text, parts[-1].strip())


def _next_header(lines: list[str], at: int) -> int:
    while at < len(lines) and _HEADER.fullmatch(lines[at]) is None:
        at += 1
    return at
