"""A training of the tiny model in a process of its own: to be killed, limited or multiplied.

The processes are forked off one that has imported everything and computed nothing.
Settings by environment: `DIE_AT=n` kills the process (SIGKILL) before its n-th optimiser step;
`STOP_AT=n:NAME` sends itself that signal there; `FULL_AT=n` lets every write of a checkpoint from
there on fail half way; `CLOCK=x` lets the training's clock run x times as fast.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from emoverse import files
from emoverse.cli import main
from emoverse.models import compact
from emoverse.training import checkpoint, trainer, visual

from ..models.tiny import tiny_model

_REPO = Path(__file__).resolve().parents[2]


def whole_picture(path: Path, *, aligned: bool = False) -> np.ndarray:
    """The tiny model's crops are the pictures as they are."""
    del aligned
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (-9 for a kill) and what it said on stderr."""

    code: int | None
    said: str


def run(out: Path, arguments: Sequence[str], processes: Sequence[dict[str, str]]) -> list[Ended]:
    """Run `emoverse train ARGUMENTS --out OUT` in one process for each environment given."""
    if str(_REPO) not in sys.path:
        sys.path.insert(0, str(_REPO))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    out.mkdir(parents=True, exist_ok=True)
    logs = [out.parent / f"{out.name}.{rank}.err" for rank in range(len(processes))]
    started = []
    for told, log in zip(processes, logs, strict=True):
        process = context.Process(target=_child, args=([*arguments, "--out", str(out)], told, log))
        process.start()
        started.append(process)
    for process in started:
        process.join(600)
    return [
        Ended(process.exitcode, log.read_text()) for process, log in zip(started, logs, strict=True)
    ]


def _child(arguments: list[str], told: dict[str, str], log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(told)
    torch.set_num_threads(1)
    compact.assemble = tiny_model  # type: ignore[assignment]
    compact.load_vit = lambda model, path: None  # type: ignore[assignment]
    visual.face_crop = whole_picture  # type: ignore[assignment]
    plain = trainer.train_step
    calls = iter(range(10**6))

    def counted(*given: Any) -> Any:
        call = next(calls)
        if str(call) == os.environ.get("DIE_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
        at, _, name = os.environ.get("STOP_AT", "").partition(":")
        if str(call) == at:
            os.kill(os.getpid(), getattr(signal, name))
        if str(call) == os.environ.get("FULL_AT"):
            checkpoint.write_bytes = _full  # type: ignore[assignment]
        return plain(*given)

    if "CLOCK" in os.environ:
        pace, clock = float(os.environ["CLOCK"]), time.time
        trainer.time = SimpleNamespace(time=lambda: pace * clock())  # type: ignore[assignment]
    trainer.train_step = counted  # type: ignore[assignment]
    main(["train", *arguments])


def _full(path: Path, data: bytes) -> Path:
    """Write half of the bytes and fail as a full disk does."""
    real = os.fsync

    def no_space(_: int) -> None:
        os.fsync = real
        raise OSError(28, "No space left on device")

    os.fsync = no_space  # type: ignore[assignment]
    return files.write_bytes(path, data[: len(data) // 2])
