from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.inference.causes import cause_sets, chosen, marginals, without
from emoverse.tasks import ecpe


def _turns(count: int) -> list[ecpe.Turn]:
    return [ecpe.Turn(index, "Ann", "x", "joy") for index in range(1, count + 1)]


def _chosen(sets: list[tuple[int, ...]], probabilities: np.ndarray) -> tuple[int, ...]:
    return chosen(marginals(sets, probabilities), without(sets, probabilities))


@given(st.data(), st.integers(1, 30))
def test_answers_name_earlier_utterances_or_the_target_each_way_once(
    data: st.DataObject, count: int
) -> None:
    target = data.draw(st.integers(1, count))
    sets = cause_sets(_turns(count), target)
    assert len(set(sets)) == len(sets)
    assert () in sets
    assert {names[0] for names in sets if len(names) == 1} == set(range(1, target + 1))
    for names in sets:
        assert list(names) == sorted(set(names))
        assert all(1 <= index <= target for index in names)


@given(st.integers(1, 12), st.integers(0, 99))
def test_marginals_add_up_to_the_mean_number_of_causes(target: int, seed: int) -> None:
    sets = cause_sets(_turns(12), target)
    probabilities = np.random.default_rng(seed).dirichlet(np.full(len(sets), 0.3))
    found = marginals(sets, probabilities)
    assert list(found) == list(range(1, target + 1))
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in found.values())
    mean = sum(len(names) * p for names, p in zip(sets, probabilities, strict=True))
    assert sum(found.values()) == pytest.approx(mean)
    named = chosen(found, without(sets, probabilities))
    assert set(named) <= set(found)
    assert list(named) == sorted(named)


def test_a_certain_answer_is_given_as_it_is() -> None:
    sets = cause_sets(_turns(5), 4)
    for wanted in [(), (2,), (1, 4), (2, 3, 4)]:
        probabilities = np.array([float(names == wanted) for names in sets])
        assert _chosen(sets, probabilities) == wanted


@pytest.mark.parametrize(
    ("probabilities", "names"),
    [
        # of (), (1,), (2,), (1, 2)
        ([0.0, 0.1, 0.9, 0.0], (2,)),
        ([0.0, 0.1, 0.5, 0.4], (1, 2)),
        ([0.4, 0.25, 0.35, 0.0], (2,)),  # none passes, but there is one more likely than not
        ([0.6, 0.1, 0.1, 0.2], ()),
    ],
)
def test_likely_causes_are_named(probabilities: list[float], names: tuple[int, ...]) -> None:
    sets = [(), (1,), (2,), (1, 2)]
    assert _chosen(sets, np.array(probabilities)) == names


def test_a_lower_threshold_names_more() -> None:
    assert chosen({1: 0.3, 2: 0.7}, 0.0, threshold=0.2) == (1, 2)
