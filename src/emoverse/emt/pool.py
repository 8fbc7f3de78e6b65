"""Worker processes that may crash or hang without stopping the work.

Every worker is a fresh process with a pipe of its own and one task at a time, so that it is known
which task a dead or stuck worker was at: that task is given up and told, a new worker takes its
place, and the others never notice. Programs that a worker started end with it. Results do not
travel back; the work writes them to disk.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from emoverse.errors import EmoVerseError

Task = TypeVar("Task")
Work = Callable[[Task], None]

# A crash may be the system's (memory ran out), so a task gets a second worker before it is left.
_TRIES = 2
# Seconds for a worker to load its libraries; busy disks and machines take long.
_START = 300.0
# Numeric libraries would otherwise start a thread a core in every worker.
_SINGLE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Done(Generic[Task]):
    """A task that is through; `failure` says why without a result, None when all went well."""

    task: Task
    failure: str | None


def run(
    start: Callable[[], Work[Task]],
    tasks: Iterable[Task],
    *,
    workers: int,
    timeout: float,
) -> Iterator[Done[Task]]:
    """Do every task in one of several processes.

    Args:
        start: called once in every worker, to load what the work needs; returns the work. Both
            must be importable: they are pickled.
        tasks: drawn one by one as workers become free, so the list may be as long as you like.
        workers: processes.
        timeout: seconds after which a task is given up and its worker ended.

    Returns:
        An iterator over the tasks as they come through, in no fixed order. Leaving it early
        ends the workers.

    Raises:
        EmoVerseError: `start` failed, so that no task could be done.
    """
    crew = Crew(start, workers, timeout)
    try:
        yield from crew.run(tasks)
    finally:
        crew.end()


class Crew(Generic[Task]):
    """Workers that stay for the next `run`."""

    def __init__(self, start: Callable[[], Work[Task]], workers: int, timeout: float) -> None:
        """Hire nobody yet; the arguments are those of `pool.run`."""
        if workers < 1:
            raise EmoVerseError(f"At least one worker is needed, not {workers}.")
        self._start, self._workers, self._timeout = start, workers, timeout
        self._members: list[_Worker[Task]] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[Done[Task]]:
        """Yield every task once it is through; see `pool.run`."""
        left = iter(tasks)
        retries: list[tuple[Task, int]] = []
        while True:
            while len(self._busy()) < self._workers:
                following = retries.pop() if retries else _next(left)
                if following is None:
                    break
                self._free().give(*following, self._timeout)
            busy = self._busy()
            if not busy:
                return
            soonest = min(one.deadline for one in busy)
            wait([one.pipe for one in busy], max(0.0, soonest - time.monotonic()))
            for one in busy:
                task, tries = one.task, one.tries
                outcome = one.outcome()
                if outcome is None:
                    continue
                if outcome.lost:
                    self._members.remove(one)
                if outcome.again and tries < _TRIES:
                    retries.append((task, tries + 1))
                else:
                    yield Done(task, outcome.failure)

    def end(self) -> None:
        """End every worker at once."""
        for one in self._members:
            one.end()
        self._members = []

    def _busy(self) -> list[_Worker[Task]]:
        return [one for one in self._members if one.busy]

    def _free(self) -> _Worker[Task]:
        for one in self._members:
            if not one.busy:
                return one
        self._members.append(_Worker(self._start))
        return self._members[-1]


def _next(tasks: Iterator[Task]) -> tuple[Task, int] | None:
    for task in tasks:
        return task, 1
    return None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a task went, whether its worker is lost, and whether to try once more."""

    failure: str | None = None
    lost: bool = False
    again: bool = False


class _Worker(Generic[Task]):
    """A process, its pipe, and the task it is at."""

    task: Task
    tries: int
    deadline: float

    def __init__(self, start: Callable[[], Work[Task]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, start), daemon=True
        )
        kept = {name: os.environ.get(name) for name in _SINGLE}
        os.environ.update({name: "1" for name in _SINGLE if kept[name] is None})
        try:
            self._process.start()
        finally:
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
        theirs.close()  # so that the pipe breaks when the process dies
        self.busy = False
        self._ready = False

    def give(self, task: Task, tries: int, timeout: float) -> None:
        self.task, self.tries, self._timeout = task, tries, timeout
        self.deadline = time.monotonic() + timeout + (0.0 if self._ready else _START)
        self.busy = True
        # A worker that died between two tasks: `outcome` sees the broken pipe.
        with contextlib.suppress(OSError):
            self.pipe.send(task)

    def outcome(self) -> _Outcome | None:
        """None while the task is not through."""
        if self.pipe.poll():
            try:
                kind, text = self.pipe.recv()
            except (EOFError, OSError):
                self._process.join()
                code = self._process.exitcode
                self.end()
                how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                if not self._ready:
                    raise EmoVerseError(
                        f"The workers cannot start ({how}); in a script, put what starts them "
                        'under `if __name__ == "__main__":`, else try `emoverse faces` on one clip.'
                    ) from None
                return _Outcome(f"crashed the worker ({how})", lost=True, again=True)
            if kind == "cannot start":
                raise EmoVerseError(text)
            if kind == "ready":
                self._ready = True
                self.deadline = time.monotonic() + self._timeout
                return None
            self.busy = False
            return _Outcome(text)
        if time.monotonic() >= self.deadline:
            self.end()
            return _Outcome(f"took more than {self._timeout:.0f} seconds", lost=True)
        return None

    def end(self) -> None:
        """End the process and the programs that it started, such as OpenFace."""
        assert self._process.pid
        # Until it has a group of its own it has started nothing.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, start: Callable[[], Work[Any]]) -> None:
    os.setpgid(0, 0)  # a group of its own, which ends with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        work = start()
    except EmoVerseError as error:
        pipe.send(("cannot start", str(error)))
        return
    # What was loaded stays: collections of garbage need not look through it after every task.
    gc.collect()
    gc.freeze()
    pipe.send(("ready", None))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        failure = None
        try:
            work(task)
        except Exception as error:  # one bad task must not cost the others
            failure = f"failed ({type(error).__name__}: {' '.join(str(error).split())})"
        pipe.send(("done", failure))


def _die_with_parent() -> None:
    # A parent that is killed cannot end its workers; a stuck one would stay for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
