"""Curves for other programs: TensorBoard's event files, W&B and trackio."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_json

_MODULES = {
    "tensorboard": ("torch.utils.tensorboard", "train"),
    "wandb": ("wandb", "wandb"),
    "trackio": ("trackio", "trackio"),
}
_PROJECT = "emoverse"
_RUN = "wandb_run.json"  # so that a resumed training goes on with the same W&B run


@dataclass(frozen=True, slots=True, eq=False)
class Tracker:
    """A place that takes curves.

    Attributes:
        log: takes values by name and the step they belong to.
        close: ends the run there.
    """

    log: Callable[[Mapping[str, float], int], None]
    close: Callable[[], None]


def check(names: Sequence[str]) -> None:
    """Look for the trackers' packages, before anything takes time.

    Raises:
        EmoVerseError: one is not installed.
    """
    for name in names:
        _package(name)


def open_tracker(
    name: str, out: Path, settings: Mapping[str, Any], last_step: int | None
) -> Tracker:
    """Start, or go on with, a run.

    Args:
        name: `tensorboard`, `wandb` or `trackio`.
        out: the training's folder; its name is the run's.
        settings: the recipe.
        last_step: the last step that stays when a training is resumed; None for a new one.

    Raises:
        EmoVerseError: the package is not installed, or its service refuses.
    """
    package = _package(name)
    if name == "tensorboard":
        return _tensorboard(package, out / "tensorboard", last_step)
    given: dict[str, Any] = {"project": _PROJECT, "name": out.resolve().name}
    given["config"] = dict(settings)
    if name == "wandb":
        given |= {"dir": str(out), "id": _wandb_run(out, last_step), "resume": "allow"}
    else:
        given["resume"] = "never" if last_step is None else "allow"
    try:
        package.init(**given)
    except Exception as error:  # services raise whatever their authors chose
        raise EmoVerseError(
            f"The tracker {name!r} could not start ({' '.join(str(error).split())[:200]}); log in "
            f"to it, use it offline (WANDB_MODE=offline), or leave it out of `trackers`."
        ) from None
    return Tracker(lambda values, step: package.log(dict(values), step=step), package.finish)


def _tensorboard(package: Any, folder: Path, last_step: int | None) -> Tracker:
    # What was written before, and is now computed again, is hidden.
    writer = package.SummaryWriter(str(folder), purge_step=(last_step or 0) + 1)

    def log(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # a killed run keeps its curves

    return Tracker(log, writer.close)


def _wandb_run(out: Path, last_step: int | None) -> str:
    kept = out / _RUN
    if last_step is not None and kept.is_file():
        return str(read_json(kept)["id"])
    fresh = uuid.uuid4().hex[:12]
    write_json(kept, {"id": fresh})
    return fresh


def _package(name: str) -> Any:
    module, extra = _MODULES[name]
    try:
        return importlib.import_module(module)
    except ImportError:
        raise EmoVerseError(
            f"The tracker {name!r} is not installed; pip install 'emoverse[{extra}]', or leave it "
            "out of `trackers`."
        ) from None
