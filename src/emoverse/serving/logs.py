"""One JSON line an event on stderr; never what users said, sent or called their files."""

from __future__ import annotations

import json
import sys
import traceback
from datetime import datetime, timezone
from typing import Any


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
    print(json.dumps(line, ensure_ascii=False, default=str), file=sys.stderr, flush=True)
