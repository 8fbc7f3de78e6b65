"""The page's HTML: pieces of the report, and what goes around them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoverse.inference.analysis import Analysis
from emoverse.inference.report import FOOTNOTE, environment, html, view
from emoverse.serving.page_reading import Step

TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = environment(TEMPLATES)


def style() -> str:
    """The page's style sheet."""
    return _ENVIRONMENT.get_template("page.css").render()


def text(template: str, /, **values: Any) -> str:
    """A template of the page, e.g. `clip.html`."""
    return _ENVIRONMENT.get_template(template).render(**values)


def source(name: str) -> str:
    """A script of the page as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def header(api: str) -> str:
    """Title and what this is; `api` is the address of the API's description."""
    return text("header.html", api=api)


def footer() -> str:
    """What must not be done with it."""
    return text("footer.html", footnote=FOOTNOTE)


def status(doing: str, *, busy: bool = False, failed: bool = False) -> str:
    """One line on how far it is; read out when it changes."""
    return text("status.html", doing=doing, busy=busy, failed=failed)


def about(name: str) -> str:
    """Which clip the answers below are of."""
    return text("about.html", name=name)


def of_clip(key: str, shown: str, *, instead: str = "") -> str:
    """A piece that the page shows while its player holds the clip `key`; `instead` afterwards."""
    return text("of_clip.html", key=key, shown=shown, instead=instead) if shown else ""


def answers(analysis: Analysis, title: str | None) -> str:
    """Sentiment, emotion and expression, with the model's name as `title` in a comparison."""
    return text("answers.html", view=view(analysis, "a"), title=title)


def reason(step: Step, model: str) -> str:
    """A model's reason as far as it is written; "" before it is asked for."""
    answer = step.analyses[model].answers.get("eri")
    if answer is not None:
        return text("reason.html", written=answer.text, busy=False)
    return text("reason.html", written=step.reasons.get(model, ""), busy=model in step.reasons)


def faces(analysis: Analysis) -> str:
    """The peak frame, the activity over time and the action units."""
    return text("faces.html", view=view(analysis, "f"))


def warnings(analysis: Analysis) -> str:
    """Warnings in plain sentences."""
    return text("warnings.html", warnings=analysis.warnings)


def conversation(analysis: Analysis, title: str | None) -> str:
    """The cause graph and the conversation with its arrows."""
    # Two models' conversations must not share the ids that their links lead to.
    return text("conversation.html", view=view(analysis, f"talk-{title or ''}"), title=title)


def mark(analysis: Analysis, key: str) -> dict[str, Any] | None:
    """What the player needs to mark the peak: seconds, box, and the size that it is given in.

    It is drawn only while the player holds the clip `key`.
    """
    shown = view(analysis, "m")
    picture = shown["picture"]
    if analysis.peak is None or picture is None:
        return None
    return {
        "clip": key,
        "seconds": analysis.peak.timestamp,
        "label": shown["peak_time"],
        "box": picture["box"],
        "width": picture["width"],
        "height": picture["height"],
        "duration": analysis.duration,
    }


def downloads(analyses: Mapping[str, Analysis]) -> str:
    """Links that hold their files themselves: nothing of it stays on the server."""
    found = list(analyses.values())
    values = [analysis.to_json() for analysis in found]
    value = values[0] if len(values) == 1 else values
    name = Path(found[0].clip).stem if found[0].clip else "conversation"
    return text(
        "downloads.html",
        name=name,
        json=_data("application/json", json.dumps(value, ensure_ascii=False, indent=2)),
        html=_data("text/html", html(found)),
    )


def _data(kind: str, value: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(value.encode()).decode()}"
