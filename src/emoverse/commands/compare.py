"""`emoverse compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoverse.commands.options import EndToEnd, Json
from emoverse.terminal import tables, write_json

if TYPE_CHECKING:
    from rich.console import Console


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A folder `emoverse eval` wrote.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, on the same data.")],
    protocol: Annotated[
        EndToEnd,
        typer.Option(help="How ECPE is scored; `semeval` for two runs of that protocol."),
    ] = EndToEnd.paper,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap samples.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json_file: Json = None,
) -> None:
    """Compare two runs: every figure of both, and a 95 % interval of the difference (B - A).

    The bootstrap is paired: each resample draws the same conversations (records, where none are
    known) for both runs. Only records that both have answered count.
    """
    from emoverse.evaluation.compare import compare as run

    result = run(a, b, protocol.value, resamples=resamples, seed=seed)
    if console := tables(json_file):
        _print(console, result)
    if json_file:
        write_json(json_file, result)


def _print(console: Console, result: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for letter, run in zip("AB", result["runs"], strict=True):
        console.print(Text(f"{letter}: {run['folder']} ({run['model']})"), soft_wrap=True)
    for task, found in result["tasks"].items():
        title = f"{task.upper()}, protocol {result['protocol']}, {found['n']} answered by both"
        console.print(Text(title, style="bold"))
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        table.add_column("", overflow="fold")
        for name in ("A", "B", "B - A", "95% interval", "p"):
            table.add_column(name, justify="right")
        for name, row in found["figures"].items():
            low, high = row["interval"]
            table.add_row(
                name,
                f"{row['a']:.2f}",
                f"{row['b']:.2f}",
                f"{row['difference']:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                f"{row['p']:.4f}",
                style=None if low <= 0 <= high else "bold",
            )
        console.print(table)
