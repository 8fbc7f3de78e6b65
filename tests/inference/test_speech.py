from __future__ import annotations

import itertools
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.inference import speech
from emoverse.inference.transcripts import Cue
from emoverse.models.fetching import cache_dir

from ..faces.clips import state_duration, write, write_audio


def test_sound_comes_in_pieces_that_join_up(tmp_path: Path) -> None:
    clip = write_audio(tmp_path / "tone.mp4")
    ((start, whole),) = speech.sound(clip)
    assert start == 0 and whole.dtype == np.float32 and 0.5 < np.abs(whole).max() < 1.2
    pieces = list(speech.sound(clip, piece=0.25))
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in pieces]), whole)
    for (start, samples), (following, _) in itertools.pairwise(pieces):
        assert following == pytest.approx(start + len(samples) / speech.RATE)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "wav"])
def test_a_part_of_the_sound_is_that_part(tmp_path: Path, suffix: str) -> None:
    clip = tmp_path / f"clip.{suffix}"
    codec = {"avi": "mp3", "wav": "pcm_s16le"}.get(suffix, "aac")
    with av.open(str(clip), "w") as container:
        stream = container.add_stream(codec, rate=16000, layout="mono")
        if suffix in ("mp4", "mkv"):  # a picture that begins later, by the file's own clock
            video = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 64
            for n in range(120):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = n + 5, Fraction(1, 10)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        resampler = av.AudioResampler(stream.format, "mono", 16000, frame_size=1152)
        time = np.arange(12 * 16000) / 16000
        wave = (8000 * np.sin((500 + 100 * time) * time)).astype(np.int16)  # nowhere the same
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    ((_, whole),) = speech.sound(clip)
    first, second = round(3.1 * speech.RATE), round(8.7 * speech.RATE)
    ends = {(0.0, 3.1): (0, first), (3.1, 8.7): (first, second), (8.7, 60.0): (second, len(whole))}
    for (start, end), (begun, over) in ends.items():
        pieces = list(speech.sound(clip, start=start, end=end, piece=2.0))
        assert pieces[0][0] == start
        found = np.concatenate([samples for _, samples in pieces])
        assert len(found) == pytest.approx(over - begun, abs=160)
        length = min(len(found), over - begun)
        np.testing.assert_allclose(found[:length], whole[begun : begun + length], atol=0.02)
    assert not list(speech.sound(clip, start=70.0))
    assert not list(speech.sound(clip, start=7.0, end=6.0))


def test_sound_goes_on_where_the_headers_end(tmp_path: Path) -> None:
    clip = write(tmp_path / "film.mp4", count=40, fps=1, size=(64, 48), gop=5, audio=40)
    state_duration(clip, 5)
    ((_, whole),) = speech.sound(clip)
    assert len(whole) / speech.RATE == pytest.approx(40, abs=0.1)
    for start in (3.0, 8.0, 25.0):
        ((begun, part),) = speech.sound(clip, start=start)
        assert begun == start
        np.testing.assert_allclose(part, whole[round(start * speech.RATE) :], atol=0.02)


def test_sound_may_change_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_audio(tmp_path / "tone.mp4")
    ((_, whole),) = speech.sound(clip)
    made: list[Picky] = []
    real = speech._resampler

    class Picky:
        """Takes five frames at the most, as PyAV's when the sixth has another layout."""

        def __init__(self) -> None:
            self.inner, self.taken = real(), 0
            made.append(self)

        def resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
            if self.taken == 5 and frame is not None:
                raise ValueError("Frame does not match AudioResampler setup.")
            self.taken += 1
            return self.inner.resample(frame)

    monkeypatch.setattr(speech, "_resampler", Picky)
    ((_, found),) = speech.sound(clip)
    assert len(made) == 4
    np.testing.assert_allclose(found, whole, atol=0.02)


def test_sound_is_cut_where_it_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.ones(12 * speech.RATE, np.float32)
    said[int(8.4 * speech.RATE) : int(8.8 * speech.RATE)] = 0  # a breath between two words
    blocks = np.split(said, 24)
    monkeypatch.setattr(speech, "_blocks", lambda *_: iter(blocks))
    pieces = list(speech.sound(write_audio(tmp_path / "tone.mp4"), piece=10.0))
    assert [start for start, _ in pieces] == [0.0, pytest.approx(8.6, abs=0.2)]
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in pieces]), said)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("late", "hole"), [(0.0, 0.0), (1.5, 0.0), (0.0, 1.0), (-0.5, 0.0)])
def test_sound_keeps_its_place_beside_the_picture(
    tmp_path: Path, suffix: str, late: float, hole: float
) -> None:
    clip = tmp_path / f"clip.{suffix}"
    first = max(0.0, -late)  # when the picture begins, by the file's own clock
    with av.open(str(clip), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for n in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = n + round(10 * first), Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, 5 * 16000, 1024):
            time = start / 16000
            if late + first > time or 2 <= time < 2 + hole:
                continue
            loud = 3 + first <= time < 4 + first
            wave = loud * np.sin(np.arange(start, start + 1024) * 0.3)[None]
            sound = av.AudioFrame.from_ndarray(
                wave.astype(np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts, sound.time_base = 16000, start, Fraction(1, 16000)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    ((begun, samples),) = speech.sound(clip)
    (loud,) = np.nonzero(np.abs(samples) > 0.3)
    assert begun == 0
    assert loud[0] / speech.RATE == pytest.approx(3, abs=0.12)
    assert loud[-1] / speech.RATE == pytest.approx(4, abs=0.12)


def test_what_is_recognised_has_its_place_in_the_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = [
        SimpleNamespace(start=0.5, end=2.0, text=" Hello there. "),
        SimpleNamespace(start=2.0, end=2.0, text="Nothing."),
        SimpleNamespace(start=2.1, end=2.9, text=" It goes"),
        SimpleNamespace(start=3.0, end=9.0, text="on to the end."),
        SimpleNamespace(start=3.0, end=4.0, text="  "),
        SimpleNamespace(start=5.5, end=8.0, text="It goes on."),  # after the sound has ended
    ]

    class Whisper:
        supported_languages = ("en", "de")

        def __init__(self, model: str, **_: object) -> None:
            assert model == str(tmp_path)

        def transcribe(self, samples: np.ndarray, language: str, **options: bool) -> object:
            assert samples.dtype == np.float32 and options["vad_filter"]
            return iter(heard), None

    (tmp_path / "model.bin").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Whisper))
    samples = np.zeros(5 * speech.RATE, np.float32)
    monkeypatch.setattr(speech, "sound", lambda _: iter([(0.0, samples), (298.5, samples)]))
    assert speech.transcribe("a.mp4", str(tmp_path), "en") == [
        Cue(0.5, 2.0, "Hello there."),
        Cue(2.1, 5.0, "It goes on to the end."),  # joined, and not longer than the sound
        Cue(299.0, 300.5, "Hello there."),
        Cue(300.6, 303.5, "It goes on to the end."),
    ]
    with pytest.raises(EmoVerseError, match="no language 'xx'"):
        speech.transcribe("a.mp4", str(tmp_path), "xx")


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
    clip = write_audio(tmp_path / "tone.mp4")
    with pytest.raises(EmoVerseError, match=r"say base or large-v3.*--transcript"):
        speech.transcribe(clip, model=str(tmp_path / "nowhere"))
    (tmp_path / "model.bin").write_bytes(b"no weights")
    with pytest.raises(EmoVerseError, match=r"cannot be read .*--transcript"):
        speech.transcribe(clip, model=str(tmp_path))


@pytest.fixture(scope="module")
def recogniser() -> speech.Recogniser:
    pytest.importorskip("faster_whisper", reason="needs the `asr` extra")
    if not (cache_dir() / "whisper-base" / "model.bin").is_file():
        pytest.skip("needs Whisper's weights; run `emoverse pull whisper-base`")
    return speech.load_recogniser("base")


def test_whisper_hears_no_words_in_a_tone(recogniser: speech.Recogniser, tmp_path: Path) -> None:
    assert recogniser.text(write_audio(tmp_path / "tone.mp4")) is None


def test_whisper_writes_down_a_real_clip(recogniser: speech.Recogniser, shared: Path) -> None:
    clip = shared / "openface_pairs" / "clip1.mp4"
    cues = recogniser.cues(speech.sound(clip), "en")
    assert all(0 <= cue.start < cue.end <= 30.4 for cue in cues)
    assert all(late.start >= early.end for early, late in itertools.pairwise(cues))
    words = " ".join(cue.text for cue in cues).split()
    assert 60 < len(words) < 100  # half a minute of a quick speaker, and nothing said twice
    phrases = {tuple(words[n : n + 6]) for n in range(len(words) - 5)}
    assert len(phrases) == len(words) - 5
    assert recogniser.text(clip, "en") == " ".join(words)
