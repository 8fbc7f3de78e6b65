"""What is said when: subtitles and speech recognisers' files as utterances."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysubs2

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, read_text

SUBTITLES = (".srt", ".vtt", ".ass", ".ssa")
# A subtitle that ends in the middle of a sentence goes on in the next one when that follows
# within this many seconds, as long as the whole is not longer than a speaker's turn usually is.
_PAUSE = 0.5
_LONGEST = 15.0
_SENTENCE_END = re.compile(r"[.!?…♪\"”')\]]$")
# WebVTT's voice tag (W3C WebVTT, 4.2.2), which subtitle libraries drop.
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_SPEAKER = re.compile(r"^\s*(?:\[([^\]:]{1,40})\]|([A-Z][\w.'’ -]{0,39}?))\s*:\s+(?=\S)")


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
        cues = joined(_from_subtitles(path))
    else:
        raise EmoVerseError(
            f"{path}: a transcript with times is needed, as {', '.join(SUBTITLES)} or .json; "
            "plain text does not say when it is spoken."
        )
    if not cues:
        raise EmoVerseError(f"{path}: no utterance in it; check that it is the right file.")
    return tuple(sorted(cues, key=lambda cue: (cue.start, cue.end)))


def joined(cues: Iterable[Cue]) -> list[Cue]:
    """Join cues that break one speaker's sentence in two."""
    whole: list[Cue] = []
    for cue in sorted(cues, key=lambda cue: (cue.start, cue.end)):
        last = whole[-1] if whole else None
        if (
            last
            and not _SENTENCE_END.search(last.text)
            and cue.speaker in (None, last.speaker)
            and 0 <= cue.start - last.end <= _PAUSE
            and cue.end - last.start <= _LONGEST
        ):
            whole[-1] = Cue(last.start, cue.end, f"{last.text} {cue.text}", last.speaker)
        else:
            whole.append(cue)
    return whole


def _from_subtitles(path: Path) -> list[Cue]:
    text = _VOICE.sub(r"\1: ", read_text(path))
    try:
        events = pysubs2.SSAFile.from_string(text, format_=path.suffix.lower()[1:])
    except (pysubs2.exceptions.Pysubs2Error, ValueError) as error:
        raise EmoVerseError(f"{path}: malformed subtitles ({error}); re-save the file.") from None
    cues: list[Cue] = []
    for event in events:
        if event.is_comment or event.end <= event.start:
            continue
        parts = _speeches(event.plaintext)
        # Two people in one subtitle share its time by the length of what they say.
        total = sum(len(said) for _, said in parts)
        start = event.start / 1000
        for speaker, said in parts:
            end = start + (event.end - event.start) / 1000 * len(said) / total
            cues.append(Cue(start, end, said, speaker or event.name or None))
            start = end
    return cues


def _speeches(text: str) -> list[tuple[str | None, str]]:
    """The speeches of one subtitle: lines that begin with a dash are different people's."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    dashed = len(lines) > 1 and all(re.match(r"[-–—]\s*\S", line) for line in lines)
    parts = [line.lstrip("-–— ") for line in lines] if dashed else [" ".join(lines)]
    found = []
    for part in parts:
        named = _SPEAKER.match(part)
        said = " ".join(part[named.end() :].split()) if named else " ".join(part.split())
        if said:
            found.append(((named[1] or named[2]).strip() if named else None, said))
    return found


def _from_json(path: Path) -> list[Cue]:
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get("segments", content.get("turns"))
    if not isinstance(content, list):
        raise EmoVerseError(
            f'{path}: expected a list of {{"start", "end", "text"}}, or an object with such a list '
            "as `segments`."
        )
    return [
        cue for number, row in enumerate(content, 1) if (cue := _segment(path, number, row)).text
    ]


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
    if not (0 <= start < end and math.isfinite(end)):
        raise EmoVerseError(f"{place}: it runs from {start} to {end} seconds; mend the times.")
    speaker = row.get("speaker")
    return Cue(start, end, " ".join(row["text"].split()), str(speaker) if speaker else None)


def dump_transcript(cues: Sequence[Cue]) -> str:
    """Cues as JSON that `read_transcript` reads."""
    rows = [
        {"start": c.start, "end": c.end, "text": c.text}
        | ({"speaker": c.speaker} if c.speaker else {})
        for c in cues
    ]
    return json.dumps({"segments": rows}, ensure_ascii=False, indent=2) + "\n"
