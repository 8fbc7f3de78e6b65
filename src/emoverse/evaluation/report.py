"""The page about an evaluation: figures with intervals, floors, confusion, and the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoverse.evaluation.score import Scored
from emoverse.files import write_text
from emoverse.inference.report import TITLES, environment
from emoverse.tasks import ecpe, labels

ERRORS = 200
_TEMPLATES = Path(__file__).parent / "templates"
NAMES: Mapping[str, str] = {
    "weighted_f1": "Weighted F1",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "acc2_np": "Acc2 N/P",
    "acc2_nn": "Acc2 N/N",
    "f1_np": "F1 N/P",
    "f1_nn": "F1 N/N",
    "rouge_l": "ROUGE-L",
    "token_f1": "Token F1",
    "label_overlap": "Label overlap",
}
FULL_TITLES: Mapping[str, str] = {
    "msa": "Sentiment (MSA)",
    "er": "Emotion (ER)",
    "fer": "Expression captions (FER)",
    "eri": "Reasons (ERI)",
    "ecpe": "Emotion-cause pairs (ECPE)",
}


def write_report(path: Path | str, scores: Mapping[str, Any], scored: Sequence[Scored]) -> Path:
    """Write the self-contained page of one evaluation.

    Args:
        path: the page to write.
        scores: what scores.json holds.
        scored: gold and predictions, one per task of `scores`.

    Returns:
        The page's path.
    """
    template = environment(_TEMPLATES).get_template("report.html.j2")
    views = [_view(item, scores["tasks"][item.task]) for item in scored]
    return write_text(path, template.render(scores=scores, views=views, most=ERRORS))


def _view(scored: Scored, figures: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name, value in figures["headline"].items() if value is not None]
    errors, total = _errors(scored)
    return {
        "task": scored.task,
        "title": FULL_TITLES.get(scored.task, TITLES.get(scored.task, scored.task)),
        "figures": figures,
        "headline": [
            {
                "name": NAMES.get(name, name),
                "value": figures["headline"][name],
                "interval": figures["intervals"].get(name),
            }
            for name in names
        ],
        "columns": [NAMES.get(name, name) for name in names],
        "rows": [("this model", [figures["headline"][name] for name in names])]
        + [(name, [floor.get(key) for key in names]) for name, floor in figures["floors"].items()],
        "classes": _classes(scored, figures["scores"]),
        "confusion": _confusion(figures["scores"]),
        "errors": errors,
        "wrong": total,
        "golds": sorted({row["kind"] for row in errors}),
        "preds": sorted({row["pred"] for row in errors}),
    }


def _classes(scored: Scored, figures: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """Name, F1 in percent and gold count of every class, most frequent first."""
    table = figures.get("per_class") or figures.get("per_emotion") or figures.get("per_au") or {}
    if scored.task == "msa":
        table = _polarity(scored)
    rows = [(name, float(row["f1"]), int(row["support"])) for name, row in table.items()]
    return sorted((row for row in rows if row[2]), key=lambda row: -row[2])


def _polarity(scored: Scored) -> dict[str, dict[str, float]]:
    signs = [
        labels.sentiment(value) if isinstance(value, str) else labels.sentiment_of_score(value)
        for value in scored.gold
    ]
    table = {}
    for pole in labels.SENTIMENTS:
        gold = sum(sign == pole for sign in signs)
        both = list(zip(signs, scored.pred, strict=True))
        said = sum(sign is not None and guess == pole for sign, guess in both)
        hits = sum(sign == guess == pole for sign, guess in both)
        f1 = 200 * hits / (gold + said) if gold + said else 0.0
        table[pole] = {"f1": f1, "support": gold}
    return table


def _confusion(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows of (label, cells); a cell is its count and its share of the row in percent."""
    matrix = figures.get("confusion")
    if not matrix:
        return None
    columns = list(next(iter(matrix.values())))
    if not any(row["unparseable"] for row in matrix.values()):
        columns.remove("unparseable")
    rows = []
    for label, row in matrix.items():
        total = sum(row.values())
        if total:
            cells = [(row[column], round(100 * row[column] / total)) for column in columns]
            rows.append((label, cells))
    return {"columns": columns, "rows": rows}


def _errors(scored: Scored) -> tuple[list[dict[str, str]], int]:
    """The first wrong answers in file order, and how many are wrong in all."""
    if scored.task in ("fer", "eri"):
        return [], 0
    errors: list[dict[str, str]] = []
    total = 0
    for record, text, gold, pred in zip(
        scored.records, scored.texts, scored.gold, scored.pred, strict=True
    ):
        if _right(scored.task, gold, pred):
            continue
        total += 1
        if len(errors) < ERRORS:
            errors.append(
                {
                    "id": record.id,
                    "gold": _shown(scored.task, gold),
                    "kind": _shown(scored.task, gold).split(" (")[0],
                    "pred": _shown(scored.task, pred) if pred is not None else "unparseable",
                    "answer": text,
                    "text": record.text or _said(scored.task, record.query),
                }
            )
    return errors, total


def _right(task: str, gold: Any, pred: Any) -> bool:
    if task == "ecpe":
        return pred is not None and set(gold) == set(pred)
    if task == "msa":
        sign = labels.sentiment(gold) if isinstance(gold, str) else labels.sentiment_of_score(gold)
        return bool((sign or "positive") == pred)  # N/N: a zero is not negative
    return bool(gold == pred)


def _shown(task: str, label: Any) -> str:
    if task == "ecpe":
        return ecpe.answer(label) or "no cause"
    if isinstance(label, float):
        sign = labels.sentiment_of_score(label)
        return f"{sign} ({label:+.2g})" if sign else "zero"
    return str(label)


def _said(task: str, query: str) -> str:
    if task == "ecpe":
        turns, target = ecpe.parse_query(query)
        turn = next(turn for turn in turns if turn.index == target)
        return f"{turn.index}_{turn.emotion}. {turn.speaker}: {turn.text}"
    return query
