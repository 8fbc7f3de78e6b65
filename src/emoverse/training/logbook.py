"""What a run tells: `log.jsonl`, the terminal, TensorBoard, W&B and trackio."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from emoverse.errors import EmoVerseError
from emoverse.training.events import open_events, write_scalars

FILE = "log.jsonl"
_EVERY = 10  # steps between plain lines off the terminal


class Logbook:
    """Open places that a run's rows go to; made by `open_logbook`."""

    def __init__(
        self, file: TextIO, events: BinaryIO | None, services: Sequence[Any], bars: Progress | None
    ) -> None:
        """Use these open places."""
        self._file = file
        self._events = events
        self._services = services
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
        values = scalars(row)
        if values:
            step = int(row["total_step"])
            if self._events:
                write_scalars(self._events, step, values)
            for service in self._services:
                service.log(values, step=step)
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
                f"{row['minutes_left']:.0f} min left"
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
        trackers: `tensorboard`, `wandb`, `trackio`.
        settings: the recipe, for the services.
        again: go on with the log that is there.
        leads: whether this process writes.

    Raises:
        EmoVerseError: a tracker's package is not installed.
    """
    if not leads:
        yield None
        return
    services = [_service(name) for name in trackers if name != "tensorboard"]
    for service in services:
        service.init(project="emoverse", name=out.name, config=dict(settings))
    console = Console(stderr=True)
    bars = None
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
        bars = Progress(*columns, console=console)
        bars.start()
    events = open_events(out / "tensorboard") if "tensorboard" in trackers else None
    try:
        with open(out / FILE, "a" if again else "w", encoding="utf-8") as file:
            yield Logbook(file, events, services, bars)
    finally:
        if events:
            events.close()
        if bars:
            bars.stop()
        for service in services:
            service.finish()


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The curves that a row of the log adds a point to, by name."""
    found = {f"loss/{task}": value for task, value in row.get("loss", {}).items()}
    for key in ("lr", "gradient_norm", "tokens_per_s"):
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


def _service(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise EmoVerseError(
            f"The tracker {name!r} is not installed; pip install 'emoverse[{name}]', or leave it "
            "out of `trackers`."
        ) from None
