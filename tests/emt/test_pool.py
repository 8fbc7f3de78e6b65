from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emoverse.emt import pool
from emoverse.errors import EmoVerseError


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`pool_work`, importable by name here and in worker processes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import pool_work

    return pool_work


def test_a_bad_task_costs_itself_alone(tmp_path: Path, work: Any) -> None:
    good = [f"task{i}" for i in range(6)]
    tasks = [*good[:2], "crash", "raise", "hang", "crash once", *good[2:]]
    start = partial(work.start, str(tmp_path))
    done = {one.task: one.failure for one in pool.run(start, iter(tasks), workers=2, timeout=10)}
    assert set(done) == set(tasks)
    assert all(done[name] is None and (tmp_path / name).is_file() for name in good)
    assert done["crash"] == "crashed the worker (signal 9)"
    assert done["raise"] == "failed (ValueError: no such thing)"
    assert done["hang"] == "took more than 10 seconds"
    assert done["crash once"] is None and (tmp_path / "crash once").is_file()


def test_tasks_are_drawn_as_workers_become_free(tmp_path: Path, work: Any) -> None:
    drawn = 0

    def tasks() -> Any:
        nonlocal drawn
        for number in range(20):
            drawn += 1
            yield f"task{number}"

    through = pool.run(partial(work.start, str(tmp_path)), tasks(), workers=2, timeout=60)
    next(through)
    assert drawn <= 4
    through.close()  # leaving early ends the workers
    assert len(list(tmp_path.iterdir())) < 20


def test_workers_that_cannot_start_stop_the_run(tmp_path: Path, work: Any) -> None:
    with pytest.raises(EmoVerseError, match="The model is missing"):
        list(pool.run(work.cannot_start, ["a", "b"], workers=2, timeout=60))
    with pytest.raises(EmoVerseError, match=r"cannot start \(exit code 3\).*__main__"):
        list(pool.run(work.dies_at_start, ["a"], workers=1, timeout=60))
    with pytest.raises(EmoVerseError, match="At least one worker"):
        list(pool.run(work.cannot_start, ["a"], workers=0, timeout=60))


@pytest.mark.parametrize("task", ["hang", "hang in a program"])
def test_workers_and_their_programs_do_not_outlive_a_killed_parent(
    tmp_path: Path, work: Any, task: str
) -> None:
    parent = subprocess.Popen([sys.executable, work.__file__, str(tmp_path), task])
    try:
        hanging = _wait(lambda: _hanging(tmp_path))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _wait(lambda: None if _alive(hanging) else True)


def test_a_program_ends_with_the_worker_that_took_too_long(tmp_path: Path, work: Any) -> None:
    start = partial(work.start, str(tmp_path))
    (done,) = pool.run(start, ["hang in a program"], workers=1, timeout=10)
    assert done.failure == "took more than 10 seconds"
    program = _hanging(tmp_path)
    assert program is not None
    _wait(lambda: None if _alive(program) else True, seconds=10)


def _hanging(folder: Path) -> int | None:
    """The process that said it hangs."""
    return next((int(file.name.removeprefix("pid-")) for file in folder.glob("pid-*")), None)


def _wait(found: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (value := found()) is not None:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A dead process that nobody has buried yet still has its number.
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # gone meanwhile, or a system without /proc
        return not Path("/proc").is_dir()
