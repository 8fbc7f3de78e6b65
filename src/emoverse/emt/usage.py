"""What questions to endpoints used: answers, tokens and money, in all and in one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emoverse.emt.endpoint import Reply

# Said where nobody was asked at all.
SKIPPED = "No endpoint was named (--describe-endpoint), so no reasons were made."


@dataclass(slots=True)
class Usage:
    """Counts of one model.

    Attributes:
        prices: US dollars for a million tokens in and out, None when unknown.
        answers: replies used, fresh or kept.
        uncounted: those for which the server told no tokens.
        asked: replies that were asked for in this run; `now_in` and `now_out` are theirs.
    """

    prices: tuple[float, float] | None = None
    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0
    asked: int = 0
    now_in: int = 0
    now_out: int = 0

    def add(self, reply: Reply) -> None:
        """Count a reply."""
        tokens_in, tokens_out = reply.tokens_in or 0, reply.tokens_out or 0
        self.answers += 1
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.uncounted += reply.tokens_in is None or reply.tokens_out is None
        if reply.attempts:
            self.asked += 1
            self.now_in += tokens_in
            self.now_out += tokens_out


def figures(models: Mapping[str, Usage]) -> dict[str, Any]:
    """`models`, `cost` and `run` as `describe_clips` reports them; a cost is None without prices.

    `run` alone depends on how often the work was interrupted.
    """
    every = models.values()
    return {
        "models": {
            name: {
                "answers": usage.answers,
                "tokens_in": usage.tokens_in,
                "tokens_out": usage.tokens_out,
                "uncounted": usage.uncounted,
                "cost": cost(usage.prices, usage.tokens_in, usage.tokens_out),
            }
            for name, usage in sorted(models.items())
        },
        "cost": _sum([cost(one.prices, one.tokens_in, one.tokens_out) for one in every]),
        "run": {
            "asked": sum(one.asked for one in every),
            "cached": sum(one.answers - one.asked for one in every),
            "tokens_in": sum(one.now_in for one in every),
            "tokens_out": sum(one.now_out for one in every),
            "cost": _sum([cost(one.prices, one.now_in, one.now_out) for one in every]),
        },
    }


def cost(prices: tuple[float, float] | None, tokens_in: int, tokens_out: int) -> float | None:
    """US dollars for so many tokens; None without prices."""
    return None if prices is None else (prices[0] * tokens_in + prices[1] * tokens_out) / 1e6


def _sum(costs: list[float | None]) -> float | None:
    known = [value for value in costs if value is not None]
    return sum(known) if known and len(known) == len(costs) else None
