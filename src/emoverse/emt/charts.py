"""Bar charts as SVG text, the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

# Told apart by colour-blind readers too, and on paper.
_COLOURS = ("#2b6f9e", "#e3a33b", "#7a9a3a")
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_WIDTH = 720


def bars(title: str, series: Mapping[str, Mapping[str, float]], unit: str = "") -> str:
    """Horizontal bars, a group a category, a colour a series.

    Args:
        title: set above the chart.
        series: series name to category to value (0 or more); categories come in the order of
            their first mention, and one a series lacks has no bar there.
        unit: set behind every value, e.g. "%".

    Returns:
        A whole SVG file.
    """
    names = list(series)
    categories = list(dict.fromkeys(name for values in series.values() for name in values))
    left, right, bar, gap = 110, 90, 15, 14
    top = 84 if len(names) > 1 else 58
    group = bar * len(names)
    height = top + len(categories) * (group + gap) + 10
    most = max((value for values in series.values() for value in values.values()), default=0) or 1
    shapes = [_text(24, 34, title, size=17, weight=600)]
    if len(names) > 1:
        shapes += _legend(names)
    for row, category in enumerate(categories):
        y = top + row * (group + gap)
        shapes.append(_text(left - 10, y + group / 2 + 4.5, category, anchor="end"))
        for place, name in enumerate(names):
            if category in series[name]:
                value = series[name][category]
                width = (_WIDTH - left - right) * value / most
                at = y + place * bar
                shapes.append(_rect(left, at, width, bar - 2, place))
                said = f"{value:,.1f}".removesuffix(".0") + unit
                shapes.append(_text(left + width + 6, at + bar - 4, said, size=12, dim=True))
    return _svg(height, shapes, title)


def columns(title: str, bins: Sequence[tuple[str, float]], axis: str) -> str:
    """Upright columns side by side, for a distribution.

    Args:
        title: set above the chart.
        bins: (label under the column, value of 0 or more), in order.
        axis: what the labels count, set below them.

    Returns:
        A whole SVG file.
    """
    left, bottom, height = 40, 250, 300
    most = max((value for _, value in bins), default=0) or 1
    step = (_WIDTH - 2 * left) / max(1, len(bins))
    shapes = [_text(24, 34, title, size=17, weight=600)]
    for place, (label, value) in enumerate(bins):
        tall = 170 * value / most
        middle = left + (place + 0.5) * step
        shapes.append(_rect(middle - 0.4 * step, bottom - tall, 0.8 * step, tall, 0))
        shapes.append(_text(middle, bottom - tall - 6, f"{value:,}", 11, "middle", dim=True))
        shapes.append(_text(middle, bottom + 17, label, 12, "middle"))
    shapes.append(_text(_WIDTH / 2, bottom + 38, axis, 12, "middle", dim=True))
    return _svg(height, shapes, title)


def _svg(height: float, shapes: Sequence[str], title: str) -> str:
    inside = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" '
        f'width="{_WIDTH}" height="{height:g}" font-family="{_FONT}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{_WIDTH}" height="{height:g}" rx="8" fill="#ffffff"/>\n{inside}\n</svg>\n'
    )


def _legend(names: Sequence[str]) -> list[str]:
    shapes = []
    x = 24.0
    for place, name in enumerate(names):
        shapes.append(_rect(x, 52, 12, 12, place))
        shapes.append(_text(x + 18, 62.5, name, size=13))
        x += 18 + 8 * len(name) + 24
    return shapes


def _rect(x: float, y: float, width: float, height: float, colour: int) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" '
        f'fill="{_COLOURS[colour % len(_COLOURS)]}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    size: int = 13,
    anchor: str = "start",
    *,
    weight: int = 400,
    dim: bool = False,
) -> str:
    colour = "#5b6570" if dim else "#1d2329"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
    )
