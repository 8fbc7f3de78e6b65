from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from emoverse.emt.record import Record, dump_records
from emoverse.m2se.plan import plan, planned, read_plan, sample_of, write_plan
from emoverse.m2se.recipe import Recipe, Stage
from emoverse.tasks import TASKS


@st.composite
def _data(draw: st.DrawFn) -> list[Record]:
    """Samples with one record for each of their tasks."""
    tasks = draw(st.lists(st.sets(st.sampled_from(TASKS), min_size=1), max_size=12))
    return [
        Record("q", "a", task, id=f"{n}/{task}", meta={"sample": str(n)})
        for n, own in enumerate(tasks)
        for task in sorted(own)
    ]


RATES = st.dictionaries(st.sampled_from(TASKS), st.floats(0, 1))
STAGES = st.lists(
    st.builds(Stage, st.just("s"), RATES, st.none() | st.integers(0, 12)), min_size=1, max_size=3
)


@given(_data(), STAGES, st.integers(0, 9))
def test_a_sample_goes_to_one_stage_only(
    data: list[Record], stages: list[Stage], seed: int
) -> None:
    plans = plan(data, stages, seed)
    assert [p.stage for p in plans] == stages
    homes = [{r.meta["sample"] for r in p.records} for p in plans]
    assert sum(map(len, homes)) == len(set().union(*homes))
    ids = [record.id for p in plans for record in p.records]
    assert len(ids) == len(set(ids))
    for p in plans:
        assert all(p.stage.rates.get(record.task, 0) > 0 for record in p.records)
        if p.stage.samples is not None:
            assert len({r.meta["sample"] for r in p.records}) <= p.stage.samples


@given(_data(), STAGES, st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_the_data_does_not_matter(
    data: list[Record], stages: list[Stage], seed: int, rng: random.Random
) -> None:
    mixed = list(data)
    rng.shuffle(mixed)
    ids = [{r.id for r in p.records} for p in plan(data, stages, seed)]
    assert [{r.id for r in p.records} for p in plan(mixed, stages, seed)] == ids
    assert [{r.id for r in p.records} for p in plan(data, stages, seed)] == ids


@given(_data(), st.sets(st.sampled_from(TASKS)), st.integers(0, 9))
def test_rates_of_one_and_zero_are_exact(data: list[Record], wanted: set[str], seed: int) -> None:
    stage = Stage("s", {task: float(task in wanted) for task in TASKS})
    (only,) = plan(data, [stage], seed)
    assert list(only.records) == [record for record in data if record.task in wanted]
    assert only.counts() == Counter(record.task for record in only.records)


def _utterances(count: int) -> list[Record]:
    return [
        Record("q", "a", task, id=f"{n}/{task}", meta={"sample": str(n)})
        for n in range(count)
        for task in ("msa", "er")
    ]


def test_a_stage_draws_as_many_samples_as_it_says_and_the_next_takes_the_rest() -> None:
    stages = [Stage("1", {"msa": 1.0, "er": 1.0}, samples=30), Stage("2", {"er": 1.0})]
    first, second = plan(_utterances(100), stages, 0)
    assert first.counts() == {"msa": 30, "er": 30}
    assert second.counts() == {"er": 70}


def test_samples_that_no_task_of_the_stage_fits_are_not_drawn_by_it() -> None:
    data = [Record("q", "a", "ecpe", id=f"talk{n}") for n in range(5)] + _utterances(5)
    first, second = plan(data, [Stage("1", {"er": 1.0}, samples=5), Stage("2", {"ecpe": 1.0})], 0)
    assert first.counts() == {"er": 5}
    assert second.counts() == {"ecpe": 5}


def test_a_rate_of_zero_draws_nothing_and_leaves_samples_to_later_stages() -> None:
    photos = [Record("q", "a", "fer", id=f"photo{n}") for n in range(5)]
    stages = [Stage("1", {"fer": 0.0, "er": 1.0}, samples=8), Stage("2", {"fer": 1.0})]
    first, second = plan(_utterances(10) + photos, stages, 0)
    assert (first.counts(), first.drawn) == ({"er": 8}, 8)
    assert second.counts() == {"fer": 5}


def test_samples_that_are_drawn_but_asked_nothing_are_counted_and_gone() -> None:
    first, second = plan(
        _utterances(1000), [Stage("1", {"msa": 0.5}, 600), Stage("2", {"er": 1})], 0
    )
    assert first.drawn == 600
    assert 250 < first.samples() < 350
    assert second.samples() == second.drawn == 400


def test_a_rate_is_met_on_average_and_tasks_are_drawn_apart() -> None:
    (only,) = plan(_utterances(2000), [Stage("s", {"msa": 0.9, "er": 0.1})], 0)
    counts = only.counts()
    assert 1750 < counts["msa"] < 1850
    assert 150 < counts["er"] < 250


def test_another_seed_draws_other_samples() -> None:
    stage = Stage("s", {"msa": 1.0, "er": 1.0}, samples=30)
    drawn = [{r.id for r in plan(_utterances(100), [stage], seed)[0].records} for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def _planned(data: Path, share: float, seed: int = 0) -> list[set[str]]:
    """The samples of each stage: half of all go to the first."""
    stages = (Stage("1", {"msa": 1.0}, samples=1000), Stage("2", {"er": 1.0}))
    recipe = Recipe("compact", str(data), stages, seed=seed, share=share)
    return [{sample_of(record) for record in one.records} for one in planned(recipe)]


def test_a_share_keeps_whole_samples_and_shrinks_what_a_stage_draws(tmp_path: Path) -> None:
    records = _utterances(2000)
    data = dump_records(tmp_path / "train.jsonl", records)
    whole, tenth, twice = (_planned(data, share) for share in (1.0, 0.1, 0.2))
    assert list(map(len, whole)) == [1000, 1000]
    assert len(tenth[0]) == 100 and 70 < len(tenth[1]) < 130
    assert set().union(*tenth) < set().union(*twice)  # a larger share holds the smaller
    assert set().union(*_planned(data, 0.1, seed=1)) != set().union(*tenth)
    more = dump_records(tmp_path / "more.jsonl", [*_utterances(2001)[4000:], *reversed(records)])
    assert set().union(*_planned(more, 0.1)) - {"2000"} == set().union(*tenth) - {"2000"}


def test_a_stage_that_draws_again_asks_samples_of_earlier_stages_too(tmp_path: Path) -> None:
    stages = [
        Stage("1", {"msa": 1.0}, samples=30),
        Stage("2", {"er": 1.0}),
        Stage("3", {"msa": 1.0, "er": 1.0}, samples=50, again=True),
        Stage("4", {"er": 1.0}),
    ]
    data = _utterances(100)
    first, second, third, fourth = plan(data, stages, 0)
    assert (first.samples(), second.samples(), third.samples()) == (30, 70, 50)
    assert not fourth.records  # stage 2 took what was left
    drawn = {sample_of(record) for record in third.records}
    for earlier in (first, second):
        assert drawn & {sample_of(record) for record in earlier.records}

    file = write_plan(tmp_path / "plan.tsv", (first, second, third), 0)
    assert read_plan(file, data, stages[:3]) == (first, second, third)
