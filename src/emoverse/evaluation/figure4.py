"""The paper's Figure 4 for any clip and models: their reasons side by side, on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from emoverse.errors import EmoVerseError
from emoverse.evaluation.browser import thumbnail
from emoverse.evaluation.runs import model_sha256
from emoverse.files import write_json, write_text
from emoverse.inference.analysis import Analysis
from emoverse.inference.plots import clock
from emoverse.inference.report import FOOTNOTE, environment, tone
from emoverse.models.trained import name_of

TASKS = ("eri", "er", "msa")
_TEMPLATES = Path(__file__).parent / "templates"
_SIDE = 720  # pixels of the picture's longer side


class Analyst(Protocol):
    """What is asked of a model here (`emoverse.inference.engine`)."""

    def analyze(self, clip: Path | str, text: str | None = ..., tasks: Sequence[str] = ...) -> Any:
        """Read one clip."""
        ...


def write_figure4(
    clip: Path,
    models: Sequence[str],
    out: Path,
    *,
    text: str | None = None,
    load: Callable[[str], Analyst] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Ask every model for the reason of the emotion in a clip; write the answers side by side.

    Models are loaded one after the other, so one at a time has to fit into memory.

    Args:
        clip: a video or a picture.
        models: two or more of them, names or folders.
        out: the folder of figure4.html and figure4.json.
        text: what is said in the clip.
        load: makes the engine of a model.
        log: told what happens.

    Returns:
        The files written.

    Raises:
        EmoVerseError: fewer than two models, or the clip or a model cannot be read.
    """
    if len(models) < 2:
        raise EmoVerseError("Figure 4 sets models side by side; name two or more by --model.")
    if load is None:
        from emoverse.inference.engine import load_model  # heavy

        load = load_model
    picture = thumbnail(clip, _SIDE)
    answers = []
    for model in models:
        log(f"{model}: answering")
        answers.append((model, load(model).analyze(clip, text, TASKS)))
    views = [_view(model, analysis) for model, analysis in answers]
    page = environment(_TEMPLATES).get_template("figure4.html.j2")
    first = answers[0][1]
    html = page.render(
        clip=clip.name,
        length=clock(round(first.duration, 1)) if first.duration else "",
        text=text,
        picture=picture,
        views=views,
        footnote=FOOTNOTE,
    )
    told = {"clip": str(clip), "text": text, "models": views}
    return [write_text(out / "figure4.html", html), write_json(out / "figure4.json", told)]


def _view(model: str, analysis: Analysis) -> dict[str, Any]:
    answers = analysis.answers
    labels = {
        task: {
            "text": answers[task].text,
            "label": answers[task].label,
            "tone": tone(answers[task].label),
            "share": answers[task].probabilities.get(str(answers[task].label)),
        }
        for task in ("er", "msa")
        if task in answers
    }
    return {
        "model": name_of(model),
        "sha256": model_sha256(model),
        "reason": answers["eri"].text,
        "query": answers["eri"].query,
        "labels": labels,
        "seconds": round(answers["eri"].seconds, 2),
        "warnings": list(analysis.warnings),
    }
