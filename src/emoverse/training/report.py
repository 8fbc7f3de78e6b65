"""The page about a training: curves of every loss and score, with the figures beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.files import read_json, read_text, write_text
from emoverse.inference.plots import ticks
from emoverse.inference.report import TITLES, environment
from emoverse.training.logbook import scalars

FILE = "training.html"
_TEMPLATES = Path(__file__).parent / "templates"
_SMOOTH = 0.9  # of the exponential mean drawn over the raw losses
_POINTS = 400


@dataclass(frozen=True, slots=True)
class Log:
    """`log.jsonl`, sorted out.

    Attributes:
        heads: a row for each stage begun.
        steps: a row for each optimiser step.
        valid: a row for each epoch scored.
    """

    heads: tuple[Mapping[str, Any], ...]
    steps: tuple[Mapping[str, Any], ...]
    valid: tuple[Mapping[str, Any], ...]

    @property
    def total_steps(self) -> int:
        """Steps done so far, over all stages."""
        return max((int(row["total_step"]) for row in self.steps), default=0)


@dataclass(frozen=True, slots=True)
class Curve:
    """A plot: SVG paths in a 1000 x 100 box, its axes' labels, first and last value.

    Attributes:
        name: as in TensorBoard.
        raw: path data of every value.
        smooth: path data of their running mean; "" for a few points.
        y_ticks, x_ticks: (text, place in percent).
        last: the last (smoothed) value.
        dots: (x, y) of every value when they are few.
    """

    name: str
    raw: str
    smooth: str
    y_ticks: tuple[tuple[str, float], ...]
    x_ticks: tuple[tuple[str, float], ...]
    last: float
    dots: tuple[tuple[float, float], ...]


def read_log(path: Path) -> Log:
    """Read a run's log; a line torn by a kill is passed over."""
    rows = []
    for line in read_text(path).splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    whole = [row for row in rows if isinstance(row, dict) and "stage" in row]
    return Log(
        tuple(row for row in whole if "queries" in row),
        tuple(row for row in whole if "loss" in row and "total_step" in row),
        tuple(row for row in whole if "valid" in row),
    )


def write_report(out: Path) -> Path:
    """Write the self-contained page (no scripts, nothing fetched) of the run in `out`."""
    log = read_log(out / "log.jsonl")
    points: dict[str, list[tuple[int, float]]] = {}
    for row in (*log.steps, *log.valid):
        for name, value in scalars(row).items():
            points.setdefault(name, []).append((int(row["total_step"]), value))
    curves = [_curve(name, points[name]) for name in sorted(points) if not name.endswith("/n")]
    settings = read_json(out / "recipe.json")
    page = environment(_TEMPLATES).get_template("training.html.j2")
    return write_text(
        out / FILE,
        page.render(
            name=out.resolve().name,
            settings=json.dumps(settings, indent=2),
            model=settings["model"],
            heads=log.heads,
            losses=[curve for curve in curves if curve.name.startswith("loss/")],
            scores=[curve for curve in curves if curve.name.startswith("valid_")],
            others=[curve for curve in curves if curve.name.startswith("training/")],
            last=log.steps[-1] if log.steps else None,
            valid=_table(log),
            titles=TITLES,
            total=log.total_steps,
        ),
    )


def _table(log: Log) -> list[dict[str, Any]]:
    """A row for each task of each scored epoch."""
    return [
        {
            "stage": row["stage"],
            "step": row["step"],
            "task": task,
            "best": row.get("best", False),
            "n": int(figures["n"]),
            "figures": [(k, round(v, 3)) for k, v in sorted(figures.items()) if k != "n"],
        }
        for row in log.valid
        for task, figures in sorted(row["valid"].items())
    ]


def _curve(name: str, points: Sequence[tuple[int, float]]) -> Curve:
    steps = [step for step, _ in points]
    values = [value for _, value in points]
    low, high = min(0.0, *values) if len(values) > 1 else min(0.0, values[0]), max(values)
    y_values = ticks(low, high, 4) if high > low else [low, low + 1]
    x_values = ticks(0, steps[-1], 6)
    smooth, mean = [], values[0]
    for value in values:
        mean = _SMOOTH * mean + (1 - _SMOOTH) * value
        smooth.append(mean)
    few = len(points) < 20

    def x(step: float) -> float:
        return round(1000 * step / max(x_values[-1], 1), 1)

    def y(value: float) -> float:
        return round(100 - 100 * (value - y_values[0]) / (y_values[-1] - y_values[0]), 2)

    def path(of: Sequence[float]) -> str:
        every = max(1, len(of) // _POINTS)
        kept = [*range(0, len(of), every)]
        kept += [len(of) - 1] if kept[-1] != len(of) - 1 else []
        return "M" + "L".join(f"{x(steps[n])} {y(of[n])}" for n in kept)

    return Curve(
        name=name,
        raw=path(values),
        smooth="" if few else path(smooth),
        y_ticks=tuple((f"{value:g}", y(value)) for value in y_values),
        x_ticks=tuple((f"{value:g}", x(value) / 10) for value in x_values),
        last=values[-1] if few else smooth[-1],
        dots=tuple((x(step) / 10, y(value)) for step, value in points) if few else (),
    )
