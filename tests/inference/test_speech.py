from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference import speech
from emoverse.inference.transcripts import Cue

from ..faces.clips import write, write_audio


def test_sound_comes_in_pieces_that_join_up(tmp_path: Path) -> None:
    clip = write_audio(tmp_path / "tone.mp4")
    ((start, whole),) = speech.sound(clip)
    assert start == 0 and whole.dtype == np.float32 and 0.5 < np.abs(whole).max() < 1.2
    pieces = list(speech.sound(clip, piece=0.25))
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in pieces]), whole)
    for (start, samples), (following, _) in itertools.pairwise(pieces):
        assert following == pytest.approx(start + len(samples) / speech.RATE)


def test_sound_is_cut_where_it_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.ones(12 * speech.RATE, np.float32)
    said[int(8.4 * speech.RATE) : int(8.8 * speech.RATE)] = 0  # a breath between two words
    blocks = np.split(said, 24)
    monkeypatch.setattr(speech, "_blocks", lambda *_: iter(blocks))
    pieces = list(speech.sound(write_audio(tmp_path / "tone.mp4"), piece=10.0))
    assert [start for start, _ in pieces] == [0.0, pytest.approx(8.6, abs=0.2)]
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in pieces]), said)


def test_what_is_recognised_has_its_place_in_the_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = [
        SimpleNamespace(start=0.5, end=2.0, text=" Hello there. "),
        SimpleNamespace(start=2.0, end=2.0, text="Nothing."),
        SimpleNamespace(start=3.0, end=4.0, text="  "),
    ]

    class Whisper:
        def __init__(self, model: str, **_: str) -> None:
            assert model == "tiny"

        def transcribe(self, samples: np.ndarray, language: str, vad_filter: bool) -> object:
            assert samples.dtype == np.float32 and language == "en" and vad_filter
            return iter(heard), None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Whisper))
    samples = np.zeros(speech.RATE, np.float32)
    monkeypatch.setattr(speech, "sound", lambda _: iter([(0.0, samples), (298.5, samples)]))
    assert speech.transcribe(tmp_path / "a.mp4", "tiny", "en") == [
        Cue(0.5, 2.0, "Hello there."),
        Cue(299.0, 300.5, "Hello there."),
    ]


def test_a_silent_film_has_no_sound(tmp_path: Path) -> None:
    assert not list(speech.sound(write(tmp_path / "silent.mp4")))


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no such file"):
        list(speech.sound(tmp_path / "gone.mp4"))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    with pytest.raises(EmoVerseError, match="damaged"):
        list(speech.sound(broken))


def test_without_the_extra_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_audio(tmp_path / "tone.mp4")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    monkeypatch.setitem(sys.modules, "faster_whisper.vad", None)
    with pytest.raises(EmoVerseError, match=r"emoverse\[asr\]"):
        list(speech.speech(clip))
    with pytest.raises(EmoVerseError, match="--transcript"):
        speech.transcribe(clip)


def test_a_tone_is_no_speech(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="needs the `asr` extra")
    assert not list(speech.speech(write_audio(tmp_path / "tone.mp4")))


def test_speech_of_a_real_clip_is_found(shared: Path) -> None:
    pytest.importorskip("faster_whisper", reason="needs the `asr` extra")
    found = list(speech.speech(shared / "openface_pairs" / "clip1.mp4"))
    assert found and all(0 <= start < end for start, end in found)
    assert all(late[0] >= early[1] for early, late in itertools.pairwise(found))


def test_a_speech_model_that_is_not_here_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_whisper", reason="needs the `asr` extra")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EmoVerseError, match="--transcript"):
        speech.transcribe(write_audio(tmp_path / "tone.mp4"), model=str(tmp_path / "nowhere"))
