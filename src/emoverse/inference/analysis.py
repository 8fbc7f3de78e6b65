"""What `analyze` finds out about a clip or a conversation, as plain typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One task's answer.

    Attributes:
        task: `msa`, `er`, `fer`, `eri` or `ecpe`.
        query: what the model was asked.
        text: what the model answered.
        label: the parsed answer, None when it could not be parsed.
        probabilities: over the allowed labels, summing to 1; empty for free text.
        seconds: time the answer took.
    """

    task: str
    query: str
    text: str
    label: Any = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Peak:
    """The peak frame (Eq 1 and 2).

    Attributes:
        frame: 0-based frame index in the clip.
        timestamp: seconds from the start.
        person: id of the person within the clip.
        score: S_f, the sum of AU intensities.
        box: face box (x0, y0, x1, y1) in pixels of the stored picture.
        intensities: AU code to intensity in 0..5.
        jpeg: the peak frame as JPEG bytes.
    """

    frame: int
    timestamp: float
    person: int
    score: float
    box: tuple[float, float, float, float]
    intensities: Mapping[str, float]
    jpeg: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class AUCurve:
    """AU activity over time of one person: same-length tuples.

    Attributes:
        timestamps: seconds.
        scores: S_f per sampled frame.
        intensities: AU code to its intensity per sampled frame, 0..5.
    """

    person: int
    timestamps: tuple[float, ...]
    scores: tuple[float, ...]
    intensities: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything found out about one clip (or, with `turns`, about one conversation).

    Attributes:
        clip: path as given; None for a conversation without clips.
        model: name of the model that answered.
        text: what was said, as given.
        duration: seconds; width, height: pixels of the upright picture; fps: frames a second.
        people: number of persons seen.
        answers: by task id.
        peak, curves: None and () when no face was seen.
        turns: for a conversation, its utterances {index, speaker, text, emotion}.
        pairs: for a conversation, (emotion index, emotion, cause index).
        warnings: plain sentences, e.g. "No face was found in clip.mp4."
        seconds: wall time by step.
    """

    clip: str | None
    model: str
    text: str | None = None
    duration: float = 0.0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    people: int = 0
    answers: Mapping[str, Answer] = field(default_factory=dict)
    peak: Peak | None = None
    curves: tuple[AUCurve, ...] = field(default=(), repr=False)
    turns: tuple[Mapping[str, Any], ...] = ()
    pairs: tuple[tuple[int, str, int], ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the peak picture is left out (the HTML report carries it)."""
        value = asdict(self)
        if value["peak"]:
            value["peak"].pop("jpeg")
        return value

    def _repr_html_(self) -> str:
        """What a notebook shows: a small card."""
        from emoverse.inference.card import card  # made of analyses itself

        return card(self)
