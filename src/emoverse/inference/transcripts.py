"""What is said when: subtitles and speech recognisers' files as utterances."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pysubs2

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, read_text

SUBTITLES = (".srt", ".vtt", ".ass", ".ssa")
# A subtitle that ends in the middle of a sentence goes on in the next one when that follows
# within this many seconds, as long as the whole is not longer than a speaker's turn usually is.
_PAUSE = 0.5
_LONGEST = 15.0
_SENTENCE_END = re.compile(r"[.!?…♪\"”')\]。．！？｡؟۔।॥」』）»]$")
# WebVTT's voice tag (W3C WebVTT, 4.2.2), which subtitle libraries drop. The name is kept between
# characters that no text holds: Unicode sets them aside for a program's own use.
_VOICE = re.compile(r"<v(?:\.[^\s<>{}]*)?[ \t]+([^<>{}\n]+)>")
_NAMED = "\ufdd0\\1\ufdd1"
_MARK = re.compile("\ufdd0([^\ufdd1]*)\ufdd1")
# WebVTT's times inside a cue, two of which in a line pysubs2 takes for a cue's own times.
_WORD_TIME = re.compile(r"<(?:\d+:)?\d\d:\d\d\.\d{3}>")
# What stands between WebVTT's cues and pysubs2 takes for the end of the one before: notes, styles,
# and the cues' names.
_BETWEEN = re.compile(r"(?<=\n\n)(?:(?:NOTE|STYLE|REGION)\b.*(?:\n.+)*|(?!.*-->).+(?=\n.*-->))")
_DASH = re.compile(r"[-–—]\s*(?=\S)")
_SPEAKER = re.compile(r"^\s*(?:\[([^\]:]{1,40})\]|([^\W\d_][\w.'’ -]{0,39}?))\s*:\s+(?=\S)")
_LONGEST_NAME = 3
_NUMBERED = re.compile(r"[^\W\d_]{4,}[ _]\d{1,3}")  # as recognisers tell speakers apart
# Captions that roll up show a line again in the cue that follows at once. A repeated cue that stays
# for longer than this may be somebody who says the same again.
_TOUCHING = 0.05
_BLINK = 0.1


@dataclass(frozen=True, slots=True)
class Cue:
    """One utterance with its place in the video.

    Attributes:
        start, end: seconds, `0 <= start < end`.
        text: what is said, in one line; empty where somebody speaks and no word is known.
        speaker: as the file names them; None when it does not.
    """

    start: float
    end: float
    text: str
    speaker: str | None = None


def read_transcript(path: Path | str) -> tuple[Cue, ...]:
    """Read a transcript with times.

    Args:
        path: SubRip, WebVTT or SubStation subtitles, or JSON: a list of segments, or an object
            with `segments` (as Whisper writes) or `turns`; a segment has `start`, `end` (seconds)
            and `text`, and may have `speaker`.

    Returns:
        Utterances in the order of their start; subtitles that break a sentence are joined.

    Raises:
        EmoVerseError: the file is missing, of another kind, malformed, or without any utterance.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".json":
        cues = _from_json(path)
    elif kind in SUBTITLES:
        cues = joined(*_from_subtitles(path))
    else:
        raise EmoVerseError(
            f"{path}: a transcript with times is needed, as {', '.join(SUBTITLES)} or .json; "
            "plain text does not say when it is spoken."
        )
    if not cues:
        raise EmoVerseError(f"{path}: no utterance in it; check that it is the right file.")
    return tuple(sorted(cues, key=lambda cue: (cue.start, cue.end)))


def words(cues: Iterable[Cue], end: float = math.inf) -> str:
    """What is said in cues that begin before `end` seconds, in one line; "" when nothing is."""
    return " ".join(cue.text for cue in cues if cue.start < end and cue.text)


def joined(cues: Iterable[Cue], anew: Collection[Cue] = ()) -> list[Cue]:
    """Join cues that break one speaker's sentence in two.

    Args:
        cues: in any order.
        anew: those among them that are known to go on from nothing.
    """
    whole: list[Cue] = []
    for cue in sorted(cues, key=lambda cue: (cue.start, cue.end)):
        last = whole[-1] if whole else None
        if (
            last
            and cue not in anew
            and not _SENTENCE_END.search(last.text)
            and cue.speaker in (None, last.speaker)
            and 0 <= cue.start - last.end <= _PAUSE
            and cue.end - last.start <= _LONGEST
        ):
            whole[-1] = Cue(last.start, cue.end, f"{last.text} {cue.text}", last.speaker)
        else:
            whole.append(cue)
    return whole


class _Shown(NamedTuple):
    """A subtitle: seconds, its lines without markup except voices, and who speaks if it says so."""

    start: float
    end: float
    text: str
    speaker: str | None


def _from_subtitles(path: Path) -> tuple[list[Cue], set[Cue]]:
    """The cues of a file, and those that begin a speech: two people's in one subtitle."""
    cues: list[Cue] = []
    anew: set[Cue] = set()
    for shown in _subtitles(path):
        parts = _speeches(shown.text)
        # Two people in one subtitle share its time by the length of what they say.
        total = sum(len(said) for _, said in parts)
        start = shown.start
        for speaker, said in parts:
            end = start + (shown.end - shown.start) * len(said) / total
            cues.append(Cue(start, end, said, speaker or shown.speaker))
            start = end
        if len(parts) > 1:
            anew.update(cues[-len(parts) :])
    return cues, anew


def _subtitles(path: Path) -> list[_Shown]:
    webvtt = path.suffix.lower() == ".vtt"
    text = _VOICE.sub(_NAMED, re.sub("[\ufdd0\ufdd1]", "", read_text(path)))
    if webvtt:
        text = _BETWEEN.sub("", _WORD_TIME.sub("", text))
    try:
        events = pysubs2.SSAFile.from_string(text, format_=path.suffix.lower()[1:])
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise EmoVerseError(f"{path}: malformed subtitles ({error}); re-save the file.") from None
    found = [
        _Shown(
            event.start / 1000,
            event.end / 1000,
            html.unescape(event.plaintext) if webvtt else event.plaintext,
            event.name or None,
        )
        for event in events
        if event.end > event.start and not event.is_comment and not event.is_drawing
    ]
    return _unrolled(found) if webvtt else found


def _unrolled(subtitles: Iterable[_Shown]) -> list[_Shown]:
    """Leave out what was already shown in the subtitle before."""
    found: list[_Shown] = []
    earlier: _Shown | None = None
    for one in sorted(subtitles, key=lambda shown: (shown.start, shown.end)):
        if not one.text.strip():
            continue
        rolls = earlier is not None and _rolls(earlier, one)
        found.append(one._replace(text=_rest(earlier.text, one.text)) if earlier and rolls else one)
        earlier = one
    return found


def _rolls(earlier: _Shown, later: _Shown) -> bool:
    """Whether what both say would be one speech that is shown twice."""
    if later.start - earlier.end > _TOUCHING or _MARK.search(later.text):
        return False
    same = later.text.split() == earlier.text.split()
    return not same or later.start < earlier.end or later.end - later.start <= _BLINK


def _rest(earlier: str, later: str) -> str:
    """What is new in a text that begins with an earlier one, or with the last of its lines."""
    lines = [line.split() for line in earlier.splitlines()]
    words = later.split()
    for first in range(len(lines)):
        shown = [word for line in lines[first:] for word in line]
        if shown and words[: len(shown)] == shown:
            return "".join(later.split(None, len(shown))[len(shown) :])
    return later


def _speeches(text: str) -> list[tuple[str | None, str]]:
    """The speeches of one subtitle, with their speakers.

    Lines that begin with a dash are different people's; so are voices, whose names are not guessed.
    """
    untagged, *tagged = _MARK.split(re.sub(rf"(?m)^\s*{_DASH.pattern}(?=\ufdd0)", "", text))
    found = [_named(line) for line in _parts(untagged)]
    for name, said in zip(tagged[::2], tagged[1::2], strict=True):
        found += [(" ".join(name.split()) or None, line) for line in _parts(said)]
    return [(speaker, said) for speaker, said in found if said]


def _parts(text: str) -> list[str]:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    dashed = len(lines) > 1 and all(_DASH.match(line) for line in lines)
    return [line.lstrip("-–— ") for line in lines] if dashed else [" ".join(lines)]


def _named(said: str) -> tuple[str | None, str]:
    """Who says it, as `ANA: Oh!` or `[Ana]: Oh!` begins, and the rest."""
    found = _SPEAKER.match(said)
    if found is None or not (found[1] or _is_name(found[2])):
        return None, said
    return (found[1] or found[2]).strip(), said[found.end() :]


def _is_name(text: str) -> bool:
    """Whether it can be a name: few words, all with a capital, no digit but in `Speaker 1`."""
    if _NUMBERED.fullmatch(text):
        return text[0].isupper()
    words = text.split()
    return len(words) <= _LONGEST_NAME and all(
        word[0].isupper() and not re.search(r"[\d_]", word) for word in words
    )


def _from_json(path: Path) -> list[Cue]:
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get("segments", content.get("turns"))
    if not isinstance(content, list):
        raise EmoVerseError(
            f'{path}: expected a list of {{"start", "end", "text"}}, or an object with such a list '
            "as `segments`."
        )
    found = [_segment(path, number, row) for number, row in enumerate(content, 1)]
    # Recognisers write segments of no length, which say nothing about when.
    return [cue for cue in found if cue.text and cue.end > cue.start]


def _segment(path: Path, number: int, row: Any) -> Cue:
    place = f"{path}, segment {number}"
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise EmoVerseError(f"{place}: a segment needs a text field `text`; add it.")
    try:
        start, end = float(row["start"]), float(row["end"])
    except (KeyError, TypeError, ValueError):
        raise EmoVerseError(
            f"{place}: `start` and `end` must be numbers of seconds; mend them."
        ) from None
    if not (0 <= start <= end and math.isfinite(end)):
        raise EmoVerseError(f"{place}: it runs from {start} to {end} seconds; mend the times.")
    speaker = row.get("speaker")
    name = "" if speaker is None else str(speaker)  # 0 names one as well as 1
    return Cue(start, end, " ".join(row["text"].split()), name or None)


def dump_transcript(cues: Sequence[Cue]) -> str:
    """Cues as JSON that `read_transcript` reads."""
    rows = [
        {"start": c.start, "end": c.end, "text": c.text}
        | ({"speaker": c.speaker} if c.speaker else {})
        for c in cues
    ]
    return json.dumps({"segments": rows}, ensure_ascii=False, indent=2) + "\n"
