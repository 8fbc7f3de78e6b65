"""The engine: records or a clip in, answers out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import analyse_faces
from emoverse.faces.spread import jpegs
from emoverse.inference import calibration, phrases, scoring
from emoverse.inference.analysis import Analysis
from emoverse.inference.calibration import Calibration
from emoverse.inference.caption_grammar import caption_grammar
from emoverse.inference.dialogue import dialogue_interview, load_turns
from emoverse.inference.generation import generate
from emoverse.inference.interview import (
    CLIP_TASKS,
    Interview,
    Prediction,
    Question,
    Watched,
    check_tasks,
    clip_interview,
)
from emoverse.inference.phrases import NONE, Phrases
from emoverse.inference.questions import Posed, pose
from emoverse.inference.reader import FaceReader, Reader, Sight
from emoverse.inference.together import BATCH, together
from emoverse.inference.watching import Piece, watch
from emoverse.models import lean
from emoverse.models.decoder import Branch
from emoverse.models.language import Language
from emoverse.models.lean import Lean
from emoverse.models.trained import folder_of, known_recipe, load_trained, name_of
from emoverse.tasks import eri, fer

if TYPE_CHECKING:  # transformers' classes, which the compact model answers without
    from emoverse.models.any_mllm import Mllm
    from emoverse.models.emoverse import EmoVerse

_Item = TypeVar("_Item")

# Gets a place among the questions and the text so far; False ends the text.
Told = Callable[[int, str], bool]
_MOST_TOKENS = {"fer": 48, "eri": 128}


class Engine:
    """A loaded model that answers; made by `load_model`."""

    def __init__(
        self,
        model: Lean | EmoVerse | Mllm,
        calibration: Calibration | None = None,
        phrases: Mapping[str, Phrases] | None = None,
        **shown: Any,
    ) -> None:
        """Wrap a loaded model; use `load_model` instead.

        Args:
            model: the compact model, or one with a processor.
            calibration: of its probabilities.
            phrases: by task what it often writes; without them it writes more slowly.
            shown: with a processor, how clips are shown; see `FrameReader`.
        """
        self.model = model
        self.name = model.name
        self.calibration = calibration or Calibration()
        self.phrases = phrases or {}
        self.reader: Reader = _reader(model, **shown)
        self.frames = self.reader.frames
        self._captions = caption_grammar(self.reader.words, self.reader.end)

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Prediction]:
        """Answer records, neighbours together.

        Args:
            records: of any tasks; those of one clip or conversation are cheaper side by side.
            media_root: where relative media paths start; the working folder by default. Records
                whose media is not there are answered from their text alone.

        Yields:
            One prediction per record, in order.
        """
        for batch in _batched(records, self.reader.together):
            sights = self.reader.of_records(batch, media_root)
            answered = self._ask(batch, sights)
            for record, shown, prediction in zip(batch, sights, answered, strict=True):
                yield replace(prediction, media_missing=bool(record.media) and not shown)

    def weigh(
        self, records: Sequence[Record], media_root: Path | None
    ) -> Iterator[tuple[Posed, np.ndarray]]:
        """What `answer` decides by, before any calibration: for fitting one.

        Args:
            records: MSA, ER and ECPE, see `answer`.
            media_root: likewise.

        Yields:
            Per record, in order, its question and the (answers,) log-probabilities of the allowed
            answers, not normalised.
        """
        for batch in _batched(records, self.reader.together):
            asked, read = self._read(batch, self.reader.of_records(batch, media_root))
            for question, result in zip(asked, read, strict=True):
                assert not isinstance(result, Branch), f"{question.record.task} is free text"
                yield question, result

    def analyze(
        self,
        clip: Path | str,
        text: str | None = None,
        tasks: Sequence[str] | str = CLIP_TASKS,
    ) -> Analysis:
        """Read one clip: its faces, its peak frame, and the answers to `tasks`.

        Args:
            clip: a video or a still image.
            text: what is said in it; None when unknown.
            tasks: among msa, er, fer, eri; a text may name several, with commas between.

        Raises:
            EmoVerseError: the clip cannot be read, or a task is unknown.
        """
        tasks = _named(tasks)
        check_tasks(tasks)
        watched = _watched(clip, self.frames)
        return self.conduct(clip_interview(watched, text, tasks, self.name))

    def analyze_many(
        self,
        clips: Sequence[tuple[Path | str, str | None]],
        tasks: Sequence[str] | str = CLIP_TASKS,
        workers: int = 1,
    ) -> Iterator[Analysis | EmoVerseError]:
        """Read many clips: faces are measured elsewhere, and twelve clips are asked about at once.

        Args:
            clips: each with what is said in it, None when unknown.
            tasks: see `analyze`.
            workers: processes that measure faces; 0 does it in this one.

        Yields:
            For every clip, in order, its analysis, or why it could not be read.

        Raises:
            EmoVerseError: a task is unknown, or no process can start.
        """
        tasks = _named(tasks)
        check_tasks(tasks)
        pieces = (Piece(n, str(clip), frames=self.frames) for n, (clip, _) in enumerate(clips))
        for batch in _batched(watch(pieces, workers=workers), BATCH):
            talks = {
                seen.piece.number: clip_interview(
                    seen.watched, clips[seen.piece.number][1], tasks, self.name
                )
                for seen in batch
                if seen.watched is not None
            }
            found = dict(zip(talks, together(self.ask, list(talks.values())), strict=True))
            for seen in batch:
                yield found.get(seen.piece.number) or EmoVerseError(str(seen.error))

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
            dialogue_interview(
                turns, lambda clip: _watched(root / clip, self.frames), self.name, name
            )
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
                every step, of one new token or some; what it was told last may still be tidied in
                the prediction. The text ends when it returns False.

        Returns:
            One prediction per question, in order.

        Raises:
            EmoVerseError: a query is not in its task's wording.
        """
        found: list[Prediction] = []
        for batch in _batched(questions, self.reader.together):
            records = [question.record for question in batch]
            heard = partial(_heard, told, len(found)) if told else None
            unwanted = [question.unwanted for question in batch]
            found += self._ask(records, self.reader.of_questions(batch), heard, unwanted)
        return found

    def _ask(
        self,
        records: Sequence[Record],
        sights: Sequence[Sight],
        told: Told | None = None,
        unwanted: Sequence[Sequence[str]] = (),
    ) -> list[Prediction]:
        """Prompts and allowed answers are read; then the free texts go on from there."""
        start = time.perf_counter()
        asked, read = self._read(records, sights)
        branches: dict[int, Branch] = {}
        found: dict[int, Prediction] = {}
        for place, result in enumerate(read):
            if isinstance(result, Branch):
                branches[place] = result
            else:
                found[place] = asked[place].settle(result, self.calibration)
        share = (time.perf_counter() - start) / len(records)
        for task in dict.fromkeys(records[place].task for place in sorted(branches)):
            places = [place for place in sorted(branches) if records[place].task == task]
            mine = {n: branches[n] for n in places}
            found |= self._written(task, mine, asked, told, unwanted)
        return [replace(found[n], seconds=found[n].seconds + share) for n in range(len(records))]

    def _read(
        self, records: Sequence[Record], sights: Sequence[Sight]
    ) -> tuple[list[Posed], list[np.ndarray | Branch]]:
        """The records as questions, and what is found by reading them with their answers."""
        features, seen = self.reader.look(sights)
        asked = [pose(self.reader, record, one) for record, one in zip(records, seen, strict=True)]
        found: dict[int, np.ndarray | Branch] = {}
        for model, places in self._by_model(asked):
            # Sorted, prompts that share a prefix are neighbours.
            order = sorted(places, key=lambda n: asked[n].question.prompt)
            read = scoring.read(model, [asked[n].question for n in order], features)
            found |= zip(order, read, strict=True)
        return asked, [found[n] for n in range(len(asked))]

    def _by_model(self, asked: Sequence[Posed]) -> list[tuple[Language, list[int]]]:
        """The questions that are run together, and what runs them: text has its own writer."""
        written = [n for n, one in enumerate(asked) if not one.question.answers]
        if not written or self.reader.writer is self.model:
            return [(self.model, list(range(len(asked))))]
        labels = [n for n, one in enumerate(asked) if one.question.answers]
        return [(self.model, labels), (self.reader.writer, written)]

    def _written(
        self,
        task: str,
        branches: Mapping[int, Branch],
        asked: Sequence[Posed],
        told: Told | None,
        unwanted: Sequence[Sequence[str]],
    ) -> dict[int, Prediction]:
        """FER and ERI: greedy text, FER within its grammar."""
        found: dict[int, Prediction] = {}
        decode = self.model.tokenizer.decode
        for places in _batched(branches, self.reader.abreast):
            start = time.perf_counter()

            # Bound now: the loop goes on while nothing listens any more.
            def heard(row: int, tokens: Sequence[int], places: Sequence[int] = places) -> bool:
                assert told is not None
                return told(places[row], str(decode(list(tokens))).strip())

            written = generate(
                self.reader.writer,
                [branches[place] for place in places],
                end=self.reader.end,
                most=_MOST_TOKENS[task],
                grammar=self._captions if task == "fer" else None,
                ban_repeats=8 if task == "eri" else 0,
                unwanted=[self._spelt(unwanted[n]) for n in places] if unwanted else (),
                told=heard if told else None,
                phrases=self.phrases.get(task, NONE),
                prompts=[asked[place].question.prompt for place in places],
                fused=self.reader.fused,
            )
            seconds = (time.perf_counter() - start) / len(places)
            for place, tokens in zip(places, written, strict=True):
                text = str(decode(tokens)).strip()
                label: Any = list(fer.parse(text))
                if task == "eri":
                    if len(tokens) >= _MOST_TOKENS[task]:
                        text = _whole_sentences(text)
                    label = eri.parse(text)
                found[place] = Prediction(asked[place].record.id, text, label, seconds=seconds)
        return found

    def _spelt(self, words: Sequence[str]) -> list[list[int]]:
        """Tokens of words as they stand inside a sentence."""
        return [self.reader.words(f" {word}") for word in words]


def load_model(model: str = "compact", *, exact: bool = False) -> Engine:
    """Load a model to answer with.

    Args:
        model: `compact`; or a folder: what `emoverse train`, `emoverse merge` or
            `emoverse convert` wrote, or any other image-text-to-text model of transformers. The
            latter run on a GPU where there is one.
        exact: have the compact model decide in float32 what it otherwise decides in bfloat16 where
            that is faster: for scores, which are to be the same everywhere.

    Raises:
        EmoVerseError: there is no such model, or its weights cannot be fetched.
    """
    folder = folder_of(model)
    if not folder.is_dir():
        raise EmoVerseError(
            f"{model!r} is not a model; say `compact` or give a folder that `emoverse train`, "
            "`merge` or `convert` wrote."
        )
    recipe = known_recipe(folder)
    whole = (folder / "config.json").is_file()
    if not whole and recipe.get("model", "compact") == "compact":
        compact = lean.load(folder, exact=exact)
        known = phrases.load(folder, len(compact.llama.words))
        return Engine(compact, calibration.load(folder), known)
    from emoverse.models import any_mllm

    mllm = any_mllm.load(str(folder)) if whole else load_trained(folder)
    mllm = replace(mllm, name=name_of(folder))
    if torch.cuda.is_available():
        mllm.network.to("cuda")
    shown = {"native": recipe.get("videos") == "native"}
    if "frames" in recipe:
        shown["frames"] = recipe["frames"]
    language: Any = mllm.language
    known = phrases.load(folder, language.get_input_embeddings().num_embeddings)
    return Engine(mllm, calibration.load(folder), known, **shown)


def _reader(model: Lean | EmoVerse | Mllm, **shown: Any) -> Reader:
    if isinstance(model, Lean):
        return FaceReader(model)
    from emoverse.inference.frame_reader import FrameReader
    from emoverse.models.any_mllm import Mllm

    return FrameReader(model, **shown) if isinstance(model, Mllm) else FaceReader(model)


def _batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _named(tasks: Sequence[str] | str) -> Sequence[str]:
    """Tasks as the command line names them are no sequence of letters."""
    if isinstance(tasks, str):
        return tuple(name.strip() for name in tasks.split(",") if name.strip())
    return tasks


def _watched(clip: Path | str, frames: int) -> Watched:
    start = time.perf_counter()
    track = analyse_faces(clip)
    pictures = jpegs(clip, frames) if frames else ()
    return Watched(str(clip), track, pictures, time.perf_counter() - start)


def _heard(told: Told, before: int, place: int, text: str) -> bool:
    return told(before + place, text)


def _whole_sentences(text: str) -> str:
    """Cut what a token limit left unfinished, when a whole sentence stands before it."""
    whole = re.match(r".*[.!?…][\"'”’)]*(?=\s|$)", text, re.DOTALL)
    return whole[0] if whole else text
