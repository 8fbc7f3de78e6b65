from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference import speech

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
