"""Pieces of SVG pictures as text, the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

# Told apart by colour-blind readers too, and on paper.
COLOURS = ("#2b6f9e", "#e3a33b", "#7a9a3a")
WIDTH = 720
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


def page(height: float, shapes: Sequence[str], title: str) -> str:
    """A whole SVG file, `WIDTH` wide, with a white ground."""
    inside = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" font-family="{_FONT}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="#ffffff"/>\n{inside}\n</svg>\n'
    )


def heading(title: str) -> str:
    """The picture's title, at its top."""
    return text(24, 34, title, size=17, weight=600)


def legend(names: Sequence[str], y: float = 52) -> list[str]:
    """A square of its colour and a name for every series, side by side."""
    shapes = []
    x = 24.0
    for place, name in enumerate(names):
        shapes.append(rect(x, y, 12, 12, place))
        shapes.append(text(x + 18, y + 10.5, name, size=13))
        x += 18 + 8 * len(name) + 24
    return shapes


def rect(x: float, y: float, width: float, height: float, colour: int) -> str:
    """A bar in one of `COLOURS`, by number."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" '
        f'fill="{COLOURS[colour % len(COLOURS)]}"/>'
    )


def line(points: Sequence[tuple[float, float]], colour: str, width: float = 1.0) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def text(
    x: float,
    y: float,
    words: str,
    size: int = 13,
    anchor: str = "start",
    *,
    weight: int = 400,
    dim: bool = False,
) -> str:
    """Words at a place; `anchor` says which of their ends (`start`, `middle`, `end`) lies there."""
    colour = "#5b6570" if dim else "#1d2329"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
    )
