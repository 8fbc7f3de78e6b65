"""What the commands show: tables on stdout, progress and errors on stderr.

rich is imported only when something is shown, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from emoverse.faces.captions import Caption
    from emoverse.faces.records import AUFrame


def complain(sentence: str) -> None:
    """Print one red sentence on stderr."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(" ".join(sentence.split()), style="red"))


def tables(json_file: str | None) -> Console | None:
    """The console that tables go to, None when JSON takes stdout."""
    if json_file == "-":
        return None
    from rich.console import Console

    return Console()


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to stdout for `-`."""
    if target == "-":
        print(json.dumps(value, ensure_ascii=False, indent=2))
        return
    from emoverse import files

    files.write_json(target, value)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner while something of unknown length is done; a plain line off the terminal."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{what} ...", file=sys.stderr, flush=True)
        yield
        return
    with console.status(f"{escape(what)} ..."):
        yield


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over (done, all); off the terminal a plain line at every tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    if not console.is_terminal:
        told = -1

        def say(done: int, total: int) -> None:
            nonlocal told
            tenth = 10 * done // max(total, 1)
            if tenth > told:
                told = tenth
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        yield show


def print_scores(console: Console, block: Mapping[str, Any]) -> None:
    """Print one task's block of `scores.json`: its figures in percent beside the floors.

    Args:
        console: where to.
        block: what `emoverse.evaluation.score` makes for a task.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    facts = [f"{block['task'].upper()}, protocol {block['protocol']}", f"{block['n']} scored"]
    facts += [
        f"{block[key]} {words}"
        for key, words in (
            ("unparseable", "unparseable"),
            ("text_alone", "answered from text alone"),
            ("media_missing", "with the clip missing"),
        )
        if block.get(key)
    ]
    console.print(Text(", ".join(facts), style="bold"))
    names = list(block["headline"])
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    table.add_row("score", *(_figure(block["headline"][name]) for name in names), style="bold")
    spans = block.get("intervals") or {}
    if any(name in spans for name in names):
        level = block.get("bootstrap", {}).get("level", 0.95)
        cells = (_span(spans.get(name)) for name in names)
        table.add_row(f"{level:.0%} interval", *cells, style="dim")
    for floor, figures in block.get("floors", {}).items():
        table.add_row(Text(f"floor: {floor}"), *(_figure(figures.get(name)) for name in names))
    console.print(table)


def print_faces(
    console: Console,
    frames: Sequence[AUFrame],
    peak: AUFrame | None,
    caption: Caption | None,
    warnings: Sequence[str],
) -> None:
    """Print the peak frame's action units, its caption, and what there is of each person."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if peak:
        console.print(
            Text(
                f"Peak at {peak.timestamp:.2f} s (frame {peak.frame}, person {peak.person}), "
                f"AU sum {sum(peak.intensities.values()):.2f}",
                style="bold",
            )
        )
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        table.add_column("AU")
        table.add_column("Intensity 0-5", justify="right")
        table.add_column("")
        for code, value in sorted(peak.intensities.items(), key=lambda entry: -entry[1]):
            if value >= 0.05:
                table.add_row(code, f"{value:.2f}", Text("━" * round(4 * value), style="cyan"))
        console.print(table)
    if caption and caption.phrases:
        console.print(Text("; ".join(caption.phrases) + "."))
        if caption.fallback:
            console.print(
                Text("No emotion was named, or none of its AUs is active: all are told.", "dim")
            )
    for person in sorted({frame.person for frame in frames}):
        mine = [frame for frame in frames if frame.person == person]
        console.print(
            Text(
                f"Person {person}: {len(mine)} {'frame' if len(mine) == 1 else 'frames'}, "
                f"{mine[0].timestamp:.2f} to {mine[-1].timestamp:.2f} s",
                style="dim",
            )
        )
    for warning in warnings:
        console.print(Text(f"! {warning}", style="yellow"))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _span(value: Any) -> str:
    return f"{value[0]:.1f}-{value[1]:.1f}" if isinstance(value, list | tuple) else ""
