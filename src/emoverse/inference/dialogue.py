"""What is asked about a conversation: emotions that are not given, then who caused which."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.files import read_json
from emoverse.inference.analysis import Analysis, Answer
from emoverse.inference.conversation import CONTEXT, cause_questions, found_causes, windows
from emoverse.inference.interview import Interview, Question, Watched
from emoverse.tasks import ecpe, er, labels


def dialogue_interview(
    turns: Sequence[Mapping[str, Any]],
    watch: Callable[[str], Watched],
    model: str,
    name: str | None = None,
    asked: int = 0,
) -> Interview:
    """Ask for the emotions of a conversation that are not given, then who caused which.

    Args:
        turns: as `load_turns` returns them.
        watch: measures a turn's `clip`.
        model: name of the model that answers, for the analysis.
        name: what the conversation is called, None when it has no file.
        asked: place, from 0 on, of the first turn whose causes are asked for.

    Raises:
        EmoVerseError: a clip cannot be read.
    """
    start = time.perf_counter()
    warnings: list[str] = []
    known: list[ecpe.Turn] = []
    rows: list[dict[str, Any]] = []
    for number, turn in enumerate(turns, 1):
        speaker = str(turn.get("speaker") or "Someone")
        said = " ".join(str(turn["text"]).split())
        emotion = labels.emotion(str(turn["emotion"])) if turn.get("emotion") else None
        row = {"index": number, "speaker": speaker, "text": said, "given": emotion is not None}
        if emotion is None:
            context = [(before.speaker, before.text) for before in known[-CONTEXT:]]
            query = er.query(said, speaker=speaker, context=context)
            watched = watch(str(turn["clip"])) if turn.get("clip") else None
            warnings += watched.track.warnings if watched else ()
            (found,) = yield [Question(Record(query, "", "er", id=str(number)), watched)]
            if found.label is None:
                warnings.append(f"The emotion of utterance {number} was not told; neutral is used.")
            emotion = str(found.label or "neutral")
            row["probabilities"] = dict(found.probabilities)
        known.append(ecpe.Turn(number, speaker, said, emotion))
        rows.append(row | {"emotion": emotion})
    labelled = time.perf_counter()
    shown = [window for window in windows(len(known)) if window.stop > asked]
    views = [known[window.first : window.stop] for window in shown]
    questions = [
        cause_questions(view, max(window.asked, asked) - window.first)
        for window, view in zip(shown, views, strict=True)
    ]
    posed = [question for some in questions for question in some]
    answers = iter((yield posed) if posed else [])
    pairs = tuple(
        pair
        for view, some in zip(views, questions, strict=True)
        for pair in found_causes(view, islice(answers, len(some))).pairs
    )
    if not posed:
        warnings.append("Every utterance is neutral, so there is no emotion to explain.")
    end = time.perf_counter()
    return Analysis(
        clip=name,
        model=model,
        answers={
            "ecpe": Answer(
                task="ecpe",
                query=posed[-1].record.query if posed else "",
                text=ecpe.answer([ecpe.Pair(*pair) for pair in pairs]),
                label=list(pairs),
                seconds=end - labelled,
            )
        },
        people=len({turn.speaker for turn in known}),
        turns=tuple(rows),
        pairs=pairs,
        warnings=tuple(warnings),
        seconds={"emotions": labelled - start, "causes": end - labelled, "total": end - start},
    )


def load_turns(
    dialogue: Path | str | Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], Path, str | None]:
    """Read a conversation, see `Engine.analyze_dialogue` for its forms.

    Returns:
        The turns, the folder that their clips are relative to, and the file they are from.

    Raises:
        EmoVerseError: the file or a turn is malformed, or there is no turn.
    """
    if not isinstance(dialogue, (str, Path)):
        given, root, name = list(dialogue), Path(), None
    else:
        name = Path(dialogue)
        root = name.parent
        content = read_json(name)
        if isinstance(content, dict):
            content = content.get("turns", content.get("conversation"))
        if not isinstance(content, list):
            raise EmoVerseError(
                f"{name}: expected an object with `turns`, a list of "
                '{"speaker": ..., "text": ...}; see the README.'
            )
        given = content
    for number, turn in enumerate(given, 1):
        place = f"{name or 'dialogue'}, turn {number}"
        if not isinstance(turn, Mapping) or not isinstance(turn.get("text"), str):
            raise EmoVerseError(f"{place}: a turn needs a text field `text`; add it.")
        if turn.get("emotion") and labels.emotion(str(turn["emotion"])) is None:
            raise EmoVerseError(
                f"{place}: emotion {turn['emotion']!r} is unknown; use one of "
                f"{', '.join(labels.EMOTIONS)}, or leave it out."
            )
    if not given:
        raise EmoVerseError(f"{name or 'dialogue'}: it holds no turn.")
    return given, root, None if name is None else str(name)
