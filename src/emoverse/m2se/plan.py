"""M2SE's task sampling: which sample is asked which questions in which stage.

The paper: stage 1 draws 15,000 random samples and asks them with high MSA and FER rates and a low
ER rate; stage 2 takes the rest with a very small MSA rate and equally high ER, ERI and ECPE
rates. A sample is an utterance, a photo or a conversation, with a record for each of its tasks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from emoverse.emt.record import Record
from emoverse.m2se.recipe import Stage


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The records a stage trains on, in the order of the data."""

    stage: Stage
    records: tuple[Record, ...]

    def counts(self) -> dict[str, int]:
        """Records per task."""
        return dict(Counter(record.task for record in self.records))


def plan(records: Sequence[Record], stages: Sequence[Stage], seed: int) -> tuple[StagePlan, ...]:
    """Deal samples to stages and draw their tasks.

    A stage draws among the samples left that support one of its tasks. Each of a sample's tasks
    is drawn by itself with the stage's rate; the draw depends on seed, stage and sample id alone,
    not on the order of the data or the number of workers.

    Args:
        records: with `meta["sample"]` naming the sample; without it a record is its own sample.
        stages: in order.
        seed: other seeds, other draws.
    """
    samples: dict[str, list[Record]] = {}
    for record in records:
        samples.setdefault(str(record.meta.get("sample", record.id)), []).append(record)
    left = list(samples)
    plans = []
    for number, stage in enumerate(stages):
        able = [name for name in left if any(r.task in stage.rates for r in samples[name])]
        if stage.samples is not None and stage.samples < len(able):
            able.sort(key=lambda name: _draw(seed, number, name, "deal"))
            able = able[: stage.samples]
        chosen = set(able)
        taken = [
            record
            for name in left
            if name in chosen
            for record in samples[name]
            if _draw(seed, number, name, record.task) < stage.rates.get(record.task, 0.0)
        ]
        left = [name for name in left if name not in chosen]
        plans.append(StagePlan(stage, tuple(taken)))
    return tuple(plans)


def _draw(seed: int, stage: int, sample: str, what: str) -> float:
    """A number in [0, 1) that is the same on every machine and Python version."""
    return random.Random(f"{seed}/{stage}/{sample}/{what}").random()
