"""A model that sees frames, behind the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emoverse.inference.engine import Engine
from emoverse.inference.interview import Question
from emoverse.models import any_mllm
from emoverse.tasks import labels

from ..faces.clips import write
from ..models.families import FAMILIES
from .running import make_settings, running


@pytest.mark.usefixtures("landmarker")
def test_it_is_shown_frames_of_the_clip(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8)
    write(tmp_path / "a.mp4", list(noise), fps=10)
    engine = Engine(any_mllm.prepare("big", *FAMILIES["idefics3"]()))
    shown: list[list[tuple[int, int]]] = []
    plain = engine.reader.of_questions

    def of_questions(questions: list[Question]) -> list[object]:
        found = plain(questions)
        shown.extend([frame.size for frame in sight] for sight in found)
        return list(found)

    engine.reader.of_questions = of_questions  # type: ignore[method-assign,assignment]
    settings = make_settings(tmp_path / "server", roots=(tmp_path,))
    with running(settings, lambda _: engine) as server:
        asked = {"path": "a.mp4", "text": "I love it", "tasks": ["er", "eri"]}
        answer = server.client.post("/v1/analyze", json=asked)
        assert answer.status_code == 200, answer.text
    found = answer.json()["answers"]
    assert set(found["er"]["probabilities"]) == set(labels.EMOTIONS)
    assert found["eri"]["text"]
    assert shown == [[(64, 48)] * 8] * 2
