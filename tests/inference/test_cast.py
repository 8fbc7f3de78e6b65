from __future__ import annotations

import json

import numpy as np
import pytest

from emoverse.faces.people import Likeness
from emoverse.inference import cast
from emoverse.inference.cast import Cast, Sighting

BOX = (10.0, 10.0, 50.0, 60.0)
ELSEWHERE = (200.0, 10.0, 240.0, 60.0)


def _likeness(person: int, count: int = 20, noise: float = 0.1, *, seed: int = 0) -> Likeness:
    """A person's looks and shape with a part's own noise, the shape turned at random."""
    own = np.random.default_rng(person)
    looks, shape = own.normal(size=300), own.normal(size=(27, 3))
    rng = np.random.default_rng([person, seed])
    looks = looks + noise * rng.normal(size=300)
    shape = shape - shape.mean(axis=0)
    shape = shape / np.linalg.norm(shape) + 0.01 * noise * rng.normal(size=(27, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    return Likeness(count * shape @ turn, count * looks / np.linalg.norm(looks), count)


def _seen(person: int, start: float = 0.0, box: cast.Box = BOX, **noise: float) -> Sighting:
    return Sighting(_likeness(person, **noise), (start, box), (start + 2, box))  # type: ignore[arg-type]


def test_a_person_keeps_the_number_and_another_gets_a_new_one() -> None:
    people = Cast()
    assert people.recognise([_seen(1), _seen(2, box=ELSEWHERE)]) == [1, 2]
    assert people.recognise([_seen(2, 50, seed=1), _seen(3, 50, box=ELSEWHERE)]) == [2, 3]
    assert people.recognise([_seen(1, 90, ELSEWHERE, seed=2)]) == [1]
    assert len(people) == 3


def test_two_in_one_picture_are_never_one() -> None:
    people = Cast()
    people.recognise([_seen(1)])
    twins = [_seen(1, 50, seed=1), _seen(1, 50, ELSEWHERE, seed=2)]
    first, second = people.recognise(twins, at_once=[(0, 1)])
    assert {first, second} == {1, 2}
    # In two shots of a part, one after the other, they may well be.
    assert Cast().recognise(twins) == [1, 1]


def test_shapes_that_disagree_speak_against_looks() -> None:
    looks = _likeness(1)
    other = Likeness(_likeness(2).shape, _likeness(1, noise=0.7, seed=3).looks, 20)
    assert cast.looks_alike(looks, other) > 0.65
    assert not cast.agree(looks, other)
    assert cast.agree(looks, Likeness(looks.shape, other.looks, 20))


def test_a_face_that_turns_in_place_is_still_the_same_unless_there_is_a_cut() -> None:
    turned = {"noise": 0.9, "seed": 4}
    assert 0.65 < cast.looks_alike(_likeness(1), _likeness(1, **turned)) < 0.75  # type: ignore[arg-type]
    people = Cast()
    people.recognise([_seen(1)])
    assert people.recognise([_seen(1, 2.5, **turned)]) == [1]
    for cuts, start, box in (((2.2,), 2.5, BOX), ((), 5.0, BOX), ((), 2.5, ELSEWHERE)):
        people = Cast(cuts)
        people.recognise([_seen(1)])
        assert people.recognise([_seen(1, start, box, **turned)]) == [2]


def test_a_glimpse_of_a_stranger_gets_no_number() -> None:
    people = Cast()
    assert people.recognise([_seen(1, count=2)]) == [None]
    assert people.recognise([_seen(1, 20)]) == [1]
    assert people.recognise([_seen(1, 40, count=2, noise=0.01)]) == [1]


def test_a_sighting_survives_the_disk() -> None:
    seen = _seen(5, 12.3)
    read = cast.load(json.loads(json.dumps(cast.dump(seen))))
    assert read.first == seen.first and read.likeness.count == 20
    assert cast.looks_alike(read.likeness, seen.likeness) > 0.99999
    assert cast.shape_distance(read.likeness, seen.likeness) < 0.002
    assert cast.load(cast.dump(read)).likeness.looks == pytest.approx(read.likeness.looks)


def test_in_the_end_split_people_are_joined() -> None:
    known = {1: _likeness(1), 2: _likeness(2), 5: _likeness(1, seed=1), 7: _likeness(1, seed=2)}
    assert cast.same_people(known, ()) == {1: 1, 2: 2, 5: 1, 7: 1}
    # 5 and 7 once stood side by side.
    joined = cast.same_people(known, [(5, 7)])
    assert joined[5] != joined[7] and 1 in (joined[5], joined[7])


def test_a_mirrored_shape_is_not_turned_into_its_original() -> None:
    one = _likeness(1)
    mirrored = Likeness(one.shape * np.array([-1, 1, 1]), one.looks, one.count)
    assert cast.shape_distance(one, mirrored) > 0.1
