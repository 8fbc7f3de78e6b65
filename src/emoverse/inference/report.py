"""An analysis for people: rich tables on the terminal, one self-contained page in the browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from emoverse.counts import number_of
from emoverse.errors import EmoVerseError
from emoverse.files import write_text
from emoverse.inference.analysis import Analysis, Answer, Peak
from emoverse.inference.cause_graph import cause_graph
from emoverse.inference.plots import activity_plot, clock, sparkline
from emoverse.tasks.action_units import BY_CODE
from emoverse.tasks.labels import EMOTIONS, SENTIMENTS

TITLES = {
    "msa": "Sentiment",
    "er": "Emotion",
    "fer": "Expression",
    "eri": "Reason",
    "ecpe": "Causes",
}
_CARD = 100  # characters of a card off a terminal
FOOTNOTE = (
    "These are estimates of expression, not of what a person feels: a face, a voice or a sentence "
    "can show one thing and mean another. The action-unit values are proxies computed from face "
    "landmarks, not certified FACS codes. Do not use this page to judge, hire, grade, diagnose or "
    "watch anyone, and ask the people you film."
)
TEMPLATES = Path(__file__).parent / "templates"


def environment(*folders: Path) -> Environment:
    """Jinja environment of the report pages: everything autoescaped, a missing name is an error."""
    loader = FileSystemLoader([*map(str, folders), str(TEMPLATES)])
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["tone"] = tone
    return made


def write_html(analyses: Sequence[Analysis], path: Path | str) -> Path:
    """Write one self-contained page (no external resources, no JavaScript) about `analyses`.

    Args:
        analyses: one or more clips or conversations, in the order they are shown.
        path: the page to write; parent folders are made.

    Returns:
        The page's path.

    Raises:
        EmoVerseError: there is nothing to show.
    """
    return write_text(path, html(analyses))


def html(analyses: Sequence[Analysis]) -> str:
    """The page that `write_html` writes.

    Raises:
        EmoVerseError: there is nothing to show.
    """
    if not analyses:
        raise EmoVerseError("There is no analysis to write a page about; name a clip.")
    template = environment().get_template("analysis.html.j2")
    views = [view(analysis, f"a{number}") for number, analysis in enumerate(analyses, 1)]
    return template.render(views=views, footnote=FOOTNOTE)


def print_analysis(console: Console, analysis: Analysis) -> None:
    """Print an analysis as tables; text from the user or the model is never read as markup."""
    parts: list[Any] = [Text(_facts(analysis), style="dim")]
    if analysis.text:
        parts.append(Text(f"“{analysis.text}”", style="italic"))
    if analysis.answers.keys() - {"ecpe"}:  # causes are told with their turns
        parts.append(_answer_table(analysis))
    if analysis.peak:
        parts.append(_peak_table(analysis.peak))
    if analysis.turns:
        parts.append(_turn_table(analysis))
    parts += [Text(f"! {warning}", style="yellow") for warning in analysis.warnings]
    parts.append(Text("Estimates of expression, not of what a person feels.", style="dim"))
    title = Text(_name(analysis), style="bold")
    frame = Panel(
        Group(*parts),
        title=title,
        title_align="left",
        border_style="cyan",
        expand=console.is_terminal,
    )
    # Sentences are easier to read in short lines, also where a table may be as wide as it needs.
    console.print(frame, width=None if console.is_terminal else min(_CARD, console.width))


# --- terminal ---------------------------------------------------------------------------------


def _answer_table(analysis: Analysis) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for column in ("Task", "Answer", "Probabilities"):
        table.add_column(column, overflow="fold")
    for task, answer in _ordered(analysis.answers):
        if task == "ecpe":
            continue
        shares = ", ".join(f"{label} {share:.0%}" for label, share in _sorted(answer)[:3])
        table.add_row(Text(TITLES.get(task, task)), Text(_shown(answer)), Text(shares))
    return table


def _peak_table(peak: Peak) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column(f"AUs at the peak ({clock(round(peak.timestamp, 2))})")
    table.add_column("Intensity 0-5")
    for code, value in sorted(peak.intensities.items(), key=lambda item: -item[1])[:6]:
        if value < 0.05:
            break
        bar = "━" * max(1, round(4 * value))
        name = Text(f"{code} {au_name(code)}".strip())
        table.add_row(name, Text(f"{bar} {value:.1f}", style="cyan"))
    return table


def _turn_table(analysis: Analysis) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for column in ("#", "Speaker", "Emotion", "Said", "Caused by"):
        table.add_column(column, overflow="fold")
    for turn in analysis.turns:
        index = int(turn["index"])
        causes = ", ".join(str(cause) for cause in _causes(analysis, index))
        cells = (str(index), turn.get("speaker"), turn.get("emotion"), turn.get("text"), causes)
        table.add_row(*(Text(str(cell or "")) for cell in cells))
    return table


# --- page -------------------------------------------------------------------------------------


def view(analysis: Analysis, name: str) -> dict[str, Any]:
    """What the pieces of a page (`templates/pieces.html.j2`) show of an analysis.

    Args:
        analysis: a clip or a conversation, finished or not.
        name: what the ids within the page begin with.
    """
    answers = {task: _answer_view(answer) for task, answer in _ordered(analysis.answers)}
    steps = {step: value for step, value in analysis.seconds.items() if step != "total"}
    return {
        "id": name,
        "name": _name(analysis),
        "facts": _facts(analysis),
        "analysis": analysis,
        "closed": [answers[task] for task in ("msa", "er") if task in answers],
        "fer": answers.get("fer"),
        "eri": answers.get("eri"),
        "picture": _picture(analysis.peak) if analysis.peak else None,
        "peak_time": clock(round(analysis.peak.timestamp, 2)) if analysis.peak else "",
        "plot": activity_plot(analysis),
        "bars": _bars(analysis),
        "conversation": _conversation(analysis),
        "graph": cause_graph(analysis.turns, analysis.pairs),
        "timings": [(step.replace("_", " "), value) for step, value in steps.items()],
        "seconds": analysis.seconds.get("total", sum(steps.values())),
    }


def _answer_view(answer: Answer) -> dict[str, Any]:
    phrases = [part.strip() for part in answer.text.split(";") if part.strip()]
    return {
        "task": answer.task,
        "title": TITLES.get(answer.task, answer.task),
        "shown": _shown(answer),
        "brief": answer.label.capitalize() if tone(answer.label) else "unclear",
        "text": answer.text,
        "tone": tone(answer.label),
        "readable": answer.label is not None or answer.task == "eri",
        "phrases": phrases,
        "codes": [(str(code), au_name(str(code))) for code in answer.label or ()]
        if answer.task == "fer" and isinstance(answer.label, list | tuple)
        else [],
        "bars": [(label, 100 * share) for label, share in _sorted(answer)],
    }


def _picture(peak: Peak) -> dict[str, Any] | None:
    if not peak.jpeg:
        return None
    from PIL import Image  # heavy, and needed only here

    with Image.open(io.BytesIO(peak.jpeg)) as image:
        width, height = image.size
    x0, y0, x1, y1 = peak.box
    x0, x1 = max(0.0, min(x0, x1)), min(float(width), max(x0, x1))
    y0, y1 = max(0.0, min(y0, y1)), min(float(height), max(y0, y1))
    return {
        "uri": "data:image/jpeg;base64," + base64.b64encode(peak.jpeg).decode("ascii"),
        "width": width,
        "height": height,
        "box": (round(x0, 1), round(y0, 1), round(max(0, x1 - x0), 1), round(max(0, y1 - y0), 1)),
    }


def _bars(analysis: Analysis) -> list[dict[str, Any]]:
    """AU rows at the peak, strongest first, each with its course over the clip."""
    peak = analysis.peak
    if peak is None:
        return []
    curve = next((curve for curve in analysis.curves if curve.person == peak.person), None)
    return [
        {
            "code": code,
            "name": au_name(code),
            "value": value,
            "share": min(100.0, max(0.0, 20.0 * value)),
            "spark": sparkline(curve, code) if curve else "",
        }
        for code, value in sorted(peak.intensities.items(), key=lambda item: (-item[1], item[0]))
    ]


def _conversation(analysis: Analysis) -> dict[str, Any] | None:
    """Turns on a grid of two rows a turn (head, words), and a lane for every cause arrow.

    An arrow spans the head rows from the cause to the emotion, so it fits texts of any length
    without measuring them.
    """
    if not analysis.turns:
        return None
    places = {int(turn["index"]): place for place, turn in enumerate(analysis.turns)}
    known = [pair for pair in analysis.pairs if pair[0] in places and pair[2] in places]
    arrows: list[dict[str, Any]] = []
    ends: list[int] = []  # per lane, the last place taken
    for target, emotion, cause in sorted(
        known, key=lambda pair: (min(places[pair[0]], places[pair[2]]), pair)
    ):
        first, last = sorted((places[target], places[cause]))
        if first == last:
            continue
        lane = next((lane for lane, end in enumerate(ends) if end < first), len(ends))
        if lane == len(ends):
            ends.append(last)
        ends[lane] = last
        arrows.append(
            {
                "lane": lane,
                "from_row": 2 * first + 1,
                "to_row": 2 * last + 2,
                "emotion": emotion,
                "up": places[target] < places[cause],
                "label": f"utterance {cause} causes {emotion} in utterance {target}",
            }
        )
    lanes = max(1, len(ends))
    for arrow in arrows:  # the innermost lane is the one next to the text
        arrow["column"] = lanes - arrow["lane"]
    turns = [
        {
            "index": int(turn["index"]),
            "row": 2 * place + 1,
            "speaker": str(turn.get("speaker") or ""),
            "text": str(turn.get("text") or ""),
            "emotion": str(turn.get("emotion") or ""),
            "causes": _causes(analysis, int(turn["index"])),
        }
        for place, turn in enumerate(analysis.turns)
    ]
    return {"turns": turns, "arrows": arrows, "lanes": lanes if arrows else 0}


# --- shared -----------------------------------------------------------------------------------


def au_name(code: str) -> str:
    """The FACS name of an AU code such as `AU12`, "" for a code without one."""
    return BY_CODE[code].name if code in BY_CODE else ""


def tone(label: Any) -> str:
    """The CSS class that colours a label, "" for anything that is not an emotion or sentiment."""
    word = label.lower() if isinstance(label, str) else ""
    return word if word in (*EMOTIONS, *SENTIMENTS) else ""


def _name(analysis: Analysis) -> str:
    return Path(analysis.clip).name if analysis.clip else "Conversation"


def _facts(analysis: Analysis) -> str:
    facts = []
    if analysis.duration:
        facts.append(clock(round(analysis.duration, 1)))
    if analysis.width and analysis.height:
        facts.append(f"{analysis.width} x {analysis.height}")
    if analysis.fps:
        facts.append(f"{analysis.fps:.4g} fps")
    if analysis.clip:
        facts.append(f"{analysis.people} {'person' if analysis.people == 1 else 'people'}")
    if analysis.turns:
        facts.append(number_of(len(analysis.turns), "utterance"))
    return " · ".join([*facts, f"model {analysis.model}"])


def _ordered(answers: Mapping[str, Answer]) -> list[tuple[str, Answer]]:
    known = [task for task in TITLES if task in answers]
    return [(task, answers[task]) for task in known + [t for t in answers if t not in known]]


def _sorted(answer: Answer) -> list[tuple[str, float]]:
    return sorted(answer.probabilities.items(), key=lambda item: -item[1])


def _shown(answer: Answer) -> str:
    if answer.task in ("msa", "er") and isinstance(answer.label, str):
        return answer.label.capitalize()
    return answer.text


def _causes(analysis: Analysis, index: int) -> list[int]:
    return sorted({cause for target, _, cause in analysis.pairs if target == index})
