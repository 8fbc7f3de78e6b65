"""Ask a model about a file of records, keep every answer, and score them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from emoverse.emt.endpoint import Endpoint
from emoverse.emt.media import root_of
from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.floors import floors
from emoverse.evaluation.gold import gold_label, unique_ids
from emoverse.evaluation.intervals import SEED
from emoverse.evaluation.judge import judge as judged
from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.report import write_report
from emoverse.evaluation.runs import (
    PREDICTIONS,
    REPORT,
    SCORES,
    Run,
    answered,
    append,
    fingerprint,
    load_run,
    model_sha256,
    open_run,
    training_of,
    writing,
)
from emoverse.evaluation.score import block
from emoverse.evaluation.scored import HEADLINES, Scored, check_protocol, prepare
from emoverse.evaluation.semeval import is_semeval_file
from emoverse.evaluation.traps import trap_rows
from emoverse.files import write_json
from emoverse.models.trained import name_of


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
    derive_scores: bool = False,
    open_vocabulary: bool = False,
    engine: Answerer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Answer the records of `data`, then score them.

    A run that was killed goes on where it stopped: what `predictions.jsonl` in `out` already
    answers is not asked again, and where nothing is left to ask, the model is not even loaded.

    Args:
        model: a model's name or folder, as `load_model` takes it.
        data: records, ours or the authors' format; several tasks may be mixed.
        protocol: `paper` or `strict`.
        out: folder for predictions.jsonl, scores.json and report.html; None is
            `<data's name>-eval` in the working folder.
        media_root: where relative media paths start; by default see `emt.media.root_of`.
        limit: only the first so many records; a later call may raise it.
        floors_train: a training set for the floors, see `emoverse.evaluation.floors.floors`.
        derive_scores: see `emoverse.evaluation.scored.prepare`.
        open_vocabulary: likewise.
        engine: answers in place of the model of that name.
        progress: called with (answered, all) records.

    Returns:
        What scores.json holds.

    Raises:
        EmoVerseError: the data or the protocol is wrong, a record has no readable gold, or `out`
            holds a run of another model, other data or other media.
    """
    _check(protocol)
    if limit is not None and limit < 1:
        raise EmoVerseError(f"The limit is {limit}; use 1 or more.")
    data = Path(data)
    if is_semeval_file(data):
        raise EmoVerseError(
            f"{data} is a SemEval file; ask about its conversations with `--protocol semeval`."
        )
    records = unique_ids(load_records(data))[:limit]
    if not records:
        raise EmoVerseError(f"{data}: holds no records; name a file with some.")
    for record in records:  # a bad gold is told before the model is asked
        gold_label(record)
    out = Path(out) if out is not None else Path(f"{data.stem}-eval")
    ask(
        asked(model, engine),
        data,
        records,
        out,
        media_root=root_of(records, data, media_root),
        limit=limit,
        floors_train=floors_train,
        progress=progress,
    )
    return score_predictions(
        out, protocol, derive_scores=derive_scores, open_vocabulary=open_vocabulary
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Who answers a run: loaded when the first question is put, and then kept.

    Attributes:
        model: as it was named.
        name: for people.
        sha256: of what decides its answers, None where unknown.
        load: gives the engine.
        training: see `emoverse.evaluation.runs.training_of`.
    """

    model: str
    name: str
    sha256: str | None
    load: Callable[[], Answerer]
    training: Mapping[str, Any] | None = None


def asked(model: str, engine: Answerer | None = None) -> Asked:
    """The model of that name, or an engine that answers in its place."""
    if engine is not None:
        name = str(getattr(engine, "name", None) or Path(model).name)
        return Asked(model, name, getattr(engine, "sha256", None), lambda: engine)
    name = name_of(model)
    load = functools.cache(lambda: _loaded(model))
    return Asked(model, name, model_sha256(model), load, training_of(model))


def ask(
    who: Asked,
    data: Path,
    records: Sequence[Record],
    out: Path,
    *,
    media_root: Path | str | None = None,
    limit: int | None = None,
    floors_train: Path | str | None = None,
    source: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Put to a model what `predictions.jsonl` in `out` does not answer yet.

    Args:
        who: answers.
        data: the file that `load_run` reads the records from again.
        records: its records, with ids of their own, as many as `limit` says.
        out: the folder of the run.
        media_root: see `evaluate`.
        limit: likewise.
        floors_train: likewise.
        source: the file that the records were made from, where `data` is not there yet: it is then
            written here, unless `out` holds another run.
        progress: likewise.

    Raises:
        EmoVerseError: `out` holds a run of another model, other data or other media.
    """
    out.mkdir(parents=True, exist_ok=True)
    root = Path(media_root) if media_root is not None else None
    with writing(out / PREDICTIONS):
        open_run(
            out,
            model=who.model,
            model_name=who.name,
            model_sha256=who.sha256,
            training=who.training,
            data=data,
            made=(source, records) if source else None,
            media_root=root,
            limit=limit,
            floors_train=floors_train,
        )
        done = {
            key: answer
            for key, answer in answered(out / PREDICTIONS, records).items()
            if not answer.media_missing or not _on_disk(records, key, root)
        }
        waiting = [record for record in records if record.id not in done]
        if progress:
            progress(len(done), len(records))
        if waiting:
            for count in append(out / PREDICTIONS, _rows(who.load(), waiting, root, who.name)):
                if progress:
                    progress(len(done) + count, len(records))


def score_predictions(
    out: Path | str,
    protocol: str = "paper",
    *,
    derive_scores: bool = False,
    open_vocabulary: bool = False,
    judge: Endpoint | None = None,
    similarity: str | None = None,
    floors_train: Path | str | None = None,
    traps: bool = False,
) -> dict[str, Any]:
    """Score the answers in `out` again without asking the model; rewrites scores.json and the page.

    Records without an answer yet (a run that was stopped) are left out and counted.

    Args:
        out: a folder that `evaluate` wrote.
        protocol: `paper` or `strict`.
        derive_scores: see `emoverse.evaluation.scored.prepare`.
        open_vocabulary: likewise.
        judge: a language model that rates ERI answers, see `emoverse.evaluation.judge`; its
            replies are kept in `out/judge`.
        similarity: a model whose word vectors compare ERI answers, see
            `emoverse.evaluation.similarity`.
        floors_train: a training set for the floors; None is the one the run was given.
        traps: add what the authors' script would say, see `emoverse.evaluation.traps`.

    Raises:
        EmoVerseError: `out` holds no run, its data has changed or gone, nothing is answered, or
            there are no reasons for a judge or a similarity.
    """
    _check(protocol)
    run = load_run(out)
    if (judge or similarity) and not any(record.task == "eri" for record in run.records):
        raise EmoVerseError(
            f"{run.folder} asked for no reasons (ERI), and only these are judged or compared by "
            "similarity; leave that option out."
        )
    if not run.answers:
        raise EmoVerseError(f"{run.folder / PREDICTIONS} answers no record; evaluate first.")
    settings = {
        key: run.settings[key] for key in ("model", "media_root", "limit", "floors_train")
    } | {"derive_scores": derive_scores, "open_vocabulary": open_vocabulary}
    if floors_train is not None:
        settings["floors_train"] = str(Path(floors_train).resolve())
    origin = {
        "data_sha256": run.settings["data_sha256"],
        "model_sha256": run.settings.get("model_sha256"),
        "settings": settings,
    }
    tasks, scored_tasks = {}, []
    for scored in scored_run(
        run, protocol, derive_scores=derive_scores, open_vocabulary=open_vocabulary
    ):
        mine = [record for record in run.records if record.task == scored.task]
        said = [(record, run.answers[record.id]) for record in mine if record.id in run.answers]
        blind = sum(answer.media_missing for _, answer in said)
        tasks[scored.task] = block(scored, floors(scored, settings["floors_train"]), origin) | {
            "records": len(mine),
            "answered": len(said),
            "text_alone": blind + sum(not record.media for record, _ in said),
            "media_missing": blind,
        }
        if scored.task == "eri" and scored.records:
            tasks["eri"] |= _further(scored, judge, similarity, run.folder / "judge")
        if traps:
            tasks[scored.task]["traps"] = trap_rows(scored)
        scored_tasks.append(scored)
    scores = {
        "model": run.settings["model_name"],
        "model_sha256": origin["model_sha256"],
        "protocol": protocol,
        "data": {
            "path": run.settings["data"],
            "sha256": run.settings["data_sha256"],
            "records": len(run.records),
        },
        "tasks": tasks,
        "seconds": round(sum(answer.seconds for answer in run.answers.values()), 3),
        "seed": SEED,
        "settings": settings,
        "versions": run.settings["versions"],
    }
    write_json(run.folder / SCORES, scores)
    write_report(run.folder / REPORT, scores, scored_tasks)
    return scores


def scored_run(
    run: Run, protocol: str, *, derive_scores: bool = False, open_vocabulary: bool = False
) -> list[Scored]:
    """Gold and answers of a run, one `Scored` a task in the order of `HEADLINES`."""
    result = []
    for task in (task for task in HEADLINES if any(r.task == task for r in run.records)):
        mine = [r for r in run.records if r.task == task and r.id in run.answers]
        answers: list[Answer] = [run.answers[record.id] for record in mine]
        result.append(
            prepare(
                task,
                mine,
                answers,
                protocol,
                derive_scores=derive_scores,
                open_vocabulary=open_vocabulary,
            )
        )
    return result


def _further(
    scored: Scored, judge: Endpoint | None, similarity: str | None, cache: Path
) -> dict[str, Any]:
    """The extra figures of ERI that another model gives."""
    found: dict[str, Any] = {}
    if judge is not None:
        found["judge"] = judged(scored.gold, scored.texts, judge, cache)
    if similarity is not None:
        from emoverse.evaluation.similarity import similarity as measured  # heavy

        found["similarity"] = measured(scored.gold, scored.texts, similarity)
    return found


def _loaded(model: str) -> Answerer:
    from emoverse.inference.engine import load_model  # heavy

    engine: Answerer = load_model(model, exact=True)
    return engine


def _check(protocol: str) -> None:
    check_protocol(protocol, "ecpe")
    if protocol == "semeval":
        raise EmoVerseError(
            "`semeval` is for whole conversations (`evaluate_semeval`); use `paper` or `strict`."
        )


def _rows(
    engine: Answerer, records: Sequence[Record], root: Path | None, name: str
) -> Iterator[Mapping[str, Any]]:
    by_id = {record.id: record for record in records}
    for prediction in engine.answer(records, root):
        record = by_id[prediction.id]
        score = getattr(prediction, "score", None)
        yield {
            "id": record.id,
            "task": record.task,
            "model": name,
            "query_sha256": fingerprint(record),
            "text": prediction.text,
            **({"score": float(score)} if score is not None else {}),
            "label": _plain(prediction.label),
            "probabilities": {
                key: round(float(p), 6) for key, p in prediction.probabilities.items()
            },
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


def _on_disk(records: Sequence[Record], key: str, root: Path | None) -> bool:
    """Whether the media of a record answered without them have turned up since."""
    media = next(record.media for record in records if record.id == key)
    return bool(media) and all(((root or Path()) / item).is_file() for item in media)
