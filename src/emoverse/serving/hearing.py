"""Hears what is said in clips and jobs: sound from the sandbox, one piece at a time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emoverse.inference.speech import RATE, Recogniser, Samples, quiet
from emoverse.inference.transcripts import Cue, words
from emoverse.serving.problems import Refused
from emoverse.serving.sandbox import Sandbox
from emoverse.serving.schemas import MOST_TEXT


class Hearing:
    """A recogniser in a thread of its own, or none."""

    def __init__(self, recogniser: Recogniser | None, sandbox: Sandbox) -> None:
        """Begin the thread.

        Args:
            recogniser: None where the server recognises no speech.
            sandbox: decodes the sound.
        """
        self._recogniser = recogniser
        self._sandbox = sandbox
        self._thread = ThreadPoolExecutor(1, "hearing")
        self._stops: set[threading.Event] = set()

    @property
    def able(self) -> bool:
        """Whether anything can be heard."""
        return self._recogniser is not None

    def check(self, language: str | None) -> None:
        """Refuse what cannot be heard, before anything is decoded.

        Raises:
            Refused: this server recognises no speech.
            EmoVerseError: there is no such language.
        """
        self._needed().check(language)

    def _needed(self) -> Recogniser:
        if self._recogniser is None:
            raise Refused(
                422,
                "no_speech_model",
                "This server recognises no speech; write down what is said, or have it started "
                "with --asr-model.",
            )
        return self._recogniser

    async def clip(self, file: Path, name: str, language: str | None = None) -> str | None:
        """What is said in a clip, in one line; None when nothing is.

        Args:
            file: the clip.
            name: what the client calls it.
            language: see `Recogniser.check`.

        Raises:
            Refused: this server recognises no speech, or the clip cannot be decoded.
            EmoVerseError: there is no such language.
        """
        self.check(language)
        samples = await self._sandbox.listen(file, name)
        return words(await self._cues(0.0, samples, language))[:MOST_TEXT] or None

    async def piece(
        self,
        file: Path,
        name: str,
        window: tuple[float, float],
        language: str | None,
        *,
        seconds: float,
        last: bool,
    ) -> tuple[list[Cue], float]:
        """What is said in a part of a long video.

        Args:
            file: the video.
            name: what the client calls it.
            window: start and end in seconds.
            language: see `Recogniser.check`.
            seconds: longest video.
            last: whether nothing follows.

        Returns:
            The utterances, by the video's clock, and the second up to which it was heard: where it
            is quiet, and not in the middle of a word.

        Raises:
            Refused, EmoVerseError: see `clip`.
        """
        self.check(language)
        start, end = window
        samples = await self._sandbox.listen(file, name, seconds=seconds, window=window)
        if not last and len(samples) >= round((end - start) * RATE):  # the sound goes on
            samples = samples[: quiet(samples)]
            end = start + len(samples) / RATE
        return await self._cues(start, samples, language), end

    def close(self) -> None:
        """Hear nothing more; what is being heard ends within seconds."""
        for stop in self._stops:
            stop.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _cues(self, start: float, samples: Samples, language: str | None) -> list[Cue]:
        if not len(samples):
            return []
        stop = threading.Event()
        self._stops.add(stop)
        try:
            pieces = [(start, samples)]
            work = self._thread.submit(self._needed().cues, pieces, language, stop)
            return await asyncio.wrap_future(work)
        finally:
            stop.set()  # whoever is not waited for any more holds up nobody
            self._stops.discard(stop)
