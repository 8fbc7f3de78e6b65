"""The picture of who caused which emotion."""

from __future__ import annotations

import re
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from emoverse.inference.cause_graph import Graph, cause_graph

TURNS = [
    {"index": 1, "speaker": "Ann"},
    {"index": 2, "speaker": "Bob"},
    {"index": 3, "speaker": "Ann"},
    {"index": 4, "speaker": "Bob"},
]


def _graph(pairs: list[tuple[int, str, int]], turns: list[dict[str, object]] = TURNS) -> Graph:
    graph = cause_graph(turns, pairs)
    assert graph is not None
    return graph


def test_causes_of_one_emotion_between_two_people_are_one_arrow() -> None:
    graph = _graph([(2, "joy", 1), (4, "joy", 3), (3, "anger", 2), (4, "fear", 4)])
    assert [node.name for node in graph.nodes] == ["Ann", "Bob"]
    assert [(edge.label, edge.told) for edge in graph.edges] == [
        ("joy × 2", "Ann caused Bob's joy: utterance 1 → 2, 3 → 4"),
        ("anger", "Bob caused Ann's anger: utterance 2 → 3"),
        ("fear", "Bob caused their own fear: utterance 4 itself"),
    ]


def test_nothing_is_drawn_without_a_known_pair() -> None:
    assert cause_graph(TURNS, []) is None
    assert cause_graph(TURNS, [(9, "joy", 1), (1, "joy", 9)]) is None
    assert cause_graph([], [(1, "joy", 1)]) is None


def test_a_long_name_is_cut_and_a_missing_one_is_someone() -> None:
    turns = [{"index": 1, "speaker": "A" * 40}, {"index": 2, "speaker": None}]
    graph = _graph([(2, "joy", 1)], turns)
    assert [node.name for node in graph.nodes] == ["A" * 9 + "…", "Someone"]
    assert graph.nodes[0].full == "A" * 40 and graph.nodes[1].full == "Someone"


def test_a_wide_name_is_cut_sooner_and_none_turns_the_words_after_it() -> None:
    turns = [{"index": 1, "speaker": "漢" * 99}, {"index": 2, "speaker": "\u202eBob\u2069"}]
    graph = _graph([(2, "joy", 1)], turns)
    assert [node.name for node in graph.nodes] == ["漢" * 6 + "…", "Bob"]
    assert graph.edges[0].told == f"{'漢' * 99} caused Bob's joy: utterance 1 → 2"


speaker = st.sampled_from(["Ann", "Bob", "Cleo", "Dan", "Eve", "Fay", "Gus"])
emotion = st.sampled_from(["joy", "anger", "surprise"])


@settings(max_examples=60, deadline=None)
@given(st.lists(speaker, min_size=1, max_size=12), st.data())
def test_everything_lies_within_the_box_and_labels_keep_apart(
    speakers: list[str], data: st.DataObject
) -> None:
    index = st.integers(1, len(speakers))
    pairs = data.draw(st.lists(st.tuples(index, emotion, index), min_size=1, max_size=12))
    turns = [{"index": n, "speaker": name} for n, name in enumerate(speakers, 1)]
    graph = _graph(pairs, turns)
    left, top, width, height = graph.box
    for node in graph.nodes:
        assert left < node.x - node.half and node.x + node.half < left + width
        assert top < node.y - 18 and node.y + 18 < top + height
    for edge in graph.edges:
        assert left < edge.x < left + width and top < edge.y < top + height
        numbers = [float(n) for n in re.findall(r"-?\d+\.\d", edge.path + edge.head)]
        assert len(numbers) in (12, 14)
    for one, other in combinations(graph.nodes, 2):
        assert abs(one.x - other.x) > one.half + other.half or abs(one.y - other.y) > 36
    for one, other in combinations(graph.edges, 2):
        if {one.told.split(" caused")[0]} == {other.told.split(" caused")[0]} and len(speakers) < 3:
            assert abs(one.x - other.x) + abs(one.y - other.y) > 12
