"""Work for `test_pool`, in a module of its own because worker processes import it by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from emoverse.errors import EmoVerseError


def start(folder: str) -> Callable[[str], None]:
    """Work that writes a file named after its task, or does what the task's name says."""

    def work(task: str) -> None:
        if task == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "crash once" and not (Path(folder) / "crashed").exists():
            (Path(folder) / "crashed").touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        if task == "hang":
            (Path(folder) / f"pid-{os.getpid()}").touch()
            time.sleep(600)
        if task == "hang in a program":
            with subprocess.Popen(["sleep", "600"]) as program:
                (Path(folder) / f"pid-{program.pid}").touch()
        if task == "raise":
            raise ValueError("no such thing")
        (Path(folder) / task).write_text(str(os.getpid()))

    return work


def cannot_start() -> Callable[[str], None]:
    raise EmoVerseError("The model is missing; fetch it.")


def dies_at_start() -> Callable[[str], None]:
    sys.stderr.flush()
    os._exit(3)


if __name__ == "__main__":  # a parent that is killed while its worker is at a task
    from functools import partial

    from emoverse.emt import pool

    list(pool.run(partial(start, sys.argv[1]), [sys.argv[2]], workers=1, timeout=600))
