from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoverse.training.report import _groups, _mean, read_log, write_report


def _run(out: Path, steps: int = 30) -> Path:
    """A run of two stages with a scored epoch at the end of each."""
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(("first", "<second>")):
        told = {"queries": {"er": 40, "fer": 1000}, "too_long": 2, "without_picture": 1}
        told |= {"steps": steps, "tokens": 600, "tokens_unmerged": 1000, "processes": 1}
        rows.append({"stage": name, **told, "attention": "sdpa", "looking_seconds": 7.5})
        for step in range(1, steps + 1):
            place = {"stage": name, "step": step, "total_step": number * steps + step}
            losses = {"er": 2.0 / step} | ({"fer": 1.0} if number == 0 else {})
            told = {"lr": 1e-4, "gradient_norm": 1.0, "tokens_per_s": 300.0, "memory_gb": 2.5}
            rows.append(place | {"of": steps, "loss": losses} | told)
        scores = {"er": {"n": 80.0, "loss": 0.5, "exact": 61.25, "weighted_f1": 44.0}}
        place = {"stage": name, "step": steps, "total_step": (number + 1) * steps}
        rows.append(place | {"valid": scores, "mean": 44.0, "best": number == 0})
    out.mkdir(exist_ok=True)
    (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    (out / "recipe.json").write_text(json.dumps({"model": "compact", "seed": 0}))
    return out


def test_every_figure_is_drawn_once_under_its_heading(tmp_path: Path) -> None:
    groups = dict(_groups(read_log(_run(tmp_path) / "log.jsonl")))
    titles = {heading: [plot.title for plot in plots] for heading, plots in groups.items()}
    assert titles == {
        "Loss": ["Emotion", "Expression"],
        "Scores on the valid split": ["Emotion: exact, %", "Emotion: weighted F1, %"],
        "The run": ["Learning rate", "Gradient norm", "Tokens a second", "Peak memory, GB"],
    }
    emotion, expression = groups["Loss"]
    assert [x for x, _ in emotion.valid] == [50.0, 100.0]  # of 60 steps
    assert expression.valid == ()
    assert expression.x_ticks == emotion.x_ticks  # one axis for all, so that they can be compared
    assert emotion.stages[0][0] == "<second>"
    assert emotion.stages[0][1] == pytest.approx(100 * 31 / 60, abs=0.1)
    assert emotion.smooth
    assert len(groups["Scores on the valid split"][0].dots) == 2


def test_the_page_tells_the_figures_and_runs_nothing(tmp_path: Path) -> None:
    page = write_report(_run(tmp_path / "mine")).read_text(encoding="utf-8")
    assert "Training of mine" in page
    assert "&lt;second&gt;, step 30 of 30" in page
    assert "61.2" in page
    assert "40 %" in page  # saved by sharing
    assert "Expression 1,000" in page
    assert page.count("best so far") == 1
    for forbidden in ("<script", "http://", "https://", "<second>"):
        assert forbidden not in page


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    _run(tmp_path)
    log = tmp_path / "log.jsonl"
    for lines in (0, 1, 2):
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:lines]))
        assert "Training of" in write_report(tmp_path).read_text(encoding="utf-8")
        _run(tmp_path)


def test_the_drawn_mean_keeps_level_and_length() -> None:
    assert _mean([3.0] * 50) == pytest.approx([3.0] * 50)
    rising = _mean([float(n) for n in range(60)])
    assert len(rising) == 60
    assert rising == sorted(rising)
    assert rising[30] == pytest.approx(30)  # it does not lag behind
