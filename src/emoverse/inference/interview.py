"""What is asked about a clip, and what the answers add up to.

An interview is a generator: it yields the questions that can be asked now, is sent their answers
in the same order, and returns the finished analysis. Whoever drives it decides how they are asked:
the engine asks at once, the server mixes the questions of many interviews into one batch, and a
model behind an endpoint gets them over the network.
"""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack
from emoverse.faces.peak import score
from emoverse.inference.analysis import Analysis, Answer, AUCurve, Peak
from emoverse.inference.consistency import unlikely_words
from emoverse.tasks import er, eri, fer, msa

CLIP_TASKS = ("msa", "er", "fer", "eri")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model said to a record.

    Attributes:
        id: the record's.
        text: the answer as it would be written in an EMT file.
        label: the parsed answer; pairs as [emotion index, emotion, cause index].
        probabilities: over allowed labels (MSA, ER) or per cause index (ECPE).
        media_missing: the record names media, and none of it could be used.
        seconds: its share of the time of the batch it was answered in.
    """

    id: str
    text: str
    label: Any
    probabilities: Mapping[str, float] = field(default_factory=dict)
    media_missing: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A clip whose faces are measured.

    Attributes:
        clip: its name, as reports show it.
        track: its faces.
        frames: JPEG pictures spread evenly over the clip, for models that see frames.
        seconds: how long watching took.
    """

    clip: str
    track: FaceTrack
    frames: tuple[bytes, ...] = ()
    seconds: float = 0.0

    @property
    def face(self) -> bool:
        """Whether there is a face to show to the model."""
        return self.track.peak_image is not None and self.track.peak_landmarks is not None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A record to be answered, and the clip that is shown with it.

    Attributes:
        record: its `task` and `query` count; its media are not looked at.
        shown: None when the question rests on words alone.
        unwanted: lower-case words that a free text is not to use.
    """

    record: Record
    shown: Watched | None = None
    unwanted: tuple[str, ...] = ()


Interview = Generator[list[Question], list[Prediction], Analysis]


def check_tasks(tasks: Sequence[str]) -> None:
    """Refuse what cannot be asked of a clip.

    Raises:
        EmoVerseError: a task is unknown, or is ECPE, which needs a conversation.
    """
    if strange := set(tasks) - set(CLIP_TASKS):
        raise EmoVerseError(
            f"{min(strange)!r} cannot be asked of a clip; use {', '.join(CLIP_TASKS)}."
        )


def clip_interview(
    watched: Watched,
    text: str | None,
    tasks: Sequence[str],
    model: str,
    *,
    speaker: str | None = None,
    context: Sequence[tuple[str, str]] = (),
) -> Interview:
    """Ask `tasks` about one clip; without a face there is no expression to tell, nor a reason.

    Args:
        watched: the clip.
        text: what is said in it; None when unknown.
        tasks: among `CLIP_TASKS`.
        model: name of the model that answers, for the analysis.
        speaker: who speaks; used with `context` only.
        context: earlier (speaker, text) turns of the conversation, oldest first; the emotion is
            asked for with them, as in training.

    Raises:
        EmoVerseError: a task cannot be asked, or there is neither a face nor a text to read.
    """
    check_tasks(tasks)
    start = time.perf_counter()
    track = watched.track
    text = " ".join(text.split()) or None if text else None
    if not watched.face and not text:
        raise EmoVerseError(
            f"{watched.clip}: no face was found and no text was given, so there is nothing to "
            "read; give what is said in it as text."
        )
    warnings = list(track.warnings)
    if not text:
        warnings.append("No text was given; the answers rest on the face alone.")
    answers: dict[str, Answer] = {}
    # Of what it cannot see a model would make up an expression, and a reason that rests on it.
    unseen = set() if watched.face else {"fer"} if watched.frames else {"fer", "eri"}
    askable = [task for task in tasks if task not in unseen]
    # The reason rests on the caption, so it is asked when the others are answered.
    for batch in ([t for t in CLIP_TASKS[:3] if t in askable], [t for t in askable if t == "eri"]):
        if not batch:
            continue
        caption = answers["fer"].text if "fer" in answers else None
        queries = [_clip_query(task, text, caption, speaker, context) for task in batch]
        emotions = answers["er"].probabilities if "er" in answers else {}
        found = yield [
            Question(
                Record(query, "", task, id=task),
                watched,
                unlikely_words(emotions, text) if task == "eri" else (),
            )
            for task, query in zip(batch, queries, strict=True)
        ]
        for task, query, answer in zip(batch, queries, found, strict=True):
            answers[task] = Answer(
                task, query, answer.text, answer.label, answer.probabilities, answer.seconds
            )
    spent = time.perf_counter() - start
    return Analysis(
        clip=watched.clip,
        model=model,
        text=text,
        duration=track.info.duration,
        width=track.info.width,
        height=track.info.height,
        fps=track.info.fps,
        people=track.people,
        answers={task: answers[task] for task in tasks if task in answers},
        peak=_peak(track),
        curves=_curves(track),
        warnings=tuple(warnings),
        seconds={"faces": watched.seconds, "answers": spent, "total": watched.seconds + spent},
    )


def _clip_query(
    task: str,
    text: str | None,
    caption: str | None,
    speaker: str | None,
    context: Sequence[tuple[str, str]],
) -> str:
    if task == "msa":
        return msa.query(text)
    if task == "er":
        return er.query(text, speaker=speaker, context=context)
    return fer.query() if task == "fer" else eri.query(text, caption)


def _peak(track: FaceTrack) -> Peak | None:
    if track.peak is None or track.peak_image is None or track.peak.box is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray(track.peak_image).save(buffer, "JPEG", quality=88)
    return Peak(
        frame=track.peak.frame,
        timestamp=track.peak.timestamp,
        person=track.peak.person,
        score=score(track.peak),
        box=track.peak.box,
        intensities=dict(track.peak.intensities),
        jpeg=buffer.getvalue(),
    )


def _curves(track: FaceTrack) -> tuple[AUCurve, ...]:
    return tuple(
        AUCurve(
            person=person,
            timestamps=tuple(frame.timestamp for frame in frames),
            scores=tuple(score(frame) for frame in frames),
            intensities={
                code: tuple(frame.intensities[code] for frame in frames)
                for code in frames[0].intensities
            },
        )
        for person, frames in track.curves.items()
    )
