"""`emoverse phrases`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json, MediaRoot
from emoverse.terminal import counting, tables, write_json


def phrases(
    model: Annotated[Path, typer.Argument(help="The folder of a trained model.")],
    data: Annotated[
        Path, typer.Argument(metavar="EMT.jsonl", help="Records, FER and ERI among them.")
    ],
    limit: Annotated[int, typer.Option(min=50, help="At most so many records of a task.")] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where answers are kept; <MODEL>-phrases by default."),
    ] = None,
    media_root: MediaRoot = None,
    json_file: Json = None,
) -> None:
    """Learn what a model writes again and again, so that it writes faster: phrases.json.

    The model answers FER and ERI records of DATA; what several answers have in common is what it
    guesses from then on. The model itself checks every guess, so that it writes the same as before.
    Nine tenths of the answers are counted; the last tenth is written once more, to show what it is
    worth.
    """
    from emoverse.emt.media import root_of
    from emoverse.emt.record import load_records
    from emoverse.errors import EmoVerseError
    from emoverse.evaluation.runs import log_of
    from emoverse.evaluation.weighing import draw
    from emoverse.evaluation.wording import counted, seconds_an_answer, word
    from emoverse.inference.engine import load_model
    from emoverse.inference.phrases import TASKS, save
    from emoverse.models.trained import own_folder

    records = draw(load_records(data), limit, TASKS)
    if not records:
        raise EmoVerseError(f"{data}: holds no FER or ERI record; give a file that has some.")
    model, media_root = own_folder(model), root_of(records, data, media_root)
    engine = load_model(str(model))
    log = log_of(model, out, "phrases")
    with counting("Writing") as progress:
        worded = word(engine, records, log, media_root, progress)
    found, unseen = counted(engine, worded)
    path = save(found, model)
    before = seconds_an_answer(engine, unseen, {}, media_root)
    after = seconds_an_answer(engine, unseen, found, media_root)
    if console := tables(json_file):
        for task, some in found.items():
            console.print(
                f"{task.upper()}: {len(some.following)} phrases; an answer takes "
                f"{after[task]:.2f} s, without them {before[task]:.2f} s"
            )
        console.print(f"Written to {path}", soft_wrap=True)
    if json_file:
        rows = {
            task: {
                "phrases": len(some.following),
                "seconds_before": before[task],
                "seconds_after": after[task],
            }
            for task, some in found.items()
        }
        write_json(json_file, rows)
