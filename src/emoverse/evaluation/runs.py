"""The folder of one evaluation: what was asked of which model, and the append-only answers.

`run.json` says what the run is about and never changes its model, data or media;
`predictions.jsonl` only grows, one line an answer, the latest of an id counting. So a run that was
killed goes on where it stopped, and scoring again asks nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from emoverse.emt.record import Record, dump_records, load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import unique_ids
from emoverse.evaluation.predictions import Answer
from emoverse.files import read_json, sha256_of, write_json
from emoverse.inference import calibration
from emoverse.models import weights
from emoverse.models.trained import ADAPTER, LANGUAGE, folder_of, known_recipe

PREDICTIONS = "predictions.jsonl"
SETTINGS = "run.json"
SCORES = "scores.json"
REPORT = "report.html"
CONVERSATIONS = "semeval.json"  # says that a folder holds a run of protocol semeval
_PACKAGES = ("emoverse", "torch", "transformers", "peft", "numpy", "scikit-learn", "mediapipe")
_WEIGHTS = (".safetensors", ".gguf")
_CONFIGS = (
    *("config.json", "adapter_config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
)
# What of its recipe a model with a processor is loaded and shown clips by.
_SHOWN = ("model", "projector", "frames", "videos")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands on disk.

    Attributes:
        settings: what run.json holds.
        records: the records it is about, in order.
        answers: those answered so far, by record id.
    """

    folder: Path
    settings: Mapping[str, Any]
    records: tuple[Record, ...]
    answers: Mapping[str, Answer]


def open_run(
    folder: Path,
    *,
    model: str,
    model_name: str,
    model_sha256: str | None,
    data: Path,
    media_root: Path | None,
    limit: int | None,
    floors_train: Path | str | None,
    training: Mapping[str, Any] | None = None,
    made: tuple[Path, Sequence[Record]] | None = None,
) -> dict[str, Any]:
    """Write run.json, or check that the run begun in this folder is the same one.

    `limit` and `floors_train` may change between calls: they change no answer. `training` is what
    `training_of` says of the model, for the reader. `made` is for records that were made from a
    file, more of them as a limit grows: that file, and the records, which are written to `data`
    once the folder is known to be the same run's.

    Returns:
        What run.json now holds.

    Raises:
        EmoVerseError: the folder holds a run of another model, other data or other media.
    """
    same = {
        "model_name": model_name,
        "model_sha256": model_sha256,
        "source_sha256" if made else "data_sha256": sha256_of(made[0] if made else data),
        "media_root": str(media_root.resolve()) if media_root else None,
    }
    begun = (folder / PREDICTIONS).is_file() and (folder / PREDICTIONS).stat().st_size > 0
    if begun and not (folder / SETTINGS).is_file():
        raise EmoVerseError(
            f"{folder} holds answers but no {SETTINGS} that says whose; name another --out."
        )
    if begun:
        before = read_json(folder / SETTINGS)
        for key, now in same.items():
            # A run from before `source_sha256` was written down lacks it.
            if before.get(key, now) != now:
                raise EmoVerseError(
                    f"{folder} holds a run with another {key} ({_short(before.get(key))}, now "
                    f"{_short(now)}); name another --out, or delete that folder."
                )
    if made:
        dump_records(data, made[1])
    settings = {
        "model": model,
        **same,
        "training": dict(training) if training else None,
        "data": str(data.resolve()),
        "data_sha256": sha256_of(data),
        "limit": limit,
        "floors_train": str(Path(floors_train).resolve()) if floors_train else None,
        "versions": _versions(),
    }
    write_json(folder / SETTINGS, settings)
    return settings


def load_run(folder: Path | str) -> Run:
    """Read a run back, its data checked against the hash it was begun with.

    Raises:
        EmoVerseError: the folder holds no run, or its data has changed or gone.
    """
    folder = Path(folder)
    if (folder / CONVERSATIONS).is_file():
        raise EmoVerseError(
            f"{folder} holds a run of protocol semeval; say `--protocol semeval`, or name one of "
            "the rounds in it."
        )
    if not (folder / SETTINGS).is_file():
        raise EmoVerseError(f"{folder} holds no evaluation ({SETTINGS} is missing); run one first.")
    settings = read_json(folder / SETTINGS)
    data = Path(settings["data"])
    if not data.is_file():
        raise EmoVerseError(f"{data}: the evaluated data has gone; put it back to score again.")
    if sha256_of(data) != settings["data_sha256"]:
        raise EmoVerseError(f"{data} has changed since the run; evaluate again.")
    records = tuple(unique_ids(load_records(data))[: settings["limit"]])
    return Run(folder, settings, records, answered(folder / PREDICTIONS, records))


@contextmanager
def writing(log: Path) -> Iterator[None]:
    """Hold the folder of a log for one writer; a last line torn by a kill is cut off first.

    Raises:
        EmoVerseError: another process is writing there.
    """
    lock = FileLock(log.parent / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise EmoVerseError(
            f"{log.parent}: another evaluation is writing there; wait for it or name another --out."
        ) from None
    try:
        _drop_torn_line(log)
        yield
    finally:
        lock.release()


def append(path: Path, rows: Iterator[Mapping[str, Any]]) -> Iterator[int]:
    """Append rows to a JSONL log as they come; yields how many are in.

    One write a line, flushed at once: a kill can tear the last line, and no other.
    """
    with open(path, "a", encoding="utf-8") as sink:
        for count, row in enumerate(rows, 1):
            sink.write(json.dumps(row, ensure_ascii=False) + "\n")
            sink.flush()
            yield count
        os.fsync(sink.fileno())


def logged(
    records: Sequence[Record],
    log: Path,
    rows: Callable[[Sequence[Record]], Iterator[Mapping[str, Any]]],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Rows of all records by `fingerprint`, those that `log` lacks asked for and appended.

    Args:
        records: any.
        log: a JSONL file.
        rows: asks the model; each row's `key` is its record's fingerprint. A record without a row
            is asked for again the next time.
        progress: called with (done, all) records.

    Raises:
        EmoVerseError: another process writes that file.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with writing(log):
        done = _kept(log)
        waiting = [record for record in records if fingerprint(record) not in done]
        before = len(records) - len(waiting)
        if progress:
            progress(before, len(records))
        for count in append(log, rows(waiting)):
            if progress:
                progress(before + count, len(records))
        return _kept(log)


def log_of(model: Path, out: Path | None, what: str) -> Path:
    """Where answers of a model are kept for what is fitted to it.

    Args:
        model: its folder.
        out: a folder; None is `<model>-<what>` beside the model's.
        what: is fitted.
    """
    folder = out or model.with_name(f"{model.name}-{what}")
    return folder / f"{(model_sha256(str(model), calibrated=False) or 'model')[:16]}.jsonl"


def answered(path: Path, records: Sequence[Record]) -> dict[str, Answer]:
    """Usable answers by record id, the latest of each; a line that is none is passed over."""
    if not path.is_file():
        return {}
    wanted = {record.id: record for record in records}
    found: dict[str, Answer] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError:
            continue
        record = wanted.get(answer.id or "")
        if record is not None and answer.query_sha256 == fingerprint(record):
            found[record.id] = answer
    return found


def fingerprint(record: Record) -> str:
    """What a record asks, as 32 hex digits: its query and the names of its media."""
    return hashlib.sha256("\0".join((record.query, *record.media)).encode()).hexdigest()[:32]


def model_sha256(model: str, *, calibrated: bool = True) -> str | None:
    """One hash of all that decides a model's answers: weights, settings, processor, calibration.

    Args:
        model: `compact` or a model folder.
        calibrated: False leaves the calibration out.

    Returns:
        Hex digits; None when there is no such folder. An adapter without base weights beside it
        counts with those of the model it was trained on.
    """
    folder = folder_of(model)
    if not folder.is_dir():
        return None
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _WEIGHTS and not path.name.startswith("checkpoint")
    ]
    if (merged := folder / LANGUAGE / "model.safetensors").is_file():
        files.append(merged)
    digest = hashlib.sha256()
    configs = (*_CONFIGS, calibration.FILE) if calibrated else _CONFIGS
    for path in [*files, *(folder / name for name in configs)]:
        if path.is_file():
            digest.update(f"{path.name}\0{sha256_of(path)}\n".encode())
    recipe = known_recipe(folder)
    base = str(recipe.get("model", "compact"))
    if base != "compact":  # the compact model looks at the peak frame, whatever its recipe says
        shown = {key: recipe.get(key) for key in _SHOWN}
        digest.update(json.dumps(shown, sort_keys=True).encode())
    if (folder / ADAPTER).is_file():
        own = weights.SMOLLM2_GGUF.sha256 if base == "compact" else model_sha256(base)
        digest.update((own or base).encode())
    return digest.hexdigest()


def training_of(model: str) -> dict[str, Any] | None:
    """What a model was trained for, and how much of its training data it has seen.

    Args:
        model: `compact` or a model folder.

    Returns:
        `share` of the samples that its recipe used, 0 for one that was never trained, `seed`, and
        the `tasks` that a stage had queries for; None where no recipe tells.
    """
    recipe = known_recipe(folder_of(model))
    if not recipe:
        return None
    stages = recipe.get("stages") or ()
    tasks = {task for stage in stages for task, rate in stage["rates"].items() if rate > 0}
    return {
        "share": recipe.get("share", 1.0) if stages else 0.0,
        "seed": recipe.get("seed", 0),
        "tasks": sorted(tasks),
    }


def trained_tasks(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks that the model of a run was trained for, by its run.json; () where nothing tells.

    A run.json written before `training` named tasks is helped out by the model's folder.
    """
    training = settings.get("training") or {}
    if "tasks" not in training:
        training = training_of(settings["model"]) or {}
    return tuple(training.get("tasks", ()))


def _drop_torn_line(path: Path) -> None:
    if not path.is_file():
        return
    with open(path, "rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}
