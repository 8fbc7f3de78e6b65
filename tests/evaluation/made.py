from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoverse.emt.record import Record
from emoverse.tasks import ecpe, er, msa
from emoverse.tasks.ecpe import Pair, Turn

EMOTIONS = ("joy", "neutral", "anger", "sadness", "surprise")


@dataclass
class Prediction:
    id: str
    text: str
    label: Any = None
    probabilities: dict[str, float] = field(default_factory=dict)
    media_missing: bool = False
    seconds: float = 0.01


class FakeEngine:
    """Answers with the gold, except for ids named in `wrong`; may be killed after some answers."""

    def __init__(self, wrong: dict[str, str] | None = None, die_after: int | None = None) -> None:
        self.name = "fake"
        self.sha256 = "feed"
        self.asked: list[str] = []
        self._wrong = wrong or {}
        self._die_after = die_after

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Prediction]:
        for count, record in enumerate(records):
            if count == self._die_after:
                raise KeyboardInterrupt
            self.asked.append(record.id)
            there = all(((media_root or Path()) / item).is_file() for item in record.media)
            yield Prediction(
                record.id,
                self._wrong.get(record.id, record.response),
                media_missing=not there,
                probabilities={"joy": 1.0},
            )


def talk(number: int, length: int = 6) -> tuple[list[Turn], dict[int, list[int]]]:
    """A made conversation whose causes follow a rule that only "no text" features can see."""
    turns, causes = [], {}
    for index in range(1, length + 1):
        emotion = EMOTIONS[(number + index * index) % len(EMOTIONS)]
        text = f"Line {index} of talk {number}" + " and more" * ((number * index) % 4)
        turns.append(Turn(index, "AB"[(number + index) % 2], text, emotion))
        if emotion != "neutral":
            far = index > 2 and turns[index - 3].emotion != "neutral"
            causes[index] = [index - 2, index] if far else [index]
    return turns, causes


def ecpe_records(numbers: Sequence[int]) -> list[Record]:
    records = []
    for number in numbers:
        turns, causes = talk(number)
        for target, found in causes.items():
            emotion = turns[target - 1].emotion
            pairs = [Pair(target, emotion, cause) for cause in found]
            if number % 7 == 3 and target == max(causes):
                pairs = []
            records.append(
                Record(
                    ecpe.query(turns, target),
                    ecpe.answer(pairs),
                    "ecpe",
                    id=f"c{number}_{target}",
                    label=[[p.emotion_index, p.emotion, p.cause_index] for p in pairs],
                )
            )
    return records


def er_records(count: int = 10) -> list[Record]:
    return [
        Record(
            er.query(f"Sentence {number}"),
            er.answer(EMOTIONS[number % 4]),
            "er",
            id=f"u{number}",
            text=f"Sentence {number}",
            label=EMOTIONS[number % 4],
            videos=(f"clips/u{number}.mp4",),
        )
        for number in range(count)
    ]


def msa_records(count: int = 12) -> list[Record]:
    scores = [(-1.5, -0.5, 0.0, 0.75, 2.0)[number % 5] for number in range(count)]
    return [
        Record(
            msa.query(f"Words {number}"),
            msa.answer("negative" if score < 0 else "positive"),
            "msa",
            id=f"u{number}",  # ids repeat across tasks on purpose
            label=score,
        )
        for number, score in enumerate(scores)
    ]
