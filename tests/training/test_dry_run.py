"""The full-size dry run of `benchmarks/dry_run.py`, and the same steps with real numbers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from emoverse.m2se.recipe import load_recipe
from emoverse.training import estimate as plan

from .small_4b import small_config

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "emoverse-4b.yaml"


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    import dry_run

    yield dry_run
    for name in ("dry_run", "train"):  # a name that others may want
        if name not in before:
            sys.modules.pop(name, None)


def test_a_step_and_five_answers_of_the_4b_on_shapes_alone(dry_run: Any) -> None:
    recipe = load_recipe(RECIPE)
    found = dry_run.counted(recipe)
    assert found["parameters"] / 1e9 == pytest.approx(4.15, abs=0.01)
    assert found["answers"] == 5
    # Linear weights twice (they have no gradient of their own), attention once forward and twice
    # backward, and eight tiles through the visual encoder.
    token = 4 * 3.62e9 + 32 * 3 * 4 * recipe.row_tokens * 3072
    assert found["step_tflop"] == pytest.approx(token * recipe.row_tokens / 1e12 + 5.9, rel=0.05)
    # The clip's 2,048 tokens are run once for the five.
    tokens = 2072 + 5 * 64 + found["words_said"] - 5
    said = 2 * 3.62e9 * tokens + 32 * 4 * 2072 * tokens * 3072
    assert found["answers_tflop"] == pytest.approx(said / 1e12 + 5.9, rel=0.05)


def test_a_step_with_real_numbers_learns(dry_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 4B's shapes made small, on the CPU, by the code that a GPU would run."""
    config = small_config(2, vit_width=64, vit_layers=1, vit_heads=2, vit_mlp=128)
    monkeypatch.setattr(plan, "_config", lambda _: config)
    recipe = replace(load_recipe(RECIPE), frames=1, row_tokens=600)
    torch.manual_seed(0)
    run = dry_run.prepared(recipe, "cpu")
    run.optimiser.param_groups[0]["lr"] = 0.01
    losses = [float(run.learn()) for _ in range(4)]
    assert losses[-1] < losses[0] - 0.01
    assert run.answer() == sum(dry_run._SAID.values())
