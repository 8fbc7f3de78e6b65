"""What the corpus readers share: rows with line numbers, split names, clips on disk."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.files import read_text

SPLITS = ("train", "valid", "test")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv")

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "valid",
    "devel": "valid",
    "development": "valid",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
# A quoted cell may hold line breaks; more than this many is a quote that was never closed.
_CELL_LINES = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One table row: the cells by column name, and the 1-based line it starts on."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def get(self, column: str) -> str | None:
        """The cell without surrounding blanks; None when the column is absent or the cell empty."""
        return self.cells.get(column, "").strip() or None

    def number(self, column: str) -> float | None:
        """The cell as a float; None when absent or empty.

        Raises:
            ValueError: the cell is no finite number; the message is fit for a `Problem`.
        """
        cell = self.get(column)
        if cell is None:
            return None
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{column} {cell!r} is not a number")
        return value

    def integer(self, column: str) -> int:
        """The cell as an int of 0 or more.

        Raises:
            ValueError: it is not one; the message is fit for a `Problem`.
        """
        cell = self.cells.get(column, "").strip()
        if not cell.isdecimal():
            raise ValueError(f"{column} {cell!r} is not a whole number")
        return int(cell)


def split_name(name: str) -> str | None:
    """`train`, `valid` or `test` for any usual spelling of a split (dev, val ...), else None."""
    return _SPLIT_NAMES.get(name.strip().lower())


def split_of_file(path: Path, split: str | None = None) -> str:
    """The split a file belongs to: `split` when given, else the word in its name.

    Raises:
        EmoVerseError: `split` is no split name, or the file's name holds none.
    """
    if split is not None:
        return checked_split(split)
    for word in reversed(re.split(r"[^A-Za-z]+", path.stem)):
        found = split_name(word)
        if found is not None:
            return found
    raise EmoVerseError(
        f"{path}: the file name says no split (train, dev or test); rename it or pass the split."
    )


def checked_split(split: str) -> str:
    """`split` in our spelling.

    Raises:
        EmoVerseError: it is no split name.
    """
    found = split_name(split)
    if found is None:
        raise EmoVerseError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}.")
    return found


def hashed(key: str, share: float) -> bool:
    """Whether `key` hashes into the first `share` (0..1) of the range, on every machine alike."""
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `clip2` before `clip10`."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def existing(path: Path | str) -> Path:
    """`path` as a Path.

    Raises:
        EmoVerseError: nothing is there.
    """
    path = Path(path)
    if not path.exists():
        raise EmoVerseError(f"{path}: no such file or folder; check the path.")
    return path


def text_of(path: Path) -> str:
    """The file's text with Unix line ends; read as cp1252 when not UTF-8, as some corpora are."""
    try:
        return read_text(path)
    except EmoVerseError:
        if not path.is_file():
            raise
    text = path.read_bytes().decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def rows(
    path: Path, required: Collection[str], problems: list[Problem], *, delimiter: str = ","
) -> Iterator[Row]:
    """Yield the rows of a table with a header; a broken row is added to `problems` and skipped.

    Commas: RFC 4180 with cells over several lines. Tabs: one line is one row always, and a
    quoted cell is unquoted only when its quotes are paired, because transcripts hold stray
    quotes that must not swallow the rows behind them.

    Raises:
        EmoVerseError: the file is missing, empty, or lacks one of the `required` columns.
    """
    # Not str.splitlines: it also breaks at U+0085, U+2028 and others that occur inside cells.
    lines = text_of(path).split("\n")
    header = [name.strip() for name in _cells(lines[0], delimiter) or []]
    missing = [name for name in required if name not in header]
    if missing:
        raise EmoVerseError(
            f"{path}: column {', '.join(missing)} missing (found: {', '.join(header) or 'none'}); "
            "use the corpus's own file or add the column."
        )
    at = 1
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        cells, taken = _record(lines, at, delimiter)
        if cells is None or len(cells) != len(header):
            found = "an unclosed quote" if cells is None else f"{len(cells)} cells"
            problems.append(Problem(path, at + 1, f"{len(header)} cells expected, {found} found"))
            at += 1
            continue
        yield Row(at + 1, dict(zip(header, cells, strict=True)))
        at += taken


def _record(lines: Sequence[str], at: int, delimiter: str) -> tuple[list[str] | None, int]:
    if delimiter == "\t":
        return _cells(lines[at], delimiter), 1
    quotes = 0
    for taken in range(1, min(_CELL_LINES, len(lines) - at) + 1):
        quotes += lines[at + taken - 1].count('"')
        if quotes % 2 == 0:
            return _cells("\n".join(lines[at : at + taken]), delimiter), taken
    return None, 1


def _cells(record: str, delimiter: str) -> list[str] | None:
    if delimiter == "\t":
        return [_unquoted(cell) for cell in record.split("\t")]
    try:
        return next(csv.reader([record], delimiter=delimiter), [])
    except csv.Error:
        return None


def _unquoted(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1]
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return cell


def clip_files(folder: Path) -> list[Path]:
    """Video files at any depth of `folder`, links followed, in natural order of their paths.

    Hidden entries and macOS' `._*` shadow files are left out.

    Raises:
        EmoVerseError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise EmoVerseError(f"{folder}: no such folder of clips; check the path.")
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link back up would otherwise be walked for ever.
        folders[:] = [] if real in seen else [name for name in folders if name[0] != "."]
        if real not in seen:
            found += [
                Path(place, name)
                for name in files
                if name[0] != "." and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
            ]
        seen.add(real)
    return sorted(found, key=lambda file: natural(file.relative_to(folder).as_posix()))


def clip_problem(clip: Path | None) -> str | None:
    """Why a clip looked for on disk cannot be used: not found or empty; else None."""
    if clip is None:
        return "not found in the folder of clips"
    return "empty file" if clip.stat().st_size == 0 else None
