"""A film's result for people: tables on the terminal, one self-contained page in the browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emoverse.counts import number_of
from emoverse.files import write_text
from emoverse.inference.cause_graph import Graph, cause_graph
from emoverse.inference.folder import clip_names, clip_rows
from emoverse.inference.journal import Journal
from emoverse.inference.plots import clock, ticks
from emoverse.inference.report import FOOTNOTE, environment
from emoverse.inference.timeline import pictures
from emoverse.tasks.labels import EMOTIONS

# Lines of the timeline that are shown at once; the rest can be opened.
_LINES = 12
# Arrows of the cause graph: more cannot be told apart.
_ARROWS = 16
_ROWS = 12


def print_film(console: Console, result: Mapping[str, Any]) -> None:
    """Print who showed what; text from the film or the model is never read as markup."""
    console.print(Text(_name(result), style="bold"), Text(facts(result), style="dim"))
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("Who", overflow="fold")
    table.add_column("Parts", justify="right")
    table.add_column("Emotions", overflow="fold")
    table.add_column("Caused", justify="right")
    who = {one["number"]: one["who"] or "Someone" for one in result["utterances"]}
    caused = Counter(who[cause] for _, _, cause in result["pairs"])
    names = sorted(result["timeline"], key=lambda name: -len(result["timeline"][name]))
    for name in names[:_ROWS]:
        told = ", ".join(f"{word} {n}" for word, n in result["emotions"][name].items())
        table.add_row(Text(name), str(len(result["timeline"][name])), Text(told), str(caused[name]))
    console.print(table)
    if len(names) > _ROWS:
        console.print(Text(f"and {len(names) - _ROWS} more", style="dim"))
    for warning in result["warnings"]:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text("Estimates of expression, not of what a person feels.", style="dim"))


def print_folder(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each clip: what it shows, or why it could not be read.

    Args:
        console: where to.
        rows: `folder.folder_result`'s.
    """
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for name in ("Clip", "Sentiment", "Emotion", "Expression"):
        table.add_column(name, overflow="fold")
    for row in rows:
        if error := row.get("error"):
            table.add_row(Text(row["clip"]), "", "", Text(str(error), style="red"))
            continue
        shown = _shown(row["analysis"]["answers"])
        emotion = " ".join(filter(None, (shown["emotion"], shown["share"])))
        cells = (shown["sentiment"] or "", emotion, shown["expression"] or "")
        table.add_row(Text(row["clip"]), *(Text(cell) for cell in cells))
    console.print(table)
    console.print(Text("Estimates of expression, not of what a person feels.", style="dim"))


def write_page(result: Mapping[str, Any], book: Journal, path: Path | str) -> Path:
    """Write one self-contained page (no external resources, no JavaScript) about a film.

    Args:
        result: `timeline.film_result`'s.
        book: the journal it is from, for its pictures.
        path: the page to write; parent folders are made.
    """
    names = sorted(result["timeline"], key=lambda name: -_seconds(result["timeline"][name]))
    lines = [_line(name, result) for name in names]
    template = environment().get_template("film.html.j2")
    page = template.render(
        name=_name(result),
        facts=facts(result),
        warnings=_warnings(result),
        emotions=EMOTIONS,
        lines=lines[:_LINES],
        more=lines[_LINES:],
        ticks=_ticks(float(result["film"]["duration"])),
        people=_people(result, book),
        graph=_graph(result),
        rows=_rows(result, book),
        footnote=FOOTNOTE,
    )
    return write_text(path, page)


def write_folder_page(root: Path, book: Journal, path: Path | str) -> Path:
    """Write one self-contained page about the clips that are in a folder now.

    Args:
        root: the folder.
        book: its journal.
        path: the page to write; parent folders are made.
    """
    counting = clip_rows(book, clip_names(root))
    rows = sorted((_clip_row(row) for row in counting), key=lambda row: str(row["who"]))
    page = (
        environment()
        .get_template("folder.html.j2")
        .render(
            name=root.resolve().name,
            facts=number_of(len(rows), "clip"),
            rows=[row | {"number": number} for number, row in enumerate(rows, 1)],
            footnote=FOOTNOTE,
        )
    )
    return write_text(path, page)


def facts(result: Mapping[str, Any]) -> str:
    """A film's length and size, and how much was found in it, in one line."""
    film, people = result["film"], len(result["people"])
    return " · ".join(
        [
            clock(round(film["duration"], 1)),
            f"{film['width']} x {film['height']}",
            number_of(len(result["utterances"]), "utterance"),
            number_of(people, "face"),
            number_of(len(result["pairs"]), "cause"),
            f"model {result['model']}",
        ]
    )


def _name(result: Mapping[str, Any]) -> str:
    return Path(result["film"]["path"]).name


def _warnings(result: Mapping[str, Any]) -> list[str]:
    told = list(result["warnings"])
    if result["unfinished"]:
        told.append(f"{result['unfinished']} parts are not read yet; run the same command again.")
    return told


def _seconds(line: list[dict[str, Any]]) -> float:
    return float(sum(one["end"] - one["start"] for one in line))


def _line(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    duration = max(float(result["film"]["duration"]), 1e-6)
    bars = [
        {
            "number": one["number"],
            "left": round(100 * one["start"] / duration, 3),
            "width": round(100 * (one["end"] - one["start"]) / duration, 3),
            "emotion": one["emotion"] or "",
            "told": f"{clock(round(one['start'], 1))}: {one['emotion'] or 'no emotion told'}",
        }
        for one in result["timeline"][name]
    ]
    words = ", ".join(f"{word} {n}" for word, n in result["emotions"][name].items())
    return {"name": name, "bars": bars, "words": words}


def _ticks(duration: float) -> list[tuple[str, float]]:
    if duration <= 0:
        return []
    values = [value for value in ticks(0.0, duration, 6) if value <= duration]
    return [(clock(value), round(100 * value / duration, 2)) for value in values]


def _people(result: Mapping[str, Any], book: Journal) -> list[dict[str, Any]]:
    """Whoever was seen, longest first, each with a portrait."""
    portraits: dict[int, str] = {}
    for _, _, faces in pictures(book):
        for person, face in faces.items():
            portraits.setdefault(person, face)
    return [
        one | {"portrait": portraits.get(one["person"]), "shown": clock(round(one["seconds"], 1))}
        for one in sorted(result["people"], key=lambda one: -one["seconds"])
    ]


def _graph(result: Mapping[str, Any]) -> Graph | None:
    """The most frequent arrows, so that a long film's graph can still be read."""
    who = {one["number"]: one["who"] or "Someone" for one in result["utterances"]}
    pairs = [(int(e), str(emotion), int(c)) for e, emotion, c in result["pairs"]]
    kinds = Counter((who[c], who[e], emotion) for e, emotion, c in pairs)
    kept = {kind for kind, _ in kinds.most_common(_ARROWS)}
    shown = [pair for pair in pairs if (who[pair[2]], who[pair[0]], pair[1]) in kept]
    speakers = {who[number] for pair in shown for number in (pair[0], pair[2])}
    turns = [{"index": number, "speaker": name} for number, name in who.items() if name in speakers]
    return cause_graph(turns, shown)


def _rows(result: Mapping[str, Any], book: Journal) -> Iterator[dict[str, Any]]:
    """Parts as the table shows them, each with its picture; streamed from the journal."""
    found = {one["number"]: one for one in (*result["utterances"], *result["moments"])}
    for number, picture, _ in pictures(book):
        one = found[number]
        yield _shown(one["answers"]) | {
            "number": number,
            "time": clock(round(one["start"], 1)),
            "picture": picture,
            "who": one["who"] or ("Someone" if one["text"] else "Nobody in sight"),
            "text": one["text"],
            "causes": one.get("causes", []),
            "error": None,
        }


def _clip_row(row: Mapping[str, Any]) -> dict[str, Any]:
    analysis = row.get("analysis") or {}
    return _shown(analysis.get("answers", {})) | {
        "time": clock(round(analysis["duration"], 1)) if analysis.get("duration") else "",
        "picture": row.get("picture"),
        "who": row["clip"],
        "text": analysis.get("text"),
        "causes": [],
        "error": row.get("error"),
    }


def _shown(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Answers as the table shows them."""
    emotion = (answers.get("er") or {}).get("label")
    share = (answers.get("er") or {}).get("probabilities", {}).get(emotion)
    return {
        "emotion": emotion,
        "share": None if share is None else f"{share:.0%}",
        "sentiment": (answers.get("msa") or {}).get("label"),
        "expression": (answers.get("fer") or {}).get("text"),
        "reason": (answers.get("eri") or {}).get("text"),
    }
