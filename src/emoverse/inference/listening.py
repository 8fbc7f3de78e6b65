"""What is said in a film, recognised into its journal before its parts are planned.

Recognising a film takes long, so each piece is kept as soon as it is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emoverse.faces import video
from emoverse.inference.journal import Journal
from emoverse.inference.speech import RATE, Recogniser, sound
from emoverse.inference.transcripts import Cue, joined

PIECE = 60.0
"""Seconds that are heard at once, at most: what a kill can cost."""


def hear_film(
    film: Path | str,
    book: Journal,
    recogniser: Recogniser,
    language: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Cue]:
    """Recognise what is said in a film, from where an earlier run was ended.

    Args:
        film: a video.
        book: where each piece goes as it is heard.
        recogniser: hears it.
        language: see `Recogniser.check`; recognised piece by piece when None.
        progress: told what is done, seconds done and all seconds.

    Raises:
        EmoVerseError: the film cannot be opened, Whisper knows no such language, or a line of the
            journal is malformed.
    """
    heard = [row for row in book.rows() if row["kind"] == "heard"]
    found = [Cue(**cue) for row in heard for cue in row["cues"]]
    done = heard[-1]["end"] if heard else 0.0
    duration = video.probe(film).duration
    seconds = round(duration)
    tell = progress or (lambda what, done, total: None)
    tell("Listening", min(int(done), seconds), seconds)
    for start, samples in sound(film, piece=PIECE, start=done, end=duration):
        cues = recogniser.cues([(start, samples)], language)
        end = start + len(samples) / RATE
        book.add({"kind": "heard", "end": end, "cues": [asdict(cue) for cue in cues]})
        found += cues
        tell("Listening", min(int(end), seconds), seconds)
    return joined(found)  # a sentence may go on in the next piece


def film_rows(book: Journal) -> Iterator[dict[str, Any]]:
    """A film's plan, and the lines of its parts: its journal without what was heard before.

    Raises:
        EmoVerseError: a line is malformed.
    """
    return (row for row in book.rows() if row["kind"] != "heard")
