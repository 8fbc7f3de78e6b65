"""Speech in a video: where it is, and what is said (the `asr` extra, faster-whisper)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.inference.transcripts import Cue

RATE = 16_000
# Sound is looked at in pieces of this many seconds, so that memory does not grow with the film.
_PIECE = 300.0
# A piece ends within the quietest stretch of so many samples in its last seconds, not in a word.
_STRETCH = RATE // 10
_SEARCHED = 10 * RATE


Samples = NDArray[np.float32]


def sound(path: Path | str, *, piece: float = _PIECE) -> Iterator[tuple[float, Samples]]:
    """Stream a video's sound.

    Args:
        path: a video or sound file.
        piece: seconds per piece, at most; the last are given to the next where it is quiet.

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
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        blocks: list[Samples] = []
        held, start = 0, 0.0
        for block in _blocks(container, resampler):
            blocks.append(block)
            held += len(block)
            if held >= piece * RATE:
                samples = np.concatenate(blocks)
                cut = _quiet(samples)
                yield start, samples[:cut]
                start, held = start + cut / RATE, len(samples) - cut
                blocks = [samples[cut:]]
        if held:
            yield start, np.concatenate(blocks)


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


def transcribe(path: Path | str, model: str = "small", language: str | None = None) -> list[Cue]:
    """What is said when, by a Whisper model.

    Args:
        path: a video.
        model: a faster-whisper model's name (fetched from the hub once) or its folder.
        language: two letters; recognised when None.

    Returns:
        Utterances in the order they are spoken.

    Raises:
        EmoVerseError: the `asr` extra is not installed, the weights cannot be fetched, or the
            file cannot be opened.
    """
    whisper = _faster_whisper()
    try:
        recogniser = whisper.WhisperModel(model, device="auto", compute_type="auto")
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EmoVerseError(
            f"The speech model {model!r} cannot be loaded ({reason}); connect to the hub once, "
            "name a folder that holds it, or give what is said with --transcript."
        ) from None
    cues: list[Cue] = []
    for start, samples in sound(path):
        segments, _ = recogniser.transcribe(samples, language=language, vad_filter=True)
        cues += [
            Cue(start + segment.start, start + segment.end, segment.text.strip())
            for segment in segments
            if segment.text.strip() and segment.end > segment.start
        ]
    return cues


def _quiet(samples: Samples) -> int:
    """Where sound is best cut: in its latter half, within its last seconds."""
    tail = samples[max(len(samples) // 2, len(samples) - _SEARCHED) :]
    stretches = tail[len(tail) % _STRETCH :].reshape(-1, _STRETCH)
    if not len(stretches):
        return len(samples)
    quietest = int(np.square(stretches).mean(axis=1).argmin())
    return len(samples) - (len(stretches) - quietest) * _STRETCH + _STRETCH // 2


def _blocks(container: Any, resampler: Any) -> Iterator[Samples]:
    """Decoded sound; what is damaged is passed over."""
    for packet in container.demux(container.streams.audio[0]):
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in decoded:
            yield from (part.to_ndarray().reshape(-1) for part in resampler.resample(frame))
    yield from (part.to_ndarray().reshape(-1) for part in resampler.resample(None))


def _faster_whisper(part: str = "") -> Any:
    import importlib

    try:
        return importlib.import_module(f"faster_whisper.{part}" if part else "faster_whisper")
    except ImportError:
        raise EmoVerseError(
            "Finding speech needs faster-whisper; install it with `pip install emoverse[asr]`, "
            "give what is said with --transcript, or read faces alone with --speech none."
        ) from None
