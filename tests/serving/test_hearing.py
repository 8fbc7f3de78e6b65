"""A server that recognises what is said; the recogniser is a stand-in that hears sound."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoverse.inference import speech
from emoverse.inference.speech import Samples
from emoverse.inference.transcripts import Cue
from emoverse.serving.settings import Limits

from ..faces.clips import write, write_audio
from ..inference import hearing_made
from .running import Running, make_settings, running, wait_for
from .test_jobs import _ended

WORDS = "There is a tone."


class Hears(hearing_made.Hears):
    """Hears words wherever there is sound."""

    def said(self, start: float, samples: Samples) -> list[Cue]:
        return [Cue(start, start + 1, WORDS)] if np.abs(samples).max() > 0.1 else []


@pytest.fixture
def ears() -> Hears:
    return Hears([])


@pytest.fixture
def hearing(landmarker: Path, tmp_path: Path, ears: Hears) -> Iterable[Running]:
    settings = make_settings(tmp_path / "server", asr_model="base")
    with running(settings, listen=lambda model: ears) as server:
        yield server


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoverse.serving.runner.PIECE", 2.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds with a tone in the first five."""
    return write(tmp_path_factory.mktemp("film") / "film.mp4", count=60, fps=10, audio=5)


def _sent(server: Running, address: str, clip: Path, **fields: str) -> dict[str, Any]:
    with clip.open("rb") as file:
        answer = server.client.post(
            address, files={"file": (clip.name, file)}, data={"tasks": "er"} | fields
        )
    found: dict[str, Any] = answer.json()
    return found


def _asked(server: Running, clip: Path, **fields: str) -> dict[str, Any]:
    return _sent(server, "/v1/analyze", clip, **fields)


def _job(server: Running, clip: Path, **fields: str) -> dict[str, Any]:
    return _sent(server, "/v1/jobs", clip, **{"transcribe": "true"} | fields)


def test_what_is_said_is_recognised_when_asked_for(
    hearing: Running, ears: Hears, tmp_path: Path
) -> None:
    loud = write(tmp_path / "loud.mp4", count=30, audio=1)
    found = _asked(hearing, loud, transcribe="true")
    assert found["text"] == WORDS
    assert WORDS in found["answers"]["er"]["query"]
    # The decoding process sends what is heard without a server.
    ((_, expected),) = speech.sound(loud)
    start, language, samples = ears.whisper[-1]
    np.testing.assert_array_equal(samples, expected)
    assert (start, language) == (0, None)
    assert _asked(hearing, loud, text="My words.")["text"] == "My words."
    assert _asked(hearing, loud, transcribe="true", language="de")["text"] == WORDS
    assert ears.whisper[-1][1] == "de"


def test_what_contradicts_itself_is_refused(hearing: Running, film: Path) -> None:
    def told(address: str, **fields: str) -> str:
        return str(_sent(hearing, address, film, **fields)["error"]["message"])

    both = "have it recognised with `transcribe`, not both"
    lines = json.dumps([{"start": 0, "end": 1, "text": "So."}])
    assert told("/v1/analyze", text="So.", transcribe="true") == f"give `text` or {both}"
    assert told("/v1/jobs", transcript=lines, transcribe="true") == f"give `transcript` or {both}"
    for address in ("/v1/analyze", "/v1/jobs"):
        assert told(address, language="en").startswith("`language` is for `transcribe`")
        assert told(address, transcribe="true", language="xx") == "Whisper knows no language 'xx'."
    assert not list(hearing.service.store.uploads.iterdir())


def test_a_clip_without_sound_has_no_words(hearing: Running, tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.mp4", count=6)
    told = _asked(hearing, silent, transcribe="true")["error"]
    assert "no face was found and no text" in told["message"]
    sound = write_audio(tmp_path / "sound.mp4")
    assert "no picture" in _asked(hearing, sound, transcribe="true")["error"]["message"]


def test_a_server_without_a_speech_model_says_so(live: Running, tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mp4", audio=1)
    for told in (_asked(live, clip, transcribe="true")["error"], _job(live, clip)["error"]):
        assert told["code"] == "no_speech_model" and "--asr-model" in told["message"]
    assert not list(live.service.store.uploads.iterdir())


@pytest.mark.usefixtures("short_pieces")
def test_a_job_listens_before_it_reads(hearing: Running, ears: Hears, film: Path) -> None:
    asked = _job(hearing, film, by="utterance", language="en")
    assert asked["heard"] == 0
    job = _ended(hearing, asked["id"])
    assert job["state"] == "done", job
    assert job["heard"] == job["done"] == job["duration"] == pytest.approx(6, abs=0.1)
    starts = [start for start, _, _ in ears.whisper]
    assert [part["start"] for part in job["parts"]] == starts and len(starts) >= 3
    assert {part["analysis"]["text"] for part in job["parts"]} == {WORDS}
    assert {language for _, language, _ in ears.whisper} == {"en"}
    # The pieces join up, and nothing is heard twice.
    ((_, whole),) = speech.sound(film)
    np.testing.assert_array_equal(np.concatenate([s for *_, s in ears.whisper]), whole)
    by_part = _ended(hearing, _job(hearing, film, part="3")["id"])
    texts = [part["analysis"]["text"] for part in by_part["parts"]]
    assert texts == [" ".join([WORDS] * 2), " ".join([WORDS] * (len(starts) - 2))]
    assert _ended(hearing, _sent(hearing, "/v1/jobs", film)["id"])["heard"] is None


def test_a_job_in_which_nothing_is_said(hearing: Running, tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.mp4", count=30)
    job = _ended(hearing, _job(hearing, silent, by="utterance")["id"])
    assert job["state"] == "failed"
    assert "No words were recognised in silent.mp4; have it read by parts" in job["error"]
    job = _ended(hearing, _job(hearing, silent)["id"])
    assert job["state"] == "done" and "no face was found" in job["parts"][0]["error"]


@pytest.mark.usefixtures("short_pieces")
def test_what_was_heard_outlives_the_server(landmarker: Path, film: Path, tmp_path: Path) -> None:
    free = threading.Event()

    class Slow(Hears):
        def cues(self, *given: Any) -> list[Cue]:
            found = super().cues(*given)
            assert len(self.whisper) < 2 or free.wait(60)
            return found

    settings = make_settings(tmp_path / "server", asr_model="base")
    early, late = Slow([]), Hears([])
    with running(settings, listen=lambda _: early) as server:
        job = _job(server, film, by="utterance")["id"]
        wait_for(lambda: len(early.whisper) == 2)
        server.service.stop_soon()
        wait_for(lambda: server.service.runner.stopping)
        free.set()
    with running(settings, listen=lambda _: late) as server:
        found = _ended(server, job)
    assert found["state"] == "done"
    heard = [*early.whisper, *late.whisper]
    assert len(early.whisper) == 2 and late.whisper
    ((_, whole),) = speech.sound(film)
    np.testing.assert_array_equal(np.concatenate([s for *_, s in heard]), whole)
    assert [part["start"] for part in found["parts"]] == [start for start, *_ in heard]


def test_sound_after_the_picture_is_not_heard(
    hearing: Running, ears: Hears, tmp_path: Path
) -> None:
    short = write(tmp_path / "short.mp4", count=20, fps=10, audio=9)
    job = _ended(hearing, _job(hearing, short, by="utterance")["id"])
    assert job["state"] == "done" and len(job["parts"]) == 1
    ((start, _, samples),) = ears.whisper
    assert start == 0 and len(samples) / speech.RATE == pytest.approx(job["duration"])


@pytest.mark.usefixtures("short_pieces")
def test_a_sentence_that_goes_on_in_the_next_piece_is_one(
    landmarker: Path, film: Path, tmp_path: Path
) -> None:
    class Cut(Hears):
        def cues(self, *given: Any) -> list[Cue]:
            super().cues(*given)
            start, _, samples = self.whisper[-1]
            text = "that you would come." if start else "I never thought"
            end = start + len(samples) / speech.RATE
            return [Cue(start, end, text)] if len(self.whisper) < 3 else []

    settings = make_settings(tmp_path / "server", asr_model="base")
    with running(settings, listen=lambda _: Cut([])) as server:
        job = _ended(server, _job(server, film, by="utterance")["id"])
    texts = [part["analysis"]["text"] for part in job["parts"]]
    assert texts == ["I never thought that you would come."]


@pytest.mark.parametrize("ended", ["cancelled", "stopped"])
def test_nobody_waits_for_what_nobody_wants_to_hear(
    landmarker: Path, film: Path, tmp_path: Path, ended: str
) -> None:
    begun = threading.Event()
    over: list[bool] = []

    class Endless(Hears):
        def cues(self, pieces: Any, language: Any = None, stop: Any = None) -> list[Cue]:
            begun.set()
            over.append(stop.wait(60))
            return []

    settings = make_settings(tmp_path / "server", Limits(decode_seconds=5), asr_model="base")
    with running(settings, listen=lambda _: Endless([])) as server:
        job = _job(server, film)["id"]
        assert begun.wait(60)
        if ended == "cancelled":
            assert server.client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
            wait_for(lambda: over == [True])
    wait_for(lambda: over == [True])


def test_a_job_waits_for_a_server_that_hears(landmarker: Path, film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    free = threading.Event()

    class Waits(Hears):
        def cues(self, *given: Any) -> list[Cue]:
            assert free.wait(60)
            return super().cues(*given)

    with running(make_settings(folder, asr_model="base"), listen=lambda _: Waits([])) as server:
        jobs = [_job(server, film)["id"] for _ in range(2)]
        server.service.stop_soon()
        wait_for(lambda: server.service.runner.stopping)
        free.set()
    with running(make_settings(folder)) as server:
        other = _ended(server, _sent(server, "/v1/jobs", film)["id"])
        assert "no face was found" in other["parts"][0]["error"]
        assert server.client.get(f"/v1/jobs/{jobs[1]}").json()["state"] == "queued"
    with running(make_settings(folder, asr_model="base"), listen=lambda _: Hears([])) as server:
        for job in jobs:
            assert _ended(server, job)["parts"][0]["analysis"]["text"] == WORDS
