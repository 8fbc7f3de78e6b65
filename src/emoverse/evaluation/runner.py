"""Ask a model about a file of records, keep every answer, and score them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.floors import floors
from emoverse.evaluation.report import write_report
from emoverse.evaluation.score import HEADLINES, block, check_protocol, prepare, unique_ids
from emoverse.files import read_json, sha256_of, write_json

PREDICTIONS, SETTINGS, SCORES, REPORT = (
    "predictions.jsonl",
    "run.json",
    "scores.json",
    "report.html",
)
_PACKAGES = ("emoverse", "torch", "transformers", "peft", "numpy", "scikit-learn", "mediapipe")


class Answerer(Protocol):
    """What the runner asks of an engine (`emoverse.inference.engine`)."""

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Any]:
        """Yield a prediction (id, text, label, probabilities, media_missing, seconds) each."""
        ...


def evaluate(
    model: str,
    data: Path | str,
    *,
    protocol: str = "paper",
    out: Path | str | None = None,
    media_root: Path | str | None = None,
    limit: int | None = None,
    floors_train: Path | str | None = None,
    engine: Answerer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Answer the records of `data`, then score them.

    A run that was killed goes on where it stopped: what `predictions.jsonl` in `out` already
    answers (same query and media, same model) is not asked again.

    Args:
        model: a model's name or folder, as `load_model` takes it.
        data: records, ours or the authors' format; several tasks may be mixed.
        protocol: `paper` or `strict`.
        out: folder for predictions.jsonl, scores.json and report.html; None is
            `<data's name>-eval` in the working folder.
        media_root: where relative media paths start.
        limit: only the first so many records.
        floors_train: a training set for the floors, see `emoverse.evaluation.floors.floors`.
        engine: answers in place of the model of that name.
        progress: called with (answered, all) records.

    Returns:
        What scores.json holds.

    Raises:
        EmoVerseError: the data or the protocol is wrong, or a record has no readable gold.
    """
    check_protocol(protocol, "ecpe")
    if protocol == "semeval":
        raise EmoVerseError("`semeval` scores files; use `emoverse score`, or `paper` or `strict`.")
    if limit is not None and limit < 1:
        raise EmoVerseError(f"The limit is {limit}; use 1 or more.")
    data = Path(data)
    records = unique_ids(load_records(data))[:limit]
    if not records:
        raise EmoVerseError(f"{data}: holds no records; name a file with some.")
    for task in dict.fromkeys(record.task for record in records):  # a bad gold is told at once
        prepare(task, [r for r in records if r.task == task], _blank(records, task), protocol)
    out = Path(out) if out is not None else Path(f"{data.stem}-eval")
    out.mkdir(parents=True, exist_ok=True)
    if engine is None:
        from emoverse.inference.engine import load_model  # heavy

        engine = load_model(model)
    name = str(getattr(engine, "name", model))
    root = Path(media_root) if media_root is not None else None
    write_json(
        out / SETTINGS,
        {
            "model": model,
            "model_name": name,
            "data": str(data.resolve()),
            "data_sha256": sha256_of(data),
            "media_root": str(root) if root else None,
            "limit": limit,
            "floors_train": str(Path(floors_train).resolve()) if floors_train else None,
            "versions": _versions(),
        },
    )
    file = out / PREDICTIONS
    _drop_torn_line(file)
    done = _answered(file, records, name, root)
    waiting = [record for record in records if record.id not in done]
    if progress:
        progress(len(done), len(records))
    if waiting:
        by_id = {record.id: record for record in waiting}
        with open(file, "a", encoding="utf-8") as sink:
            for count, prediction in enumerate(engine.answer(waiting, root), len(done) + 1):
                row = _row(by_id[prediction.id], prediction, name)
                # One write a line: a kill can tear the last line, and no other.
                sink.write(json.dumps(row, ensure_ascii=False) + "\n")
                sink.flush()
                if progress:
                    progress(count, len(records))
            os.fsync(sink.fileno())
    return score_predictions(out, protocol)


def score_predictions(out: Path | str, protocol: str = "paper") -> dict[str, Any]:
    """Score the answers in `out` again without asking the model; rewrites scores.json and the page.

    Records without an answer yet (a run that was stopped) are left out and counted.

    Raises:
        EmoVerseError: `out` holds no run, its data has changed or gone, or nothing is answered.
    """
    out = Path(out)
    if not (out / SETTINGS).is_file():
        raise EmoVerseError(f"{out} holds no evaluation ({SETTINGS} is missing); run one first.")
    settings = read_json(out / SETTINGS)
    data = Path(settings["data"])
    if not data.is_file():
        raise EmoVerseError(f"{data}: the evaluated data has gone; put it back to score again.")
    if sha256_of(data) != settings["data_sha256"]:
        raise EmoVerseError(f"{data} has changed since the run; evaluate again.")
    check_protocol(protocol, "ecpe")
    records = unique_ids(load_records(data))[: settings["limit"]]
    root = Path(settings["media_root"]) if settings["media_root"] else None
    done = _answered(out / PREDICTIONS, records, settings["model_name"], root, again=False)
    if not done:
        raise EmoVerseError(f"{out / PREDICTIONS} answers no record of {data}; evaluate first.")
    tasks, scored_tasks = {}, []
    for task in (task for task in HEADLINES if any(r.task == task for r in records)):
        mine = [record for record in records if record.task == task]
        answered = [record for record in mine if record.id in done]
        texts = [str(done[record.id]["text"]) for record in answered]
        scored = prepare(task, answered, texts, protocol)
        blind = [r for r in answered if done[r.id]["media_missing"]]
        tasks[task] = block(scored, floors(scored, settings["floors_train"])) | {
            "records": len(mine),
            "answered": len(answered),
            "text_alone": len(blind) + sum(not record.media for record in answered),
            "media_missing": len(blind),
        }
        scored_tasks.append(scored)
    scores = {
        "model": settings["model_name"],
        "protocol": protocol,
        "data": {"path": str(data), "sha256": settings["data_sha256"], "records": len(records)},
        "tasks": tasks,
        "seconds": round(sum(float(row.get("seconds") or 0) for row in done.values()), 3),
        "settings": {
            key: settings[key] for key in ("model", "media_root", "limit", "floors_train")
        },
        "versions": settings["versions"],
    }
    write_json(out / SCORES, scores)
    write_report(out / REPORT, scores, scored_tasks)
    return scores


def _blank(records: Sequence[Record], task: str) -> list[str]:
    return [""] * sum(record.task == task for record in records)


def _row(record: Record, prediction: Any, model: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "task": record.task,
        "model": model,
        "query_sha256": _fingerprint(record),
        "text": prediction.text,
        "label": _plain(prediction.label),
        "probabilities": {key: round(float(p), 6) for key, p in prediction.probabilities.items()},
        "media_missing": bool(prediction.media_missing),
        "seconds": round(float(prediction.seconds), 4),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    fields = getattr(value, "__slots__", None)
    return [getattr(value, name) for name in fields] if fields else str(value)


def _fingerprint(record: Record) -> str:
    return hashlib.sha256("\0".join((record.query, *record.media)).encode()).hexdigest()[:32]


def _drop_torn_line(path: Path) -> None:
    """Cut off what a killed run left of its last line."""
    if not path.is_file():
        return
    with open(path, "rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _answered(
    path: Path, records: Sequence[Record], model: str, root: Path | None, *, again: bool = True
) -> dict[str, Mapping[str, Any]]:
    """Usable rows by record id, the latest of each; a line that is no JSON is asked again.

    With `again`, an answer given without its clip does not count once the clip is there.
    """
    if not path.is_file():
        return {}
    wanted = {record.id: record for record in records}
    found: dict[str, Mapping[str, Any]] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        record = wanted.get(row.get("id", "")) if isinstance(row, dict) else None
        if record is None or row.get("model") != model or not isinstance(row.get("text"), str):
            continue
        if row.get("query_sha256") != _fingerprint(record):
            continue
        row.setdefault("media_missing", False)
        if again and row["media_missing"] and _on_disk(record, root):
            found.pop(record.id, None)
            continue
        found[record.id] = row
    return found


def _on_disk(record: Record, root: Path | None) -> bool:
    return bool(record.media) and all(((root or Path()) / item).is_file() for item in record.media)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
