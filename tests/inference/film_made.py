"""Films of drawn faces, transcripts, and a stand-in model that is quick and sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from emoverse.inference.interview import Prediction, Question
from emoverse.inference.transcripts import Cue, dump_transcript
from emoverse.tasks import ecpe, er, fer, labels, msa

from ..emt.drawn import face
from ..faces.clips import write

FPS = 12
# Words that the stand-in takes for an emotion.
WORDS = {"hooray": "joy", "awful": "anger", "what?": "surprise", "alas": "sadness"}


class Model:
    """Answers by the words of what is said now; every cause is the utterance before."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def __call__(self, questions: Sequence[Question]) -> list[Prediction]:
        self.asked += questions
        return [self._answer(question) for question in questions]

    def queries(self, task: str) -> list[str]:
        return [q.record.query for q in self.asked if q.record.task == task]

    def _answer(self, question: Question) -> Prediction:
        record = question.record
        if record.task == "ecpe":
            turns, index = ecpe.parse_query(record.query)
            target = next(turn for turn in turns if turn.index == index)
            pair = ecpe.Pair(index, target.emotion, max(1, index - 1))
            label = [[pair.emotion_index, pair.emotion, pair.cause_index]]
            shares = {str(pair.cause_index): 0.9, str(index): 0.2}
            return Prediction(record.id, ecpe.answer([pair]), label, shares)
        if record.task == "fer":
            return Prediction(record.id, fer.answer(["Jaw Drop"]), ["AU26"])
        if record.task == "eri":
            return Prediction(record.id, "They say so.", "They say so.")
        said = record.query.rpartition("The person says: ")[2].lower()
        emotion = next((e for word, e in WORDS.items() if word in said), "neutral")
        if record.task == "msa":
            mood = "negative" if emotion in ("anger", "sadness") else "positive"
            return Prediction(record.id, msa.answer(mood), mood, {mood: 0.8})
        shares = {one: 0.7 if one == emotion else 0.05 for one in labels.EMOTIONS}
        return Prediction(record.id, er.answer(emotion), emotion, shares)


def other_face(mouth: float) -> np.ndarray:
    """Somebody else than `drawn.face`, elsewhere: with thick brows and a large nose."""
    image = Image.fromarray(face(mouth, -4))
    draw = ImageDraw.Draw(image)
    for wall in ((0, 0, 80, 240), (235, 0, 320, 240)):
        draw.rectangle(wall, fill=(215, 190, 60))
    for x in (133, 178):
        draw.rectangle((x - 18, 78, x + 18, 92), fill=(25, 18, 12))
    draw.ellipse((148, 112, 164, 146), fill=(120, 70, 50))
    return np.asarray(image)


def talking(seconds: float, *, other: bool = False, mute: bool = False) -> list[np.ndarray]:
    """A face whose mouth opens and closes twice a second, or stays shut."""
    frames = []
    for n in range(round(seconds * FPS)):
        mouth = 0.0 if mute else 0.5 - 0.5 * math.cos(2 * math.pi * 2 * n / FPS)
        frames.append(other_face(mouth) if other else face(mouth))
    return frames


def nobody(seconds: float) -> list[np.ndarray]:
    """A grey wall."""
    return [np.full((240, 320, 3), 120, np.uint8)] * round(seconds * FPS)


def film(path: Path) -> Path:
    """Ann talks for 4 s, Bob for 4 s, Ann for 4 s again; then 4 s of a wall."""
    frames = [*talking(4), *talking(4, other=True), *talking(4), *nobody(4)]
    return write(path, frames, fps=FPS)


CUES = (
    Cue(0.5, 3.5, "Hooray, the prize is ours.", "Ann"),
    Cue(4.5, 7.5, "What? I did not know.", "Bob"),
    Cue(8.5, 11.5, "It is true.", "Ann"),
    Cue(12.5, 14.0, "Alas, it is far away."),
)


def transcript(path: Path, cues: Sequence[Cue] = CUES) -> Path:
    path.write_text(dump_transcript(cues), encoding="utf-8")
    return path
