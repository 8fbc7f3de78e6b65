"""What the commands show: tables on stdout, progress and errors on stderr.

rich is imported only when something is shown, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoverse.tasks import TASKS

if TYPE_CHECKING:
    from rich.console import Console

    from emoverse.faces.captions import Caption
    from emoverse.faces.records import AUFrame
    from emoverse.m2se.plan import StagePlan
    from emoverse.training.estimate import Estimate


# Characters of a line where nobody looks at it as it is printed.
_WIDE = 400


def complain(sentence: str) -> None:
    """Print one red sentence on stderr."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(" ".join(sentence.split()), style="red"))


def tables(json_file: str | None) -> Console | None:
    """The console that tables go to, None when JSON takes stdout."""
    return None if json_file == "-" else output()


def output() -> Console:
    """The console on stdout.

    Off a terminal, where no width is known, rich would cut tables to 80 characters.
    """
    from rich.console import Console

    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDE)


def wrote(path: Path | str) -> None:
    """Tell on stderr what was written."""
    print(f"Wrote {path}", file=sys.stderr)


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, which is told, or to stdout for `-`."""
    if target == "-":
        print(json.dumps(value, ensure_ascii=False, indent=2))
        return
    from emoverse import files

    wrote(files.write_json(target, value))


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


@contextmanager
def rated(what: str, every: float = 30.0) -> Iterator[Callable[[int, int], None]]:
    """A bar over (done, all) with rate and time left; off the terminal a line now and then.

    What was done before the first call does not count for the rate.

    Args:
        what: is done.
        every: seconds between plain lines.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    began = said = time.monotonic()
    first = -1

    def pace(done: int, total: int) -> str:
        nonlocal first
        first = done if first < 0 else first
        took = time.monotonic() - began
        if done <= first or took <= 0:
            return ""
        rate = (done - first) / took
        left = timedelta(seconds=round((total - done) / rate))
        speed = f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each"
        return f"({speed}, {left} left)"

    if not console.is_terminal:

        def say(done: int, total: int) -> None:
            nonlocal said
            told = pace(done, total)
            if done == total or time.monotonic() - said >= every:
                said = time.monotonic()
                print(f"{what}: {done:,} of {total:,} {told}".rstrip(), file=sys.stderr, flush=True)

        yield say
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(what, total=None, pace="")

        def show(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, pace=pace(done, total))

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
    if (answered := block.get("answered", 0)) < (records := block.get("records", 0)):
        facts.append(f"only {answered} of {records} answered so far")
    facts += [
        f"{block[key]} {words}"
        for key, words in (
            ("unparseable", "unparseable"),
            ("text_alone", "answered from text alone"),
            ("media_missing", "with the clip missing or damaged"),
            ("replaced", "replaced by a later answer of the same id"),
        )
        if block.get(key)
    ]
    console.print(Text(", ".join(facts), style="bold"))
    names = list(block["headline"])
    spans = block.get("intervals") or {}
    # More columns than this do not fit beside a floor's name on 80 characters.
    for some in (names[start : start + 5] for start in range(0, len(names), 5)):
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        table.add_column("")
        for name in some:
            table.add_column(name, justify="right", overflow="fold")
        table.add_row("score", *(_figure(block["headline"][name]) for name in some), style="bold")
        if any(name in spans for name in some):
            level = block.get("bootstrap", {}).get("level", 0.95)
            cells = (_span(spans.get(name)) for name in some)
            table.add_row(f"{level:.0%} interval", *cells, style="dim")
        for floor, figures in block.get("floors", {}).items():
            table.add_row(Text(f"floor: {floor}"), *(_figure(figures.get(name)) for name in some))
        console.print(table)


def print_plan(plans: Sequence[StagePlan]) -> None:
    """Print a training plan: queries of each stage and task, and the rates they were drawn by."""
    from rich import box
    from rich.table import Table

    tasks = [task for task in TASKS if any(task in plan.counts() for plan in plans)]
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("Stage")
    for name in ("Samples", *(task.upper() for task in tasks), "Queries", "Epochs"):
        table.add_column(name, justify="right", no_wrap=True)
    for plan in plans:
        counts = plan.counts()
        cells = [f"{counts[task]:,}" if task in counts else "-" for task in tasks]
        last = (f"{len(plan.records):,}", str(plan.stage.epochs))
        table.add_row(plan.stage.name, f"{plan.samples():,}", *cells, *last)
        rates = plan.stage.rates  # an edited plan may ask for tasks that have none
        told = [f"{rates[task]:.0%}" if task in rates else "" for task in tasks]
        table.add_row("", "", *told, "", "", style="dim")
    output().print(table)
    for plan in plans:
        if plan.drawn is not None and plan.drawn > plan.samples():
            print(
                f"{plan.stage.name}: {plan.drawn:,} samples drawn, {plan.samples():,} asked "
                "something by the rates"
            )


def print_estimate(found: Estimate) -> None:
    """Print what a recipe's memory is made of, and what common GPUs have room for."""
    from rich import box
    from rich.table import Table

    from emoverse.training.estimate import GPUS
    from emoverse.training.projection import ENTRIES, EPOCHS, PEAKS, REACHED, hours

    console = output()
    console.print(
        f"{found.model}: {found.parameters / 1e9:.2f} billion parameters, "
        f"{found.trained / 1e6:.1f} million trained"
    )
    parts = Table("part", box=box.SIMPLE, pad_edge=False, show_edge=False)
    parts.add_column("GB", justify="right")
    for name, size in (
        ("frozen weights, bfloat16", found.weights),
        ("trained weights, gradients, AdamW", found.optimiser),
        (f"activations of {found.batch_tokens:,} tokens", found.batch_tokens * found.activations),
        ("attention mask", found.batch_tokens * found.mask),
        ("logits and working space", found.batch_tokens * found.working),
        ("visual encoder, one clip (before the step)", found.seeing),
        ("training, peak", found.training()),
        (f"answering, peak (keys and values of {found.prompt:,} tokens)", found.answering),
    ):
        parts.add_row(name, f"{size / 1e9:.2f}")
    console.print(parts)
    cards = Table("GPU", "this recipe", box=box.SIMPLE, pad_edge=False, show_edge=False)
    cards.add_column("largest batch_tokens", justify="right")
    for gigabytes in GPUS:
        most = found.most_tokens(gigabytes)
        fits = "fits" if found.fits(gigabytes) else "does not fit"
        cards.add_row(f"{gigabytes} GB", fits, f"{most:,}" if most else "-")
    console.print(cards)
    step = found.batch_tokens * found.operations
    console.print(
        f"{found.operations / 1e9:.1f} GFLOP a token, {step / 1e12:.0f} TFLOP a batch, "
        f"{found.clip_operations / 1e12:.1f} TFLOP to look at a clip.\n"
        f"The paper's schedule ({EPOCHS} x {ENTRIES:,} entries, each a clip with its queries) at "
        f"{REACHED:.0%} of a card's peak: "
        + ", ".join(f"{hours(found.schedule(), PEAKS[gpu]):.1f} h on one {gpu}" for gpu in PEAKS)
        + "."
    )


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
