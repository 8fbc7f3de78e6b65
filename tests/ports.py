"""A port for a program that cannot choose its own."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """A free port below those that systems give out on their own (32768 and up)."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
