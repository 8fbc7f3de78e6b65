"""A stand-in for Whisper that keeps what it hears."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from emoverse.errors import EmoVerseError
from emoverse.inference.speech import RATE, Recogniser, Samples
from emoverse.inference.transcripts import Cue


class Hears(Recogniser):
    """One utterance a piece; `whisper` keeps the pieces as (start, language, samples)."""

    def check(self, language: str | None) -> None:
        if language not in (None, "en", "de"):
            raise EmoVerseError(f"Whisper knows no language {language!r}.")

    def cues(
        self,
        pieces: Iterable[tuple[float, Samples]],
        language: str | None = None,
        stop: threading.Event | None = None,
    ) -> list[Cue]:
        found = []
        for start, samples in pieces:
            self.whisper.append((start, language, samples))
            found += self.said(start, samples)
        return found

    def said(self, start: float, samples: Samples) -> list[Cue]:
        return [Cue(start + 0.1, start + len(samples) / RATE, "Hooray.")]
