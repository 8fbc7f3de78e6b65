"""The figure of a table: a panel a column, a dot with its interval a row, as an SVG file.

Geometry only; `templates/table.svg.j2` draws it. The same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.inference.plots import ticks
from emoverse.inference.report import environment

_TEMPLATES = Path(__file__).parent / "templates"
_LEFT, _PANEL, _GAP, _ROW, _TOP = 190.0, 190.0, 36.0, 30.0, 96.0
_BOTTOM, _EDGE, _LETTER = 56.0, 24.0, 6.6


@dataclass(frozen=True, slots=True)
class Dot:
    """A figure in a panel; x positions in its column's unit, None where it has no interval."""

    row: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A column of the table.

    Attributes:
        title: the figure's name.
        dots: its values.
    """

    title: str
    dots: tuple[Dot, ...]


def table_figure(
    title: str, rows: Sequence[tuple[str, str]], panels: Sequence[Panel], caption: str
) -> str:
    """Draw a table.

    Args:
        title: set above it.
        rows: (name, kind) from top to bottom; the kind, `paper`, `ours` or `floor`, is the colour
            and the shape.
        panels: from left to right; each has an axis of its own.
        caption: set below.

    Returns:
        A whole SVG file.
    """
    left = max(_LEFT, _EDGE + 12 + _LETTER * max((len(name) for name, _ in rows), default=0))
    width = max(left + len(panels) * (_PANEL + _GAP) + _EDGE, 2 * _EDGE + 5.6 * len(caption))
    bottom = _TOP + _ROW * len(rows)
    drawn = [
        _panel(panel, left + place * (_PANEL + _GAP), rows) for place, panel in enumerate(panels)
    ]
    template = environment(_TEMPLATES).get_template("table.svg.j2")
    return template.render(
        title=title,
        caption=caption,
        width=round(width),
        height=round(bottom + _BOTTOM),
        left=round(left - 12, 1),
        top=_TOP,
        bottom=bottom,
        row_height=_ROW,
        rows=[
            {"name": name, "kind": kind, "y": _TOP + _ROW * (place + 0.5)}
            for place, (name, kind) in enumerate(rows)
        ],
        panels=drawn,
        kinds=[kind for kind in ("paper", "ours", "floor") if kind in {k for _, k in rows}],
    )


def _panel(panel: Panel, x: float, rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    ends = [end for dot in panel.dots for end in (dot.value, dot.low, dot.high) if end is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 100.0)
    margin = 0.06 * (high - low) or 1.0
    marks = ticks(low - margin, high + margin, 4)
    start, end = min(low - margin, marks[0]), max(high + margin, marks[-1])

    def at(value: float) -> float:
        return round(x + _PANEL * (value - start) / (end - start), 1)

    return {
        "title": panel.title,
        "x": x,
        "width": _PANEL,
        "ticks": [{"x": at(mark), "text": f"{mark:g}"} for mark in marks],
        "dots": [
            {
                "x": at(dot.value),
                "y": _TOP + _ROW * (dot.row + 0.5),
                "low": at(dot.low) if dot.low is not None else None,
                "high": at(dot.high) if dot.high is not None else None,
                "kind": rows[dot.row][1],
                "text": f"{dot.value:.1f}",
            }
            for dot in panel.dots
        ],
    }
