from __future__ import annotations

import copy
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.emt.label_studio import (
    NO_CAUSE,
    Conversation,
    conversation_of,
    labelling_config,
    marking,
    task,
)
from emoverse.tasks import labels

TALK = Conversation(
    "7",
    "train",
    (
        {"utterance_ID": 1, "text": "You won & “passed”!", "speaker": "Ann", "emotion": "neutral"},
        {"utterance_ID": 2, "text": "No!", "speaker": "Bob", "emotion": "surprise"},
        {"utterance_ID": 3, "text": "Oh <yes>", "emotion": "joy", "video_name": "a/dia7utt3.mp4"},
    ),
)


def region(name: str, at: int, emotion: str, **other: Any) -> dict[str, Any]:
    value = {"start": str(at - 1), "end": str(at - 1), "paragraphlabels": [emotion], **other}
    return {"id": name, "type": "paragraphlabels", "from_name": "emotion", "value": value}


def ticks(name: str, *choices: str) -> dict[str, Any]:
    return {"id": name, "type": "choices", "value": {"start": "1", "choices": list(choices)}}


def arrow(source: str, target: str, **other: Any) -> dict[str, Any]:
    known = {"type": "relation", "direction": "right", "labels": ["caused by"]}
    return {**known, "from_id": source, "to_id": target, **other}


def annotation(*result: Any, **other: Any) -> dict[str, Any]:
    return {"id": 5, "completed_by": {"id": 2, "email": "ann@b.org"}, "result": [*result], **other}


def test_the_page_is_xml_with_every_emotion_and_cause_control() -> None:
    page = ElementTree.fromstring(labelling_config())
    assert [label.get("value") for label in page.iter("Label")] == list(labels.EMOTIONS)
    [choices] = page.iter("Choices")
    assert (choices.get("perRegion"), choices.get("choice")) == ("true", "multiple")
    assert "neutral" not in str(choices.get("whenLabelValue"))
    named = {tag.get("name") for tag in page.iter() if tag.get("name")}
    assert {tag.get("toName") for tag in page.iter() if tag.get("toName")} <= named
    assert page.find("HyperText") is None
    assert ElementTree.fromstring(labelling_config(clips=True)).find("HyperText") is not None


def test_a_task_holds_all_that_the_page_names_and_the_known_emotions() -> None:
    made = task(TALK, clips_url="http://host/clips/")
    page = labelling_config(clips=True)
    for tag in ElementTree.fromstring(page).iter():
        if str(tag.get("value")).startswith("$"):
            assert str(tag.get("value"))[1:] in made["data"]
    assert [choice["value"] for choice in made["data"]["utterances"]] == [
        "1. Ann: You won & “passed”!",
        "2. Bob: No!",
        "3. Someone: Oh <yes>",
        NO_CAUSE,
    ]
    marked = made["predictions"][0]["result"]
    assert [(r["value"]["start"], r["value"]["paragraphlabels"]) for r in marked] == [
        ("1", ["surprise"]),
        ("2", ["joy"]),
    ]
    assert 'src="http://host/clips/a/dia7utt3.mp4"' in made["data"]["clips"]
    assert conversation_of(made) == TALK


def test_ticks_and_arrows_say_the_same() -> None:
    ticked = annotation(
        region("x", 2, "surprise"), ticks("x", "1. Ann: You won & “passed”!", "2. Bob: No!")
    )
    drawn = annotation(
        region("x", 2, "surprise"),
        region("y", 1, "neutral"),
        arrow("x", "y"),
        arrow("y", "x", direction="left"),
        ticks("x", "2. Bob: No!"),
    )
    found = marking(ticked, TALK)
    assert found.causes == marking(drawn, TALK).causes == {2: (1, 2)}
    assert (found.annotator, found.emotions) == ("ann@b.org", {2: "surprise"})


def test_no_cause_and_no_answer_are_different() -> None:
    found = marking(
        annotation(region("x", 2, "surprise"), region("y", 3, "joy"), ticks("x", NO_CAUSE)), TALK
    )
    assert found.causes == {2: (), 3: None}


def test_the_prediction_taken_over_unchanged_is_an_annotation() -> None:
    made = task(TALK)
    found = marking(annotation(*made["predictions"][0]["result"]), TALK)
    assert found.emotions == {2: "surprise", 3: "joy"}
    assert found.causes == {2: None, 3: None}


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        ([region("x", 4, "joy")], "not on one utterance"),
        ([region("x", 1, "joy", end="2")], "not on one utterance"),
        ([region("x", 1, "joy", start="one", end="one")], "not on one utterance"),
        ([region("x", 1, "joy", start="-1", end="-1")], "not on one utterance"),
        ([region("x", 1, "hunger")], "not one of the seven"),
        ([region("x", 1, "joy", paragraphlabels=["joy", "anger"])], "not one of the seven"),
        ([region("x", 1, "joy", paragraphlabels=None)], "no list `paragraphlabels`"),
        ([region("x", 1, "joy"), region("y", 1, "anger")], "two emotions"),
        ([ticks("gone", "1. Ann: Hi")], "region 'gone', which is not there"),
        ([region("x", 1, "joy"), ticks("x", "9. Ann: Hi")], "no utterance of the conversation"),
        ([region("x", 1, "joy"), ticks("x", "that one")], "no utterance of the conversation"),
        ([region("x", 1, "joy"), ticks("x", "1. A: b", NO_CAUSE)], "causes and also none"),
        ([region("x", 1, "neutral"), ticks("x", "1. A: b")], "neutral and yet has causes"),
        ([region("x", 1, "joy"), arrow("x", "gone")], "region 'gone', which is not there"),
        ([region("x", 1, "joy"), arrow("x", "x", direction="bi")], "does not say its cause"),
        ([region("x", 1, "joy"), arrow("x", "x", labels=["likes"])], "does not say its cause"),
        (["text"], "no object"),
    ],
)
def test_malformed_annotations_are_told(result: list[Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        marking(annotation(*result), TALK)


@pytest.mark.parametrize("damaged", [None, [], {"result": None}, {}])
def test_what_is_no_annotation_is_told(damaged: Any) -> None:
    with pytest.raises(ValueError, match="no list `result`"):
        marking(damaged, TALK)


@pytest.mark.parametrize(
    "path", [("data",), ("data", "conversation"), ("data", "split"), ("data", "conversation_ID")]
)
def test_tasks_of_others_are_told(path: tuple[str, ...]) -> None:
    made = copy.deepcopy(task(TALK))
    place = made
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = None
    with pytest.raises(ValueError, match="annotate export"):
        conversation_of(made)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["id", "type", "value", "start", "end", "choices", "paragraphlabels",
                         "from_id", "to_id", "labels", "direction", "result"]),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip
KINDS = st.sampled_from(["paragraphlabels", "choices", "relation", "textarea"])


@given(st.lists(st.tuples(KINDS, JSON), max_size=4))
def test_any_json_is_read_or_told(items: list[tuple[str, Any]]) -> None:
    result = [{**item, "type": kind} if isinstance(item, dict) else item for kind, item in items]
    try:
        found = marking({"result": result}, TALK)
    except ValueError:
        return
    assert set(found.emotions) <= {1, 2, 3}


@given(
    st.dictionaries(
        st.integers(1, 3),
        st.tuples(st.sampled_from(labels.ECPE_EMOTIONS), st.sets(st.integers(1, 3))),
        min_size=1,
    )
)
def test_what_is_ticked_is_what_is_read(told: dict[int, tuple[str, set[int]]]) -> None:
    options = [choice["value"] for choice in task(TALK)["data"]["utterances"]]
    result = []
    for at, (emotion, causes) in told.items():
        result.append(region(f"r{at}", at, emotion))
        result.append(ticks(f"r{at}", *([options[c - 1] for c in causes] or [NO_CAUSE])))
    found = marking(annotation(*result), TALK)
    assert found.emotions == {at: emotion for at, (emotion, _) in told.items()}
    assert found.causes == {at: tuple(sorted(causes)) for at, (_, causes) in told.items()}


@pytest.mark.slow
@pytest.mark.parametrize("clips", [False, True])
def test_label_studios_own_parser_takes_it(clips: bool) -> None:
    """Label Studio's SDK validates page, task and prediction; `pip install label-studio-sdk`."""
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    page = sdk.LabelInterface(labelling_config(clips=clips))
    page.validate()
    made = task(TALK, clips_url="http://host" if clips else None)
    assert page.validate_task({"data": made["data"]})
    assert page.validate_prediction(made["predictions"][0])
    page.load_task(made["data"])
    regions = made["predictions"][0]["result"]
    assert page.validate_relation(arrow("utterance-2", "utterance-3"), regions)
