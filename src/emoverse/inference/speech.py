"""Speech in a video: where it is, and what is said (the `asr` extra, faster-whisper)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.inference.transcripts import Cue, joined, words
from emoverse.inference.watching import processors
from emoverse.models.whisper import whisper_dir

RATE = 16_000
# Sound is looked at in pieces of this many seconds, so that memory does not grow with the film.
_PIECE = 300.0
# A piece ends within the quietest stretch of so many samples in its last seconds, not in a word.
_STRETCH = RATE // 10
_SEARCHED = 10 * RATE
# Seconds without sound that are told from jitter of the times.
_GAP = 0.1
# Seconds that are decoded before those that are wanted: decoders need some to find their feet.
_LEAD = 1.0
_FULL = 1 << 15  # full scale of 16-bit samples

Samples = NDArray[np.float32]


def sound(
    path: Path | str, *, piece: float = _PIECE, start: float = 0.0, end: float = math.inf
) -> Iterator[tuple[float, Samples]]:
    """Stream a video's sound.

    Args:
        path: a video or sound file.
        piece: seconds per piece, at most; the last are given to the next where it is quiet.
        start: seconds; what comes before is left out.
        end: seconds; what comes after is left out.

    Returns:
        An iterator of (start in seconds, mono samples at 16 kHz, full scale 1); nothing when the
        file has no sound.

    Raises:
        EmoVerseError: the file is missing or cannot be opened.
    """
    if not Path(path).is_file():
        raise EmoVerseError(f"{path}: no such file; check the path.")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.error.FFmpegError:
        raise EmoVerseError(f"{path} is not a video or is damaged; convert it again.") from None
    with container:
        if not container.streams.audio:
            return
        blocks: list[Samples] = []
        held, left = 0, math.inf if end == math.inf else round((end - start) * RATE)
        if left <= 0:
            return
        for block in _blocks(container, start):
            blocks.append(block)
            held += len(block)
            if held >= left:
                break
            if held >= piece * RATE:
                samples = np.concatenate(blocks)
                cut = quiet(samples)
                yield start, samples[:cut]
                start, held, left = start + cut / RATE, len(samples) - cut, left - cut
                blocks = [samples[cut:]]
        if held:
            samples = np.concatenate(blocks)
            yield start, samples if held <= left else samples[: int(left)]


def speech(path: Path | str) -> Iterator[tuple[float, float]]:
    """Stream where someone speaks, by Silero's voice activity detector, in bounded memory.

    Its weights come with faster-whisper, so that this works without any download.

    Args:
        path: a video.

    Returns:
        An iterator of (start, end) in seconds, rising; at most 15 s each.

    Raises:
        EmoVerseError: the `asr` extra is not installed, or the file cannot be opened.
    """
    vad = _faster_whisper("vad")
    options = vad.VadOptions(max_speech_duration_s=15.0, min_silence_duration_ms=400)
    for start, samples in sound(path):
        for found in vad.get_speech_timestamps(samples, options):
            yield start + found["start"] / RATE, start + found["end"] / RATE


@dataclass(frozen=True, slots=True, eq=False)
class Recogniser:
    """A loaded Whisper model; made by `load_recogniser`."""

    whisper: Any

    def check(self, language: str | None) -> None:
        """Find out whether a language is known.

        Args:
            language: Whisper's code, such as `en`; None: it is recognised.

        Raises:
            EmoVerseError: Whisper, or this model of it, knows no such language.
        """
        known = self.whisper.supported_languages
        if language is None or language in known:
            return
        if len(known) == 1:
            raise EmoVerseError(f"This speech model knows {known[0]!r} alone; choose that.")
        raise EmoVerseError(
            f"Whisper knows no language {language!r}; use its letters, such as en or de."
        )

    def cues(
        self,
        pieces: Iterable[tuple[float, Samples]],
        language: str | None = None,
        stop: threading.Event | None = None,
    ) -> list[Cue]:
        """What is said when.

        Args:
            pieces: sound, as `sound` streams it.
            language: see `check`; recognised piece by piece when None.
            stop: set by another thread to have this end soon, with what was heard so far.

        Returns:
            Utterances in the order they are spoken, whole sentences where Whisper breaks them.

        Raises:
            EmoVerseError: Whisper knows no such language.
        """
        self.check(language)
        found: list[Cue] = []
        for start, samples in pieces:
            length = len(samples) / RATE
            segments, _ = self.whisper.transcribe(
                samples,
                language=language,
                vad_filter=True,
                # What it wrote last makes it say the same again where the sound ends.
                condition_on_previous_text=False,
            )
            for segment in segments:
                if stop and stop.is_set():
                    return joined(found)
                end = min(segment.end, length)
                if segment.text.strip() and end > segment.start:
                    found.append(Cue(start + segment.start, start + end, segment.text.strip()))
        return joined(found)

    def text(self, path: Path | str, language: str | None = None) -> str | None:
        """What is said in a clip, in one line; None when nothing is. See `cues` and `sound`."""
        return words(self.cues(sound(path), language)) or None


def load_recogniser(model: str = "base") -> Recogniser:
    """Load a Whisper model, with 8-bit weights where that is fast.

    Args:
        model: see `emoverse.models.whisper.whisper_dir`.

    Raises:
        EmoVerseError: the `asr` extra is not installed, or the weights cannot be fetched or read.
    """
    library = _faster_whisper()
    try:
        folder = str(whisper_dir(model))
        whisper = library.WhisperModel(
            folder, device="auto", compute_type="auto", cpu_threads=processors()
        )
    except EmoVerseError as error:
        raise EmoVerseError(
            f"{error} Or give what is said with --transcript, or read faces alone with "
            "--speech none."
        ) from None
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EmoVerseError(
            f"The speech model {model!r} cannot be read ({reason}); fetch it again, or give what "
            "is said with --transcript."
        ) from None
    return Recogniser(whisper)


def transcribe(path: Path | str, model: str = "base", language: str | None = None) -> list[Cue]:
    """What is said when in a video; see `load_recogniser` and `Recogniser.cues`.

    Raises:
        EmoVerseError: the `asr` extra is not installed, the weights cannot be fetched, or the
            file cannot be opened.
    """
    return load_recogniser(model).cues(sound(path), language)


def quiet(samples: Samples) -> int:
    """Where sound is best cut, in samples: in its latter half, within its last seconds."""
    tail = samples[max(len(samples) // 2, len(samples) - _SEARCHED) :]
    stretches = tail[len(tail) % _STRETCH :].reshape(-1, _STRETCH)
    if not len(stretches):
        return len(samples)
    quietest = int(np.square(stretches).mean(axis=1).argmin())
    return len(samples) - (len(stretches) - quietest) * _STRETCH + _STRETCH // 2


def _blocks(container: Any, begin: float) -> Iterator[Samples]:
    """Decoded sound from `begin` on, by the picture's clock: silence where it lacks or is damaged.

    A file's clock may begin anywhere; the picture's first frame is at 0.
    """
    resampler = _resampler()
    origin = _origin(container)
    if begin > 0:  # then the first frame to come is none to count from
        origin = origin or 0.0
        _seek(container, begin + origin)
    # Headers may promise less than there is, and times may be anything.
    end = max((container.duration or 0) / 1_000_000, begin + _PIECE)
    done, surplus = begin, 0  # seconds so far; samples from before `begin`

    def kept(samples: Samples) -> Samples:
        nonlocal surplus
        wanted = samples[surplus:]
        surplus -= len(samples) - len(wanted)
        return wanted

    first = True
    for frame in _decoded(container):
        if frame.time is not None:
            origin = frame.time if origin is None else origin
            gap = min(frame.time - origin, end) - done
            if first and gap < 0:
                done, surplus = done + gap, round(-gap * RATE)
            first = False
            while gap > _GAP:
                still = min(gap, _PIECE / 10)
                yield kept(np.zeros(round(still * RATE), np.float32))
                done, gap = done + still, gap - still
        try:
            parts = resampler.resample(frame)
        except ValueError:  # another rate or layout than before, as after damage
            resampler = _resampler()
            parts = resampler.resample(frame)
        for part in parts:
            yield kept(_samples(part))
        done += frame.samples / frame.sample_rate
    for part in resampler.resample(None):
        yield kept(_samples(part))


def _resampler() -> Any:
    return av.AudioResampler(format="s16", layout="mono", rate=RATE)


def _origin(container: Any) -> float | None:
    """When the picture begins by the file's clock, or the sound where there is no picture."""
    for stream in (*container.streams.video, *container.streams.audio):
        if stream.start_time is not None:
            return float(stream.start_time * stream.time_base)
    return None


def _seek(container: Any, time: float) -> None:
    """Go to a little before a time of the file's clock; what cannot be sought is read through."""
    stream = container.streams.audio[0]
    with suppress(av.error.FFmpegError):
        container.seek(int((time - _LEAD) / stream.time_base), stream=stream)


def _decoded(container: Any) -> Iterator[Any]:
    for packet in container.demux(container.streams.audio[0]):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue


def _samples(part: Any) -> Samples:
    samples: Samples = np.divide(part.to_ndarray().reshape(-1), _FULL, dtype=np.float32)
    return samples


def _faster_whisper(part: str = "") -> Any:
    import importlib

    try:
        return importlib.import_module(f"faster_whisper.{part}" if part else "faster_whisper")
    except ImportError:
        raise EmoVerseError(
            "Finding speech needs faster-whisper; install it with `pip install emoverse[asr]`, "
            "give what is said with --transcript, or read faces alone with --speech none."
        ) from None
