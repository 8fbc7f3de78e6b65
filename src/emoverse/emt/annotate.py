"""ECPE annotation of conversations that have no causes yet: out to Label Studio, and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from emoverse.corpora import ecf, folder, meld, tables
from emoverse.corpora.ecf_clips import with_meld_clips
from emoverse.corpora.records import Dialogue, Problem, Utterance
from emoverse.corpora.records import dialogues as dialogues_of
from emoverse.emt.agreement import Talk, agreement
from emoverse.emt.label_studio import (
    Conversation,
    Marking,
    conversation_of,
    labelling_config,
    marking,
    task,
)
from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_json, write_text

CONFIG = "labelling_config.xml"
TASKS = "tasks.json"
Merge = Literal["majority", "union", "intersection"]


def conversations(
    corpus: str,
    path: Path,
    *,
    split: str | None = None,
    clips: Path | None = None,
    links: Path | None = None,
) -> tuple[list[Dialogue], list[Problem]]:
    """The conversations of a corpus, and its skipped rows.

    Args:
        corpus: `meld`, `ecf` or `folder`, as the readers in `emoverse.corpora` know them.
        path: what that reader takes.
        split: keep this split only; a folder is called so.
        clips: folder of clips, for MELD and ECF; MELD's own folders tell its splits.
        links: ECF's `all_data_pair_ECFvsMELD.txt`, when `clips` are MELD's.

    Raises:
        EmoVerseError: as the reader; another corpus was named; or no clip fits the links.
    """
    wanted = None if split is None else tables.checked_split(split)
    if corpus == "meld":
        found, problems = meld.read(path, clips, wanted)
    elif corpus == "ecf":
        found, problems = ecf.read(path, None if links else clips, wanted)
        if clips and links:
            found, more = with_meld_clips(found, links, meld.clip_index(clips, tables.SPLITS))
            problems += more
            if not any(utterance.clip for utterance in found):
                raise EmoVerseError(
                    f"{clips}: none of its clips belongs to these conversations; check {links} "
                    "and folder."
                )
    elif corpus == "folder":
        found, problems = folder.read(path, wanted or "train")
    else:
        raise EmoVerseError(f"Corpus {corpus!r} has no conversations; use meld, ecf or folder.")
    talks = dialogues_of(found)
    if corpus == "meld":  # its splits number their dialogues alike, and ECF's files may not
        talks = [replace(talk, id=f"{talk.split}_{talk.id}") for talk in talks]
    return talks, problems


def export_tasks(
    dialogues: Iterable[Dialogue],
    out: Path,
    *,
    clips_url: str | None = None,
    clips: Path | None = None,
    limit: int | None = None,
) -> int:
    """Write `labelling_config.xml` and `tasks.json`, to be loaded into a Label Studio project.

    Args:
        dialogues: conversations of any corpus.
        out: folder for both files.
        clips_url: where the annotators' browsers find the clips; without it no clip is shown.
        clips: the folder that is served there, so that paths below it are kept.
        limit: only the first so many conversations.

    Returns:
        The number of tasks.

    Raises:
        EmoVerseError: there is no conversation.
    """
    tasks = [
        task(_conversation(dialogue, clips), clips_url) for dialogue in islice(dialogues, limit)
    ]
    if not tasks:
        raise EmoVerseError("There is no conversation to annotate; check folder and split.")
    write_text(out / CONFIG, labelling_config(clips=clips_url is not None))
    write_text(out / TASKS, json.dumps(tasks, ensure_ascii=False) + "\n")
    return len(tasks)


def import_annotations(
    files: Sequence[Path], out: Path, *, merge: Merge = "majority"
) -> tuple[dict[str, Any], list[Problem]]:
    """Turn Label Studio's JSON exports into ECF files, and measure agreement.

    Writes `Subtask_2_<split>.json` for every split, which `emoverse.corpora.ecf` reads. An
    emotion holds when more than half of a conversation's annotators gave it, else the corpus's
    own stays; a cause when more than half of those who answered the target named it (`union`:
    any, `intersection`: all).

    Args:
        files: exports in the format "JSON"; several when each annotator had a project.
        out: folder for the ECF files.
        merge: how annotators are combined.

    Returns:
        The report: conversations, annotations (per annotator), skipped, left_out, pairs, files,
        agreement (see `emoverse.emt.agreement`); and what was skipped or left out, with places.

    Raises:
        EmoVerseError: a file is missing or no JSON export, or no annotation could be used.
    """
    problems: list[Problem] = []
    talks: dict[Talk, Conversation] = {}
    groups: dict[Talk, dict[str, Marking]] = {}
    for file in files:
        for place, (talk, annotation) in enumerate(_annotations(file, problems)):
            key = (talk.split, talk.id)
            try:
                if talks.setdefault(key, talk).rows != talk.rows:
                    raise ValueError("its utterances differ from another task of the same name")
                found = marking(annotation, talk)
            except ValueError as error:
                number = annotation.get("id", place) if isinstance(annotation, dict) else place
                told = f"conversation {talk.id}, annotation {number}: {error}"
                problems.append(Problem(file, None, told))
                continue
            group = groups.setdefault(key, {})
            earlier = group.get(found.annotator)
            if earlier is None or earlier.updated <= found.updated:
                group[found.annotator] = found
    skipped = len(problems)
    if not groups:
        why = f" ({problems[0].message})" if problems else ""
        raise EmoVerseError(
            f"{files[0]}: no annotation there{why}; export the project in the format JSON."
        )
    markings = {key: list(group.values()) for key, group in groups.items()}
    merged: dict[str, list[dict[str, Any]]] = {}
    for key, everyone in markings.items():
        try:
            merged.setdefault(key[0], []).append(_merged(talks[key], everyone, merge))
        except ValueError as error:
            told = f"conversation {key[1]} left out: {error}"
            problems.append(Problem(files[0], None, told))
    written = {
        str(write_json(out / f"Subtask_2_{split}.json", rows)): len(rows)
        for split, rows in merged.items()
        if rows
    }
    report = {
        "conversations": len(markings),
        "annotations": dict(
            Counter(found.annotator for everyone in markings.values() for found in everyone)
        ),
        "skipped": skipped,
        "left_out": len(problems) - skipped,
        "pairs": sum(len(row["emotion-cause_pairs"]) for rows in merged.values() for row in rows),
        "files": written,
        "agreement": agreement(markings, {key: len(talks[key].rows) for key in markings}),
    }
    return report, problems


def _conversation(dialogue: Dialogue, clips: Path | None) -> Conversation:
    rows = tuple(
        _row(utterance, place, clips) for place, utterance in enumerate(dialogue.utterances, 1)
    )
    return Conversation(dialogue.id, dialogue.split, rows)


def _row(utterance: Utterance, place: int, clips: Path | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "utterance_ID": place,
        # One paragraph in Label Studio, and never an empty one.
        "text": " ".join(utterance.text.split()) or "…",
        "speaker": utterance.speaker,
        "emotion": utterance.emotion,
        "video_name": None,
    }
    if utterance.clip is not None and utterance.clip_problem is None:
        inside = clips is not None and utterance.clip.is_relative_to(clips)
        row["video_name"] = (
            utterance.clip.relative_to(clips).as_posix()
            if clips is not None and inside
            else utterance.clip.name
        )
    return {name: value for name, value in row.items() if value is not None}


def _annotations(file: Path, problems: list[Problem]) -> Iterable[tuple[Conversation, Any]]:
    """Every annotation that was not cancelled, with its conversation."""
    tasks = read_json(file)
    if not isinstance(tasks, list) or not all(
        isinstance(row, dict) and "annotations" in row for row in tasks
    ):
        raise EmoVerseError(
            f"{file}: not Label Studio's JSON export (JSON-MIN and CSV lose the causes); export "
            "the project again in the format JSON."
        )
    for number, row in enumerate(tasks, start=1):
        try:
            talk = conversation_of(row)
        except ValueError as error:
            problems.append(Problem(file, None, f"task {row.get('id', number)}: {error}"))
            continue
        annotations = row["annotations"] if isinstance(row["annotations"], list) else []
        for annotation in annotations:
            if not (isinstance(annotation, dict) and annotation.get("was_cancelled")):
                yield talk, annotation


def _merged(talk: Conversation, group: Sequence[Marking], merge: Merge) -> dict[str, Any]:
    """The conversation in ECF's JSON form with the annotators' common emotions and causes."""
    rows, pairs = [], []
    for row in talk.rows:
        at = row["utterance_ID"]
        emotion = _emotion(row.get("emotion"), [found.emotions.get(at) for found in group])
        if emotion is None:
            raise ValueError(f"no emotion of utterance {at} has a majority; settle it")
        rows.append({**row, "emotion": emotion})
        if emotion == "neutral":
            continue
        told = [found.causes.get(at) for found in group]
        answers = [causes for causes in told if causes is not None]
        if not answers:
            raise ValueError(f"nobody answered what caused utterance {at}; finish it")
        votes = Counter(cause for causes in answers for cause in causes)
        needed = {"majority": len(answers) // 2 + 1, "union": 1, "intersection": len(answers)}
        pairs += [
            [f"{at}_{emotion}", str(cause)]
            for cause in sorted(votes)
            if votes[cause] >= needed[merge]
        ]
    number: int | str = int(talk.id) if talk.id.isdecimal() else talk.id
    return {"conversation_ID": number, "conversation": rows, "emotion-cause_pairs": pairs}


def _emotion(known: str | None, votes: Sequence[str | None]) -> str | None:
    [(winner, count)] = Counter(vote or "neutral" for vote in votes).most_common(1)
    return winner if 2 * count > len(votes) else known
