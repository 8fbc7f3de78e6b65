"""Who caused which emotion, as a picture: speakers are nodes, emotions are arrows.

Geometry only, in the manner of `plots`: turns and pairs in, places and SVG path data out. An arrow
goes from the speaker of the cause to the speaker who shows the emotion.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LETTER = 8.2  # mean width of a letter at the drawing's font size of 15
_CAPITAL, _WIDE = 11.6, 16.0  # of letters that are wider than most
_HALF_HEIGHT = 18.0
_WIDEST = 14 * _LETTER  # of a name that is drawn
# Characters that turn the text after them around; browsers lay out names in any script without.
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_FIRST_BEND, _NEXT_BEND = 52.0, 48.0
_FIRST_LOOP, _NEXT_LOOP = 86.0, 54.0
_HEAD = 9.0  # an arrow head's length
_MARGIN = 10.0
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Node:
    """A speaker: the pill's centre and half width, and the name as drawn and in full."""

    x: float
    y: float
    half: float
    name: str
    full: str


@dataclass(frozen=True, slots=True)
class Edge:
    """All causes of one emotion from one speaker to another, or to the same one.

    Attributes:
        path, head: SVG path data of the line and of its arrow head.
        x, y: middle of the label.
        label: the emotion, with its count when there are several.
        emotion: for the colour.
        source, goal: names of the speakers, in full.
        where: the utterances, in words.
    """

    path: str
    head: str
    x: float
    y: float
    label: str
    emotion: str
    source: str
    goal: str
    where: str

    @property
    def told(self) -> str:
        """All of it in words."""
        whose = "their own" if self.goal == self.source else f"{self.goal}'s"
        return f"{self.source} caused {whose} {self.emotion}: utterance {self.where}"


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing: `box` is (x, y, width, height)."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    box: tuple[float, float, float, float]


def cause_graph(
    turns: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[int, str, int]]
) -> Graph | None:
    """Lay out who caused which emotion.

    Args:
        turns: with `index` and `speaker`.
        pairs: (emotion utterance, emotion, cause utterance); those that name no turn are left out.

    Returns:
        None without any pair.
    """
    speakers = {int(turn["index"]): _name(turn) for turn in turns}
    known = [pair for pair in pairs if pair[0] in speakers and pair[2] in speakers]
    if not known:
        return None
    names = list(dict.fromkeys(speakers.values()))
    nodes = {name: node for name, node in zip(names, _placed(names), strict=True)}
    groups: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for target, emotion, cause in known:
        key = (speakers[cause], speakers[target], emotion)
        groups.setdefault(key, []).append((cause, target))
    drawn: Counter[tuple[str, str]] = Counter()
    edges = []
    for (source, goal, emotion), places in groups.items():
        number = drawn[source, goal]
        drawn[source, goal] += 1
        if source == goal:
            path, head, middle = _loop(nodes[source], number, len(names))
        else:
            path, head, middle = _bow(nodes[source], nodes[goal], number)
        count = f" × {len(places)}" if len(places) > 1 else ""
        where = ", ".join(
            f"{cause} itself" if cause == target else f"{cause} → {target}"
            for cause, target in places
        )
        label = f"{emotion}{count}"
        edges.append(Edge(path, head, *middle, label, emotion, source, goal, where))
    return Graph(tuple(nodes.values()), tuple(edges), _box(tuple(nodes.values()), edges))


def _name(turn: Mapping[str, Any]) -> str:
    return str(turn.get("speaker") or "").translate(_TURNING) or "Someone"


def _width(letter: str) -> float:
    """Of a letter as drawn, rather too large than too small."""
    if unicodedata.combining(letter):
        return 0.0
    if letter in "MWmw%@" or unicodedata.east_asian_width(letter) in "WF":
        return _WIDE
    return _LETTER if letter.isascii() and not letter.isupper() else _CAPITAL


def _cut(name: str) -> tuple[str, float]:
    """A name as drawn, and its width."""
    widths = [_width(letter) for letter in name]
    if sum(widths) <= _WIDEST:
        return name, sum(widths)
    fits, total = 0, _LETTER
    while total + widths[fits] <= _WIDEST:
        total += widths[fits]
        fits += 1
    return name[:fits] + "…", total


def _placed(names: Sequence[str]) -> list[Node]:
    """One speaker in the middle, two side by side, more on a circle from its top on."""
    count = len(names)
    radius = 0.0 if count == 1 else 130.0 if count == 2 else 55.0 + 32.0 * count
    start = -math.pi if count == 2 else -math.pi / 2
    nodes = []
    for place, name in enumerate(names):
        angle = start + 2 * math.pi * place / count
        short, wide = _cut(name)
        half = max(26.0, 14.0 + wide / 2)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        nodes.append(Node(round(x, 1), round(y, 1), half, short, name))
    return nodes


def _bow(source: Node, goal: Node, number: int) -> tuple[str, str, Point]:
    """A curve that bends to its own left, so that the way back lies on the other side."""
    dx, dy = goal.x - source.x, goal.y - source.y
    length = math.hypot(dx, dy)
    bend = _FIRST_BEND + _NEXT_BEND * number
    control = (
        (source.x + goal.x) / 2 + bend * dy / length,
        (source.y + goal.y) / 2 - bend * dx / length,
    )
    start, end = _edge(source, control), _edge(goal, control)
    middle = tuple(
        round(0.25 * a + 0.5 * b + 0.25 * c, 1) for a, b, c in zip(start, control, end, strict=True)
    )
    path = f"M{_at(start)}Q{_at(control)} {_at(_short(end, control))}"
    return path, _arrow(end, control), (middle[0], middle[1])


def _loop(node: Node, number: int, count: int) -> tuple[str, str, Point]:
    """A loop on the side that looks away from the others."""
    angle = math.atan2(node.y, node.x) if count > 2 else -math.pi / 2
    far = _FIRST_LOOP + _NEXT_LOOP * number
    spread = 0.55 if count > 2 else 0.5
    one, two = (
        (node.x + far * math.cos(angle + side), node.y + far * math.sin(angle + side))
        for side in (-spread, spread)
    )
    start, end = _edge(node, one), _edge(node, two)
    path = f"M{_at(start)}C{_at(one)} {_at(two)} {_at(_short(end, two))}"
    middle = tuple(
        round(0.125 * a + 0.375 * b + 0.375 * c + 0.125 * d, 1)
        for a, b, c, d in zip(start, one, two, end, strict=True)
    )
    return path, _arrow(end, two), (middle[0], middle[1])


def _edge(node: Node, towards: Point) -> Point:
    """Where a line from the node's centre leaves its pill."""
    dx, dy = towards[0] - node.x, towards[1] - node.y
    scale = max(abs(dx) / (node.half + 3), abs(dy) / (_HALF_HEIGHT + 3))
    return node.x + dx / scale, node.y + dy / scale


def _short(end: Point, control: Point) -> Point:
    """The line's end, drawn back to the middle of the arrow head."""
    length = math.hypot(end[0] - control[0], end[1] - control[1])
    part = 0.7 * _HEAD / length
    return end[0] + part * (control[0] - end[0]), end[1] + part * (control[1] - end[1])


def _arrow(end: Point, control: Point) -> str:
    angle = math.atan2(end[1] - control[1], end[0] - control[0])
    sides = [
        (end[0] - _HEAD * math.cos(angle + turn), end[1] - _HEAD * math.sin(angle + turn))
        for turn in (0.45, -0.45)
    ]
    return f"M{_at(end)}L{_at(sides[0])}L{_at(sides[1])}Z"


def _at(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"


def _box(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[float, float, float, float]:
    """Around pills and labels; a curve's middle, where its label lies, is its farthest point."""
    xs = [x for node in nodes for x in (node.x - node.half, node.x + node.half)]
    ys = [y for node in nodes for y in (node.y - _HALF_HEIGHT, node.y + _HALF_HEIGHT)]
    for edge in edges:
        wide = _LETTER * len(edge.label) / 2 + 4
        xs += [edge.x - wide, edge.x + wide]
        ys += [edge.y - 12, edge.y + 12]
    left, top = min(xs) - _MARGIN, min(ys) - _MARGIN
    width, height = max(xs) + _MARGIN - left, max(ys) + _MARGIN - top
    return round(left, 1), round(top, 1), round(width, 1), round(height, 1)
