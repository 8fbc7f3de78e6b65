"""What happens when a training is killed, stopped or out of room: real processes, real signals."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emoverse import cli
from emoverse.errors import EmoVerseError
from emoverse.training.stopping import disk, memory

from .runs import Ended, run
from .test_trainer import write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def _run(recipe: Path, out: Path, *rest: str, **told: str) -> Ended:
    settings = [part for pair in rest if "=" in pair for part in ("--set", pair)]
    more = ["--resume"] if "resume" in rest else []
    (ended,) = run(out, [str(recipe), *more, *settings], [told])
    return ended


def _curve(out: Path) -> list[Any]:
    """Everything in the log that does not depend on the clock."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    clocks = ("tokens_per_s", "minutes_left", "seconds", "memory_gb", "looking_seconds")
    return [{key: value for key, value in row.items() if key not in clocks} for row in rows]


def _same_weights(first: Path, second: Path) -> bool:
    names = ("checkpoint", "adapter_model", "projector", "best/adapter_model")
    for name in names:
        a, b = load_file(first / f"{name}.safetensors"), load_file(second / f"{name}.safetensors")
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    done = _run(write_recipe(folder), folder / "out", "save_minutes=1e-9")
    assert done.code == 0, done.said
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("minutes", ["1e-9", "10"])
def test_killed_at_any_step_it_goes_on_with_the_same_curve_to_the_last_digit(
    recipe: Path, tmp_path: Path, whole: Path, minutes: str
) -> None:
    steps = [row for row in _curve(whole) if "loss" in row]
    out = tmp_path / "out"
    told: list[str] = []
    for _ in range(4):  # killed again and again, each time one step further
        done = _run(recipe, out, *told, f"save_minutes={minutes}", DIE_AT="1")
        assert done.code == -9, done.said
        told = ["resume"]
    assert len([row for row in _curve(out) if "loss" in row]) < len(steps)
    done = _run(recipe, out, "resume", f"save_minutes={minutes}")
    assert done.code == 0, done.said
    assert _curve(out) == _curve(whole)
    assert _same_weights(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_and_ends_the_run(
    recipe: Path, tmp_path: Path, whole: Path, name: str, code: int
) -> None:
    out = tmp_path / "out"
    done = _run(recipe, out, "save_minutes=99", STOP_AT=f"2:{name}")
    assert done.code == code, done.said
    assert f"Stopped by {name}; saved after stage" in " ".join(done.said.split())
    assert len([row for row in _curve(out) if "loss" in row]) == 3  # the step under way is kept
    done = _run(recipe, out, "resume", "save_minutes=99")
    assert done.code == 0, done.said
    assert _curve(out) == _curve(whole)
    assert _same_weights(out, whole)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint_whole(
    recipe: Path, tmp_path: Path, whole: Path
) -> None:
    out = tmp_path / "out"
    done = _run(recipe, out, "save_minutes=1e-9", FULL_AT="2")
    assert done.code == 1
    told = " ".join(done.said.split())
    assert "could not be written (No space left on device)" in told
    assert "Traceback" not in told
    assert not list(out.glob(".checkpoint*"))
    done = _run(recipe, out, "resume", "save_minutes=1e-9")
    assert done.code == 0, done.said
    assert _curve(out) == _curve(whole)
    assert _same_weights(out, whole)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"),
        MemoryError(),
    ],
)
def test_a_full_memory_is_told_with_the_setting_to_change(error: Exception) -> None:
    with (
        pytest.raises(
            EmoVerseError, match=r"^Stage a, step 3: out of memory; halve batch_tokens\.$"
        ),
        memory("Stage a, step 3", "halve batch_tokens"),
    ):
        raise error


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory("here", "this"):
        raise RuntimeError("shapes do not fit")


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=rf"{tmp_path}: could not be written .* --resume"):  # noqa: SIM117
        with disk(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), disk(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "a")


def test_a_full_disk_anywhere_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["faces"])
    assert ended.value.code == 1
    assert "No space left on device; free some space" in " ".join(capsys.readouterr().err.split())


def test_memory_that_really_runs_out_is_told() -> None:
    with pytest.raises(EmoVerseError, match="out of memory"), memory("here", "this"):
        torch.empty(1 << 60, dtype=torch.uint8)
