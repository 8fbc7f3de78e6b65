"""How many requests may be under way at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from emoverse.serving.metrics import Metrics
from emoverse.serving.problems import Refused


class Places:
    """So many places, shared by the API and the page; whoever finds none is sent away."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        """Open `most` places."""
        self._most = most
        self._metrics = metrics
        self._taken = 0
        self._mean = 1.0  # seconds that recent work took

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place for as long as the block lasts.

        Raises:
            Refused: none is free; it says when to come back.
        """
        if self._taken >= self._most:
            wait = min(60, max(1, round(self._mean * self._taken / 2)))
            raise Refused(
                429,
                "too_many_requests",
                f"{self._taken} requests are under way; try again in {wait} seconds.",
                retry_after=wait,
            )
        self._taken += 1
        self._metrics.pending.set(self._taken)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._taken -= 1
            self._metrics.pending.set(self._taken)
            self._mean += 0.1 * (time.perf_counter() - start - self._mean)
