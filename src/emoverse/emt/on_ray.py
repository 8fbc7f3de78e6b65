"""The same face work on a Ray cluster: Ray Data deals clips to actors on its machines.

Each actor keeps a one-process `pool` of its own, so that a clip that crashes or hangs costs that
process and not the actor. Results are written straight to the dataset's folder, which every
machine must see under the same path, as it must the clips.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from emoverse.emt import pool
from emoverse.errors import EmoVerseError

Task = TypeVar("Task")
# Tasks dealt out at once: actors are started anew for each deal, and hold it in memory.
_DEALT_PER_WORKER = 512


def run(
    start: Callable[[], pool.Work[Task]],
    tasks: Iterable[Task],
    workers: int,
    timeout: float,
    address: str | None = None,
) -> Iterator[pool.Done[Task]]:
    """Do every task on a Ray cluster; arguments and results as `pool.run`.

    Args:
        start: as in `pool.run`.
        tasks: drawn a batch at a time.
        workers: actors, one CPU each.
        timeout: seconds for a task before it is given up.
        address: of a running cluster (`auto` finds one); None starts one on this machine.

    Raises:
        EmoVerseError: Ray is not installed or cannot be reached, or no worker can start.
    """
    ray = _ray()
    _connect(ray, address)
    waiting = iter(tasks)
    while dealt := _batch(waiting, _DEALT_PER_WORKER * workers):
        # A block a worker: Ray runs a block from end to end on one actor.
        numbers = ray.data.from_items(
            [{"number": number} for number in range(len(dealt))],
            override_num_blocks=min(len(dealt), 8 * workers),
        )
        through = numbers.map_batches(
            _Actor,
            fn_constructor_args=(start, dealt, timeout),
            batch_size=1,
            concurrency=min(workers, len(dealt)),
            num_cpus=1,
            batch_format="numpy",
        )
        for row in through.iter_rows():
            yield pool.Done(dealt[int(row["number"])], str(row["failure"]) or None)


class _Actor:
    """One worker of Ray's."""

    def __init__(
        self, start: Callable[[], pool.Work[Any]], tasks: list[Any], timeout: float
    ) -> None:
        self._tasks = tasks
        self._crew = pool.Crew(start, 1, timeout)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        done = [next(self._crew.run([self._tasks[int(n)]])) for n in batch["number"]]
        return {"number": batch["number"], "failure": [one.failure or "" for one in done]}


def _batch(tasks: Iterator[Task], most: int) -> list[Task]:
    found: list[Task] = []
    for task in tasks:
        found.append(task)
        if len(found) == most:
            break
    return found


def _ray() -> Any:
    # Ray tells its makers about every use unless it is told not to, before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError:
        raise EmoVerseError(
            "The ray engine needs Ray; install it with `pip install emoverse[ray]`."
        ) from None


def _connect(ray: Any, address: str | None) -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise EmoVerseError(
            f"Ray cannot be reached at {address or 'this machine'}: {reason}."
        ) from None
