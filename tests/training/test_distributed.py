"""Two processes on one machine give the training of one process, DDP-like and FSDP."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from emoverse.training.distributed import Crew, share
from emoverse.training.rows import batches, rows

from ..models.tiny import tiny_model
from ..ports import free_port
from .runs import run
from .test_rows import samples
from .test_trainer import write_recipe


def _run(
    recipe: Path,
    out: Path,
    processes: int,
    clocks: Sequence[str] = ("1", "1"),
    more: Sequence[str] = (),
    **told: str,
) -> None:
    crew = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    crew |= {"MASTER_PORT": str(free_port())}
    crew |= {"LOCAL_WORLD_SIZE": str(processes), "CUDA_VISIBLE_DEVICES": ""} | told
    ranks = [
        crew | {"RANK": str(n), "LOCAL_RANK": str(n), "CLOCK": clocks[n]} for n in range(processes)
    ]
    settings = ["lora.dropout=0", "batch_tokens=200", "batch_samples=4", "stages.0.epochs=1"]
    sets = [part for setting in (*settings, *more) for part in ("--set", setting)]
    for ended in run(out, [str(recipe), *sets], ranks):
        assert ended.code == 0, ended.said[-3000:]


def _said(out: Path) -> str:
    return " ".join((out.parent / f"{out.name}.0.err").read_text().split())


def _log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    recipe = write_recipe(tmp_path)
    _run(recipe, tmp_path / "one", 1)
    _run(recipe, tmp_path / "ddp", 2)
    _run(recipe, tmp_path / "fsdp", 2, ACCELERATE_USE_FSDP="true")
    one = _log(tmp_path / "one")
    plan = (tmp_path / "one" / "plan.tsv").read_text()
    for kind in ("ddp", "fsdp"):
        told = _log(tmp_path / kind)
        assert (tmp_path / kind / "plan.tsv").read_text() == plan
        assert [row.get("processes") for row in told if "queries" in row] == [2, 2]
        assert len(told) == len(one)
        for mine, theirs in zip(one, told, strict=True):
            assert theirs.keys() == mine.keys()
            for key in {"loss", "step", "lr", "gradient_norm"} & mine.keys():
                assert theirs[key] == pytest.approx(mine[key], rel=2e-3), key
            for task, figures in mine.get("valid", {}).items():
                assert theirs["valid"][task] == pytest.approx(figures, rel=2e-3, abs=1e-3)
        alone = load_file(tmp_path / "one" / "checkpoint.safetensors")
        together = load_file(tmp_path / kind / "checkpoint.safetensors")
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            if name.startswith("weight/"):
                np.testing.assert_allclose(together[name], value, atol=3e-4, err_msg=name)


@pytest.mark.slow
def test_processes_with_other_clocks_save_together(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("save_minutes: 0", "save_minutes: 30"))
    # The second is always late, by its own clock; and a step is one batch.
    _run(recipe, tmp_path / "out", 2, ("1", "1e6"), ["batch_tokens=2000"])
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    heads = [row for row in _log(tmp_path / "out") if "queries" in row]
    idle = [head for head in heads if head["batches_per_step"] < 2]
    assert _said(tmp_path / "out").count("batches for 2 processes, so some wait") == len(idle)
    assert idle


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_batch_of_a_step_has_one_owner_and_the_load_is_even(size: int) -> None:

    rng = random.Random(0)
    step = batches(rows(samples(tiny_model()) * 3, 1, rng), 300, rng)
    shares = [share(step, Crew(rank=rank, size=size)) for rank in range(size)]
    dealt = [batch for mine, _ in shares for batch in mine]
    assert sorted(map(id, dealt)) == sorted(map(id, step))
    assert {most for _, most in shares} == {max(len(mine) for mine, _ in shares)}
    loads = [sum(len(r.tree.tokens) for b in mine for r in b) for mine, _ in shares]
    heaviest = max(sum(len(r.tree.tokens) for r in b) for b in step)
    assert max(loads) - min(loads) <= heaviest
