"""The pictures and clips that records name: are they there, can they be read, are any the same."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.faces import video
from emoverse.files import sha256_of

Progress = Callable[[int, int], None]


def root_of(
    records: Iterable[Record], data: Path | str, named: Path | str | None = None
) -> Path | None:
    """The folder that records' media paths start in.

    Args:
        records: those of `data`.
        data: their file. Its folder and the one above are looked at, for `emoverse build` writes
            records into both, and then the working folder.
        named: by the user, in place of looking.

    Returns:
        The first folder with some of the media; that of `data` when none has any; None when the
        records name no media and the user no folder.

    Raises:
        EmoVerseError: `named` is no folder.
    """
    if named is not None:
        if not Path(named).is_dir():
            raise EmoVerseError(f"{named}: no such folder; name the one that the media lie in.")
        return Path(named)
    media = {name for record in records for name in record.media}
    if not media:
        return None
    near = Path(data).resolve().parent
    for folder in (near, near.parent, Path.cwd()):
        if any((folder / name).is_file() for name in media):
            return folder
    return near


@dataclass(frozen=True, slots=True)
class Medium:
    """What one file is.

    Attributes:
        problem: why it cannot be used, None when it can.
        seconds: its length; 0 for a picture, None when it cannot be read.
        content: the same for files with the same bytes.
    """

    problem: str | None
    seconds: float | None
    content: str


def inspect(
    paths: Iterable[str], root: Path, progress: Progress | None = None
) -> dict[str, Medium]:
    """Open every file once: its first frame is decoded, the rest is read from its headers.

    Args:
        paths: as the records name them, absolute or relative to `root`.
        root: the dataset's folder.
        progress: told (done, all).

    Returns:
        Path to what was found, in the order of `paths`.
    """
    wanted = list(dict.fromkeys(paths))
    files = {path: root / path for path in wanted}
    found: dict[str, tuple[str | None, float | None]] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, (path, look) in enumerate(
            zip(wanted, pool.map(_look, files.values()), strict=True), 1
        ):
            found[path] = look
            if progress:
                progress(done, len(wanted))
        contents = _contents(files, pool)
    return {path: Medium(*found[path], contents.get(path, path)) for path in wanted}


def _look(file: Path) -> tuple[str | None, float | None]:
    if not file.is_file():
        return "no such file", None
    if file.stat().st_size == 0:
        return "empty file", None
    try:
        return None, video.probe(file).duration
    except EmoVerseError as error:
        return str(error), None


def _contents(files: Mapping[str, Path], pool: ThreadPoolExecutor) -> dict[str, str]:
    """Hash of the files that share their size with another; the others are like none."""
    sizes: dict[int, list[str]] = defaultdict(list)
    for path, file in files.items():
        if file.is_file():
            sizes[file.stat().st_size].append(path)
    alike = [path for group in sizes.values() if len(group) > 1 for path in group]
    return dict(zip(alike, pool.map(sha256_of, (files[path] for path in alike)), strict=True))
