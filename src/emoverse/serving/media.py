"""Which files a request may use: what it sent itself, and what lies under an allowed root."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from emoverse.inference.dialogue import load_turns
from emoverse.serving.problems import Refused, TooLong
from emoverse.serving.schemas import MOST_DIALOGUE, Dialogue

# With parameters (RFC 2397), whose quoted values may hold commas: codecs="avc1,mp4a".
_PARAMETER = r';[a-z0-9_.+-]{1,40}=(?:"[^"]{0,200}"|[^;,"]{0,200})'
_DATA_URL = re.compile(
    rf"data:(image|video)/[a-z0-9.+-]{{1,40}}(?:{_PARAMETER}){{0,8}};base64,", re.IGNORECASE
)
_BLOCK = 1 << 20


class Upload(Protocol):
    """What is needed of an uploaded file."""

    filename: str | None

    async def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        ...


def under_roots(path: str, roots: tuple[Path, ...]) -> Path:
    """The file that a client names, links followed.

    Args:
        path: relative to a root, or absolute and within one.
        roots: resolved folders.

    Raises:
        Refused: it is not a file within a root. Whether something lies elsewhere is not told.
    """
    if not roots:
        raise Refused(
            422, "no_roots", "This server takes no paths; upload the clip, or start it with --root."
        )
    # `..` would let a client walk through folders elsewhere and back, and so learn of them.
    if "\0" not in path and "://" not in path and ".." not in Path(path).parts:
        for root in roots:
            # Resolved before it is compared, so that no link leads outside.
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                found = (root / path).resolve(strict=True)
                if found.is_relative_to(root) and found.is_file():
                    return found
    raise Refused(404, "no_such_clip", "No such clip under the server's roots; check the path.")


def of_dialogue(
    asked: Dialogue, roots: tuple[Path, ...]
) -> tuple[list[Mapping[str, Any]], dict[str, Path]]:
    """The turns of a conversation, and the files of their clips by name.

    Args:
        asked: the request.
        roots: of `under_roots`.

    Raises:
        Refused: it is too long, or a clip is not within a root.
        EmoVerseError: a turn is malformed.
    """
    if sum(len(turn.text) for turn in asked.turns) > MOST_DIALOGUE:
        raise TooLong(f"A conversation may have {MOST_DIALOGUE} characters; cut it.")
    turns, _, _ = load_turns([turn.model_dump(exclude_none=True) for turn in asked.turns])
    return turns, {
        turn.clip: under_roots(turn.clip, roots) for turn in asked.turns if turn.clip is not None
    }


async def stored(upload: Upload, folder: Path) -> Path:
    """Write an upload to a file with a name of our own.

    Raises:
        Refused: it is empty.
    """
    path = _fresh(folder)
    size = 0
    try:
        with path.open("xb") as file:
            while block := await upload.read(_BLOCK):
                size += file.write(block)
        if not size:
            raise Refused(422, "bad_media", "The uploaded clip is empty (0 bytes); send it again.")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


@contextlib.contextmanager
def from_data_url(url: str, folder: Path) -> Iterator[Path]:
    """The picture or video of a `data:` URL as a file, for as long as the block lasts.

    Raises:
        Refused: it is another kind of URL, or not base64.
    """
    match = _DATA_URL.match(url)
    if match is None:
        raise Refused(
            422,
            "bad_media",
            "Only URLs like data:image/...;base64,... and data:video/...;base64,... are read; put "
            "the file itself into the request.",
        )
    try:
        data = base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            422, "bad_media", "A data: URL is not valid base64; encode it again."
        ) from None
    if not data:
        raise Refused(422, "bad_media", "A data: URL is empty; put the file into it.")
    path = _fresh(folder)
    try:
        path.write_bytes(data)
        yield path
    finally:
        path.unlink(missing_ok=True)


def shown_name(name: str | None) -> str:
    """A client's file name as it may stand in answers: its last part, printable, not long."""
    last = re.split(r"[/\\]", name or "")[-1]
    plain = "".join(letter for letter in last if letter.isprintable())[:80].strip()
    return plain or "clip"


def private_folder(path: Path) -> Path:
    """A folder that only this user can read, made when missing."""
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o700)
    return path


def _fresh(folder: Path) -> Path:
    return folder / secrets.token_hex(16)
