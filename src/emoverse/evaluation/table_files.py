"""A reproduced table as files: Markdown, LaTeX, CSV, JSON and a figure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emoverse.evaluation.figures import Dot, Panel, table_figure
from emoverse.evaluation.paper_tables import Column
from emoverse.evaluation.report import NAMES
from emoverse.evaluation.tables import Cell, Line, Result, claims
from emoverse.files import write_json, write_text

MISSING = "not at hand"
_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
        "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip


def write_table(folder: Path, name: str, result: Result) -> list[Path]:
    """Write `name.md`, `.tex`, `.csv`, `.json` and `.svg` to a folder; returns their paths."""
    return [
        write_text(folder / f"{name}.md", markdown(result, f"{name}.svg")),
        write_text(folder / f"{name}.tex", latex(result)),
        write_text(folder / f"{name}.csv", comma_separated(result)),
        write_json(folder / f"{name}.json", plain(result)),
        write_text(folder / f"{name}.svg", figure(result)),
    ]


def headings(result: Result) -> list[str]:
    """The columns' names; the task in front where the table has several."""
    several = len({task for task, _ in result.paper.columns}) > 1
    return [
        f"{task.upper()} {NAMES[figure]}" if several else NAMES[figure]
        for task, figure in result.paper.columns
    ]


def rows(result: Result, show: Callable[[Cell], str]) -> list[tuple[Line, list[str]]]:
    """Every line with its cells as text: "not at hand" in the paper's rows, "-" in ours."""
    shown = []
    for line in result.lines:
        gap = MISSING if line.kind == "paper" else "-"
        cells = [line.cells.get(column) for column in result.paper.columns]
        shown.append((line, [gap if cell is None else show(cell) for cell in cells]))
    return shown


def label(line: Line) -> str:
    """A row's name with its kind."""
    return {"paper": f"{line.name} (paper)", "floor": f"floor: {line.name}"}.get(
        line.kind, line.name
    )


def with_interval(cell: Cell) -> str:
    """A figure as `56.81 [53.9, 59.5]`."""
    if cell.low is None or cell.high is None:
        return f"{cell.value:.2f}"
    return f"{cell.value:.2f} [{cell.low:.1f}, {cell.high:.1f}]"


def markdown(result: Result, picture: str) -> str:
    """The table, what it lets one say, and where every figure is from."""
    parts = [f"# Table {result.paper.number}: {result.paper.title}", ""]
    body = [
        [_styled(line.kind, _pipes(label(line))), *cells]
        for line, cells in rows(result, with_interval)
    ]
    parts += _grid(["", *headings(result)], body)
    parts += ["", f"![{result.paper.title}]({picture})", ""]
    if result.differences:
        parts += [f"## {result.paper.reference} minus the others, in points", ""]
        parts += _grid(["variant", "figure", "difference", "95% interval", "p", "n", ""], [
            [
                _pipes(one.variant), _heading(result, one.column), f"{one.value:+.2f}",
                f"[{one.low:+.2f}, {one.high:+.2f}]", f"{one.p:.4f}", str(one.n),
                one.verdict if one.own else f"{one.verdict} (not trained for it)",
            ]
            for one in result.differences
        ])  # fmt: skip
        parts += ["", *claims(result), ""]
    parts += [f"- {note}" for note in result.notes]
    parts += [
        "- 95% bootstrap intervals stand in brackets, over conversations where they are known; "
        "rows that begin with `floor` need no model.",
        "",
        "## Where our rows are from",
        "",
    ]
    told = (
        *("row", "trained on", "task", "n", "unparseable", "split"),
        *("data", "data sha256", "model sha256"),
    )
    parts += _grid(told, [
        [
            _pipes(one["row"]), _trained_on(one["training"]), one["task"], str(one["n"]),
            str(one["unparseable"]), one["split"],
            Path(one["data"]).name, one["data_sha256"][:12], (one["model_sha256"] or "none")[:12],
        ]
        for one in result.origins
    ])  # fmt: skip
    return "\n".join(parts) + "\n"


def latex(result: Result) -> str:
    """A `tabular` for booktabs, with its caption and notes."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_tex(result.paper.title)}. {_tex(' '.join(result.notes))}}}",
        f"  \\begin{{tabular}}{{l{'r' * len(result.paper.columns)}}}",
        "    \\toprule",
        f"    & {' & '.join(map(_tex, headings(result)))} \\\\",
    ]
    kind = ""
    for line, cells in rows(result, _small):
        if line.kind != kind:
            lines.append("    \\midrule")
        kind = line.kind
        told = [cell if cell.startswith("$") else _tex(cell) for cell in cells]
        lines.append(f"    {_tex(label(line))} & {' & '.join(told)} \\\\")
    return "\n".join([*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}"]) + "\n"


def comma_separated(result: Result) -> str:
    """One line a figure: row, kind, task, figure, value, low, high, n, protocol, hashes."""
    sink = io.StringIO()
    table = csv.writer(sink, lineterminator="\n")
    table.writerow(
        ("row", "kind", "task", "figure", "value", "low", "high", "n", "protocol",
         "data_sha256", "model_sha256", "training_share")
    )  # fmt: skip
    hashes = {(one["row"], one["task"]): one for one in result.origins}
    for line in result.lines:
        for task, name in result.paper.columns:
            cell = line.cells.get((task, name))
            known = hashes.get((line.name, task), {}) if line.kind == "ours" else {}
            table.writerow(
                (line.name, line.kind, task, name)
                + ((cell.value, cell.low, cell.high, cell.n) if cell else (None,) * 4)
                + (result.protocol if line.kind != "paper" else None,)
                + (known.get("data_sha256"), known.get("model_sha256"))
                + ((known.get("training") or {}).get("share"),)
            )
    return sink.getvalue()


def plain(result: Result) -> dict[str, Any]:
    """The table as JSON values."""
    return {
        "table": result.paper.number,
        "title": result.paper.title,
        "paper_split": result.paper.split,
        "protocol": result.protocol,
        "rows": [
            {
                "name": line.name,
                "kind": line.kind,
                "figures": _by_task(line.cells),
            }
            for line in result.lines
        ],
        "differences": [
            asdict(one) | {"column": list(one.column), "verdict": one.verdict}
            for one in result.differences
        ],
        "claims": claims(result),
        "origins": list(result.origins),
        "notes": list(result.notes),
    }


def _trained_on(training: Mapping[str, Any] | None) -> str:
    if training is None:
        return "unknown"
    share = training["share"]
    return f"{100 * share:.3g} % of samples" if share else "nothing"


def figure(result: Result) -> str:
    """A panel a column with a dot a row, as SVG; rows without any figure are left out."""
    lines = [line for line in result.lines if any(line.cells.values())]
    panels = []
    for column, title in zip(result.paper.columns, headings(result), strict=True):
        cells = [(place, line.cells.get(column)) for place, line in enumerate(lines)]
        dots = [Dot(at, cell.value, cell.low, cell.high) for at, cell in cells if cell]
        panels.append(Panel(title, tuple(dots)))
    paper = f"Paper: {result.paper.split}. " if "paper" in {line.kind for line in lines} else ""
    splits = ", ".join(sorted({one["split"] for one in result.origins}))
    return table_figure(
        f"Table {result.paper.number}: {result.paper.title}",
        [(line.name, line.kind) for line in lines],
        panels,
        f"{paper}Ours: {splits}, protocol {result.protocol}.",
    )


def _by_task(cells: Mapping[Column, Cell | None]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (task, name), cell in cells.items():
        found.setdefault(task, {})[name] = asdict(cell) if cell else None
    return found


def _heading(result: Result, column: Column) -> str:
    return dict(zip(result.paper.columns, headings(result), strict=True))[column]


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    align = ["---" if place == 0 else "---:" for place in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, align, *body)]


def _styled(kind: str, text: str) -> str:
    return {"ours": f"**{text}**", "floor": f"*{text}*"}.get(kind, text)


def _pipes(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _small(cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return f"{cell.value:.2f}"
    return f"${cell.value:.2f}_{{[{cell.low:.1f},\\,{cell.high:.1f}]}}$"


def _tex(text: str) -> str:
    return re.sub(r"[&%$#_{}~^\\<>]", lambda found: _TEX[found[0]], text)
