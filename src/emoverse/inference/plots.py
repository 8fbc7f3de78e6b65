"""Geometry of the report's curves: numbers in, SVG path data and percentages out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from emoverse.inference.analysis import Analysis, AUCurve

_POINTS = 480  # more points than a phone has pixels say nothing more
_SPARK_POINTS = 96
_GAP = 4.0  # a face unseen for this many sampling steps breaks the line


@dataclass(frozen=True, slots=True)
class Tick:
    """An axis label: its text and its place in percent of the axis."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Series:
    """One person's line: SVG path data in a 1000 x 100 box, y downwards."""

    person: int
    path: str
    top: float
    at: float


@dataclass(frozen=True, slots=True)
class Plot:
    """The AU activity of every person over time, with both axes.

    Attributes:
        start, end: of the axis of time, in seconds.
    """

    start: float
    end: float
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    peak_x: float | None
    peak_y: float | None
    peak_person: int | None


def activity_plot(analysis: Analysis) -> Plot | None:
    """Lay out S_f over time (Eq 1) of every person.

    Returns:
        The plot, or None when no curve has two points (a photo, or no face).
    """
    curves = [curve for curve in analysis.curves if len(curve.timestamps) > 1]
    if not curves:
        return None
    start = min(0.0, *(curve.timestamps[0] for curve in curves))
    end = max(analysis.duration, *(curve.timestamps[-1] for curve in curves))
    highest = max(max(curve.scores) for curve in curves)
    y_values = ticks(0.0, max(highest, 1.0), 4)
    top = y_values[-1]
    series = []
    for curve in curves:
        times, scores = _thin(curve.timestamps, curve.scores, _POINTS)
        best = max(range(len(scores)), key=scores.__getitem__)
        series.append(
            Series(curve.person, _path(times, scores, start, end, top), scores[best], times[best])
        )
    peak = analysis.peak
    return Plot(
        start=start,
        end=end,
        series=tuple(series),
        x_ticks=tuple(
            Tick(clock(value), _share(value, start, end))
            for value in ticks(start, end, 6)
            if value <= end
        ),
        y_ticks=tuple(Tick(f"{value:g}", _share(value, 0.0, top)) for value in y_values),
        peak_x=_share(peak.timestamp, start, end) if peak else None,
        peak_y=min(100.0, _share(peak.score, 0.0, top)) if peak else None,
        peak_person=peak.person if peak else None,
    )


def sparkline(curve: AUCurve, code: str) -> str:
    """SVG path data of one AU over time in a 1000 x 100 box; "" when there is no line.

    The vertical axis is OpenFace's 0..5.
    """
    values = curve.intensities.get(code, ())
    if len(values) < 2:
        return ""
    times, scores = _thin(curve.timestamps, values, _SPARK_POINTS)
    return _path(times, scores, times[0], times[-1], 5.0)


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round axis values (1, 2, 2.5 or 5 times a power of ten) from `low` to at least `high`."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low, low + 1.0]
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * power for unit in (1, 2, 2.5, 5, 10) if unit * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def clock(seconds: float) -> str:
    """Seconds as an axis label: `2.5 s` below two minutes, `m:ss` or `h:mm:ss` above."""
    if seconds < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _share(value: float, low: float, high: float) -> float:
    return round(100.0 * (value - low) / (high - low), 2) if high > low else 0.0


def _thin(
    times: Sequence[float], values: Sequence[float], most: int
) -> tuple[list[float], list[float]]:
    """At most `most` points; of each block the highest stays, so that no peak is lost."""
    if len(times) <= most:
        return list(times), list(values)
    kept = []
    for block in range(most):
        first, last = block * len(times) // most, (block + 1) * len(times) // most
        kept.append(max(range(first, last), key=values.__getitem__))
    return [times[index] for index in kept], [values[index] for index in kept]


def _path(
    times: Sequence[float], values: Sequence[float], start: float, end: float, top: float
) -> str:
    steps = [later - sooner for sooner, later in pairwise(times)]
    gap = _GAP * max(median(steps), 1e-6)
    parts = []
    for index, (time, value) in enumerate(zip(times, values, strict=True)):
        x = 10.0 * _share(time, start, end)
        y = 100.0 - min(100.0, max(0.0, _share(value, 0.0, top)))
        command = "M" if index == 0 or time - times[index - 1] > gap else "L"
        parts.append(f"{command}{x:.1f} {y:.1f}")
    return "".join(parts)
