"""The page about an evaluation: figures with intervals, floors, confusion, and the errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoverse.evaluation.browser import ERRORS, PICTURES, errors, speaker
from emoverse.evaluation.intervals import intervals
from emoverse.evaluation.reliability import polarity, reliability
from emoverse.evaluation.scored import Scored
from emoverse.files import write_text
from emoverse.inference.report import TITLES, environment
from emoverse.tasks import labels

SPEAKERS = 12
_FEWEST = 5  # a speaker with fewer items is told among the others
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
    "acc7": "Acc7",
    "acc7_intervals": "Acc7, intervals",
    "acc5": "Acc5",
    "mae": "MAE (score units)",
    "corr": "Correlation",
    "caption_f1": "Caption F1",
    "caption_rouge_l": "Caption ROUGE-L",
    "rouge_l": "ROUGE-L",
    "token_f1": "Token F1",
    "clue_overlap": "Clue overlap",
    "label_overlap": "Label overlap",
    "wheel_overlap": "Wheel overlap",
}
FULL_TITLES: Mapping[str, str] = {
    "msa": "Sentiment (MSA)",
    "er": "Emotion (ER)",
    "fer": "Expression captions (FER)",
    "eri": "Reasons (ERI)",
    "ecpe": "Emotion-cause pairs (ECPE)",
}
# What a speaker's bar shows.
_BY_SPEAKER = {
    "msa": "acc2_np",
    "er": "accuracy",
    "ecpe": "f1",
    "fer": "f1",
    "eri": "token_f1",
}
_DISTANCES = ("itself", "1 before", "2 before", "3 before", "4+ before", "after")


def write_report(path: Path | str, scores: Mapping[str, Any], scored: Sequence[Scored]) -> Path:
    """Write the self-contained page of one evaluation.

    Args:
        path: the page to write.
        scores: what scores.json holds; `settings.media_root` says where the thumbnails come from.
        scored: gold and predictions, one per task of `scores`.

    Returns:
        The page's path.
    """
    root = scores["settings"].get("media_root")
    template = environment(_TEMPLATES).get_template("report.html.j2")
    views = [
        _view(item, scores["tasks"][item.task], Path(root) if root else None) for item in scored
    ]
    return write_text(
        path, template.render(scores=scores, views=views, most=ERRORS, pictures=PICTURES)
    )


def _view(scored: Scored, figures: Mapping[str, Any], media_root: Path | None) -> dict[str, Any]:
    names = [name for name, value in figures["headline"].items() if value is not None]
    rows, total = errors(scored, media_root)
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
        "distances": _distances(scored) if scored.task == "ecpe" else [],
        "speakers": _speakers(scored),
        "speaker_figure": NAMES[_BY_SPEAKER[scored.task]],
        "confusion": _confusion(_msa_matrix(scored), signs=True)
        if scored.task == "msa"
        else _confusion(figures["scores"].get("confusion")),
        "reliability": reliability(scored),
        "errors": rows,
        "wrong": total,
        "by_degrees": scored.task in ("fer", "eri"),
        "golds": _choices(row["kind"] for row in rows),
        "faults": _choices(row["fault"] for row in rows),
        "voices": _choices(row["speaker"] for row in rows),
        "seen": any(row["picture"] for row in rows),
        "rated": any(row["sure"] is not None for row in rows),
    }


def _choices(values: Iterable[str]) -> list[tuple[str, int]]:
    """What a filter offers, with counts; nothing where there is nothing to choose."""
    counted = Counter(value for value in values if value)
    return sorted(counted.items()) if len(counted) > 1 else []


def _classes(scored: Scored, figures: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """Name, F1 in percent and gold count of every class, most frequent first."""
    table = figures.get("per_class") or figures.get("per_emotion") or figures.get("per_au") or {}
    if scored.task == "msa":
        table = _polarity(scored)
    rows = [(name, float(row["f1"]), int(row["support"])) for name, row in table.items()]
    return sorted((row for row in rows if row[2]), key=lambda row: -row[2])


def _polarity(scored: Scored) -> dict[str, dict[str, float]]:
    """F1 of both signs, gold zeros left out."""
    pairs = zip(map(polarity, scored.gold), scored.pred, strict=True)
    signed = [(sign, pred) for sign, pred in pairs if sign is not None]
    table = {}
    for pole in labels.SENTIMENTS:
        support = sum(sign == pole for sign, _ in signed)
        said = sum(pred == pole for _, pred in signed)
        hits = sum(sign == pred == pole for sign, pred in signed)
        f1 = 200 * hits / (support + said) if support + said else 0.0
        table[pole] = {"f1": f1, "support": support}
    return table


def _distances(scored: Scored) -> list[tuple[str, float, int]]:
    """F1 of the pairs by how far the cause lies from the emotion, counted in utterances."""
    gold = [{(_distance(pair), pair) for pair in truth} for truth in scored.gold]
    pred = [{(_distance(pair), pair) for pair in said or ()} for said in scored.pred]
    rows = []
    for name in _DISTANCES:
        mine = [{item for item in items if item[0] == name} for items in gold]
        said = [{item for item in items if item[0] == name} for items in pred]
        support, guesses = sum(map(len, mine)), sum(map(len, said))
        if support:
            hits = sum(len(a & b) for a, b in zip(mine, said, strict=True))
            rows.append((name, 200 * hits / (support + guesses), support))
    return rows


def _distance(pair: Any) -> str:
    back = pair.emotion_index - pair.cause_index
    return _DISTANCES[min(back, 4)] if back >= 0 else _DISTANCES[-1]


def _speakers(scored: Scored) -> list[dict[str, Any]]:
    """A bar a speaker, the most frequent first; [] where fewer than two are known."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(scored.records):
        if name := speaker(record):
            places.setdefault(name, []).append(place)
    if len(places) < 2:
        return []
    named = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
    shown = [(name, at) for name, at in named[:SPEAKERS] if len(at) >= _FEWEST]
    rest = [place for name, at in named[len(shown) :] for place in at]
    if rest:
        shown.append((f"{len(named) - len(shown)} others", rest))
    return [bar for name, at in shown if (bar := _speaker_bar(scored, name, at)) is not None]


def _speaker_bar(scored: Scored, name: str, at: Sequence[int]) -> dict[str, Any] | None:
    figure = _BY_SPEAKER[scored.task]
    part = _only(scored, at)
    value = part.score().get(figure)
    if value is None:
        return None
    bounds = intervals(part.task, part.gold, part.pred, part.units, part.values, part.captions)
    return {"name": name, "value": value, "interval": bounds.get(figure), "n": len(at)}


def _only(scored: Scored, places: Sequence[int]) -> Scored:
    return replace(
        scored,
        records=tuple(scored.records[at] for at in places),
        answers=tuple(scored.answers[at] for at in places),
        gold=tuple(scored.gold[at] for at in places),
        pred=tuple(scored.pred[at] for at in places),
        units=tuple(scored.units[at] for at in places) if scored.units else None,
        values=tuple(scored.values[at] for at in places) if scored.values else None,
    )


def _msa_matrix(scored: Scored) -> dict[str, dict[str, int]]:
    """Gold signs, zero among them, to predicted ones."""
    columns = (*labels.SENTIMENTS, "unparseable")
    matrix = {sign: dict.fromkeys(columns, 0) for sign in (*labels.SENTIMENTS, "zero")}
    for gold, pred in zip(scored.gold, scored.pred, strict=True):
        matrix[polarity(gold) or "zero"][pred or "unparseable"] += 1
    return matrix


def _confusion(
    matrix: Mapping[str, Mapping[str, int]] | None, *, signs: bool = False
) -> dict[str, Any] | None:
    """Rows of (label, cells); a cell is its column, its count and its share of the row in percent.

    Args:
        matrix: gold to predicted counts.
        signs: whether a gold zero may be answered with `positive`.
    """
    if not matrix:
        return None
    columns = list(next(iter(matrix.values())))
    if not any(row["unparseable"] for row in matrix.values()):
        columns.remove("unparseable")
    rows = []
    for label, row in matrix.items():
        total = sum(row.values())
        if total:
            fine = {label, "positive"} if signs and label == "zero" else {label}
            rows.append(
                (
                    label,
                    [
                        (column, row[column], round(100 * row[column] / total), column in fine)
                        for column in columns
                    ],
                )
            )
    return {"columns": columns, "rows": rows}
