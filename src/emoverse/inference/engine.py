"""The engine: records or a clip in, answers out."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack, analyse_faces
from emoverse.faces.crop import crop
from emoverse.faces.peak import score
from emoverse.faces.pictures import face_crop
from emoverse.files import read_json
from emoverse.inference import causes
from emoverse.inference.analysis import Analysis, Answer, AUCurve, Peak
from emoverse.inference.generation import generate
from emoverse.inference.scoring import Question, log_probabilities, normalised
from emoverse.models import compact, face_vit
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prompt import answer_tokens, dictated, prompt_tokens
from emoverse.tasks import ecpe, er, eri, fer, labels, msa

CLIP_TASKS = ("msa", "er", "fer", "eri")
_CHUNK = 32
_MOST_TOKENS = {"fer": 48, "eri": 128}


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
        if strange := set(tasks) - set(CLIP_TASKS):
            raise EmoVerseError(
                f"{min(strange)!r} cannot be asked of a clip; use {', '.join(CLIP_TASKS)}."
            )
        start = time.perf_counter()
        text = " ".join(text.split()) or None if text else None
        track = analyse_faces(clip)
        watched = time.perf_counter()
        warnings = list(track.warnings)
        pictures = []
        if track.peak_image is not None and track.peak_landmarks is not None:
            pictures = [crop(track.peak_image, track.peak_landmarks)]
        if not pictures and not text:
            raise EmoVerseError(
                f"{clip}: no face was found and no text was given, so there is nothing to read; "
                "add what is said with --text."
            )
        if not text:
            warnings.append("No text was given; the answers rest on the face alone.")
        answers: dict[str, Answer] = {}
        for task in (task for task in CLIP_TASKS if task in tasks):
            if task == "fer" and not pictures:
                continue
            caption = answers["fer"].text if "fer" in answers else None
            query = _clip_query(task, text, caption)
            begun = time.perf_counter()
            # Reasons were learnt from words and captions; the picture is in the caption.
            shown = [] if task == "eri" else pictures
            record = Record(query=query, response="", task=task, id=task)
            found = self._ask(task, [record], [shown])[0]
            answers[task] = Answer(
                task=task,
                query=query,
                text=found.text,
                label=found.label,
                probabilities=found.probabilities,
                seconds=time.perf_counter() - begun,
            )
        end = time.perf_counter()
        return Analysis(
            clip=str(clip),
            model=self.name,
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
            seconds={"faces": watched - start, "answers": end - watched, "total": end - start},
        )

    def analyze_dialogue(self, dialogue: Path | str | Sequence[Mapping[str, Any]]) -> Analysis:
        """Read a conversation: emotions where they are not given, then who caused which.

        Args:
            dialogue: a JSON file with `{"turns": [{"speaker", "text", "emotion"?, "clip"?}]}` or
                one conversation in SemEval-2024 Task 3's form, or the turns themselves. Clips
                are relative to the file.

        Raises:
            EmoVerseError: the file or a turn is malformed, or a clip cannot be read.
        """
        start = time.perf_counter()
        given, root, name = _turns(dialogue)
        warnings: list[str] = []
        known: list[ecpe.Turn] = []
        shown: list[dict[str, Any]] = []
        for number, turn in enumerate(given, 1):
            speaker = str(turn.get("speaker") or "Someone")
            said = " ".join(str(turn["text"]).split())
            emotion = labels.emotion(str(turn["emotion"])) if turn.get("emotion") else None
            row = {"index": number, "speaker": speaker, "text": said, "given": emotion is not None}
            if emotion is None:
                context = [(before.speaker, before.text) for before in known]
                query = er.query(said, speaker=speaker, context=context)
                pictures = []
                if turn.get("clip"):
                    track = analyse_faces(root / str(turn["clip"]))
                    warnings += track.warnings
                    if track.peak_image is not None and track.peak_landmarks is not None:
                        pictures = [crop(track.peak_image, track.peak_landmarks)]
                record = Record(query=query, response="", task="er", id=str(number))
                found = self._ask("er", [record], [pictures])[0]
                emotion = str(found.label)
                row["probabilities"] = dict(found.probabilities)
            known.append(ecpe.Turn(number, speaker, said, emotion))
            shown.append(row | {"emotion": emotion})
        labelled = time.perf_counter()
        targets = [turn for turn in known if turn.emotion != "neutral"]
        records = [
            Record(
                query=ecpe.query(known, turn.index), response="", task="ecpe", id=str(turn.index)
            )
            for turn in targets
        ]
        answers = self._ask("ecpe", records, [[] for _ in records]) if records else []
        pairs = [tuple(pair) for found in answers for pair in found.label]
        if not targets:
            warnings.append("Every utterance is neutral, so there is no emotion to explain.")
        end = time.perf_counter()
        return Analysis(
            clip=None if name is None else str(name),
            model=self.name,
            answers={
                "ecpe": Answer(
                    task="ecpe",
                    query=records[-1].query if records else "",
                    text=";".join(found.text for found in answers if found.text),
                    label=pairs,
                    seconds=end - labelled,
                )
            },
            people=len({turn.speaker for turn in known}),
            turns=tuple(shown),
            pairs=tuple(pairs),
            warnings=tuple(warnings),
            seconds={"emotions": labelled - start, "causes": end - labelled, "total": end - start},
        )

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
            yield Prediction(
                id=prediction.id,
                text=prediction.text,
                label=prediction.label,
                probabilities=prediction.probabilities,
                media_missing=lacking,
                seconds=share,
            )

    def _ask(
        self, task: str, records: Sequence[Record], pictures: Sequence[Sequence[np.ndarray]]
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
        return self._written(task, records, prompts, features)

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
    ) -> list[Prediction]:
        """FER and ERI: greedy text."""
        predictions = []
        for start in range(0, len(records), 16):
            written = generate(
                self.model,
                prompts[start : start + 16],
                features,
                end=self._end,
                most=_MOST_TOKENS[task],
                ban_repeats=8 if task == "eri" else 0,
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

    def _question(self, prompt: list[int], answers: Sequence[str]) -> Question:
        tokens = [answer_tokens(self.model.tokenizer, answer) for answer in answers]
        scored = [
            [place for place, forced in enumerate(dictated(self.model.tokenizer, t)) if not forced]
            for t in tokens
        ]
        return Question(prompt, tokens, scored)

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


def _clip_query(task: str, text: str | None, caption: str | None) -> str:
    if task == "msa":
        return msa.query(text)
    if task == "er":
        return er.query(text)
    return fer.query() if task == "fer" else eri.query(text, caption)


def _pairs(target: ecpe.Turn, names: Sequence[int]) -> list[ecpe.Pair]:
    return [ecpe.Pair(target.index, target.emotion, index) for index in names]


def _picture(record: Record, path: str, media_root: Path | None) -> list[np.ndarray]:
    """The face crop of a record's picture or clip; none when it is missing or shows no face."""
    file = (media_root or Path()) / path
    if not file.is_file():
        return []
    found = face_crop(file, aligned=bool(record.meta.get("aligned")))
    return [] if found is None else [found]


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


def _turns(
    dialogue: Path | str | Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], Path, Path | None]:
    """The turns, the folder their clips are relative to, and the file they are from."""
    if not isinstance(dialogue, (str, Path)):
        given, root, name = list(dialogue), Path(), None
    else:
        name = Path(dialogue)
        root = name.parent
        content = read_json(name)
        if isinstance(content, dict):
            content = content.get("turns", content.get("conversation"))
        if not isinstance(content, list):
            raise EmoVerseError(
                f"{name}: expected an object with `turns`, a list of "
                '{"speaker": ..., "text": ...}; see the README.'
            )
        given = content
    for number, turn in enumerate(given, 1):
        place = f"{name or 'dialogue'}, turn {number}"
        if not isinstance(turn, Mapping) or not isinstance(turn.get("text"), str):
            raise EmoVerseError(f"{place}: a turn needs a text field `text`; add it.")
        if turn.get("emotion") and labels.emotion(str(turn["emotion"])) is None:
            raise EmoVerseError(
                f"{place}: emotion {turn['emotion']!r} is unknown; use one of "
                f"{', '.join(labels.EMOTIONS)}, or leave it out."
            )
    if not given:
        raise EmoVerseError(f"{name or 'dialogue'}: it holds no turn.")
    return given, root, name


def _phrases_once(text: str) -> str:
    return "; ".join(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def _whole_sentences(text: str) -> str:
    """Cut what a token limit left unfinished, when a whole sentence stands before it."""
    if text.endswith((".", "!", "?")):
        return text
    whole = re.match(r".*[.!?](?=\s)", text, re.DOTALL)
    return whole[0] if whole else text
