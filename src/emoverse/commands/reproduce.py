"""`emoverse reproduce`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoverse.commands.options import Json, MediaRoot, Protocol
from emoverse.terminal import counting, tables, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from emoverse.evaluation.tables import Result
    from emoverse.m2se.recipe import Recipe


class What(str, Enum):
    """What of the paper can be reproduced."""

    table3 = "table3"
    table4 = "table4"
    table5 = "table5"
    table6 = "table6"
    table7 = "table7"
    table8 = "table8"
    figure4 = "figure4"


_ABLATIONS = (What.table6, What.table7, What.table8)


def reproduce(
    what: Annotated[What, typer.Argument(help="Which table or figure of the paper.")],
    clip: Annotated[
        Path | None, typer.Argument(metavar="[CLIP]", help="figure4: the clip to ask about.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="`compact` or a model's folder, repeatable; table6-8: `VARIANT=FOLDER` takes a "
            "variant that was trained elsewhere.",
        ),
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="[NAME=]DIR",
            help="Take a finished `emoverse eval` in place of asking a model; repeatable. Without "
            "NAME the row is called by its model; table6-8: NAME is a row of the table.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Records to ask models about; repeatable."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where models, runs, tables and figures go.")
    ] = Path("reproduce"),
    protocol: Annotated[Protocol, typer.Option(help="How ECPE is scored.")] = Protocol.paper,
    media_root: MediaRoot = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most N records a task, drawn at random, the same for all."),
    ] = None,
    floors_train: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ECPE: a training set for the floor that sees no text."),
    ] = None,
    recipes: Annotated[
        Path, typer.Option(metavar="DIR", help="table6-8: the folder of the ablations' recipes.")
    ] = Path("recipes"),
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="table6-8: another full recipe; only the stages' tasks change."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="table6-8: change a key of every recipe."),
    ] = None,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="table6-8: train nothing that is missing.")
    ] = False,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="figure4: what is said in the clip.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Set our figures beside the paper's: tables III to VIII, or figure 4.

    Tables are printed and written as Markdown, LaTeX, CSV, JSON and SVG. table6 to table8 train the
    models they compare where they are missing; a stopped training or evaluation goes on where it
    was when the same command is given again. Figure 4 is an HTML page of several models' reasons.
    """
    if (what is What.figure4) != (clip is not None):
        raise typer.BadParameter("figure4, and only figure4, takes a clip.")
    if what is What.figure4 and clip is not None:
        _figure4(clip, models or [], out, text)
        return
    from emoverse.evaluation import reproduce as work
    from emoverse.evaluation.table_files import plain, write_table

    table = work.paper_table(what.value)
    asked = dict(map(_named, models or []))
    folders: dict[str, list[Path]] = {}
    for told in runs or []:
        name, equals, folder = told.rpartition("=")
        row = name if equals else work.model_of(Path(folder))
        folders.setdefault(row, []).append(Path(folder))
    trains = what in _ABLATIONS and not folders
    if trains and not data:
        raise typer.BadParameter("name the records to evaluate on by --data.")
    if asked and not data:
        raise typer.BadParameter("--model needs --data, the records to ask it about.")
    if not trains and not asked and not folders:
        raise typer.BadParameter("name finished runs by --run, or a --model with --data.")
    found: Iterable[tuple[str, tuple[str, Recipe | None]]]
    found = ((name, (model, None)) for name, model in asked.items())
    if trains:
        from emoverse.evaluation.ablations import variants

        found = variants(
            table, out / "models", recipes, base=recipe, overrides=list(overrides or []),
            given=asked, trains=not no_train, log=_say,
        )  # fmt: skip
    made: dict[str, Recipe | None] = {}
    notes = [work.subset_note(limit, data)] if limit and data and not runs else []

    def written() -> tuple[Result, list[Path]]:
        result = work.reproduce(what.value, folders, protocol.value, made, notes)
        return result, write_table(out, what.value, result)

    latest = None
    for name, (model, by) in found:
        made[name] = by
        with counting(f"Answering ({name})") as progress:
            folders |= work.answered(
                {name: model}, data or [], table, out, protocol=protocol.value,
                media_root=media_root, limit=limit, floors_train=floors_train,
                progress=progress,
            )  # fmt: skip
        latest = written()  # a study that is stopped leaves its table so far
    result, files = latest or written()
    if console := tables(json_file):
        _print(console, result, files)
    if json_file:
        write_json(json_file, plain(result))


def _figure4(clip: Path, models: Sequence[str], out: Path, text: str | None) -> None:
    from emoverse.evaluation.figure4 import write_figure4

    for file in write_figure4(clip, models, out, text=text, log=_say):
        print(f"Written: {file}")


def _print(console: Console, result: Result, files: Sequence[Path]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from emoverse.evaluation.table_files import headings, label, rows, with_interval
    from emoverse.evaluation.tables import claims

    title = f"Table {result.paper.number}: {result.paper.title}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    names, styles = headings(result), {"ours": "bold", "floor": "dim"}
    for start in range(0, len(names), 2):  # more do not fit on 80 characters with their intervals
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        table.add_column("", overflow="fold")
        for name in names[start : start + 2]:
            table.add_column(name, justify="right")
        for line, cells in rows(result, with_interval):
            some = cells[start : start + 2]
            if line.kind != "floor" or set(some) != {"-"}:
                table.add_row(Text(label(line)), *map(Text, some), style=styles.get(line.kind))
        console.print(table)
    for one in result.differences:
        task, figure = one.column
        aside = "" if one.own else ", which was not trained for it"
        sentence = (
            f"{task.upper()} {figure}: {result.paper.reference} {one.verdict}, {one.value:+.2f} "
            f"[{one.low:+.2f}, {one.high:+.2f}] against {one.variant}{aside}"
        )
        console.print(Text(sentence), soft_wrap=True)
    for sentence in (*claims(result), *result.notes):
        console.print(Text(sentence, style="dim"), soft_wrap=True)
    for file in files:
        console.print(Text(f"Written: {file}", style="dim"), soft_wrap=True)


def _named(told: str) -> tuple[str, str]:
    """`NAME=PATH`, or a path alone, which is called by its last part."""
    name, equals, path = told.partition("=")
    if equals and name and path:
        return name, path
    return (told if told == "compact" else Path(told).resolve().name), told


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
