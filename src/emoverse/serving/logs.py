"""One JSON line an event on stderr; never what users said, sent or called their files."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

_LIBRARIES = ("uvicorn", "python_multipart", "asyncio")


def log(event: str, *, error: BaseException | None = None, **facts: Any) -> None:
    """Write one event.

    Args:
        event: a short word.
        error: a fault of ours: its class and place are told, its message is not, for it may
            quote what a user said.
        facts: numbers and names of ours.
    """
    line: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "event": event,
        **facts,
    }
    if error is not None:
        line["error"] = type(error).__name__
        line["at"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-6:]
        ]
    # In one piece: other threads may write just then.
    sys.stderr.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    sys.stderr.flush()


class _Events(logging.Handler):
    """Writes what a library logs as an event."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one; without the values in its message, for they may be a client's."""
        log(
            "library",
            error=record.exc_info[1] if record.exc_info else None,
            library=record.name,
            level=record.levelname.lower(),
            message=record.msg if isinstance(record.msg, str) else type(record.msg).__name__,
        )


@contextmanager
def libraries() -> Iterator[None]:
    """Write the warnings of the libraries that carry requests as events as well."""
    handler = _Events(logging.WARNING)
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    passed_on = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, before in zip(loggers, passed_on, strict=True):
            logger.removeHandler(handler)
            logger.propagate = before


@contextmanager
def uncaught(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Write the faults that nobody catches, of threads and of the loop, as events as well."""

    def of_thread(fault: threading.ExceptHookArgs) -> None:
        log("thread_fault", error=fault.exc_value)

    before = threading.excepthook
    threading.excepthook = of_thread
    loop.set_exception_handler(lambda _, fault: log("loop_fault", error=fault.get("exception")))
    try:
        yield
    finally:
        threading.excepthook = before
        loop.set_exception_handler(None)
