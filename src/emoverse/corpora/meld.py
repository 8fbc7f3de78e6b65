"""MELD: the official annotation CSVs and the public layouts of its clips.

Poria et al., "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations",
ACL 2019; files of github.com/declare-lab/MELD, `data/MELD`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emoverse.corpora import tables
from emoverse.corpora.records import Problem, Utterance
from emoverse.errors import EmoVerseError
from emoverse.tasks import labels

SENTIMENTS = ("positive", "neutral", "negative")

# (split, dialogue, utterance) → why the released clip must not be used. The text stays usable.
KNOWN_BAD_CLIPS: dict[tuple[str, int, int], str] = {
    ("train", 125, 3): "corrupt file (declare-lab/MELD issues 39 and 52)",
    ("train", 309, 0): "wrongly cut (declare-lab/MELD issue 20)",
    ("valid", 110, 7): "missing from the release (declare-lab/MELD issues 22 and 27)",
    ("test", 38, 4): "wrongly cut, minutes long (declare-lab/MELD issue 20)",
    ("test", 220, 0): "wrongly cut, minutes long (declare-lab/MELD issue 20)",
}
_FILES = {"train": "train_sent_emo.csv", "valid": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
_CLIP_FOLDERS = {
    "train": ("train_splits", "train"),
    "valid": ("dev_splits_complete", "dev_splits", "dev", "valid"),
    "test": ("output_repeated_splits_test", "test_splits", "test"),
}
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
_CLIP = re.compile(r"(?:(train|dev|valid|test)_)?(dia[0-9]+_utt[0-9]+)")
_TIME = re.compile(r"([0-9]+):([0-9]{2}):([0-9]{2})(?:[,.]([0-9]{1,3}))?")
# The C1 controls that cp1252 gives a character; older MELD files hold them as U+0080..U+009F.
_CP1252 = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


@dataclass(frozen=True, slots=True)
class _Place:
    dialogue: int
    utterance: int
    row: tables.Row


def read(
    path: Path | str, clips: Path | str | None = None, split: str | None = None
) -> tuple[list[Utterance], list[Problem]]:
    """Read MELD annotations, and find their clips.

    Args:
        path: folder with `train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv` (those
            that are there, at most two folders down), or one CSV whose name says the split.
        clips: folder that holds `train_splits/`, `dev_splits_complete/` and
            `output_repeated_splits_test/` (at any depth), or one of these, or a flat folder of
            `dia0_utt0.mp4` (one split only: the names repeat) or `train_dia0_utt0.mp4`.
        split: read this split only; for one CSV, the split it is.

    Returns:
        Utterances with ids `train_dia0_utt0`, in file order, and the skipped rows. `index` is
        the 1-based rank by Utterance_ID in the dialogue (ids have gaps). Times are seconds in
        the episode.

    Raises:
        EmoVerseError: no CSV there, a column missing, no or ambiguous clips, an unknown split.
    """
    path = tables.existing(path)
    wanted = None if split is None else tables.checked_split(split)
    if path.is_dir():
        files = {
            name: at
            for name, file in _FILES.items()
            if wanted in (None, name) and (at := _annotations(path, file))
        }
        if not files:
            names = ", ".join(_FILES.values()) if wanted is None else _FILES[wanted]
            raise EmoVerseError(f"{path}: no {names} there; give the folder of MELD's own CSVs.")
    else:
        files = {tables.split_of_file(path, wanted): path}
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    found = None if clips is None else clip_index(Path(clips), tuple(files))
    for name, file in files.items():
        places = _places(file, problems)
        for place, index in _ranked(places):
            try:
                utterances.append(_utterance(place, name, index, found))
            except ValueError as error:
                problems.append(Problem(file, place.row.line, str(error)))
    if found and not any(utterance.clip for utterance in utterances):
        raise EmoVerseError(f"{clips}: none of its clips belongs to {path}; check both paths.")
    return utterances, problems


def _annotations(folder: Path, file: str) -> Path | None:
    """`file` in `folder`, or where the archives put it: `train/`, `data/MELD/` and the like."""
    for pattern in (file, f"*/{file}", f"*/*/{file}"):
        for found in sorted(folder.glob(pattern)):
            return found
    return None


def _places(file: Path, problems: list[Problem]) -> list[_Place]:
    places: dict[tuple[int, int], _Place] = {}
    for row in tables.rows(file, _COLUMNS, problems):
        try:
            place = _Place(row.integer("Dialogue_ID"), row.integer("Utterance_ID"), row)
        except ValueError as error:
            problems.append(Problem(file, row.line, str(error)))
            continue
        first = places.setdefault((place.dialogue, place.utterance), place)
        if first is not place:
            problems.append(
                Problem(
                    file,
                    row.line,
                    f"dialogue {place.dialogue} utterance {place.utterance} was already on line "
                    f"{first.row.line}",
                )
            )
    return list(places.values())


def _ranked(places: Sequence[_Place]) -> list[tuple[_Place, int]]:
    members: dict[int, list[int]] = {}
    for place in places:
        members.setdefault(place.dialogue, []).append(place.utterance)
    ranks = {
        (dialogue, utterance): rank
        for dialogue, ids in members.items()
        for rank, utterance in enumerate(sorted(ids), start=1)
    }
    return [(place, ranks[place.dialogue, place.utterance]) for place in places]


def _utterance(
    place: _Place, split: str, index: int, clips: Mapping[tuple[str, str], Path] | None
) -> Utterance:
    row = place.row
    text = mended(row["Utterance"]).strip()
    if not text:
        raise ValueError("Utterance is empty")
    emotion = labels.emotion(row["Emotion"])
    if emotion is None:
        raise ValueError(f"Emotion {row['Emotion']!r} is unknown")
    sentiment = row["Sentiment"].strip().lower()
    if sentiment not in SENTIMENTS:
        raise ValueError(f"Sentiment {row['Sentiment']!r} is unknown")
    name = f"dia{place.dialogue}_utt{place.utterance}"
    problem = KNOWN_BAD_CLIPS.get((split, place.dialogue, place.utterance))
    clip = None
    if clips is not None:
        clip = clips.get((split, name))
        problem = problem or tables.clip_problem(clip)
    return Utterance(
        id=f"{split}_{name}",
        corpus="meld",
        split=split,
        dialogue=f"dia{place.dialogue}",
        index=index,
        text=text,
        speaker=mended(row["Speaker"]).strip() or None,
        start=seconds(row.get("StartTime")),
        end=seconds(row.get("EndTime")),
        emotion=emotion,
        sentiment=sentiment,
        clip=clip,
        clip_problem=problem,
    )


def mended(text: str) -> str:
    """`text` with cp1252 punctuation that was read as control characters (U+0092) set right."""
    return text.translate(_CP1252)


def seconds(time: str | None) -> float | None:
    """Seconds of a subtitle time `00:16:16,059`; None when absent.

    Raises:
        ValueError: it is no such time.
    """
    if time is None:
        return None
    match = _TIME.fullmatch(time.strip())
    if match is None:
        raise ValueError(f"time {time!r} is not HH:MM:SS,mmm")
    hours, minutes, whole, fraction = match.groups()
    return round(int(hours) * 3600 + int(minutes) * 60 + float(f"{whole}.{fraction or 0}"), 3)


def clip_index(folder: Path, splits: Sequence[str]) -> dict[tuple[str, str], Path]:
    """(split, `dia0_utt0`) → file; the folders above it or the name's prefix tell the split."""
    by_folder = {name: split for split, names in _CLIP_FOLDERS.items() for name in names}
    found: dict[tuple[str, str], Path] = {}
    loose: dict[str, Path] = {}
    for file in tables.clip_files(folder):
        # fullmatch drops `final_videos_testdia..`, extra clips that no annotation names.
        match = _CLIP.fullmatch(file.stem)
        if match is None:
            continue
        split = tables.split_name(match[1]) if match[1] else None
        for parent in file.parents:
            split = split or by_folder.get(parent.name)
            if parent == folder:
                break
        if split is not None:
            found.setdefault((split, match[2]), file)
        else:
            loose[match[2]] = file
    if loose and len(splits) > 1 and not found:
        raise EmoVerseError(
            f"{folder}: clip names repeat between splits and nothing here tells the split; "
            "read one split at a time, or keep MELD's own folders."
        )
    if loose and len(splits) == 1:
        for name, file in loose.items():
            found.setdefault((splits[0], name), file)
    if not found:
        raise EmoVerseError(f"{folder}: no clip named like dia0_utt0.mp4 there; check the path.")
    return found
