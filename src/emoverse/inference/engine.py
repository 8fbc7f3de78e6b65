"""The engine: records or a clip in, answers out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces
from emoverse.faces.crop import crop
from emoverse.faces.pictures import face_crop
from emoverse.inference import calibration, scoring
from emoverse.inference.analysis import Analysis
from emoverse.inference.calibration import Calibration
from emoverse.inference.caption_grammar import caption_grammar
from emoverse.inference.generation import generate
from emoverse.inference.interview import (
    CLIP_TASKS,
    Interview,
    Prediction,
    Question,
    Watched,
    check_tasks,
    clip_interview,
    dialogue_interview,
    load_turns,
)
from emoverse.inference.questions import pose
from emoverse.models import compact, face_vit
from emoverse.models.decoder import Branch, FusedLlama
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prompt import answer_tokens
from emoverse.tasks import eri, fer

_Item = TypeVar("_Item")

# Gets a place among the questions and the text so far; False ends the text.
Told = Callable[[int, str], bool]
_CHUNK = 64
_ROWS = 16  # texts that are written side by side...
_FEW = 6  # ...and up to so many 8-bit weights are the faster ones
_MOST_TOKENS = {"fer": 48, "eri": 128}


class Engine:
    """A loaded model that answers; made by `load_model`."""

    def __init__(self, model: EmoVerse, calibration: Calibration | None = None) -> None:
        """Wrap a loaded model; use `load_model` instead."""
        self.model = model
        self.name = model.name
        self.calibration = calibration or Calibration()
        self._end = answer_tokens(model.tokenizer, "")[0]
        self._captions = caption_grammar(model.tokenizer, self._end)
        self._laid_out: FusedLlama | None = None
        self._is_laid_out = False

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Prediction]:
        """Answer records, neighbours together.

        Args:
            records: of any tasks; those of one clip or conversation are cheaper side by side.
            media_root: where relative media paths start; the working folder by default. Records
                whose media is not there are answered from their text alone.

        Yields:
            One prediction per record, in order.
        """
        for batch in _batched(records, _CHUNK):
            found: dict[str, list[np.ndarray]] = {}
            for record in batch:
                for path in record.media:
                    if path not in found:
                        found[path] = _picture(record, path, media_root)
            pictures = [[crop for path in record.media for crop in found[path]] for record in batch]
            answered = self._ask(batch, pictures)
            for record, shown, prediction in zip(batch, pictures, answered, strict=True):
                yield replace(prediction, media_missing=bool(record.media) and not shown)

    def analyze(
        self,
        clip: Path | str,
        text: str | None = None,
        tasks: Sequence[str] = CLIP_TASKS,
    ) -> Analysis:
        """Read one clip: its faces, its peak frame, and the answers to `tasks`.

        Args:
            clip: a video or a still image.
            text: what is said in it; None when unknown.
            tasks: among msa, er, fer, eri.

        Raises:
            EmoVerseError: the clip cannot be read, or a task is unknown.
        """
        check_tasks(tasks)
        return self.conduct(clip_interview(_watched(clip), text, tasks, self.name))

    def analyze_dialogue(self, dialogue: Path | str | Sequence[Mapping[str, Any]]) -> Analysis:
        """Read a conversation: emotions where they are not given, then who caused which.

        Args:
            dialogue: a JSON file with `{"turns": [{"speaker", "text", "emotion"?, "clip"?}]}` or
                one conversation in SemEval-2024 Task 3's form, or the turns themselves. Clips
                are relative to the file.

        Raises:
            EmoVerseError: the file or a turn is malformed, or a clip cannot be read.
        """
        turns, root, name = load_turns(dialogue)
        return self.conduct(
            dialogue_interview(turns, lambda clip: _watched(root / clip), self.name, name)
        )

    def conduct(self, interview: Interview) -> Analysis:
        """Ask what an interview wants to know, until it is over.

        Raises:
            EmoVerseError: the interview refuses what it was given.
        """
        try:
            questions = next(interview)
            while True:
                questions = interview.send(self.ask(questions))
        except StopIteration as end:
            analysis: Analysis = end.value
            return analysis

    def ask(self, questions: Sequence[Question], told: Told | None = None) -> list[Prediction]:
        """Answer questions of any tasks together.

        Args:
            questions: what is asked, with the clips that are shown.
            told: is called with a question's place and its free text (FER, ERI) so far, after
                every new token; what it was told last may still be tidied in the prediction.
                The text ends when it returns False.

        Returns:
            One prediction per question, in order.

        Raises:
            EmoVerseError: a query is not in its task's wording.
        """
        crops = {id(question.shown): _crops(question.shown) for question in questions}
        records = [question.record for question in questions]
        return self._ask(records, [crops[id(question.shown)] for question in questions], told)

    def _ask(
        self,
        records: Sequence[Record],
        pictures: Sequence[Sequence[np.ndarray]],
        told: Told | None = None,
    ) -> list[Prediction]:
        """One pass over all prompts and allowed answers; then the free texts go on from there."""
        start = time.perf_counter()
        features, ids = self._features(pictures)
        asked = [
            pose(self.model, record, images) for record, images in zip(records, ids, strict=True)
        ]
        # Sorted, prompts that share a prefix are neighbours.
        order = sorted(range(len(asked)), key=lambda n: asked[n].question.prompt)
        read = scoring.read(self.model, [asked[n].question for n in order], features)
        branches: dict[int, Branch] = {}
        found: dict[int, Prediction] = {}
        for place, result in zip(order, read, strict=True):
            if isinstance(result, Branch):
                branches[place] = result
            else:
                found[place] = asked[place].settle(result, self.calibration)
        share = (time.perf_counter() - start) / len(records)
        for task in dict.fromkeys(records[place].task for place in sorted(branches)):
            places = [place for place in sorted(branches) if records[place].task == task]
            found |= self._written(task, {n: branches[n] for n in places}, records, told)
        return [replace(found[n], seconds=found[n].seconds + share) for n in range(len(records))]

    def _written(
        self,
        task: str,
        branches: Mapping[int, Branch],
        records: Sequence[Record],
        told: Told | None,
    ) -> dict[int, Prediction]:
        """FER and ERI: greedy text, FER within its grammar."""
        found: dict[int, Prediction] = {}
        decode = self.model.tokenizer.decode
        for places in _batched(branches, _ROWS):
            start = time.perf_counter()

            # Bound now: the loop goes on while nothing listens any more.
            def heard(row: int, tokens: Sequence[int], places: Sequence[int] = places) -> bool:
                assert told is not None
                return told(places[row], str(decode(list(tokens))).strip())

            written = generate(
                self.model,
                [branches[place] for place in places],
                end=self._end,
                most=_MOST_TOKENS[task],
                grammar=self._captions if task == "fer" else None,
                ban_repeats=8 if task == "eri" else 0,
                told=heard if told else None,
                fused=self._fused() if len(places) <= _FEW else None,
            )
            seconds = (time.perf_counter() - start) / len(places)
            for place, tokens in zip(places, written, strict=True):
                text = str(decode(tokens)).strip()
                label: Any = list(fer.parse(text))
                if task == "eri":
                    text = _whole_sentences(text)
                    label = eri.parse(text)
                found[place] = Prediction(records[place].id, text, label, seconds=seconds)
        return found

    def _features(
        self, pictures: Sequence[Sequence[np.ndarray]]
    ) -> tuple[torch.Tensor | None, list[list[list[int]]]]:
        """Projected visual tokens of all crops, and for each record its pictures' token ids.

        A picture that several records show is looked at once, and is the same prefix to all.
        """
        distinct = {id(picture): picture for some in pictures for picture in some}
        if not distinct:
            return None, [[] for _ in pictures]
        with torch.inference_mode():
            crops = np.stack(list(distinct.values()))
            features = self.model.project(self.model.visual_tokens(face_vit.pixel_values(crops)))
        size = self.model.image_tokens
        first = {key: -1 - place * size for place, key in enumerate(distinct)}
        ids = [
            [[first[id(picture)] - k for k in range(size)] for picture in some] for some in pictures
        ]
        return features, ids

    def _fused(self) -> FusedLlama | None:
        """Laid out when the first text is written: labels alone need none of it."""
        if not self._is_laid_out:
            self._laid_out, self._is_laid_out = FusedLlama.of(self.model), True
        return self._laid_out


def load_model(model: str = "compact") -> Engine:
    """Load a model to answer with.

    Args:
        model: `compact`, or a folder that `emoverse train` wrote.

    Raises:
        EmoVerseError: there is no such model, or its weights cannot be fetched.
    """
    if model == "compact":
        return Engine(compact.load(), calibration.load(compact.SHIPPED))
    folder = Path(model)
    if not folder.is_dir():
        raise EmoVerseError(
            f"{model!r} is not a model; say `compact` or give a folder that `emoverse train` wrote."
        )
    return Engine(compact.load(folder), calibration.load(folder))


def _batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _picture(record: Record, path: str, media_root: Path | None) -> list[np.ndarray]:
    """The face crop of a record's picture or clip; none when it is missing or shows no face."""
    file = (media_root or Path()) / path
    if not file.is_file():
        return []
    found = face_crop(file, aligned=bool(record.meta.get("aligned")))
    return [] if found is None else [found]


def _watched(clip: Path | str) -> Watched:
    start = time.perf_counter()
    track = analyse_faces(clip)
    return Watched(str(clip), track, seconds=time.perf_counter() - start)


def _crops(shown: Watched | None) -> list[np.ndarray]:
    if shown is None or shown.track.peak_image is None or shown.track.peak_landmarks is None:
        return []
    return [crop(shown.track.peak_image, shown.track.peak_landmarks)]


def _whole_sentences(text: str) -> str:
    """Cut what a token limit left unfinished, when a whole sentence stands before it."""
    if text.endswith((".", "!", "?")):
        return text
    whole = re.match(r".*[.!?](?=\s)", text, re.DOTALL)
    return whole[0] if whole else text
