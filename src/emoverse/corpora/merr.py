"""MERR: peak action units and reasons of Emotion-LLaMA.

Cheng et al., "Emotion-LLaMA: Multimodal Emotion Recognition and Reasoning with Instruction
Tuning", NeurIPS 2024; `MERR_fine_grained_train.json` and files of the same fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.corpora import tables
from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.files import read_text
from emoverse.tasks import labels

VALID_SHARE = 0.05
_AU = re.compile(r"AU0*([0-9]{1,2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reason:
    """One MERR entry.

    Attributes:
        id: the entry's key, e.g. `sample_00000023`.
        text: what the person says, may be empty.
        emotion: canonical emotion, or None where MERR's word has no canonical one
            (doubt, contempt).
        label: MERR's own word (`pseu_emotion`): neutral, sad, angry, happy, worried, surprise,
            fear, doubt, contempt.
        aus: codes of the action units that were put into words, e.g. `AU04`.
        phrases: these words, one for each of `aus`.
        peak_aus: all action units active in the peak frame.
        tone: a phrase about the voice, may be empty.
        caption: the reason, as prose.
        split: `train` or `valid` (5 %, by a hash of the id).
    """

    id: str
    text: str
    emotion: str | None
    label: str
    aus: tuple[str, ...]
    phrases: tuple[str, ...]
    peak_aus: tuple[str, ...]
    tone: str
    caption: str
    split: str


def read(path: Path | str) -> tuple[list[Reason], list[Problem]]:
    """Read a MERR JSON file: id → entry, or a list of entries with an id of their own.

    Entries of Emotion-LLaMA's annotation tool (`video_id`, `transcript`, `fine-grained_summary`,
    `true_label`, `visual_expression_description`, `raw_AU_values_at_peak`) are read too.

    Raises:
        EmoVerseError: the file is missing, not valid JSON, or holds no entry at all.
    """
    path = Path(path)
    text = read_text(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise EmoVerseError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); mend that line."
        ) from None
    if isinstance(data, dict):
        entries = [(str(key), entry) for key, entry in data.items()]
    elif isinstance(data, list):
        entries = [(_key(entry), entry) for entry in data]
    else:
        entries = []
    reasons: list[Reason] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for key, entry in entries:
        try:
            if key in seen:
                raise ValueError("occurs twice")
            reasons.append(_reason(key, entry))
            seen.add(key)
        except ValueError as error:
            problems.append(Problem(path, _line(text, key), f"entry {key or '?'}: {error}"))
    if not reasons:
        cause = f" ({problems[0].message})" if problems else ""
        raise EmoVerseError(f"{path}: no MERR entry there{cause}; use MERR's own JSON file.")
    return reasons, problems


def _key(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    return next((str(entry[k]) for k in ("id", "video_id", "name", "sample") if entry.get(k)), "")


def _reason(key: str, entry: Any) -> Reason:
    if not key or not isinstance(entry, dict):
        raise ValueError("not an object with an id")
    caption = _string(entry, "smp_reason_caption", "fine-grained_summary", "caption")
    if not caption:
        raise ValueError("no smp_reason_caption")
    label = _string(entry, "pseu_emotion", "true_label", "emotion").lower()
    if not label:
        raise ValueError("no pseu_emotion")
    peak: Any = entry.get("peak_AU_list")
    values = entry.get("raw_AU_values_at_peak")
    if peak is None and isinstance(values, Mapping):
        peak = [au for au, value in values.items() if isinstance(value, (int, float)) and value > 0]
    return Reason(
        id=key,
        text=_string(entry, "text", "transcript", "subtitle"),
        emotion=labels.emotion(label),
        label=label,
        aus=_aus(entry.get("AU_list")),
        phrases=_strings(entry, "visual_prior_list", "visual_expression_description"),
        peak_aus=_aus(peak),
        tone=_string(entry, "audio_prior_list", "audio_description"),
        caption=caption,
        split="valid" if tables.hashed(key, VALID_SHARE) else "train",
    )


def _string(entry: Mapping[str, Any], *names: str) -> str:
    value = next((entry[name] for name in names if entry.get(name)), "")
    if not isinstance(value, str):
        raise ValueError(f"{names[0]} is not text")
    return value.strip()


def _strings(entry: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    value: Any = next((entry[name] for name in names if entry.get(name)), [])
    if isinstance(value, str):
        value = re.split(r"[;,]", value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{names[0]} is not a list of phrases")
    return tuple(item.strip() for item in value if item.strip())


def _aus(value: Any) -> tuple[str, ...]:
    codes = value if isinstance(value, list) else [] if value is None else [value]
    matches = [_AU.match(str(code).strip()) for code in codes]
    if not all(matches):
        raise ValueError(f"action units {value!r} are not a list like ['AU04']")
    return tuple(f"AU{int(match[1]):02d}" for match in matches if match)


def _line(text: str, key: str) -> int | None:
    at = text.find(json.dumps(key)) if key else -1
    return text.count("\n", 0, at) + 1 if at >= 0 else None
