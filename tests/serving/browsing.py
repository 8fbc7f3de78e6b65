"""A browser, and an engine whose answers are known, for the tests of the page."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any

from emoverse.inference.engine import Engine
from emoverse.inference.interview import Prediction, Question
from emoverse.tasks import fer, labels

from ..models.tiny import tiny_model

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
REASON = "She smiles with her whole face because she got the job that she hoped for all year."


def chromium() -> str | None:
    """A Chromium or Chrome of this machine."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Scripted(Engine):
    """Says the same to everyone: joy, and a reason word by word.

    `free` holds back the reason's second half until it is set.
    """

    def __init__(self, emotion: str = "joy", pause: float = 0.02) -> None:
        super().__init__(tiny_model())
        self.emotion = emotion
        self.pause = pause
        self.free = threading.Event()
        self.free.set()
        self.written = 0  # words of reasons
        self.asked: list[str] = []

    def ask(self, questions: Sequence[Question], told: Any = None) -> list[Prediction]:
        self.asked += [question.record.query for question in questions]
        return [self._say(place, question, told) for place, question in enumerate(questions)]

    def _say(self, place: int, question: Question, told: Any) -> Prediction:
        record = question.record
        if record.task == "msa":
            glad = self.emotion == "joy"
            shares = {"positive": 0.9, "negative": 0.1} if glad else {"negative": 0.7}
            best = max(shares, key=lambda label: shares[label])
            return Prediction(record.id, f"{best.capitalize()}.", best, shares)
        if record.task == "er":
            rest = {label: 0.2 / 6 for label in labels.EMOTIONS if label != self.emotion}
            shares = {self.emotion: 0.8} | rest
            return Prediction(record.id, f"{self.emotion.capitalize()}.", self.emotion, shares)
        if record.task == "fer":
            text = "Lip corners pulled; Cheeks raised"
            return Prediction(record.id, text, list(fer.parse(text)))
        if record.task == "eri":
            return self._reason(place, record.id, told)
        index = int(record.id)
        pairs = [[index, self.emotion, max(1, index - 1)]]
        return Prediction(record.id, f"{index}_{self.emotion},{max(1, index - 1)}", pairs)

    def _reason(self, place: int, name: str, told: Any) -> Prediction:
        words = REASON.split()
        for count in range(1, len(words) + 1):
            if count > len(words) // 2:
                assert self.free.wait(60)
            time.sleep(self.pause)
            self.written += 1
            if told is not None and not told(place, " ".join(words[:count])):
                break
        return Prediction(name, REASON, REASON)
