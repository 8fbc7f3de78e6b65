"""M2SE's task sampling: which sample is asked which questions in which stage.

The paper: stage 1 draws 15,000 random samples and asks them with high MSA and FER rates and a low
ER rate; stage 2 takes the rest with a very small MSA rate and equally high ER, ERI and ECPE
rates. A sample is an utterance, a photo or a conversation, with a record for each of its tasks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError
from emoverse.files import read_text, write_text
from emoverse.m2se.recipe import Recipe, Stage
from emoverse.tasks import TASKS

PLAN = "plan.tsv"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The records a stage trains on, in the order of the data.

    Attributes:
        stage: of the recipe.
        records: what is asked.
        drawn: how many samples it drew, those that its rates asked nothing among them; None for a
            plan that was read from a file.
    """

    stage: Stage
    records: tuple[Record, ...]
    drawn: int | None = field(default=None, compare=False)

    def counts(self) -> dict[str, int]:
        """Records per task."""
        return dict(Counter(record.task for record in self.records))

    def samples(self) -> int:
        """How many different samples they are of."""
        return len({sample_of(record) for record in self.records})


def plan(records: Sequence[Record], stages: Sequence[Stage], seed: int) -> tuple[StagePlan, ...]:
    """Deal samples to stages and draw their tasks.

    A stage draws among the samples left (a stage that draws `again`: among all) that support one
    of its tasks with a rate above 0. Each of a sample's tasks
    is drawn by itself with the stage's rate; the draw depends on seed, stage and sample id alone,
    not on the order of the data or the number of workers. A sample whose every draw fails was
    drawn all the same: it is asked nothing, and later stages do not find it among those left.

    Args:
        records: with `meta["sample"]` naming the sample; without it a record is its own sample.
        stages: in order.
        seed: other seeds, other draws.
    """
    samples: dict[str, list[Record]] = {}
    for record in records:
        samples.setdefault(sample_of(record), []).append(record)
    left = list(samples)
    plans = []
    for number, stage in enumerate(stages):
        pool, rates = (list(samples) if stage.again else left), stage.rates
        able = [name for name in pool if any(rates.get(r.task, 0.0) > 0 for r in samples[name])]
        if stage.samples is not None and stage.samples < len(able):
            able.sort(key=lambda name: _draw(seed, number, name, "deal"))
            able = able[: stage.samples]
        chosen = set(able)
        taken = [
            record
            for name in pool
            if name in chosen
            for record in samples[name]
            if _draw(seed, number, name, record.task) < rates.get(record.task, 0.0)
        ]
        left = [name for name in left if name not in chosen]
        plans.append(StagePlan(stage, tuple(taken), len(able)))
    return tuple(plans)


def planned(recipe: Recipe) -> tuple[StagePlan, ...]:
    """The recipe's stages with their records, drawn by its seed or read from its plan file.

    Raises:
        EmoVerseError: the data or the plan file is malformed, or a stage has no records.
    """
    records = load_records(recipe.train)
    if recipe.plan:
        plans = read_plan(Path(recipe.plan), records, recipe.stages)
    else:
        plans = plan(*_shared(records, recipe), recipe.seed)
    for stage_plan in plans:
        if not stage_plan.records:
            raise EmoVerseError(
                f"Stage {stage_plan.stage.name!r} has nothing to learn: {recipe.train} holds no "
                f"records left for {', '.join(stage_plan.stage.rates)}; mend rates or samples."
            )
    return plans


def sample_of(record: Record) -> str:
    """The sample a record is of: an utterance, a photo or a conversation."""
    return str(record.meta.get("sample", record.id))


def write_plan(
    path: Path, plans: Sequence[StagePlan], seed: int, source: str | None = None
) -> Path:
    """Write a plan as text: a line for each sample of each stage, with the tasks it is asked.

    Columns, parted by tabs: stage, sample, tasks (parted by spaces). Lines starting with `#` say
    where it is from: drawn by a seed, or `source`, the file it was read from. The same recipe,
    seed and data give the same bytes.
    """
    return write_text(path, _text(plans, seed, source))


def save_plan(path: Path, plans: Sequence[StagePlan], recipe: Recipe) -> Path:
    """Write a recipe's plan, unless it was read from that very file."""
    if _is_own(path, recipe):
        return path
    return write_plan(path, plans, recipe.seed, recipe.plan)


def check_plan(path: Path, plans: Sequence[StagePlan], recipe: Recipe) -> None:
    """Look whether `save_plan` would take the place of another plan.

    Raises:
        EmoVerseError: it would.
    """
    if _is_own(path, recipe) or not path.is_file():
        return
    if read_text(path) == _text(plans, recipe.seed, recipe.plan):
        return
    raise EmoVerseError(
        f"{path}: is another plan than this recipe's; use it by --set plan={path}, name another "
        "--out, or delete it."
    )


def _is_own(path: Path, recipe: Recipe) -> bool:
    """Whether the recipe's plan was read from that very file."""
    return bool(recipe.plan) and Path(str(recipe.plan)).resolve() == path.resolve()


def _text(plans: Sequence[StagePlan], seed: int, source: str | None) -> str:
    origin = f"from {source}" if source else f"seed {seed}"
    lines = [f"# M2SE plan, {origin}: stage, sample, tasks"]
    for stage_plan in plans:
        tasks: dict[str, list[str]] = {}
        for record in stage_plan.records:
            own = tasks.setdefault(sample_of(record), [])
            if record.task not in own:
                own.append(record.task)
        for sample in sorted(tasks):
            asked = " ".join(task for task in TASKS if task in tasks[sample])
            lines.append(f"{stage_plan.stage.name}\t{sample}\t{asked}")
    return "\n".join(lines) + "\n"


def read_plan(
    path: Path, records: Sequence[Record], stages: Sequence[Stage]
) -> tuple[StagePlan, ...]:
    """Read what `write_plan` wrote (or somebody edited); the records come in the data's order.

    Raises:
        EmoVerseError: a line is malformed, names an unknown stage, task or sample, or a sample is
            asked in two stages of which none draws `again`; names the line.
    """
    known: dict[str, set[str]] = {}
    for record in records:
        known.setdefault(sample_of(record), set()).add(record.task)
    homes: dict[str, str] = {}
    asked: dict[tuple[str, str], set[str]] = {}
    names = [stage.name for stage in stages]
    again = {stage.name for stage in stages if stage.again}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        place = f"{path}, line {number}"
        parts = line.split("\t")
        if len(parts) != 3:
            raise EmoVerseError(f"{place}: expected stage, sample and tasks parted by tabs.")
        stage, sample, tasks = parts[0], parts[1], set(parts[2].split())
        if stage not in names:
            raise EmoVerseError(
                f"{place}: the recipe has no stage {stage!r}; use {', '.join(names)}."
            )
        if strange := tasks - known.get(sample, set()):
            raise EmoVerseError(
                f"{place}: the data has no {min(strange)} record of sample {sample!r}; draw the "
                "plan again, or train on the data it was drawn from."
            )
        if stage not in again and homes.setdefault(sample, stage) != stage:
            raise EmoVerseError(
                f"{place}: sample {sample!r} is in stage {homes[sample]!r} already; keep one line."
            )
        asked.setdefault((stage, sample), set()).update(tasks)
    return tuple(
        StagePlan(
            stage,
            tuple(r for r in records if r.task in asked.get((stage.name, sample_of(r)), ())),
        )
        for stage in stages
    )


def _shared(records: Sequence[Record], recipe: Recipe) -> tuple[list[Record], list[Stage]]:
    """The share of the samples that a recipe uses, and its stages drawing that much less."""
    if recipe.share == 1:
        return list(records), list(recipe.stages)
    kept = [r for r in records if _draw(recipe.seed, -1, sample_of(r), "share") < recipe.share]
    stages = [
        stage
        if stage.samples is None
        else replace(stage, samples=max(1, round(stage.samples * recipe.share)))
        for stage in recipe.stages
    ]
    return kept, stages


def _draw(seed: int, stage: int, sample: str, what: str) -> float:
    """A number in [0, 1) that is the same on every machine and Python version."""
    return random.Random(f"{seed}/{stage}/{sample}/{what}").random()
