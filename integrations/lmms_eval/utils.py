"""EMT for lmms-eval: the queries as they are, EmoVerse's own parsers and scorers.

Needs `emoverse` beside lmms-eval (`pip install --no-deps emoverse` and numpy, pydantic, filelock
are enough: no model of ours is loaded).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emoverse.emt.record import Record
from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.score import prepare

# As in the YAML files: lmms-eval reports what has no aggregation there as an empty list.
_METRICS = {
    "msa": ("acc2_np", "acc2_nn", "f1_np", "f1_nn"),
    "er": ("weighted_f1", "accuracy", "macro_f1"),
    "ecpe": ("paper_weighted_f1", "paper_f1", "strict_weighted_f1", "strict_f1"),
    "fer": ("f1", "precision", "recall", "caption_f1"),
    "eri": ("rouge_l", "token_f1", "clue_overlap", "label_overlap", "wheel_overlap"),
}


def only_records(dataset: Any) -> Any:
    """Leave out rows without a query, such as a blank last line."""
    return dataset.filter(lambda doc: bool(doc["query"]))


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """Pictures as PIL images, videos as paths, which lmms-eval's models decode themselves."""
    from PIL import Image

    seen: list[Any] = [Image.open(path).convert("RGB") for path in doc["images"]]
    return seen + [str(Path(path)) for path in doc["videos"]]


def doc_to_text(doc: dict[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
    """The authors' query, word for word."""
    return str(doc["query"])


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The answer with its record, under the name of every metric of the task."""
    item = {"record": doc["record"], "text": results[0]}
    return dict.fromkeys(_METRICS[doc["task"]], item)


def _figure(items: Sequence[dict[str, Any]], name: str, protocol: str = "paper") -> float:
    records = [_record(item["record"]) for item in items]
    answers = [Answer(id=None, text=item["text"]) for item in items]
    scored = prepare(records[0].task, records, answers, protocol)
    value = scored.score().get(name)
    return float("nan") if value is None else float(value)


def _record(text: str) -> Record:
    row = json.loads(text)
    return Record(**{name: tuple(v) if isinstance(v, list) else v for name, v in row.items()})


def acc2_np(items: Sequence[dict[str, Any]]) -> float:
    """Acc2, negative against positive, in percent."""
    return _figure(items, "acc2_np")


def acc2_nn(items: Sequence[dict[str, Any]]) -> float:
    """Acc2, negative against non-negative, in percent."""
    return _figure(items, "acc2_nn")


def f1_np(items: Sequence[dict[str, Any]]) -> float:
    """Weighted F1, negative against positive, in percent."""
    return _figure(items, "f1_np")


def f1_nn(items: Sequence[dict[str, Any]]) -> float:
    """Weighted F1, negative against non-negative, in percent."""
    return _figure(items, "f1_nn")


def weighted_f1(items: Sequence[dict[str, Any]]) -> float:
    """F1 weighted by the classes' gold counts, in percent."""
    return _figure(items, "weighted_f1")


def accuracy(items: Sequence[dict[str, Any]]) -> float:
    """Share of right emotions, in percent."""
    return _figure(items, "accuracy")


def macro_f1(items: Sequence[dict[str, Any]]) -> float:
    """Mean F1 of the emotions, in percent."""
    return _figure(items, "macro_f1")


def f1(items: Sequence[dict[str, Any]]) -> float:
    """Mean F1 of the AU sets, in percent."""
    return _figure(items, "f1")


def precision(items: Sequence[dict[str, Any]]) -> float:
    """Mean precision of the AU sets, in percent."""
    return _figure(items, "precision")


def recall(items: Sequence[dict[str, Any]]) -> float:
    """Mean recall of the AU sets, in percent."""
    return _figure(items, "recall")


def caption_f1(items: Sequence[dict[str, Any]]) -> float:
    """Word overlap of the captions, in percent."""
    return _figure(items, "caption_f1")


def rouge_l(items: Sequence[dict[str, Any]]) -> float:
    """Longest common word subsequence, F1, in percent."""
    return _figure(items, "rouge_l")


def token_f1(items: Sequence[dict[str, Any]]) -> float:
    """F1 of the bags of words, in percent."""
    return _figure(items, "token_f1")


def clue_overlap(items: Sequence[dict[str, Any]]) -> float:
    """F1 of the content words, in percent."""
    return _figure(items, "clue_overlap")


def label_overlap(items: Sequence[dict[str, Any]]) -> float:
    """Jaccard index of the emotions named, in percent."""
    return _figure(items, "label_overlap")


def wheel_overlap(items: Sequence[dict[str, Any]]) -> float:
    """Jaccard index of the emotion wheel's petals, in percent."""
    return _figure(items, "wheel_overlap")


def paper_weighted_f1(items: Sequence[dict[str, Any]]) -> float:
    """F1 of the pairs weighted by emotion, protocol `paper`, in percent."""
    return _figure(items, "weighted_f1", "paper")


def paper_f1(items: Sequence[dict[str, Any]]) -> float:
    """Micro F1 of the pairs, protocol `paper`, in percent."""
    return _figure(items, "f1", "paper")


def strict_weighted_f1(items: Sequence[dict[str, Any]]) -> float:
    """F1 of the pairs weighted by emotion, protocol `strict`, in percent."""
    return _figure(items, "weighted_f1", "strict")


def strict_f1(items: Sequence[dict[str, Any]]) -> float:
    """Micro F1 of the pairs, protocol `strict`, in percent."""
    return _figure(items, "f1", "strict")
