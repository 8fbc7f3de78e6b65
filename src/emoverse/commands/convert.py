"""`emoverse convert`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Json
from emoverse.terminal import counting, tables, write_json


class Family(str, Enum):
    """What can be converted."""

    internvl2 = "internvl2"


def convert(
    family: Annotated[Family, typer.Argument(help="Kind of checkpoint.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder as downloaded.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    check: Annotated[
        bool, typer.Option("--verify", help="Compare every number afterwards and print a report.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Write OpenGVLab's InternVL2-1B, -2B, -4B or -8B for today's transformers.

    No code of the checkpoint runs. An interrupted conversion goes on when it is started again.
    """
    from dataclasses import asdict

    from emoverse.errors import EmoVerseError
    from emoverse.models.internvl2.convert import convert as run
    from emoverse.models.internvl2.verify import verify

    def shown(label: str) -> str:
        return f"{label} {source.name} (MB)"

    with counting(shown("Converting")) as count:
        run(source, target, lambda done, total: count(done // 1_000_000, total // 1_000_000))
    if not check:
        if json_file:
            write_json(json_file, {"path": str(target)})
        if json_file != "-":
            print(target)
        return
    with counting(shown("Comparing")) as count:
        report = verify(source, target, lambda done, total: count(done // 10**6, total // 10**6))
    if json_file:
        write_json(json_file, {"path": str(target), **asdict(report)})
    if console := tables(json_file):
        from rich.table import Table

        table = Table("part", "published tensors", "written tensors", "parameters", "identical")
        for part in report.parts:
            table.add_row(
                part.name,
                f"{part.published:,}",
                f"{part.written:,}",
                f"{part.parameters:,}",
                f"{part.identical} of {part.published}",
            )
        console.print(table)
        output = "tied to the word embeddings" if report.tied else "its own"
        console.print(
            f"language model {report.backbone}, output layer {output}, {report.tokens:,} tokens"
        )
    if not report.good:
        first = report.differing[0]
        raise EmoVerseError(f"{target}: {first}; delete the folder and convert again.")
