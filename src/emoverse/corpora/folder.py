"""A plain folder of clips, with transcripts beside them or in one table."""

from __future__ import annotations

from pathlib import Path

from emoverse.corpora import tables
from emoverse.corpora.records import Problem, Utterance
from emoverse.errors import EmoVerseError
from emoverse.files import read_text
from emoverse.tasks import labels

TABLE = "transcripts.csv"


def read(path: Path | str, split: str = "test") -> tuple[list[Utterance], list[Problem]]:
    """Read every clip under `path`.

    Transcripts: `<clip stem>.txt` beside a clip, or `transcripts.csv` in `path` with columns
    `clip` (relative path, suffix optional), `text`, and optionally `speaker` and `emotion`. The
    table wins where both say something.

    Args:
        path: folder of clips (at any depth), or one clip.
        split: what to call the whole.

    Returns:
        Utterances with the relative path without suffix as id, the sub-folder as dialogue (the
        folder's own name at the top), in the table's order and then in natural order of names;
        a clip without transcript has text "". Two clips that differ in suffix only keep it.

    Raises:
        EmoVerseError: no clip there, or `transcripts.csv` lacks a column.
    """
    path = tables.existing(path)
    split = tables.checked_split(split)
    if path.is_file():
        if path.suffix.lower() not in tables.VIDEO_SUFFIXES:
            raise EmoVerseError(f"{path}: not a video file; give a clip or a folder of clips.")
        root, clips = path.parent, {path.stem: path}
    else:
        root, clips = path, _clips(path)
    if not clips:
        raise EmoVerseError(
            f"{path}: no clip there ({', '.join(tables.VIDEO_SUFFIXES[:4])} ...); check the path."
        )
    problems: list[Problem] = []
    said = _table(root / TABLE, clips, problems, whole=path.is_dir())
    order = [*said, *(key for key in clips if key not in said)]
    counts: dict[str, int] = {}
    utterances: list[Utterance] = []
    for key in order:
        clip = clips[key]
        dialogue = Path(key).parent.as_posix()
        counts[dialogue] = counts.get(dialogue, 0) + 1
        row = said.get(key)
        emotion = row.get("emotion") if row else None
        utterances.append(
            Utterance(
                id=key,
                corpus="folder",
                split=split,
                dialogue=root.resolve().name if dialogue == "." else dialogue,
                index=counts[dialogue],
                text=(row.get("text") if row else None) or _sidecar(clip, problems),
                speaker=row.get("speaker") if row else None,
                emotion=labels.emotion(emotion) if emotion else None,
                clip=clip,
                clip_problem=tables.clip_problem(clip),
            )
        )
    return utterances, problems


def _clips(root: Path) -> dict[str, Path]:
    clips: dict[str, Path] = {}
    for file in tables.clip_files(root):
        name = file.relative_to(root)
        stem = name.with_suffix("").as_posix()
        clips[stem if stem not in clips else name.as_posix()] = file
    return clips


def _table(
    file: Path, clips: dict[str, Path], problems: list[Problem], *, whole: bool
) -> dict[str, tables.Row]:
    if not file.is_file():
        return {}
    names = {clip.relative_to(file.parent).as_posix(): key for key, clip in clips.items()}
    said: dict[str, tables.Row] = {}
    for row in tables.rows(file, ("clip", "text"), problems):
        name = Path(row["clip"].strip()).as_posix()
        key = names.get(name) or (name if name in clips else None)
        if key is None:
            # For one clip out of a folder, the other clips' rows are no mistake.
            if whole:
                problems.append(Problem(file, row.line, f"clip {name!r} is not in {file.parent}"))
        elif key in said:
            problems.append(Problem(file, row.line, f"{name} was already on line {said[key].line}"))
        elif row.get("emotion") and labels.emotion(row["emotion"]) is None:
            problems.append(Problem(file, row.line, f"emotion {row['emotion']!r} is unknown"))
        else:
            said[key] = row
    return said


def _sidecar(clip: Path, problems: list[Problem]) -> str:
    file = clip.with_suffix(".txt")
    if not file.is_file():
        return ""
    try:
        return " ".join(read_text(file).split())
    except EmoVerseError as error:
        problems.append(Problem(file, None, str(error)))
        return ""
