"""ECF 1.0 and 2.0: conversations of *Friends* with emotion-cause pairs.

Wang et al., "Multimodal Emotion-Cause Pair Extraction in Conversations", IEEE TAFFC 2023 (text
form, `mecpe`), and Wang et al., "SemEval-2024 Task 3" (JSON form).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from emoverse.corpora import mecpe, tables
from emoverse.corpora.mecpe import conversation_ids, meld_links
from emoverse.corpora.records import Problem, Utterance
from emoverse.errors import EmoVerseError
from emoverse.files import read_text
from emoverse.tasks import labels

__all__ = ["conversation_ids", "meld_links", "read"]

_PAIR = re.compile(r"([0-9]+)_([A-Za-z]+)")
_CAUSE = re.compile(r"([0-9]+)(?:_.*)?", re.DOTALL)


def read(
    path: Path | str,
    clips: Path | str | None = None,
    split: str | None = None,
    valid_ids: Collection[str | int] = (),
) -> tuple[list[Utterance], list[Problem]]:
    """Read ECF conversations and find their clips.

    Args:
        path: `Subtask_2_train.json` (or dev, test; Subtask 1 files too: the cause's words are
            dropped), a MECPE text file such as `ecf1_train.txt`, or a folder of one of the two
            forms (JSON wins).
        clips: folder with the clips, as `video_name` says (`dia1utt1.mp4`): by their path below
            the folder, else at any depth by their name, when only one has it.
        split: the split of the file; otherwise its name tells.
        valid_ids: ids of training conversations to mark `valid`, so that a dev split can be cut
            out of the training file (`conversation_ids`).

    Returns:
        Utterances with ids `dia1utt1` and `causes` (None where the file has no pairs, as the
        official test file), and what was skipped. A conversation with a malformed utterance is
        left out whole, since indices and context hang together; a malformed pair alone.

    Raises:
        EmoVerseError: missing or unreadable file, not the expected JSON shape, no split named,
            no clip found.
    """
    path = tables.existing(path)
    cut = {str(name) for name in valid_ids}
    files = _files(path, split) if path.is_dir() else [path]
    found = None if clips is None else _clips(Path(clips))
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    seen: set[tuple[Path, str]] = set()
    for file in files:
        default = tables.split_of_file(file, split)
        if file.suffix.lower() == ".json":
            text = read_text(file)
            for position, conversation in enumerate(_conversations(file, text)):
                try:
                    key = _id(conversation)
                    if (file, key) in seen:
                        raise ValueError(f"conversation {key} was already in this file")
                    seen.add((file, key))
                    part = "valid" if default == "train" and key in cut else default
                    notes: list[str] = []
                    utterances += _conversation(conversation, key, part, found, notes)
                except ValueError as error:
                    notes = [str(error)]
                problems += [Problem(file, _line(text, position), note) for note in notes]
        else:
            for talk in mecpe.parse(file, problems):
                part = "valid" if default == "train" and talk.id in cut else default
                utterances += mecpe.utterances(talk, part, found)
    if found and not any(utterance.clip for utterance in utterances):
        raise EmoVerseError(f"{clips}: none of its clips belongs to {path}; check both paths.")
    return utterances, problems


def _files(folder: Path, split: str | None) -> list[Path]:
    wanted = None if split is None else tables.checked_split(split)
    for pattern in ("Subtask_2_*.json", "*.json", "ecf*.txt"):
        files = [
            file
            for file in sorted(folder.glob(pattern))
            if not file.name.startswith(".")
            and any(tables.split_name(word) for word in re.split(r"[^A-Za-z]+", file.stem))
            and wanted in (None, tables.split_of_file(file))
        ]
        if files:
            return files
    raise EmoVerseError(
        f"{folder}: no Subtask_2_train.json (or dev, test) there; give the folder of ECF's files."
    )


def _conversations(file: Path, text: str) -> list[Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise EmoVerseError(
            f"{file}, line {error.lineno}: not valid JSON ({error.msg}); mend that line."
        ) from None
    if not isinstance(data, list) or not any(
        isinstance(item, dict) and "conversation" in item for item in data
    ):
        raise EmoVerseError(
            f"{file}: not a list of conversations; use SemEval-2024 Task 3's Subtask_2 file."
        )
    return data


def _line(text: str, position: int) -> int | None:
    """Line of the position-th conversation; None when the file's layout hides it."""
    found = list(re.finditer(r'"conversation_ID"\s*:', text))
    if position >= len(found):
        return None
    return text.count("\n", 0, found[position].start()) + 1


def _id(conversation: Any) -> str:
    if not isinstance(conversation, dict):
        raise ValueError("not a conversation object")
    key = conversation.get("conversation_ID")
    if not isinstance(key, (int, str)) or not str(key).strip():
        raise ValueError("conversation without conversation_ID")
    return str(key).strip()


def _conversation(
    conversation: Mapping[str, Any],
    key: str,
    split: str,
    clips: mecpe.Clips | None,
    notes: list[str],
) -> list[Utterance]:
    turns = conversation.get("conversation")
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"conversation {key}: no utterances")
    emotions: dict[int, str | None] = {}
    for position, turn in enumerate(turns, start=1):
        place = f"conversation {key}, utterance {position}"
        if not isinstance(turn, dict) or str(turn.get("utterance_ID")) != str(position):
            raise ValueError(f"{place}: utterance_ID is not {position}")
        if not isinstance(turn.get("text"), str) or not turn["text"].strip():
            raise ValueError(f"{place}: no text")
        word = turn.get("emotion")
        emotions[position] = None if word is None else labels.emotion(str(word))
        if word is not None and emotions[position] is None:
            raise ValueError(f"{place}: emotion {word!r} is unknown")
    causes = _causes(conversation.get("emotion-cause_pairs"), key, emotions, notes)
    utterances = []
    for position, turn in enumerate(turns, start=1):
        own = mecpe.utterance_id(key, position)
        clip, problem = mecpe.clip_of(str(turn.get("video_name") or f"{own}.mp4"), clips)
        utterances.append(
            Utterance(
                id=own,
                corpus="ecf",
                split=split,
                dialogue=key,
                index=position,
                text=turn["text"].strip(),
                speaker=str(turn["speaker"]).strip() if turn.get("speaker") else None,
                emotion=emotions[position],
                causes=None if causes is None else tuple(sorted(causes[position])),
                clip=clip,
                clip_problem=problem,
            )
        )
    return utterances


def _causes(
    pairs: Any, key: str, emotions: Mapping[int, str | None], notes: list[str]
) -> dict[int, set[int]] | None:
    if pairs is None:
        return None
    causes: dict[int, set[int]] = {position: set() for position in emotions}
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        whole = isinstance(pair, (list, tuple)) and len(pair) == 2
        effect = _PAIR.fullmatch(str(pair[0])) if whole else None
        cause = _CAUSE.fullmatch(str(pair[1])) if whole else None
        if effect is None or cause is None:
            notes.append(f'conversation {key}: pair {pair!r} is not ["3_surprise", "1"]')
            continue
        at, source = int(effect[1]), int(cause[1])
        if at not in causes or source not in causes:
            notes.append(f"conversation {key}: pair {pair!r} names an utterance that is not there")
        elif labels.emotion(effect[2]) != emotions[at]:
            notes.append(
                f"conversation {key}: pair {pair!r} disagrees with utterance {at}'s emotion "
                f"{emotions[at]}"
            )
        else:
            causes[at].add(source)
    return causes


def _clips(folder: Path) -> mecpe.Clips:
    found: dict[str, list[Path]] = {}
    for file in tables.clip_files(folder):
        inside = file.relative_to(folder).with_suffix("")
        for name in {inside.as_posix(), inside.name}:
            found.setdefault(name, []).append(file)
    if not found:
        raise EmoVerseError(f"{folder}: no clip named like dia1utt1.mp4 there; check the path.")
    return found
