"""Ctrl-C, a scheduler's SIGTERM, a full memory: how a run ends before its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
def memory(where: str, settings: str) -> Iterator[None]:
    """Turn running out of memory into a sentence that names the settings to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(where, settings, error) from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise _out_of_memory(where, settings, error) from None


def _out_of_memory(where: str, settings: str, error: BaseException) -> EmoVerseError:
    del error
    return EmoVerseError(
        f"{where}: out of memory with {settings}; halve batch_tokens (then row_tokens and "
        "max_length), or set gradient_checkpointing=true (all by --set), and start again."
    )
