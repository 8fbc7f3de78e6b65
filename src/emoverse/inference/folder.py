"""A folder of clips: faces in several processes, one model that answers a batch of clips at once.

Every clip gets a line in the journal, with its answers or with what is wrong with it. A run that
goes on passes over the clips that have a line, as long as neither clip nor words have changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoverse.corpora import folder as clips_folder
from emoverse.corpora.records import Utterance
from emoverse.corpora.tables import clip_files
from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack
from emoverse.inference.analysis import Analysis
from emoverse.inference.interview import CLIP_TASKS, Interview, check_tasks, clip_interview
from emoverse.inference.journal import Journal
from emoverse.inference.rows import text_of, thumbnail
from emoverse.inference.together import BATCH, Ask, batched, together
from emoverse.inference.watching import Piece, Seen, watch

# The course of every action unit is longer than all the rest, and `emoverse faces` tells it.
_LEFT_OUT = ("curves",)


def read_folder(
    root: Path | str,
    book: Journal,
    ask: Ask,
    model: str,
    *,
    tasks: Sequence[str] = CLIP_TASKS,
    workers: int = 1,
    frames: int = 0,
    listen: Callable[[Path], str | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Read every clip of a folder that has no line yet.

    Args:
        root: clips at any depth; what is said in `clip.mp4` stands in `clip.txt` beside it or in
            `transcripts.csv` (`emoverse.corpora.folder`).
        book: where the answers go.
        ask: answers questions, `Engine.ask`.
        model: its name.
        tasks: among msa, er, fer, eri.
        workers: processes that look at clips, see `watching.watch`.
        frames: pictures of a clip that the model wants beside its faces, `Reader.frames`.
        listen: recognises what is said in a clip without a transcript.
        progress: told (done, all).

    Returns:
        Plain sentences about transcripts that could not be used.

    Raises:
        EmoVerseError: there is no clip, or a line of the journal is malformed.
    """
    check_tasks(tasks)
    root = Path(root)
    found, problems = clips_folder.read(root)
    known = {row["clip"]: row["state"] for row in book.rows()}
    # Taken before any clip is looked at: one that changes meanwhile is read anew by the next run.
    states = {_name(one, root): _state(one) for one in found}
    left = [one for one in found if known.get(_name(one, root)) != states[_name(one, root)]]
    done = len(found) - len(left)
    if progress:
        progress(done, len(found))
    pieces = (Piece(n, str(one.clip), frames=frames) for n, one in enumerate(left))
    for batch in batched(watch(pieces, workers=workers), BATCH):
        read = [(left[seen.piece.number], seen) for seen in batch]
        said = [_said(one, seen, listen) for one, seen in read]
        for one, row in _answered(read, said, ask, model, tasks):
            name = _name(one, root)
            book.add({"kind": "clip", "clip": name, "state": states[name], **row})
            done += 1
            if progress:
                progress(done, len(found))
    return [str(problem) for problem in problems]


def clip_names(root: Path | str) -> frozenset[str]:
    """What the journal calls the clips that are in a folder now.

    Raises:
        EmoVerseError: `root` is not a folder.
    """
    root = Path(root)
    return frozenset(file.relative_to(root).as_posix() for file in clip_files(root))


def folder_result(book: Journal, names: Container[str]) -> list[dict[str, Any]]:
    """The lines of the clips `names` without pictures, by name; a clip read twice has the later."""
    kept = {row["clip"]: row for row in book.rows() if row["clip"] in names}
    return [
        {name: value for name, value in kept[clip].items() if name not in ("picture", "state")}
        for clip in sorted(kept)
    ]


def clip_rows(book: Journal, names: Container[str]) -> Iterator[dict[str, Any]]:
    """The lines that count of the clips `names`, with their pictures, in the journal's order.

    They are streamed; a clip that is gone keeps its lines in the journal.
    """
    last = {row["clip"]: number for number, row in enumerate(book.rows())}
    for number, row in enumerate(book.rows()):
        if row["clip"] in names and last[row["clip"]] == number:
            yield row


def _said(one: Utterance, seen: Seen, listen: Callable[[Path], str | None] | None) -> str | None:
    if one.text or listen is None or seen.watched is None:
        return one.text or None
    assert one.clip is not None
    return listen(one.clip)


def _answered(
    read: Sequence[tuple[Utterance, Seen]],
    said: Sequence[str | None],
    ask: Ask,
    model: str,
    tasks: Sequence[str],
) -> Iterator[tuple[Utterance, Mapping[str, Any]]]:
    talks: list[Interview] = [
        clip_interview(seen.watched, text, tasks, model)
        for (_, seen), text in zip(read, said, strict=True)
        if seen.watched is not None
    ]
    answers = iter(together(ask, talks))
    for one, seen in read:
        if seen.watched is None:
            yield one, {"error": seen.error}
            continue
        found = next(answers)
        if isinstance(found, EmoVerseError):
            yield one, {"error": str(found)}
        else:
            yield one, {"analysis": _told(found), "picture": _picture(seen.watched.track)}


def _told(found: Analysis) -> dict[str, Any]:
    return {name: value for name, value in found.to_json().items() if name not in _LEFT_OUT}


def _picture(track: FaceTrack) -> str | None:
    return None if track.peak_image is None else text_of(thumbnail(track.peak_image))


def _name(one: Utterance, root: Path) -> str:
    assert one.clip is not None
    return one.clip.relative_to(root).as_posix()


def _state(one: Utterance) -> str:
    """Changes with the clip or with what is said in it."""
    assert one.clip is not None
    try:
        stat = one.clip.stat()
    except OSError:
        return "gone"
    said = hashlib.sha256(one.text.encode()).hexdigest()[:16]
    return f"{stat.st_size} {stat.st_mtime_ns} {said}"
