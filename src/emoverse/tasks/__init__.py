"""The five tasks: what is asked, what may be answered, how an answer is read and scored."""

from __future__ import annotations

from collections.abc import Mapping

from emoverse.errors import EmoVerseError
from emoverse.tasks import ecpe, er, eri, fer, msa

TASKS = ("msa", "er", "fer", "eri", "ecpe")
# The authors' words, slip included: a model trained on their files has read exactly this.
SYSTEM_PROMPT = "You are an sentiment and emotion analysis expert."

_MODULES = {"msa": msa, "er": er, "fer": fer, "eri": eri, "ecpe": ecpe}
IDENTIFIERS: Mapping[str, str] = {task: _MODULES[task].IDENTIFIER for task in TASKS}
_QUESTIONS: Mapping[str, str] = {task: _MODULES[task].QUESTION for task in TASKS}


def task_of(query: str) -> str:
    """The task a query asks for: by its identifier, else by the authors' wording.

    The last mark counts, because what a person says stands in front of it. An emotion-cause
    query is known by its opening, whatever its conversation quotes.

    Raises:
        EmoVerseError: the query shows neither an identifier nor a known wording.
    """
    if ecpe.QUESTION in query:
        return "ecpe"
    for marks in (IDENTIFIERS, _QUESTIONS):
        place, task = max((query.rfind(mark), task) for task, mark in marks.items())
        if place >= 0:
            return task
    raise EmoVerseError(
        f"The query {query[:60]!r} shows no task; add an identifier such as `<emotion>`."
    )
