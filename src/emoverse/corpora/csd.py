"""The CMU Multimodal SDK's `.csd` files (HDF5): labels and timed words of CMU-MOSEI.

Layout: `<root>/data/<video>/features` and `/intervals` (seconds, shape (n, 2)). In the label
file the root is `All Labels` and features[:, 0] is the sentiment in [-3, 3], features[:, 1:7]
are happy, sad, anger, surprise, disgust, fear in [0, 3]. In the word file features are byte
strings, `sp` for a pause. Which video is in which split says a Python file of the SDK.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.corpora import tables
from emoverse.errors import EmoVerseError

FOLDS = "cmu_mosei_std_folds.py"
_FOLD = re.compile(r"standard_(train|valid|test)_fold")
# Canonical names in the order of the columns 1..6.
_EMOTIONS = ("joy", "sadness", "anger", "surprise", "disgust", "fear")


@dataclass(frozen=True, slots=True)
class Label:
    """One labelled segment; times in seconds, `clip` its position in the file, from 0."""

    video: str
    clip: int
    start: float
    end: float
    score: float
    emotion: str


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word with its time in seconds."""

    text: str
    start: float
    end: float


def labels(path: Path | str) -> Iterator[Label]:
    """Yield the segments of a label file.

    The emotion is the strongest of the six (the first of equals), `neutral` when none is above 0.

    Raises:
        EmoVerseError: h5py is missing, or the file is not such a file.
    """
    with _data(Path(path)) as data:
        for video in data:
            features = data[video]["features"][()].tolist()
            intervals = data[video]["intervals"][()].tolist()
            segments = zip(features, intervals, strict=True)
            for clip, (values, (start, end)) in enumerate(segments):
                strengths = values[1:7]
                strongest = max(strengths)
                emotion = _EMOTIONS[strengths.index(strongest)] if strongest > 0 else "neutral"
                yield Label(str(video), clip, float(start), float(end), float(values[0]), emotion)


def words(path: Path | str) -> dict[str, tuple[Word, ...]]:
    """The timed words of every video, pauses left out.

    Raises:
        EmoVerseError: h5py is missing, or the file is not such a file.
    """
    spoken: dict[str, tuple[Word, ...]] = {}
    with _data(Path(path)) as data:
        for video in data:
            intervals = data[video]["intervals"][()].tolist()
            texts = [_text(cell) for cell in data[video]["features"][()].tolist()]
            spoken[str(video)] = tuple(
                Word(text, float(start), float(end))
                for text, (start, end) in zip(texts, intervals, strict=True)
                if text != "sp"
            )
    return spoken


def folds(path: Path | str) -> dict[str, str]:
    """Video to split, by the SDK's `cmu_mosei_std_folds.py`, which is read and not run.

    Raises:
        EmoVerseError: the file has no `standard_train_fold` or the like, or is no such file.
    """
    path = Path(path)
    found: dict[str, str] = {}
    try:
        for line in ast.parse(tables.text_of(path)).body:
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                name = _FOLD.fullmatch(line.targets[0].id)
                found |= dict.fromkeys(ast.literal_eval(line.value), name[1]) if name else {}
    except (SyntaxError, ValueError, TypeError) as error:
        raise EmoVerseError(f"{path}: not the SDK's lists of videos ({error}).") from None
    if not found:
        raise EmoVerseError(f"{path}: no standard_train_fold there; use the SDK's own {FOLDS}.")
    return found


def text_between(spoken: Sequence[Word], start: float, end: float) -> str:
    """The words whose middle lies between two times in seconds."""
    return " ".join(word.text for word in spoken if start <= (word.start + word.end) / 2 < end)


def _text(cell: Any) -> str:
    while isinstance(cell, list):
        cell = cell[0]
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)


@contextmanager
def _data(path: Path) -> Iterator[Any]:
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError:
        raise EmoVerseError(
            f"{path}: reading the SDK's .csd files needs h5py; "
            "install it with `pip install emoverse[mmsdk]`."
        ) from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise EmoVerseError(f"{path}: not an HDF5 file ({error}); fetch it again.") from None
    with file:
        try:
            root = next(iter(file))
            data = file[root]["data"]
            yield data
        except (StopIteration, KeyError, IndexError, TypeError, ValueError) as error:
            raise EmoVerseError(
                f"{path}: not laid out as <root>/data/<video>/features and intervals ({error}); "
                "use the SDK's own file."
            ) from None
