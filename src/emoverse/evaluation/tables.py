"""A table with our rows beside the paper's: its values, and what they let one say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emoverse.evaluation.paper_tables import Column, PaperTable


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of a table, with its 95 % interval and the items behind it where they are known."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table.

    Attributes:
        name: a model, a variant or a floor.
        kind: `paper`, `ours` or `floor`.
        cells: by column; None where a figure is not at hand.
    """

    name: str
    kind: str
    cells: Mapping[Column, Cell | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """The reference minus another variant in points, with the interval of a paired bootstrap.

    Attributes:
        own: whether the variant was trained for the column's task.
    """

    variant: str
    column: Column
    value: float
    low: float
    high: float
    p: float
    n: int
    own: bool

    @property
    def verdict(self) -> str:
        """What the interval lets one say of the reference."""
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "no difference shown"


@dataclass(frozen=True, slots=True)
class Result:
    """A table with our rows.

    Attributes:
        paper: what the paper has.
        protocol: how ECPE is scored.
        lines: the paper's rows, ours, and the floors.
        differences: ablations only.
        origins: one entry a run of ours: name, task, data, hashes, split, n.
        notes: what must be said beside the figures.
    """

    paper: PaperTable
    protocol: str
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    origins: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


def claims(result: Result) -> list[str]:
    """What an ablation lets one say about the paper's claim, in plain sentences.

    Only rows that were trained for a figure's task count as rivals on it.
    """
    own = [one for one in result.differences if one.own]
    if not own:
        return []
    ahead = sum(one.verdict == "ahead" for one in own)
    behind = sum(one.verdict == "behind" for one in own)
    return [
        f"The claim: {result.paper.question}.",
        f"On these runs {result.paper.reference} is ahead in {ahead} of {len(own)} comparisons and "
        f"behind in {behind}; in the other {len(own) - ahead - behind} the 95% interval of the "
        "difference holds 0. One training a row: the spread between seeds is not in it.",
    ]
