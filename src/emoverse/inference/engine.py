"""The engine: records or a clip in, answers out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces
from emoverse.faces.crop import crop
from emoverse.faces.pictures import face_crop
from emoverse.inference import causes, scoring
from emoverse.inference.analysis import Analysis
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
from emoverse.inference.scoring import log_probabilities, normalised
from emoverse.models import compact, face_vit
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prompt import answer_tokens, dictated, prompt_tokens
from emoverse.tasks import ecpe, er, eri, fer, msa

# Gets a place among the questions and the text so far; False ends the text.
Told = Callable[[int, str], bool]
_CHUNK = 32
_MOST_TOKENS = {"fer": 48, "eri": 128}


class Engine:
    """A loaded model that answers; made by `load_model`."""

    def __init__(self, model: EmoVerse) -> None:
        """Wrap a loaded model; use `load_model` instead."""
        self.model = model
        self.name = model.name
        self._end = answer_tokens(model.tokenizer, "")[0]

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Prediction]:
        """Answer records, neighbours of one task together.

        Args:
            records: of any tasks.
            media_root: where relative media paths start; the working folder by default. Records
                whose media is not there are answered from their text alone.

        Yields:
            One prediction per record, in order.
        """
        for task, run in groupby(records, key=lambda record: record.task):
            batch: list[Record] = []
            for record in run:
                batch.append(record)
                if len(batch) == _CHUNK:
                    yield from self._answered(task, batch, media_root)
                    batch = []
            if batch:
                yield from self._answered(task, batch, media_root)

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
        """Answer questions of any tasks; those of one task are answered together.

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
        found: dict[int, Prediction] = {}
        for task in dict.fromkeys(question.record.task for question in questions):
            places = [n for n, question in enumerate(questions) if question.record.task == task]
            start = time.perf_counter()

            def heard(row: int, text: str, places: Sequence[int] = places) -> bool:
                assert told is not None
                return told(places[row], text)

            answered = self._ask(
                task,
                [questions[n].record for n in places],
                [_crops(questions[n].shown) for n in places],
                heard if told else None,
            )
            share = (time.perf_counter() - start) / len(places)
            found |= {
                n: replace(prediction, seconds=share)
                for n, prediction in zip(places, answered, strict=True)
            }
        return [found[n] for n in range(len(questions))]

    def _answered(
        self, task: str, records: Sequence[Record], media_root: Path | None
    ) -> Iterator[Prediction]:
        start = time.perf_counter()
        pictures, missing = [], []
        for record in records:
            found = [image for path in record.media for image in _picture(record, path, media_root)]
            pictures.append(found)
            missing.append(bool(record.media) and not found)
        answered = self._ask(task, records, pictures)
        share = (time.perf_counter() - start) / len(records)
        for prediction, lacking in zip(answered, missing, strict=True):
            yield replace(prediction, media_missing=lacking, seconds=share)

    def _ask(
        self,
        task: str,
        records: Sequence[Record],
        pictures: Sequence[Sequence[np.ndarray]],
        told: Told | None = None,
    ) -> list[Prediction]:
        features, ids = self._features(pictures)
        prompts = [
            prompt_tokens(self.model.tokenizer, record.query, images)
            for record, images in zip(records, ids, strict=True)
        ]
        if task in ("msa", "er"):
            return self._labelled(task, records, prompts, features)
        if task == "ecpe":
            return self._caused(records, prompts, features)
        return self._written(task, records, prompts, features, told)

    def _labelled(
        self,
        task: str,
        records: Sequence[Record],
        prompts: Sequence[list[int]],
        features: torch.Tensor | None,
    ) -> list[Prediction]:
        """MSA and ER: score the allowed answers, take the likeliest."""
        allowed = []
        for record in records:
            if task == "msa":
                allowed.append(msa.choices())
            else:
                mosei = f" {er.answer('joy', 'mosei')[:-1].lower()}," in record.query
                allowed.append(er.choices("mosei" if mosei else "meld"))
        questions = [
            self._question(prompt, answers)
            for prompt, answers in zip(prompts, allowed, strict=True)
        ]
        parse = msa.parse if task == "msa" else er.parse
        predictions = []
        scores = log_probabilities(self.model, questions, features)
        for record, answers, values in zip(records, allowed, scores, strict=True):
            probabilities = normalised(values)
            best = answers[int(probabilities.argmax())]
            named = {str(parse(a)): float(p) for a, p in zip(answers, probabilities, strict=True)}
            predictions.append(Prediction(record.id, best, parse(best), named))
        return predictions

    def _caused(
        self,
        records: Sequence[Record],
        prompts: Sequence[list[int]],
        features: torch.Tensor | None,
    ) -> list[Prediction]:
        """ECPE: weigh the sets of causes, name those with enough probability."""
        asked = []
        for record, prompt in zip(records, prompts, strict=True):
            turns, index = ecpe.parse_query(record.query)
            target = next(turn for turn in turns if turn.index == index)
            sets = causes.cause_sets(turns, index)
            asked.append((target, sets, prompt))
        questions = [
            self._question(prompt, [ecpe.answer(_pairs(target, names)) for names in sets])
            for target, sets, prompt in asked
        ]
        scores = log_probabilities(self.model, questions, features)
        predictions = []
        for record, (target, sets, _), values in zip(records, asked, scores, strict=True):
            probabilities = normalised(values)
            found = causes.marginals(sets, probabilities)
            pairs = _pairs(target, causes.chosen(sets, probabilities))
            predictions.append(
                Prediction(
                    record.id,
                    ecpe.answer(pairs),
                    [[pair.emotion_index, pair.emotion, pair.cause_index] for pair in pairs],
                    {str(index): probability for index, probability in found.items()},
                )
            )
        return predictions

    def _written(
        self,
        task: str,
        records: Sequence[Record],
        prompts: Sequence[list[int]],
        features: torch.Tensor | None,
        told: Told | None,
    ) -> list[Prediction]:
        """FER and ERI: greedy text."""
        predictions: list[Prediction] = []
        for start in range(0, len(records), 16):
            # Bound now: the loop goes on while nothing listens any more.
            def heard(row: int, tokens: Sequence[int], first: int = start) -> bool:
                assert told is not None
                return told(first + row, str(self.model.tokenizer.decode(list(tokens))).strip())

            written = generate(
                self.model,
                prompts[start : start + 16],
                features,
                end=self._end,
                most=_MOST_TOKENS[task],
                ban_repeats=8 if task == "eri" else 0,
                told=heard if told else None,
            )
            for record, tokens in zip(records[start : start + 16], written, strict=True):
                text = str(self.model.tokenizer.decode(tokens)).strip()
                if task == "fer":
                    text = _phrases_once(text)
                    predictions.append(Prediction(record.id, text, list(fer.parse(text))))
                else:
                    text = _whole_sentences(text)
                    predictions.append(Prediction(record.id, text, eri.parse(text)))
        return predictions

    def _question(self, prompt: list[int], answers: Sequence[str]) -> scoring.Question:
        tokens = [answer_tokens(self.model.tokenizer, answer) for answer in answers]
        scored = [
            [place for place, forced in enumerate(dictated(self.model.tokenizer, t)) if not forced]
            for t in tokens
        ]
        return scoring.Question(prompt, tokens, scored)

    def _features(
        self, pictures: Sequence[Sequence[np.ndarray]]
    ) -> tuple[torch.Tensor | None, list[list[list[int]]]]:
        """Projected visual tokens of all crops, and for each record its pictures' token ids."""
        crops = [picture for some in pictures for picture in some]
        if not crops:
            return None, [[] for _ in pictures]
        with torch.inference_mode():
            tokens = self.model.visual_tokens(face_vit.pixel_values(np.stack(crops)))
            features = self.model.project(tokens)
        size, row = self.model.image_tokens, 0
        ids: list[list[list[int]]] = []
        for some in pictures:
            ids.append(
                [[-1 - ((row + n) * size + k) for k in range(size)] for n in range(len(some))]
            )
            row += len(some)
        return features, ids


def load_model(model: str = "compact") -> Engine:
    """Load a model to answer with.

    Args:
        model: `compact`, or a folder that `emoverse train` wrote.

    Raises:
        EmoVerseError: there is no such model, or its weights cannot be fetched.
    """
    if model == "compact":
        return Engine(compact.load())
    folder = Path(model)
    if not folder.is_dir():
        raise EmoVerseError(
            f"{model!r} is not a model; say `compact` or give a folder that `emoverse train` wrote."
        )
    return Engine(compact.load(folder))


def _pairs(target: ecpe.Turn, names: Sequence[int]) -> list[ecpe.Pair]:
    return [ecpe.Pair(target.index, target.emotion, index) for index in names]


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


def _phrases_once(text: str) -> str:
    return "; ".join(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def _whole_sentences(text: str) -> str:
    """Cut what a token limit left unfinished, when a whole sentence stands before it."""
    if text.endswith((".", "!", "?")):
        return text
    whole = re.match(r".*[.!?](?=\s)", text, re.DOTALL)
    return whole[0] if whole else text
