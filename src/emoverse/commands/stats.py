"""`emoverse stats` and `emoverse check`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emoverse.commands.options import Json
from emoverse.terminal import counting, tables, waiting, write_json, wrote

if TYPE_CHECKING:
    from rich.console import Console

    from emoverse.emt.quality import Finding
    from emoverse.emt.record import Record


class Kind(str, Enum):
    """What `check` looks for (`emoverse.emt.quality.KINDS`)."""

    leak = "leak"
    overlap = "overlap"
    duplicate = "duplicate"
    contradiction = "contradiction"
    opposed = "opposed"
    mismatch = "mismatch"
    unanswerable = "unanswerable"
    unreadable = "unreadable"
    pace = "pace"


Dataset = Annotated[
    Path, typer.Argument(metavar="EMT", help="A folder that `emoverse build` wrote, or one JSONL.")
]


def stats(
    emt: Dataset,
    card: Annotated[
        bool, typer.Option("--card", help="Write README.md, a dataset card with charts, there.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Count a dataset's records beside the paper's Table I."""
    from emoverse.emt import dataset, parquet
    from emoverse.emt.card import write_card
    from emoverse.emt.statistics import statistics
    from emoverse.errors import EmoVerseError

    if card and not emt.is_dir():
        raise EmoVerseError(f"{emt}: a card describes a folder; name the dataset's folder.")
    with waiting(f"Reading {emt}"):
        splits = dataset.filled(emt)
        counts = statistics(splits)
    if console := tables(json_file):
        _print_counts(console, counts, list(splits))
    if json_file:
        write_json(json_file, counts)
    if card:
        wrote(write_card(splits, emt, parquet=parquet.splits_in(emt)))


def check(
    emt: Dataset,
    links: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ECF's all_data_pair_ECFvsMELD.txt, for sure leaks."),
    ] = None,
    media: Annotated[bool, typer.Option(help="Open the pictures and clips.")] = True,
    drop: Annotated[
        list[Kind] | None,
        typer.Option(help="Leave these training records out, on disk; may be given repeatedly."),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Findings of a kind to print.")] = 3,
    json_file: Json = None,
) -> None:
    """Find leaks, duplicates, contradictions and bad clips; writes quality.json.

    What is still there after dropping is what quality.json tells. Held-out splits are never
    changed.
    """
    from dataclasses import asdict

    from emoverse import files
    from emoverse.corpora.ecf import meld_links
    from emoverse.emt import dataset, quality
    from emoverse.emt.media import inspect
    from emoverse.errors import EmoVerseError

    if drop and not emt.is_dir():
        raise EmoVerseError(f"{emt}: records are dropped from a folder; name the dataset's folder.")
    known = meld_links(links) if links else None
    with waiting(f"Reading {emt}"):
        splits = dataset.filled(emt)
    paths = [path for part in splits.values() for record in part for path in record.media]
    seen = {}
    if media and paths:
        with counting("Files opened") as progress:
            seen = inspect(paths, dataset.root(emt), progress)
    findings = quality.check(splits, seen, known)
    console = tables(json_file)
    if console:
        _print_findings(console, findings, examples)
        if paths and not media:
            console.print("Pictures and clips were not opened.", style="yellow")
    dropped: list[tuple[Record, Finding]] = []
    if drop:
        kept, dropped = quality.without(splits, findings, [kind.value for kind in drop])
        dataset.drop(emt, kept, [(record, why.kind, why.message) for record, why in dropped])
        findings = quality.check(kept, seen, known)
        if console:
            console.print(
                f"{len(dropped):,} training records moved to {emt / 'dropped.jsonl'}.",
                highlight=False,
                soft_wrap=True,
            )
    told: dict[str, Any] = {"media_opened": len(seen), "dropped": len(dropped)}
    told["summary"] = quality.summary(findings)
    told["findings"] = [asdict(finding) for finding in findings]
    if emt.is_dir():
        files.write_json(emt / dataset.QUALITY, told)
    if json_file:
        write_json(json_file, told)


def _print_counts(console: Console, counts: dict[str, Any], splits: list[str]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in ("", *splits, "all", "with media", "paper, Table I"):
        table.add_column(name, justify="right" if name else "left")
    for task, paper in counts["paper"]["tasks"].items():
        block = counts["tasks"].get(task, {"splits": {}, "records": 0, "media": 0})
        figures = [block["splits"].get(split, 0) for split in splits]
        figures += [block["records"], block["media"], paper]
        table.add_row(task.upper(), *(f"{figure:,}" for figure in figures))
    ends = [counts["entries"], "", counts["paper"]["entries"]]
    cells = [f"{end:,}" if isinstance(end, int) else end for end in ends]
    table.add_row("entries", *("" for _ in splits), *cells, style="bold")
    console.print(table)
    console.print(
        "An entry is an utterance or photo with all its queries, or one ECPE target.", style="dim"
    )
    for task, block in counts["tasks"].items():
        console.print(f"\n{task.upper()}", style="bold", highlight=False)
        parts = Table(box=None, pad_edge=False, show_header=False)
        for source, own in block["sources"].items():
            parts.add_row(source, ", ".join(f"{split} {n:,}" for split, n in own.items()))
        for split, own in block["labels"].items():
            most = list(own.items())[:12]
            parts.add_row(f"labels, {split}", ", ".join(f"{label} {n:,}" for label, n in most))
        for name, spread in block["lengths"].items():
            if spread["n"]:
                middle = f"median {spread['median']:g}, mean {spread['mean']:g}"
                tail = f"95 % at most {spread['p95']:g}, longest {spread['max']:g}"
                parts.add_row(f"words, {name}", f"{middle}, {tail}")
        console.print(parts, highlight=False)


def _print_findings(console: Console, findings: list[Finding], examples: int) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from emoverse.emt.quality import KINDS, summary

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("found", justify="right")
    table.add_column("droppable", justify="right")
    table.add_column("")
    for kind, figures in summary(findings).items():
        numbers = (f"{figures[name]:,}" for name in ("findings", "droppable"))
        table.add_row(kind, *numbers, KINDS[kind], style="" if figures["findings"] else "dim")
    console.print(table)
    for kind in KINDS if examples else ():
        mine = [finding.message for finding in findings if finding.kind == kind]
        for message in mine[:examples]:
            console.print(Text(f"{kind}: {message}"), soft_wrap=True)
        if len(mine) > examples:
            console.print(f"{kind}: and {len(mine) - examples:,} more", style="dim")
