"""The paper's tables: which rows and columns they have, and the figures that are at hand.

Source of every figure: A. Li et al., "M2SE: A Multistage Multitask Instruction Tuning Strategy for
Unified Sentiment and Emotion Analysis", arXiv 2412.08049. Tables VI to VIII are known to us by
what they compare, not by their figures: these cells are None and are printed as "not at hand".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from emoverse.errors import EmoVerseError

SOURCE = "arXiv 2412.08049"
FULL = "m2se.yaml"  # the recipe of all stages and tasks, which the ablations change
# (task, the scorer's figure) of a column.
Column = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of the paper.

    Attributes:
        name: the model or the variant.
        figures: column to percent, None where the figure is not at hand.
        recipe: ablations: the recipe file that trains our counterpart; "" trains nothing.
    """

    name: str
    figures: Mapping[Column, float | None]
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        number: as printed there.
        title: what it compares.
        split: the data the paper's figures are of.
        columns: in order.
        rows: in order.
        reference: ablations: the row that the others are compared with.
        question: ablations: the claim, as a sentence about the reference.
        note: what must be said beside it.
    """

    number: str
    title: str
    split: str
    columns: tuple[Column, ...]
    rows: tuple[PaperRow, ...]
    reference: str | None = None
    question: str | None = None
    note: str | None = None


def check_rows(table: PaperTable, names: Collection[str]) -> None:
    """Raise EmoVerseError unless every name is a row of the table."""
    rows = [row.name for row in table.rows]
    if strange := set(names) - set(rows):
        raise EmoVerseError(
            f"{min(strange)!r} is no row of table {table.number}; use {', '.join(rows)}."
        )


MSA = (("msa", "acc2_nn"), ("msa", "acc2_np"))
ER = (("er", "accuracy"), ("er", "weighted_f1"))
ECPE = (("ecpe", "weighted_f1"), ("ecpe", "f1"))
_ALL = (*MSA, *ER, *ECPE)


def _row(
    name: str, columns: tuple[Column, ...], *figures: float, recipe: str | None = None
) -> PaperRow:
    found = figures or (None,) * len(columns)
    return PaperRow(name, dict(zip(columns, found, strict=True)), recipe)


PAPER: Mapping[str, PaperTable] = {
    "table3": PaperTable(
        "III",
        "Sentiment on CMU-MOSEI",
        "CMU-MOSEI test",
        MSA,
        (_row("EmoVerse-4B", MSA, 85.51, 87.80), _row("EmoVerse-8B", MSA, 85.93, 88.51)),
        note="The paper gives Acc2 as a pair; we read it in the customary order, N/N then N/P.",
    ),
    "table4": PaperTable(
        "IV",
        "Emotion on MELD",
        "MELD test",
        ER,
        (_row("EmoVerse-4B", ER, 67.28, 66.58), _row("EmoVerse-8B", ER, 67.78, 66.74)),
    ),
    "table5": PaperTable(
        "V",
        "Emotion-cause pairs on ECF 2.0",
        "ECF 2.0 test",
        ECPE,
        (_row("EmoVerse-4B", ECPE, 72.30, 72.21), _row("EmoVerse-8B", ECPE, 73.54, 73.62)),
        note="The paper's figures follow protocol paper: targets without a cause are left out.",
    ),
    "table6": PaperTable(
        "VI",
        "One task alone against M2SE",
        "test sets",
        _ALL,
        (
            _row("zero-shot", _ALL, recipe=""),
            _row("MSA only", _ALL, recipe="single-msa.yaml"),
            _row("ER only", _ALL, recipe="single-er.yaml"),
            _row("ECPE only", _ALL, recipe="single-ecpe.yaml"),
            _row("M2SE", _ALL, recipe=FULL),
        ),
        reference="M2SE",
        question="M2SE does better than training on the task alone",
    ),
    "table7": PaperTable(
        "VII",
        "The rate of FER in stage 1",
        "test sets",
        _ALL,
        (
            _row("FER low", _ALL, recipe="fer-low.yaml"),
            _row("FER high", _ALL, recipe="fer-high.yaml"),
        ),
        reference="FER high",
        question="a high FER rate in stage 1 does better than a low one",
    ),
    "table8": PaperTable(
        "VIII",
        "The tasks of stage 2",
        "test sets",
        _ALL,
        (
            _row("f", _ALL, recipe=FULL),
            _row("t1", _ALL, recipe="stage2-t1.yaml"),
            _row("t3", _ALL, recipe="stage2-t3.yaml"),
            _row("t4", _ALL, recipe="stage2-t4.yaml"),
        ),
        reference="f",
        question="the full set of tasks in stage 2 does better than fewer",
        note="The paper's task sets are not spelt out to us; what t1, t3 and t4 are here, the "
        "recipes say.",
    ),
}
