"""Jobs that follow a transcript utterance by utterance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from emoverse.faces import FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference.interview import Watched
from emoverse.serving.problems import Refused
from emoverse.serving.sandbox import Piece
from emoverse.serving.settings import Limits
from emoverse.serving.talk import Talk

from ..faces.clips import write
from ..inference.film_made import Model
from .running import Running, make_settings, running
from .test_jobs import _ended

LINES = [
    {"start": 0.2, "end": 1.5, "text": "Hooray, we won.", "speaker": "Ann"},
    {"start": 2.0, "end": 3.5, "text": "What? Really?", "speaker": "Bob"},
    {"start": 4.0, "end": 5.5, "text": "Yes."},
    {"start": 3.0, "end": 3.0, "text": "never spoken"},
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("film") / "film.mp4", count=150, fps=25, gop=60)


def _job(live: Running, film: Path, lines: list[dict[str, Any]], **fields: str) -> dict[str, Any]:
    data = {"tasks": "er", "by": "utterance", "transcript": json.dumps(lines)} | fields
    with film.open("rb") as file:
        added = live.client.post("/v1/jobs", files={"file": ("film.mp4", file)}, data=data)
    assert added.status_code == 202, added.text
    return _ended(live, added.json()["id"])


def test_every_line_is_a_part_that_is_asked_with_those_before_it(live: Running, film: Path) -> None:
    job = _job(live, film, LINES)
    assert job["state"] == "done", job
    assert [part["speaker"] for part in job["parts"]] == ["Ann", "Bob", None]
    assert [part["analysis"]["text"] for part in job["parts"]] == [
        line["text"] for line in LINES[:3]
    ]
    queries = [part["analysis"]["answers"]["er"]["query"] for part in job["parts"]]
    assert "conversation so far" not in queries[0]
    assert "Ann: Hooray, we won.\nNow Bob speaks." in queries[1]
    assert "Bob: What? Really?\nThe person says" in queries[2]
    assert job["done"] == job["duration"] == pytest.approx(6, abs=0.1)
    emotions = [part["analysis"]["answers"]["er"]["label"] for part in job["parts"]]
    for target, emotion, cause in job["parts"][-1]["pairs"]:
        assert emotions[target - 1] == emotion and 1 <= cause <= target


def test_a_line_after_the_end_is_told_and_the_job_goes_on(live: Running, film: Path) -> None:
    late = [{"start": 50.0 + n, "end": 55.0, "text": "Too late."} for n in range(4)]
    job = _job(live, film, [*late, *LINES[:2]])
    assert job["state"] == "done"
    assert [part["error"] is None for part in job["parts"]] == [True] * 2 + [False] * 4
    assert {part["error"] for part in job["parts"][2:]} == {
        "This line of the transcript lies after the video's end (6.0 s) and was left out."
    }
    assert [part["start"] for part in job["parts"][2:]] == [50, 51, 52, 53]


def test_a_transcript_of_another_film_is_refused(live: Running, film: Path) -> None:
    job = _job(live, film, [{"start": 50.0, "end": 52.0, "text": "Too late."}])
    assert job["state"] == "failed"
    assert "Every utterance of the transcript lies after the video's end" in job["error"]


def test_a_picture_that_is_held_is_read_with_its_words(live: Running, tmp_path: Path) -> None:
    slides = write(tmp_path / "slides.mp4", times=[0, 30_000, 60_000, 90_000])
    job = _job(live, slides, [{"start": 40.0, "end": 43.0, "text": "And here we see a cow."}])
    assert job["state"] == "done" and job["parts"][0]["error"] is None
    assert job["parts"][0]["analysis"]["width"] == 64


def test_words_are_read_where_the_picture_cannot_be(live: Running, film: Path) -> None:
    sandbox = live.service.sandbox
    watch = sandbox.watch

    async def failing(*given: Any, window: tuple[float, float], **more: Any) -> Piece:
        if window[0] > 1.9:
            raise Refused(422, "bad_media", "No frame there.")
        return await watch(*given, window=window, **more)

    second = LINES[1] | {"start": 3.5, "end": 4.5}
    with patch.object(sandbox, "watch", failing):
        jobs = [
            _job(live, film, [LINES[0], second], by=by, part="3") for by in ("utterance", "part")
        ]
    for job in jobs:
        assert job["state"] == "done"
        assert job["parts"][1]["analysis"]["text"] == "What? Really?"
        assert "No frame there." in job["parts"][1]["analysis"]["warnings"]


def test_a_transcript_without_words_is_refused(live: Running, film: Path) -> None:
    for lines in ([], [{"start": 3.0, "end": 3.0, "text": " "}]):
        data = {"tasks": "er", "by": "utterance", "transcript": json.dumps(lines)}
        with film.open("rb") as file:
            answer = live.client.post("/v1/jobs", files={"file": ("film.mp4", file)}, data=data)
        assert answer.status_code == 422
        assert "no line with words" in answer.json()["error"]["message"]
    assert list(live.service.store.uploads.iterdir()) == []


def test_what_is_too_long_is_told_in_its_part_and_the_job_goes_on(
    landmarker: Path, film: Path, tmp_path: Path
) -> None:
    long = [line | {"text": "so happy " * 150} for line in LINES[:2]]
    with running(make_settings(tmp_path, Limits(tokens=500))) as server:
        job = _job(server, film, [*long, LINES[2]])
        assert job["state"] == "done"
        assert ["tokens" in (part["error"] or "") for part in job["parts"]] == [True] * 3
        lines = [LINES[2] | {"text": "so happy " * 300}] * 2
        job = _job(server, film, lines, by="part", part="3")
        assert job["state"] == "done"
        assert "4000 characters; shorten the parts" in job["parts"][1]["error"]


def test_what_stands_before_an_utterance_is_limited() -> None:
    lines = [
        {"start": 2.0 * n, "end": 2.0 * n + 1, "text": f"{n} " + "x" * 3000, "speaker": "Ann"}
        for n in range(4)
    ]
    talk = Talk(lines, ["er"], "m")
    for _ in range(3):
        talk.take({})
    info = VideoInfo(Path("film.mp4"), 64, 48, 25.0, 8.0, 200, 0, False)
    watched = Watched("film.mp4", FaceTrack(info))
    (question,) = next(talk.ask(watched))
    assert re.findall("[0-9]+(?= x)", question.record.query) == ["1", "2", "3"]


def test_causes_are_asked_window_by_window_and_a_talk_can_be_taken_up() -> None:
    lines = [
        {"start": 2.0 * n, "end": 2.0 * n + 1, "text": f"Hooray {n}.", "speaker": "Ann"}
        for n in range(30)
    ]
    read = [{"analysis": {"answers": {"er": {"label": "joy"}}}}] * 30

    def pairs(talk: Talk, model: Model) -> list[tuple[int, str, int]]:
        causes = talk.ask_causes()
        if causes is None:
            return []
        questions = next(causes)
        try:
            causes.send(model(questions))
        except StopIteration as end:
            return talk.pairs(end.value)
        raise AssertionError

    model, talk, found = Model(), Talk(lines, ["er"], "m"), []
    for part in read:
        talk.take(part)
        found.append(pairs(talk, model))
    assert [n for n, some in enumerate(found, 1) if some] == [24, 30]
    assert [pair for some in found for pair in some] == [(1, "joy", 1)] + [
        (n, "joy", n - 1) for n in range(2, 31)
    ]

    again = Talk(lines, ["er"], "m")
    for part in read[:29]:
        again.take(part)
    following = again.following()
    assert following is not None and following.text == "Hooray 29."
    again.take(read[29])
    assert pairs(again, Model()) == found[-1] and again.following() is None
