"""`emoverse export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json
from emoverse.counts import number_of
from emoverse.terminal import complain, tables, waiting, write_json


class Format(str, Enum):
    """Whose format to write (`emoverse.emt.export.FORMATS`)."""

    ms_swift = "ms-swift"
    llama_factory = "llama-factory"
    sharegpt = "sharegpt"
    datasets = "datasets"


class Media(str, Enum):
    """What happens to pictures and clips (`emoverse.emt.export.MEDIA`)."""

    refer = "refer"
    copy = "copy"


class Task(str, Enum):
    """A task's name (`emoverse.tasks.TASKS`)."""

    msa = "msa"
    er = "er"
    fer = "fer"
    eri = "eri"
    ecpe = "ecpe"


def export(
    emt: Annotated[
        Path,
        typer.Argument(metavar="EMT", help="A folder that `emoverse build` wrote, or one JSONL."),
    ],
    to: Annotated[Format, typer.Option(help="Whose format to write.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    media: Annotated[
        Media, typer.Option(help="Refer to pictures and clips where they are, or copy them.")
    ] = Media.refer,
    task: Annotated[
        list[Task] | None, typer.Option(help="Only this task; may be given repeatedly.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Write a dataset for ms-swift, LLaMA-Factory, ShareGPT readers or Hugging Face datasets."""
    from dataclasses import asdict

    from emoverse.emt import dataset
    from emoverse.emt.export import export as run

    with waiting(f"Writing {out}"):
        done = run(
            dataset.filled(emt),
            dataset.root(emt),
            out,
            to.value,
            media=media.value,
            tasks=[one.value for one in task or ()],
        )
    if console := tables(json_file):
        for file, count in done.files.items():
            console.print(f"{out / file}: {count:,} records", highlight=False, soft_wrap=True)
        if done.empty:
            console.print(
                f"{done.empty:,} of them have an empty answer: targets without a cause.",
                style="dim",
                highlight=False,
            )
    if done.missing:
        verb = "is" if len(done.missing) == 1 else "are"
        lost = number_of(len(done.missing), "media file")
        complain(f"{lost} {verb} missing, e.g. {done.missing[0]}.")
    if json_file:
        write_json(json_file, {"out": str(out)} | asdict(done))
