"""How models are shown and asked: the seam between the engine and the models it knows.

The engine runs prompts and allowed answers on any language model (`emoverse.models.language`). What
a model sees of a picture or clip, and how it words a chat, is a reader's affair: `FaceReader`'s is
the compact model, which sees a face; `FrameReader`'s (`emoverse.inference.frame_reader`) is any
other, which sees the whole picture, or frames of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces.crop import crop
from emoverse.faces.pictures import face_crop
from emoverse.inference.interview import Question, Watched
from emoverse.models import face_vit
from emoverse.models.language import Language
from emoverse.models.lean import Lean
from emoverse.models.llama import FusedLlama
from emoverse.models.prompt import answer_tokens, prompt_tokens

if TYPE_CHECKING:  # transformers' classes, which the compact model answers without
    from emoverse.models.emoverse import EmoVerse
    from emoverse.models.processing import Shown

Sight = Sequence[Any]
"""What is shown with one question, in the reader's own kind of pictures; empty for nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was looked at for one question.

    Attributes:
        ids: per picture the negative ids of its rows of visual features.
        shown: what a processor made of the pictures.
    """

    ids: Sequence[list[int]] = ()
    shown: Shown | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt as tokens.

    Attributes:
        tokens: ids; negative ones point into the visual features.
        positions: (axes, len) of models that give a token several; None counts up.
    """

    tokens: list[int]
    positions: np.ndarray | None = None


class Reader(Protocol):
    """What the engine asks of a model beside its language model.

    Attributes:
        model: whose reader it is.
        end: the token that ends an answer.
        frames: pictures of a clip that it wants beside the clip's faces (`Watched.frames`).
        together: questions that are looked at and run together.
        abreast: texts that are written side by side.
    """

    @property
    def model(self) -> Language:
        """See above."""

    end: int
    frames: int
    together: int
    abreast: int

    def of_records(self, records: Sequence[Record], root: Path | None) -> list[Sight]:
        """What records show, the same object to all that show it; nothing if it cannot be had."""
        ...

    def of_questions(self, questions: Sequence[Question]) -> list[Sight]:
        """What questions show of their watched clips, likewise."""
        ...

    def look(self, sights: Sequence[Sight]) -> tuple[torch.Tensor | None, list[Seen]]:
        """Features (m, width) of all that is shown, and who points to which rows of them."""
        ...

    def prompt(self, query: str, seen: Seen) -> Prompt:
        """A query, behind what it shows, up to where the answer begins."""
        ...

    def words(self, text: str) -> list[int]:
        """The tokens of the beginning of an answer."""
        ...

    def answer(self, text: str) -> list[int]:
        """The tokens of a whole answer, its end included."""
        ...

    @property
    def writer(self) -> Language:
        """The model as it writes text; its own self unless it has another precision for that."""
        ...

    @property
    def fused(self) -> FusedLlama | None:
        """The writer's weights laid out for a CPU, where they are."""
        ...


class FaceReader:
    """The compact model: one face crop for a picture or clip, ChatML prompts."""

    frames = 0
    together = 64
    abreast = 16

    def __init__(self, model: Lean | EmoVerse) -> None:
        """Wrap a loaded model."""
        self.model = model
        self.end = answer_tokens(model.tokenizer, "")[0]

    def of_records(self, records: Sequence[Record], root: Path | None) -> list[Sight]:
        """The face crops of each record; a picture that several show is the same array to all."""
        found: dict[str, list[np.ndarray]] = {}
        for record in records:
            for path in record.media:
                if path not in found:
                    found[path] = _picture(record, path, root)
        return [[crop for path in record.media for crop in found[path]] for record in records]

    def of_questions(self, questions: Sequence[Question]) -> list[Sight]:
        """The crop of the clip's peak; reasons were learnt from words and captions alone."""
        crops = {id(question.shown): _crops(question.shown) for question in questions}
        return [
            [] if question.record.task == "eri" else crops[id(question.shown)]
            for question in questions
        ]

    def look(self, sights: Sequence[Sight]) -> tuple[torch.Tensor | None, list[Seen]]:
        """Look at every crop once; it is the same prefix to all that show it."""
        distinct = {id(picture): picture for some in sights for picture in some}
        if not distinct:
            return None, [Seen() for _ in sights]
        with torch.inference_mode():
            pixels = face_vit.pixel_values(np.stack(list(distinct.values())))
            features = self.model.project(self.model.visual_tokens(pixels))
        size = self.model.image_tokens
        first = {key: -1 - place * size for place, key in enumerate(distinct)}
        return features, [
            Seen([[first[id(picture)] - k for k in range(size)] for picture in some])
            for some in sights
        ]

    def prompt(self, query: str, seen: Seen) -> Prompt:
        """See `Reader`."""
        return Prompt(prompt_tokens(self.model.tokenizer, query, seen.ids))

    def words(self, text: str) -> list[int]:
        """See `Reader`."""
        return self.answer(text)[:-1]

    def answer(self, text: str) -> list[int]:
        """See `Reader`."""
        return answer_tokens(self.model.tokenizer, text)

    @cached_property
    def writer(self) -> Language:
        """See `Reader`."""
        return self.model.writer if isinstance(self.model, Lean) else self.model

    @property
    def fused(self) -> FusedLlama | None:
        """See `Reader`; transformers' classes have a step of their own."""
        return self.writer.llama if isinstance(self.writer, Lean) else None


def _picture(record: Record, path: str, root: Path | None) -> list[np.ndarray]:
    """The face crop of a record's picture or clip; none if it is missing, damaged or faceless."""
    file = (root or Path()) / path
    if not file.is_file():
        return []
    try:
        found = face_crop(file, aligned=bool(record.meta.get("aligned")))
    except EmoVerseError:
        return []  # one damaged clip is no reason to end a run; it is counted
    return [] if found is None else [found]


def _crops(shown: Watched | None) -> list[np.ndarray]:
    if shown is None or shown.track.peak_image is None or shown.track.peak_landmarks is None:
        return []
    return [crop(shown.track.peak_image, shown.track.peak_landmarks)]
