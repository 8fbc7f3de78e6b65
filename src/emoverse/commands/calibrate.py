"""`emoverse calibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoverse.commands.options import Json, MediaRoot
from emoverse.terminal import counting, output, tables, write_json

if TYPE_CHECKING:
    from emoverse.evaluation.calibrate import Worth


def calibrate(
    model: Annotated[Path, typer.Argument(help="The folder of a trained model.")],
    data: Annotated[
        Path, typer.Argument(metavar="EMT.jsonl", help="Records that it was not trained on.")
    ],
    recipe: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RECIPE",
            help="Leave out what this recipe trains on: DATA may be its own; may be given again.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the recipes' values, as in `train`."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only records of this corpus; may be given again."),
    ] = None,
    limit: Annotated[int, typer.Option(min=50, help="At most so many records of a task.")] = 3000,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where scores are kept; <MODEL>-calibration by default."),
    ] = None,
    media_root: MediaRoot = None,
    json_file: Json = None,
) -> None:
    """Fit a model's probabilities to records that it has not seen: calibration.json.

    MSA and ER get a temperature and a bias per answer; ECPE a temperature, a regression on the
    form of DATA's conversations and the threshold from which on a cause is named. What that is
    worth is shown, each record judged by a fit without it.
    """
    from emoverse.emt.media import root_of
    from emoverse.emt.record import load_records
    from emoverse.errors import EmoVerseError
    from emoverse.evaluation.calibrate import fit
    from emoverse.evaluation.runs import log_of
    from emoverse.evaluation.weighing import draw, left_out, weigh
    from emoverse.inference import calibration
    from emoverse.inference.engine import load_model
    from emoverse.models.trained import own_folder

    records = load_records(data)
    talks = [record for record in records if record.task == "ecpe"]
    if recipe:
        from emoverse.m2se.plan import planned
        from emoverse.m2se.recipe import load_recipe

        stages = [s for path in recipe for s in planned(load_recipe(path, settings or []))]
        records = left_out(records, [record for s in stages for record in s.records])
    if source:
        records = [record for record in records if record.source in source]
    records = draw(records, limit)
    if not records:
        raise EmoVerseError(f"{data}: holds no MSA, ER or ECPE record to calibrate on.")
    model, media_root = own_folder(model), root_of(records, data, media_root)
    engine = load_model(str(model), exact=True)
    log = log_of(model, out, "calibration")
    with counting("Weighing") as progress:
        weighed = weigh(engine, records, log, media_root, progress)
    fitted, worth = fit(weighed, talks)
    path = calibration.save(fitted, model)
    if console := tables(json_file):
        _print(worth)
        console.print(f"Written to {path}", soft_wrap=True)
    if json_file:
        rows = {task: asdict(one) for task, one in worth.items()}
        write_json(json_file, {"calibration": asdict(fitted), "worth": rows})


def _print(worth: Mapping[str, Worth]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in ("task", "records", "figure", "before", "after"):
        table.add_column(name, justify="left" if name in ("task", "figure") else "right")
    for task, one in worth.items():
        for figure, before in one.before.items():
            row = (task.upper(), str(one.records)) if figure == "nll" else ("", "")
            table.add_row(*row, figure, f"{before:.3f}", f"{one.after[figure]:.3f}")
    output().print(table)
