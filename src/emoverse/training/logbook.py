"""What a run tells: `log.jsonl`, the terminal, and the trackers' curves."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from emoverse.errors import EmoVerseError
from emoverse.files import read_text
from emoverse.training.trackers import Tracker, open_tracker

FILE = "log.jsonl"
_EVERY = 10  # steps between plain lines off the terminal


class Logbook:
    """Open places that a run's rows go to; made by `open_logbook`."""

    def __init__(self, file: TextIO, trackers: Sequence[Tracker], bars: Progress | None) -> None:
        """Use these open places."""
        self._file = file
        self._trackers = trackers
        self._bars = bars
        self._bar: Any = None

    def tell(self, row: Mapping[str, Any]) -> None:
        """Write a row of the log, and show it.

        Raises:
            EmoVerseError: the disk is full.
        """
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise EmoVerseError(
                f"{self._file.name}: the log could not be written ({error.strerror}); free some "
                "space on that disk and go on with --resume."
            ) from None
        if values := scalars(row):
            for tracker in self._trackers:
                tracker.log(values, int(row["total_step"]))
        self._show(row)

    def _show(self, row: Mapping[str, Any]) -> None:
        if self._bars is None:
            if "loss" not in row or (row["step"] - 1) % _EVERY == 0:
                print(json.dumps(row), flush=True)
            return
        if "queries" in row:
            if self._bar is not None:
                self._bars.remove_task(self._bar)
            self._bar = self._bars.add_task(row["stage"], total=row["steps"], told="")
        elif "loss" in row:
            if self._bar is None:
                self._bar = self._bars.add_task(row["stage"], total=row["of"], told="")
            losses = " ".join(f"{task} {value:.3f}" for task, value in row["loss"].items())
            told = (
                f"loss {losses}  lr {row['lr']:.2g}  {row['tokens_per_s']:.0f} tokens/s  "
                f"{row['minutes_left']:.0f} min of the stage left"
            )
            self._bars.update(self._bar, completed=row["step"], told=told)
        else:
            self._bars.console.print(json.dumps(row), markup=False)


@contextmanager
def open_logbook(
    out: Path, trackers: Sequence[str], settings: Mapping[str, Any], *, again: bool, leads: bool
) -> Iterator[Logbook | None]:
    """The logbook of a run in `out`; None in processes that do not lead.

    Args:
        out: the run's folder.
        trackers: see `open_tracker`.
        settings: the recipe, for the trackers.
        again: go on with the log that is there.
        leads: whether this process writes.

    Raises:
        EmoVerseError: a tracker's package is not installed, or its service refuses.
    """
    if not leads:
        yield None
        return
    last = _last_step(out / FILE) if again else None
    opened: list[Tracker] = []
    bars = None
    try:
        for name in trackers:
            opened.append(open_tracker(name, out, settings, last))
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
            )
            bars = Progress(*columns, console=console)
            bars.start()
        with open(out / FILE, "a" if again else "w", encoding="utf-8") as file:
            yield Logbook(file, opened, bars)
    finally:
        if bars:
            bars.stop()
        for tracker in opened:
            tracker.close()


def _last_step(path: Path) -> int:
    """The last step of a log; 0 when there is none."""
    lines = read_text(path).splitlines() if path.is_file() else []
    return max((int(json.loads(line).get("total_step", 0)) for line in lines), default=0)


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The curves that a row of the log adds a point to, by name."""
    found = {f"loss/{task}": value for task, value in row.get("loss", {}).items()}
    for key in ("lr", "gradient_norm", "tokens_per_s", "memory_gb"):
        if key in row and "loss" in row:
            found[f"training/{key}"] = row[key]
    for task, figures in row.get("valid", {}).items():
        found |= {f"valid_{name}/{task}": value for name, value in figures.items()}
    return {name: float(value) for name, value in found.items()}


def waiting(what: str) -> Any:
    """A progress function over (done, all) that tells of every tenth on stderr."""
    told = -1

    def say(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // max(total, 1)
        if tenth > told:
            told = tenth
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return say
