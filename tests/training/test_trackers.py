from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emoverse.errors import EmoVerseError
from emoverse.training import trackers
from emoverse.training.logbook import FILE, open_logbook, scalars


def _row(step: int, loss: float) -> dict[str, Any]:
    row = {"stage": "s", "step": step, "of": 9, "total_step": step, "loss": {"er": loss}}
    return row | {"lr": 1e-5, "gradient_norm": 2.0, "tokens_per_s": 10.0, "memory_gb": 0.5}


def _points(folder: Path, name: str) -> list[tuple[int, float]]:
    read = EventAccumulator(str(folder))
    read.Reload()
    return [(point.step, point.value) for point in read.Scalars(name)]


def _write(out: Path, rows: list[dict[str, Any]], which: list[str], *, again: bool) -> None:
    out.mkdir(exist_ok=True)
    with open_logbook(out, which, {"seed": 3}, again=again, leads=True) as book:
        assert book is not None
        for row in rows:
            book.tell(row)


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    valid = {"stage": "s", "step": 2, "total_step": 2, "valid": {"er": {"exact": 50.0, "n": 4.0}}}
    _write(tmp_path, [_row(1, 0.5), _row(2, 0.25), valid], ["tensorboard"], again=False)
    folder = tmp_path / "tensorboard"
    assert _points(folder, "loss/er") == [(1, 0.5), (2, 0.25)]
    assert _points(folder, "training/memory_gb") == [(1, 0.5), (2, 0.5)]
    assert _points(folder, "valid_exact/er") == [(2, 50.0)]
    read = EventAccumulator(str(folder))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(scalars(_row(1, 0.0))) | set(scalars(valid))


def test_a_killed_run_keeps_its_curves(tmp_path: Path) -> None:
    tracker = trackers.open_tracker("tensorboard", tmp_path, {}, None)
    tracker.log({"loss/er": 0.5}, 1)  # and never closed
    assert _points(tmp_path / "tensorboard", "loss/er") == [(1, 0.5)]


def test_a_resumed_run_hides_the_steps_that_it_runs_again(tmp_path: Path) -> None:
    _write(tmp_path, [_row(n, 1.0) for n in (1, 2, 3)], ["tensorboard"], again=False)
    log = tmp_path / FILE
    log.write_text(log.read_text().splitlines()[0] + "\n")  # as `rewind_log` does
    _write(tmp_path, [_row(n, 0.5) for n in (2, 3)], ["tensorboard"], again=True)
    assert _points(tmp_path / "tensorboard", "loss/er") == [(1, 1.0), (2, 0.5), (3, 0.5)]
    assert len(log.read_text().splitlines()) == 3


def test_a_new_run_in_an_old_folder_hides_the_old_curves(tmp_path: Path) -> None:
    _write(tmp_path, [_row(n, 1.0) for n in (1, 2)], ["tensorboard"], again=False)
    _write(tmp_path, [_row(1, 0.5)], ["tensorboard"], again=False)
    assert _points(tmp_path / "tensorboard", "loss/er") == [(1, 0.5)]


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("tensorboard", "torch.utils.tensorboard", "train"),
        ("wandb", "wandb", "wandb"),
        ("trackio", "trackio", "trackio"),
    ],
)
def test_a_missing_package_is_told_with_the_extra_to_install(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EmoVerseError, match=rf"pip install 'emoverse\[{extra}\]'"):
        trackers.check([name])


class _Service(SimpleNamespace):
    """Takes what a service's package would be told."""

    def __init__(self) -> None:
        super().__init__(told=[], ended=0)

    def init(self, **given: Any) -> None:
        self.told.append(given)

    def log(self, values: dict[str, float], step: int) -> None:
        self.told.append((step, values["loss/er"]))

    def finish(self) -> None:
        self.ended += 1


def test_a_resumed_run_goes_on_with_the_same_run_of_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {"wandb": _Service(), "trackio": _Service()}
    for name, service in services.items():
        monkeypatch.setitem(sys.modules, name, service)
    for again in (False, True, False):
        _write(tmp_path / "mine", [_row(1, 0.5)], list(services), again=again)
    ids = [given["id"] for given in services["wandb"].told[::2]]
    assert ids[0] == ids[1] != ids[2]
    assert [given["resume"] for given in services["trackio"].told[::2]] == [
        "never",
        "allow",
        "never",
    ]
    for service in services.values():
        assert service.told[0]["name"] == "mine"
        assert service.told[0]["config"] == {"seed": 3}
        assert service.told[1] == (1, 0.5)
        assert service.ended == 3


def test_a_service_that_refuses_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: Any) -> None:
        raise RuntimeError("no API key\nconfigured")

    service = _Service()
    service.init = refused  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "wandb", service)
    with pytest.raises(EmoVerseError, match=r"could not start \(no API key configured\); log in"):
        trackers.open_tracker("wandb", tmp_path, {}, None)


@pytest.mark.slow
def test_wandb_takes_the_curves_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for again in (False, True):
        _write(tmp_path, [_row(1 + again, 0.5)], ["wandb"], again=again)
    (run,) = {path.stem for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}
    assert run == f"run-{json.loads((tmp_path / 'wandb_run.json').read_text())['id']}"
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("wandb/*/run-*.wandb"))
    assert b"loss/er" in kept


@pytest.mark.slow
def test_trackio_takes_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))
    pytest.importorskip("trackio", reason="trackio is not installed")
    for again in (False, True):
        _write(tmp_path / "mine", [_row(1 + again, 0.5)], ["trackio"], again=again)
    with sqlite3.connect(tmp_path / "kept" / "emoverse.db") as database:
        rows = database.execute("select step, run_name, metrics from metrics order by step")
        kept = [(step, run, json.loads(values)["loss/er"]) for step, run, values in rows]
    assert kept == [(1, "mine", 0.5), (2, "mine", 0.5)]
