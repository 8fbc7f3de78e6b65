"""Cause annotation in Label Studio: its labelling page, its tasks, and its annotations read back.

One task is one conversation. The annotator gives utterances their emotion (known ones are there
already), selects one, and ticks the utterances that caused it; arrows say the same. Formats:
Label Studio's documentation, "Task format", and the tags Paragraphs, ParagraphLabels, Choices
and Relations (labelstud.io; checked against version 1.23).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from xml.sax.saxutils import quoteattr

from emoverse.tasks import labels

MODEL_VERSION = "emotions of the corpus"
NO_CAUSE = "0. none of these utterances"
_RELATION = "caused by"
_COLOURS = {
    "anger": "#d9480f",
    "sadness": "#1864ab",
    "surprise": "#e8590c",
    "disgust": "#5c940d",
    "joy": "#f2b705",
    "neutral": "#868e96",
    "fear": "#7048e8",
}

Row = Mapping[str, Any]
"""An utterance in ECF's JSON form: utterance_ID (1-based), text, speaker, emotion, video_name."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is annotated; `split` and `id` together are unique."""

    id: str
    split: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Marking:
    """One annotator's finished work on one conversation.

    Attributes:
        annotator: who; Label Studio's e-mail address or user number.
        emotions: 1-based utterance to emotion; utterances left out are neutral.
        causes: target to its causes, () when it has none here, None when it was not answered;
            one entry for every utterance whose emotion is not neutral.
        updated: Label Studio's time stamp (ISO 8601), "" when unknown.
    """

    annotator: str
    emotions: Mapping[int, str]
    causes: Mapping[int, tuple[int, ...] | None]
    updated: str = ""


def labelling_config(*, clips: bool = False) -> str:
    """The project's labelling page as XML.

    Args:
        clips: show `data.clips` above the conversation.
    """
    emotions = "\n".join(
        f'    <Label value="{emotion}" background="{_COLOURS[emotion]}"/>'
        for emotion in labels.EMOTIONS
    )
    page = '  <HyperText name="clips" value="$clips" inline="true"/>\n' if clips else ""
    targets = ",".join(labels.ECPE_EMOTIONS)
    help_text = (
        "Mark every utterance that shows an emotion. Then select each marked utterance and tick "
        "all utterances that caused its emotion: earlier ones, later ones, itself, or none."
    )
    return (
        "<View>\n"
        f'  <Header value={quoteattr(help_text)} size="5"/>\n'
        f"{page}"
        '  <ParagraphLabels name="emotion" toName="dialogue">\n'
        f"{emotions}\n"
        "  </ParagraphLabels>\n"
        '  <Paragraphs name="dialogue" value="$dialogue" layout="dialogue" nameKey="author" '
        'textKey="text" granularity="paragraph"/>\n'
        '  <Choices name="causes" toName="dialogue" perRegion="true" choice="multiple" '
        'layout="vertical" value="$utterances" visibleWhen="region-selected" '
        f'whenTagName="emotion" whenLabelValue="{targets}"/>\n'
        f'  <Relations>\n    <Relation value="{_RELATION}"/>\n  </Relations>\n'
        "</View>\n"
    )


def task(conversation: Conversation, clips_url: str | None = None) -> dict[str, Any]:
    """One task to import; its emotions are there as a prediction.

    Args:
        conversation: what to annotate.
        clips_url: where the clips are served; an utterance's `video_name` is put behind it.
    """
    turns = [
        (str(row["utterance_ID"]), str(row.get("speaker") or "Someone"), str(row["text"]))
        for row in conversation.rows
    ]
    data: dict[str, Any] = {
        "conversation_ID": conversation.id,
        "split": conversation.split,
        "conversation": [dict(row) for row in conversation.rows],
        "dialogue": [{"author": f"{at}. {who}", "text": text} for at, who, text in turns],
        "utterances": [{"value": f"{at}. {who}: {text}"} for at, who, text in turns],
    }
    data["utterances"].append({"value": NO_CAUSE})
    if clips_url is not None:
        data["clips"] = "\n".join(_clip(row, clips_url) for row in conversation.rows)
    marked = [row for row in conversation.rows if row.get("emotion") not in (None, "neutral")]
    result = [_region(row) for row in marked]
    return {"data": data, "predictions": [{"model_version": MODEL_VERSION, "result": result}]}


def conversation_of(task: Any) -> Conversation:
    """The conversation inside a task that `task` made.

    Raises:
        ValueError: the task is not one of ours; the message is fit for a `Problem`.
    """
    data = task.get("data") if isinstance(task, Mapping) else None
    rows = data.get("conversation") if isinstance(data, Mapping) else None
    if (
        not isinstance(data, Mapping)
        or not isinstance(rows, list)
        or not rows
        or not all(isinstance(row, Mapping) and isinstance(row.get("text"), str) for row in rows)
        or [row.get("utterance_ID") for row in rows] != list(range(1, len(rows) + 1))
        or not all(isinstance(data.get(name), str) for name in ("conversation_ID", "split"))
    ):
        raise ValueError("its data is not what `emoverse annotate export` wrote")
    return Conversation(data["conversation_ID"], data["split"], tuple(rows))


def marking(annotation: Any, conversation: Conversation) -> Marking:
    """Read one annotation.

    Raises:
        ValueError: it is malformed; the message is fit for a `Problem`.
    """
    if not isinstance(annotation, Mapping) or not isinstance(annotation.get("result"), list):
        raise ValueError("an annotation has no list `result`")
    size = len(conversation.rows)
    places: dict[str, int] = {}
    emotions: dict[int, str] = {}
    for item in _items(annotation, "paragraphlabels"):
        at, emotion = _emotion(item, size)
        if emotions.setdefault(at, emotion) != emotion:
            raise ValueError(f"utterance {at} has two emotions, {emotions[at]} and {emotion}")
        places[str(item.get("id"))] = at
    causes: dict[int, set[int]] = {}
    for item in _items(annotation, "choices"):
        at = _place(item.get("id"), places)
        causes.setdefault(at, set()).update(_ticked(item, size))
    for item in _items(annotation, "relation"):
        at, cause = _arrow(item, places)
        causes.setdefault(at, set()).add(cause)
    for at, found in causes.items():
        if emotions[at] == "neutral":
            raise ValueError(f"utterance {at} is neutral and yet has causes")
        if 0 in found and len(found) > 1:
            raise ValueError(f"utterance {at} has causes and also none")
    targets = sorted(at for at, emotion in emotions.items() if emotion != "neutral")
    return Marking(
        annotator=_annotator(annotation),
        emotions=emotions,
        causes={at: tuple(sorted(causes[at] - {0})) if at in causes else None for at in targets},
        updated=str(annotation.get("updated_at") or annotation.get("created_at") or ""),
    )


def _region(row: Row) -> dict[str, Any]:
    place = str(int(row["utterance_ID"]) - 1)  # paragraphs are counted from 0, as strings
    text = str(row["text"])
    return {
        "id": f"utterance-{row['utterance_ID']}",
        "from_name": "emotion",
        "to_name": "dialogue",
        "type": "paragraphlabels",
        "value": {
            "start": place,
            "end": place,
            "startOffset": 0,
            "endOffset": len(text),
            "text": text,
            "paragraphlabels": [row["emotion"]],
        },
    }


def _clip(row: Row, url: str) -> str:
    name = row.get("video_name")
    if not name:
        return f"<p>{row['utterance_ID']}. no clip</p>"
    source = escape(f"{url.rstrip('/')}/{name}", quote=True)
    return (
        f'<p><a href="{source}" target="_blank">{row["utterance_ID"]}.</a> '
        f'<video src="{source}" controls preload="none" height="180"></video></p>'
    )


def _items(annotation: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    found = annotation["result"]
    if not all(isinstance(item, Mapping) for item in found):
        raise ValueError("an annotation's result holds something that is no object")
    return [item for item in found if item.get("type") == kind]


def _value(item: Mapping[str, Any], name: str) -> list[str]:
    value = item.get("value")
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"region {item.get('id')!r} has no list `{name}`")
    return found


def _emotion(item: Mapping[str, Any], size: int) -> tuple[int, str]:
    words = _value(item, "paragraphlabels")
    emotion = labels.emotion(words[0]) if len(words) == 1 else None
    if emotion is None:
        raise ValueError(f"region {item.get('id')!r} has emotion {words}, not one of the seven")
    start, end = (_whole(item["value"].get(name)) for name in ("start", "end"))
    if start is None or start != end or start >= size:
        raise ValueError(f"region {item.get('id')!r} is not on one utterance of the conversation")
    return start + 1, emotion


def _whole(value: Any) -> int | None:
    return int(str(value)) if str(value).isdecimal() and len(str(value)) < 6 else None


def _place(region: Any, places: Mapping[str, int]) -> int:
    if str(region) not in places:
        raise ValueError(f"causes hang on region {region!r}, which is not there")
    return places[str(region)]


def _ticked(item: Mapping[str, Any], size: int) -> set[int]:
    found = set()
    for choice in _value(item, "choices"):
        number = re.match(r"\s*([0-9]{1,5})(?![0-9])", choice)
        if number is None or int(number[1]) > size:
            raise ValueError(f"cause {choice[:30]!r} is no utterance of the conversation")
        found.add(int(number[1]))
    return found


def _arrow(item: Mapping[str, Any], places: Mapping[str, int]) -> tuple[int, int]:
    """(emotion utterance, cause utterance): arrows run from the emotion to its cause."""
    named: Sequence[Any] = item.get("labels") or [_RELATION]
    ends = _place(item.get("from_id"), places), _place(item.get("to_id"), places)
    if list(named) != [_RELATION] or item.get("direction") not in (None, "right", "left"):
        raise ValueError(f"the arrow from utterance {ends[0]} to {ends[1]} does not say its cause")
    return (ends[1], ends[0]) if item.get("direction") == "left" else ends


def _annotator(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    return str(who) if who is not None else f"annotation {annotation.get('id')}"
