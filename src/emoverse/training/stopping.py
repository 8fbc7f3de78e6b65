"""Ctrl-C, a scheduler's SIGTERM, a full memory: how a run ends before its end."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from emoverse.errors import EmoVerseError


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in place of dying; a second one ends the process at once.

    Yields:
        The numbers received so far.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        for each in before:
            signal.signal(each, before[each])

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: whoever owns it decides about signals
        before.clear()
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def memory(where: str, mend: str) -> Iterator[None]:
    """Turn running out of memory into a sentence that names the settings to change.

    Args:
        where: what was done.
        mend: what to do, as the second half of a sentence.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise _out_of_memory(where, mend) from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _out_of_memory(where, mend) from None


def _out_of_memory(where: str, mend: str) -> EmoVerseError:
    return EmoVerseError(f"{where}: out of memory; {mend}.")


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn a full disk into a sentence; the system's own error does not name what was written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EmoVerseError(
            f"{folder}: could not be written ({error.strerror}); free some space on that disk and "
            "go on with --resume."
        ) from None
