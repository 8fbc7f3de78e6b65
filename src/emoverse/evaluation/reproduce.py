"""`emoverse reproduce`: the paper's tables with our rows beside its own."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoverse.emt.media import root_of
from emoverse.emt.record import Record, dump_records, load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.compare import compare
from emoverse.evaluation.floors import floors
from emoverse.evaluation.gold import conversation_key, unique_ids
from emoverse.evaluation.paper_tables import PAPER, SOURCE, Column, PaperTable, check_rows
from emoverse.evaluation.runner import Answerer, evaluate, scored_run
from emoverse.evaluation.runs import load_run, trained_tasks
from emoverse.evaluation.score import block
from emoverse.evaluation.tables import Cell, Difference, Line, Result
from emoverse.m2se.recipe import Recipe

# The corpus that a task's figures in the tables are of; records may leave their source out.
CORPUS = {"msa": "mosei", "er": "meld", "ecpe": "ecf"}
_SEED = 0
Progress = Callable[[int, int], None]


def paper_table(name: str) -> PaperTable:
    """The paper's table of that name, `table3` to `table8`.

    Raises:
        EmoVerseError: there is none.
    """
    if name not in PAPER:
        raise EmoVerseError(f"Table {name!r} is unknown; use {', '.join(PAPER)}.")
    return PAPER[name]


def model_of(folder: Path) -> str:
    """The name of the model that a run asked.

    Raises:
        EmoVerseError: the folder holds no run.
    """
    return str(load_run(folder).settings["model_name"])


def answered(
    models: Mapping[str, str],
    data: Sequence[Path],
    table: PaperTable,
    out: Path,
    *,
    protocol: str = "paper",
    media_root: Path | None = None,
    limit: int | None = None,
    floors_train: Path | None = None,
    load: Callable[[str], Answerer] | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Path]]:
    """Ask models for what a table needs; what a former call has answered is not asked again.

    Args:
        models: row name to model.
        data: files of records; of each, the table's tasks on the paper's corpora are taken.
        table: says which tasks.
        out: the records asked go to `data/`, the answers to `runs/`.
        protocol: see `emoverse.evaluation.runner.evaluate`.
        media_root: likewise; looked for beside the first file.
        limit: at most this many records a task, drawn at random, the same for every model;
            conversations whole.
        floors_train: for the floors, see `emoverse.evaluation.floors.floors`.
        load: makes the engine of a model; None lets `evaluate` load it.
        progress: called with (answered, all) records of a task.

    Returns:
        Row name to the folders of its runs, one a task.

    Raises:
        EmoVerseError: the files hold no record for the table, or `out` holds runs about others.
    """
    tasks = list(dict.fromkeys(task for task, _ in table.columns))
    chosen = _chosen(data, tasks, limit)
    files = {task: out / "data" / f"{task}.jsonl" for task in chosen}
    for task, file in files.items():  # all are looked at before one is written
        if file.is_file() and load_records(file) != chosen[task]:
            raise EmoVerseError(
                f"{file} holds other records, which the runs beside it are about; give the same "
                "--data and --limit, or name another --out."
            )
    for task, file in files.items():
        dump_records(file, chosen[task])
    runs: dict[str, list[Path]] = {}
    for name, model in models.items():
        engine = load(model) if load else None
        for task, file in files.items():
            # Variants that are one model (the full recipe stands in three tables) are asked once.
            trained = Path(model).parent == out / "models"
            folder = out / "runs" / _slug(Path(model).name if trained else name) / task
            evaluate(
                model,
                file,
                protocol=protocol,
                out=folder,
                media_root=root_of(load_records(file), data[0], media_root),
                floors_train=floors_train if task == "ecpe" else None,
                engine=engine,
                progress=progress,
            )
            runs.setdefault(name, []).append(folder)
    return runs


def subset_note(limit: int, data: Sequence[Path]) -> str:
    """What must be said where `answered` drew a subset."""
    names = ", ".join(path.name for path in data)
    return (
        f"A subset: at most {limit:,} records a task, drawn at random (seed {_SEED}) from {names}, "
        "conversations whole, the same for every model."
    )


def reproduce(
    name: str,
    runs: Mapping[str, Sequence[Path]],
    protocol: str = "paper",
    recipes: Mapping[str, Recipe | None] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """Lay finished runs beside the paper's rows; asks no model.

    Args:
        name: `table3` to `table8`.
        runs: row name to folders that `emoverse eval` wrote; together they answer at most one file
            a task. An ablation's rows keep the names of the table.
        protocol: `paper` or `strict`.
        recipes: ablations: what each variant was trained by; where it is not named, the recipe in
            the folder of the model that the run asked tells.
        notes: further sentences to stand beside the figures.

    Raises:
        EmoVerseError: a folder holds no run, no run answers the table's tasks, or an ablation has
            no such row.
    """
    table = paper_table(name)
    if table.reference is not None:
        check_rows(table, runs)
    ours: list[Line] = []
    under: dict[str, Line] = {}
    origins: list[dict[str, Any]] = []
    folders: dict[str, dict[str, Path]] = {}
    for row, paths in runs.items():
        cells: dict[Column, Cell | None] = dict.fromkeys(table.columns)
        for path in paths:
            for scored_block, splits in _blocks(Path(path), protocol):
                task = scored_block["task"]
                if not any(task == column[0] for column in table.columns):
                    continue
                if task in folders.setdefault(row, {}):
                    raise EmoVerseError(
                        f"{path} and {folders[row][task]} both answer {task} for {row!r}; name one."
                    )
                folders[row][task] = Path(path)
                cells |= _cells(scored_block, table)
                under |= _floor_lines(scored_block, table, under)
                origins.append(_origin(row, scored_block, splits))
        if row not in folders:
            tasks = " or ".join(dict.fromkeys(task for task, _ in table.columns))
            raise EmoVerseError(
                f"{', '.join(map(str, paths))}: no answers to {tasks} records, which table "
                f"{table.number} is of."
            )
        ours.append(Line(row, "ours", cells))
    papers = [
        Line(
            row.name,
            "paper",
            {
                column: None if value is None else Cell(value)
                for column, value in row.figures.items()
            },
        )
        for row in table.rows
    ]
    return Result(
        table,
        protocol,
        (*papers, *ours, *under.values()),
        tuple(_differences(table, folders, protocol, recipes or {})),
        tuple(origins),
        (
            *_notes(table, protocol),
            *_other_data(table, origins),
            *_missing(table, runs),
            *_unfinished(origins),
            *_shares(origins),
            *notes,
        ),
    )


def _chosen(
    data: Sequence[Path], tasks: Sequence[str], limit: int | None
) -> dict[str, list[Record]]:
    records = unique_ids([record for path in data for record in load_records(path)])
    chosen = {}
    for task in tasks:
        mine = [r for r in records if r.task == task and r.source in ("", CORPUS[task])]
        if mine:
            chosen[task] = mine if limit is None else _drawn(mine, limit)
    if not chosen:
        wanted = ", ".join(f"{task} ({CORPUS[task]})" for task in tasks)
        raise EmoVerseError(f"{', '.join(map(str, data))}: no records of {wanted}.")
    return chosen


def _drawn(records: Sequence[Record], limit: int) -> list[Record]:
    """At most `limit` records of a task; a conversation is taken whole or not at all."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        key = conversation_key(record) if record.task == "ecpe" else record.id
        groups.setdefault(key, []).append(record)
    order = sorted(groups)
    random.Random(_SEED).shuffle(order)
    kept: set[str] = set()
    for key in order:
        if len(kept) + len(groups[key]) <= limit:
            kept |= {record.id for record in groups[key]}
    return [record for record in records if record.id in kept]


def _blocks(folder: Path, protocol: str) -> list[tuple[dict[str, Any], set[str]]]:
    """The scores of a run, worked out anew from its answers, and the splits of its records."""
    run = load_run(folder)
    origin = {
        "data": run.settings["data"],
        "data_sha256": run.settings["data_sha256"],
        "model": run.settings["model_name"],
        "model_sha256": run.settings.get("model_sha256"),
    }
    training = run.settings.get("training")
    train = run.settings.get("floors_train")
    asked = Counter(record.task for record in run.records)
    told = Counter(record.task for record in run.records if record.id in run.answers)
    return [
        (
            block(scored, floors(scored, train if scored.task == "ecpe" else None), origin)
            | {"asked": asked[scored.task], "answered": told[scored.task], "training": training},
            {record.split or "unknown split" for record in scored.records},
        )
        for scored in scored_run(run, protocol)
        if scored.records
    ]


def _cells(scores: Mapping[str, Any], table: PaperTable) -> dict[Column, Cell | None]:
    cells: dict[Column, Cell | None] = {}
    for column in table.columns:
        value = scores["headline"].get(column[1]) if column[0] == scores["task"] else None
        if value is not None:
            low, high = scores["intervals"].get(column[1], (None, None))
            cells[column] = Cell(value, low, high, scores["n"])
    return cells


def _floor_lines(
    scores: Mapping[str, Any], table: PaperTable, before: Mapping[str, Line]
) -> dict[str, Line]:
    """Floors by name; one that several tasks share is one line."""
    lines = {}
    for name, figures in scores["floors"].items():
        cells: dict[Column, Cell | None] = dict.fromkeys(table.columns)
        if name in before:
            cells |= before[name].cells
        for column in table.columns:
            value = figures.get(column[1]) if column[0] == scores["task"] else None
            if value is not None:
                cells[column] = Cell(value, n=scores["n"])
        lines[name] = Line(name, "floor", cells)
    return lines


def _origin(row: str, scores: Mapping[str, Any], splits: set[str]) -> dict[str, Any]:
    names = (
        *("task", "n", "asked", "answered", "unparseable", "seed"),
        *("data", "data_sha256", "model", "model_sha256", "training"),
    )
    return {"row": row, "split": ", ".join(sorted(splits))} | {key: scores[key] for key in names}


def _differences(
    table: PaperTable,
    folders: Mapping[str, Mapping[str, Path]],
    protocol: str,
    recipes: Mapping[str, Recipe | None],
) -> list[Difference]:
    reference = table.reference
    if reference is None or reference not in folders:
        return []
    found = []
    for name, mine in folders.items():
        for task, folder in mine.items():
            if name == reference or task not in folders[reference]:
                continue
            compared = compare(folder, folders[reference][task], protocol)["tasks"][task]
            own = _trained_for(task, recipes.get(name), folder, name)
            for column in table.columns:
                if column[0] == task and (row := compared["figures"].get(column[1])):
                    low, high = row["interval"]
                    found.append(
                        Difference(
                            name, column, row["difference"], low, high, row["p"], compared["n"], own
                        )
                    )
    return found


def _trained_for(task: str, recipe: Recipe | None, run: Path, name: str) -> bool:
    """Whether a variant is a fair rival on a task: it is known to have seen it in training."""
    if name == "zero-shot":  # its recipe is the one it would be trained by
        return False
    if recipe is None:
        return task in trained_tasks(load_run(run).settings)
    return any(stage.rates.get(task, 0) > 0 for stage in recipe.stages)


def _notes(table: PaperTable, protocol: str) -> list[str]:
    notes = [f"The paper's rows: {SOURCE}, table {table.number}, {table.split}."]
    if table.note:
        notes.append(table.note)
    if any(value is None for row in table.rows for value in row.figures.values()):
        notes.append("The paper's own figures of this table are not at hand; none is made up.")
    if any(task == "ecpe" for task, _ in table.columns):
        notes.append(f"Ours: ECPE under protocol {protocol}.")
    return notes


def _other_data(table: PaperTable, origins: Sequence[Mapping[str, Any]]) -> list[str]:
    splits = sorted({origin["split"] for origin in origins})
    if splits == ["test"]:
        return []
    return [
        f"Not the same data: the paper's figures are of {table.split}, ours of split "
        f"{', '.join(splits)}. Read the rows side by side, not as a contest."
    ]


def _missing(table: PaperTable, ours: Collection[str]) -> list[str]:
    """Rows of an ablation that are still to come."""
    lacking = [row.name for row in table.rows if row.name not in ours]
    if table.reference is None or not lacking:
        return []
    return [f"Not trained and asked yet: {', '.join(lacking)}."]


def _shares(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which rows were trained on a part of the samples only."""
    rows: dict[tuple[float, int], list[str]] = {}
    for row, training in {one["row"]: one["training"] for one in origins}.items():
        if training and 0 < training["share"] < 1:
            rows.setdefault((training["share"], training["seed"]), []).append(row)
    return [
        f"Trained on {share:.3g} of the recipe's samples, drawn by seed {seed}: {', '.join(names)}."
        for (share, seed), names in rows.items()
    ]


def _unfinished(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{one['row']}, {one['task']}: {one['answered']} of {one['asked']} records are answered."
        for one in origins
        if one["answered"] < one["asked"]
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "model"
