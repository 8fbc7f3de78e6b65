"""Bar charts as SVG text, the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emoverse.svg import WIDTH, heading, legend, page, rect, text


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
    shapes = [heading(title)]
    if len(names) > 1:
        shapes += legend(names)
    for row, category in enumerate(categories):
        y = top + row * (group + gap)
        shapes.append(text(left - 10, y + group / 2 + 4.5, category, anchor="end"))
        for place, name in enumerate(names):
            if category in series[name]:
                value = series[name][category]
                width = (WIDTH - left - right) * value / most
                at = y + place * bar
                shapes.append(rect(left, at, width, bar - 2, place))
                said = f"{value:,.1f}".removesuffix(".0") + unit
                shapes.append(text(left + width + 6, at + bar - 4, said, size=12, dim=True))
    return page(height, shapes, title)


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
    step = (WIDTH - 2 * left) / max(1, len(bins))
    shapes = [heading(title)]
    for place, (label, value) in enumerate(bins):
        tall = 170 * value / most
        middle = left + (place + 0.5) * step
        shapes.append(rect(middle - 0.4 * step, bottom - tall, 0.8 * step, tall, 0))
        shapes.append(text(middle, bottom - tall - 6, f"{value:,}", 11, "middle", dim=True))
        shapes.append(text(middle, bottom + 17, label, 12, "middle"))
    shapes.append(text(WIDTH / 2, bottom + 38, axis, 12, "middle", dim=True))
    return page(height, shapes, title)
