"""Native libraries that write to the terminal as they start, kept quiet."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep the native libraries' start-up chatter off the terminal.

    They write to file descriptor 2 before any log level can be set, so the descriptor itself is
    pointed elsewhere for the moment; errors still arrive as exceptions.
    """
    with _lock:
        try:
            sys.stderr.flush()
            kept = os.dup(2)
        except (OSError, ValueError, AttributeError):
            yield  # no stderr to protect, as under pythonw
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
