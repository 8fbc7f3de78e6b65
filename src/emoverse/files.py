"""Files written whole or not at all, and hashed the same way everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError


def write_bytes(path: Path | str, data: bytes) -> Path:
    """Write `data` atomically: a reader sees the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def utf8(text: str) -> bytes:
    r"""Text as UTF-8.

    Halves of surrogate pairs, of which names of files that are not UTF-8 have some, become escapes
    such as `\udce9`. In JSON they read as what they were.
    """
    return text.encode("utf-8", "backslashreplace")


def write_text(path: Path | str, text: str) -> Path:
    """Write `text` as UTF-8 (see `utf8`) atomically."""
    return write_bytes(path, utf8(text))


def write_json(path: Path | str, value: Any) -> Path:
    """Write `value` as indented UTF-8 JSON, atomically and with a final newline."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_text(path: Path | str) -> str:
    """Read a UTF-8 file.

    Raises:
        EmoVerseError: the file is missing, a folder, or not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise EmoVerseError(f"{path}: no such file; check the path.") from None
    except IsADirectoryError:
        raise EmoVerseError(f"{path} is a folder; name a file in it.") from None
    except UnicodeDecodeError as error:
        raise EmoVerseError(f"{path}: not UTF-8 text ({error}); re-save it as UTF-8.") from None


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        EmoVerseError: the file is missing or is not valid JSON; the sentence names the line.
    """
    return parsed_json(read_text(path), path)


def parsed_json(text: str, path: Path | str) -> Any:
    """JSON that was read from a file.

    Raises:
        EmoVerseError: it is not valid; the sentence names the file and the line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise EmoVerseError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); mend that line."
        ) from None


def sha256_of(path: Path | str) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
