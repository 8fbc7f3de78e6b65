"""Jobs that follow a transcript utterance by utterance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoverse.serving.talk import Talk

from ..faces.clips import write
from ..inference.film_made import Model
from .running import Running
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
    late = {"start": 50.0, "end": 52.0, "text": "Too late."}
    job = _job(live, film, [*LINES[:2], late])
    assert job["state"] == "done"
    assert [part["error"] is None for part in job["parts"]] == [True, True, False]


def test_a_transcript_without_words_is_told(live: Running, film: Path) -> None:
    job = _job(live, film, [{"start": 3.0, "end": 3.0, "text": " "}])
    assert job["state"] == "failed" and "no line with words" in job["error"]


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
