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
_POINTS = 400  # of a path, at most
_FEW = 20  # points below which each is drawn as a dot, and nothing smoothed
_NEAR = 1 / 30  # of the points, on either side, that the drawn mean is over

FIGURES = {
    "loss": "loss",
    "exact": "exact, %",
    "accuracy": "accuracy, %",
    "weighted_f1": "weighted F1, %",
    "acc2_np": "Acc2 N/P, %",
}
_RUN = {
    "lr": "Learning rate",
    "gradient_norm": "Gradient norm",
    "tokens_per_s": "Tokens a second",
    "memory_gb": "Peak memory, GB",
}
Points = list[tuple[int, float]]


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
class Plot:
    """A plot: SVG paths in a 1000 x 100 box, and places in percent.

    Attributes:
        title: what is drawn.
        last: its last value, of the mean where one is drawn.
        raw: path of every value.
        smooth: path of their running mean; "" for a few points.
        dots: (x, y) of every value when they are few.
        valid: (x, y) of the same figure on the valid split.
        y_ticks, x_ticks: (text, place).
        stages: (name, place) of where each stage after the first begins.
    """

    title: str
    last: float
    raw: str
    smooth: str
    dots: tuple[tuple[float, float], ...]
    valid: tuple[tuple[float, float], ...]
    y_ticks: tuple[tuple[str, float], ...]
    x_ticks: tuple[tuple[str, float], ...]
    stages: tuple[tuple[str, float], ...]


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
    settings = read_json(out / "recipe.json")
    figures = {name for row in log.valid for found in row["valid"].values() for name in found}
    page = environment(_TEMPLATES).get_template("training.html.j2")
    return write_text(
        out / FILE,
        page.render(
            name=out.resolve().name,
            settings=json.dumps(settings, indent=2),
            model=settings["model"],
            heads=log.heads,
            groups=_groups(log),
            last=log.steps[-1] if log.steps else None,
            figures=[name for name in FIGURES if name in figures],
            labels=FIGURES,
            valid=log.valid,
            titles=TITLES,
            total=log.total_steps,
        ),
    )


def _groups(log: Log) -> list[tuple[str, list[Plot]]]:
    """The page's plots under their headings; a heading without any is left out."""
    points: dict[str, Points] = {}
    for row in (*log.steps, *log.valid):
        for name, value in scalars(row).items():
            points.setdefault(name, []).append((int(row["total_step"]), value))
    begins: dict[str, int] = {}
    for row in log.steps:
        begins.setdefault(row["stage"], int(row["total_step"]))
    stages = list(begins.items())[1:]

    def plot(title: str, name: str, valid: str = "", smooth: bool = True) -> Plot:
        beside = points.get(valid, [])
        return _plot(title, points[name], beside, stages, log.total_steps, smooth)

    losses = [
        plot(TITLES[task], f"loss/{task}", f"valid_loss/{task}")
        for task in TITLES
        if f"loss/{task}" in points
    ]
    scores = [
        plot(f"{TITLES[task]}: {label}", f"valid_{figure}/{task}")
        for task in TITLES
        for figure, label in FIGURES.items()
        if figure != "loss" and f"valid_{figure}/{task}" in points
    ]
    run = [
        plot(title, f"training/{key}", smooth=key == "gradient_norm")
        for key, title in _RUN.items()
        if f"training/{key}" in points
    ]
    headed = [("Loss", losses), ("Scores on the valid split", scores), ("The run", run)]
    return [(heading, plots) for heading, plots in headed if plots]


def _plot(
    title: str,
    points: Points,
    valid: Points,
    stages: Sequence[tuple[str, int]],
    total: int,
    smooth: bool,
) -> Plot:
    steps, values = [step for step, _ in points], [value for _, value in points]
    drawn = values + [value for _, value in valid]
    low, high = min(0.0, *drawn, 0.0), max(drawn)
    y_values = ticks(low, high, 4) if high > low else [low, low + 1]
    x_values = ticks(0, max(total, 1), 6)
    few = len(points) < _FEW
    mean = _mean(values) if smooth and not few else []

    def x(step: float) -> float:
        return round(1000 * step / x_values[-1], 1)

    def y(value: float) -> float:
        return round(100 - 100 * (value - y_values[0]) / (y_values[-1] - y_values[0]), 2)

    def path(of: Sequence[float]) -> str:
        every = max(1, len(of) // _POINTS)
        kept = [*range(0, len(of), every)]
        kept += [len(of) - 1] if kept[-1] != len(of) - 1 else []
        return "M" + "L".join(f"{x(steps[n])} {y(of[n])}" for n in kept)

    return Plot(
        title=title,
        last=mean[-1] if mean else values[-1],
        raw=path(values),
        smooth=path(mean) if mean else "",
        dots=tuple((x(step) / 10, y(value)) for step, value in points) if few else (),
        valid=tuple((x(step) / 10, y(value)) for step, value in valid),
        y_ticks=tuple((f"{value:g}", y(value)) for value in y_values),
        x_ticks=tuple((f"{value:g}", x(value) / 10) for value in x_values),
        stages=tuple((name, x(step) / 10) for name, step in stages),
    )


def _mean(values: Sequence[float]) -> list[float]:
    """The mean over each value's neighbours on both sides, as far as there are some."""
    reach = max(1, round(_NEAR * len(values)))
    parts = (values[max(0, n - reach) : n + reach + 1] for n in range(len(values)))
    return [sum(part) / len(part) for part in parts]
