"""EmoVerse's scorers as a metric of Hugging Face's `evaluate` (install `emoverse[evaluate]`).

    import evaluate
    from emoverse.evaluation import metric

    er = evaluate.load(metric.__file__, "er")
    er.compute(predictions=["Joy.", "I think he is sad."], references=["joy", "sadness"])

The configuration is the task; `ecpe` counts by protocol, `ecpe-paper` or `ecpe-strict`. Predictions
are answers as a model wrote them, references gold as EMT writes it: a score or `Positive.`, an
emotion, `5_joy,2;5_joy,5`, action units or a caption, prose. Every figure comes with its 95 %
bootstrap interval, `<figure>_interval`, over the items: which of them are of one conversation is
not known here, so the intervals of ECPE and MELD are narrower than those of `emoverse score`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from emoverse.errors import EmoVerseError
from emoverse.evaluation.intervals import intervals
from emoverse.tasks import ecpe, er, eri, fer, labels, msa
from emoverse.tasks._metrics import check_lengths
from emoverse.tasks.ecpe import Turn

CONFIGURATIONS = ("msa", "er", "fer", "eri", "ecpe-paper", "ecpe-strict")
_CITATION = "EmoVerse / M2SE, arXiv 2412.08049"


class EmoVerseMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """One of the five tasks, by `config_name`."""

    def _info(self) -> Any:
        if self.config_name not in CONFIGURATIONS:
            raise EmoVerseError(
                f"Configuration {self.config_name!r} is unknown; use one of "
                f"{', '.join(CONFIGURATIONS)}."
            )
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description="predictions: answers as written; references: gold as written.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        return figures(str(self.config_name), references, predictions)


def figures(
    configuration: str, references: Sequence[str], predictions: Sequence[str]
) -> dict[str, Any]:
    """The figures of a configuration, flat, with `<figure>_interval` beside each.

    Args:
        configuration: one of `CONFIGURATIONS`.
        references: gold as written.
        predictions: answers as written, same length.

    Raises:
        EmoVerseError: a reference cannot be read, or the lengths differ.
    """
    task, _, protocol = configuration.partition("-")
    check_lengths(references, predictions)
    gold = [_gold(task, text) for text in references]
    for truth, text in zip(gold, references, strict=True):
        if truth is None:
            raise EmoVerseError(f"The reference {text[:60]!r} cannot be read as {task} gold.")
    if task == "msa":
        values = [msa.parse_score(text) for text in predictions]
        signs = [
            msa.parse(text) if value is None else "positive" if value >= 0 else "negative"
            for text, value in zip(predictions, values, strict=True)
        ]
        given = values if any(value is not None for value in values) else None
        return _with_intervals("msa", gold, signs, msa.score(gold, signs, given), given)
    if task == "er":
        pred: list[Any] = [er.parse(text) for text in predictions]
        return _with_intervals("er", gold, pred, er.score(gold, pred))
    if task == "fer":
        pred = [fer.parse(text) for text in predictions]
        return _with_intervals("fer", gold, pred, fer.score(gold, pred))
    if task == "eri":
        pred = [eri.parse(text) for text in predictions]
        return _with_intervals("eri", gold, pred, eri.score(gold, pred))
    # A bare answer ("5,2") is about the target, which an empty reference does not tell.
    pred = [
        ecpe.parse(text, Turn(truth[0].emotion_index, "", "", truth[0].emotion) if truth else None)
        for text, truth in zip(predictions, gold, strict=True)
    ]
    kept = [place for place, truth in enumerate(gold) if truth or protocol == "strict"]
    gold, pred = [gold[place] for place in kept], [pred[place] for place in kept]
    return _with_intervals("ecpe", gold, pred, ecpe.score(gold, pred, protocol))


def _gold(task: str, text: str) -> Any:
    if task == "msa":
        value = msa.parse_score(text)
        return msa.parse(text) if value is None else value
    if task == "er":
        return labels.emotion(text)
    if task == "fer":
        return fer.parse(text)
    return eri.parse(text) if task == "eri" else ecpe.parse(text)


def _with_intervals(
    task: str,
    gold: Sequence[Any],
    pred: Sequence[Any],
    scores: dict[str, Any],
    values: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    ranges = intervals(task, gold, pred, values=values)
    return scores | {f"{name}_interval": ranges[name] for name in ranges if name in scores}
