from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.corpora import merr
from emoverse.emt.quality_gate import (
    CHECKS,
    FACE_WORDS,
    OPPOSED,
    check_description,
    check_reason,
    whole_sentences,
)
from emoverse.tasks.action_units import BY_CODE, codes_in

GOOD = (
    "In the video, the person leans back with a broad grin while the friends applaud, and the "
    "proud words about the new job show that the person is full of joy."
)


def failed(text: str, label: str | None = "joy", aus: tuple[str, ...] = (), **told: str) -> str:
    found = check_reason(text, label=label, aus=aus, **told)  # type: ignore[arg-type]
    return found.check if found else ""


def test_a_good_reason_passes() -> None:
    assert failed(GOOD) == failed(GOOD, None) == failed(GOOD, "positive") == ""
    assert failed(GOOD, aus=("AU12", "AU06")) == ""
    assert check_description(GOOD) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with identifying people in images, even with a joyful face.",
        "I cannot analyze a video that appears to be about such a topic, joy or no joy in it.",
        "As an AI language model, I do not watch videos, but the person may be feeling joy here.",
        "Unfortunately I am not able to determine the emotion of the person, joy is only a guess.",
        "It seems that no image was provided, so the joy of the person must remain a guess to me.",
    ],
)
def test_refusals(text: str) -> None:
    assert failed(text) == "refusal"


@pytest.mark.parametrize(
    "said", ["\"I'm sorry, I can't help you\"", "“I cannot see it”", "'I am sorry but I must go'"]
)
def test_what_the_person_says_is_no_refusal(said: str) -> None:
    text = f"In the video, the person says {said} with a laugh, and the warm voice tells of joy."
    assert failed(text) == ""


def test_the_server_may_mark_a_refusal() -> None:
    found = check_reason(GOOD, label="joy", refusal=True)
    assert found is not None
    assert found.check == "refusal"


def test_cut_answers() -> None:
    assert failed(GOOD[:-10], finish="length") == "cut"
    assert failed(GOOD, finish="length") == ""
    assert whole_sentences("One. Two! Thr") == "One. Two!"
    assert whole_sentences("3.5 kg of") == ""


@pytest.mark.parametrize(
    "text",
    [
        "Die Person im Video freut sich sehr (joy), weil der Freund nach Hause gekommen ist und "
        "alle anderen laut klatschen, lachen und singen.",
        "视频中的人看起来非常高兴, joy, 因为他的朋友终于回来了, 大家都在鼓掌, 他的话也表明了。",
        "joy happiness smiling friends party applause laughter cake music dancing proud winner",
    ],
)
def test_only_english_prose(text: str) -> None:
    assert failed(text) == "language"


def test_length_and_emptiness() -> None:
    assert failed("The person is full of joy.") == "length"
    assert failed(" ".join(f"{GOOD[:-1]} {number}." for number in range(9))) == "length"
    assert failed(" ... \n") == "empty"


def test_repetition() -> None:
    assert failed("The person is full of joy and the person is happy. " * 4) == "repetition"


@pytest.mark.parametrize(
    ("text", "label", "check"),
    [
        (GOOD.replace("joy", "anger"), "joy", "label"),
        (GOOD.replace("joy", "pride"), "joy", "label"),
        (GOOD.replace("joy", "happiness"), "joy", ""),
        (GOOD.replace("is full of joy", "is not angry but full of joy"), "anger", "label"),
        (GOOD + " All in all the emotion is anger, with hardly any joy.", "joy", ""),
        (GOOD.replace("is full of joy", "is angry, some may see joy"), "joy", "label"),
        (GOOD, "negative", "label"),
        (GOOD.replace("full of joy", "in a positive mood"), "positive", ""),
        (GOOD.replace("full of joy", "of calm mind"), "neutral", ""),
    ],
)
def test_the_label_must_be_named_and_not_contradicted(text: str, label: str, check: str) -> None:
    assert failed(text, label) == check


@pytest.mark.parametrize(
    ("face", "aus", "check"),
    [
        ("a downturned mouth", ("AU12",), "action_units"),
        ("a bright smile", ("AU15",), "action_units"),
        ("eyes wide open", ("AU07",), "action_units"),
        ("pressed lips", ("AU26",), "action_units"),
        ("a bright smile", ("AU12", "AU15"), ""),
        ("no smile, just a wink", ("AU15",), ""),
        ("a downturned mouth", (), ""),
        ("a downturned mouth", ("AU04",), ""),
    ],
)
def test_the_face_must_not_contradict_the_action_units(
    face: str, aus: tuple[str, ...], check: str
) -> None:
    assert failed(GOOD.replace("a broad grin", face), aus=aus) == check


def test_the_tables_name_known_action_units() -> None:
    opposed = {code for sides in OPPOSED for side in sides for code in side}
    assert set(FACE_WORDS) <= opposed <= set(BY_CODE)


@given(st.text(max_size=300), st.sampled_from([None, "joy", "negative"]))
def test_any_text_is_judged(text: str, label: str | None) -> None:
    found = check_reason(text, label=label, aus=("AU12",))
    assert found is None or found.check in CHECKS
    assert text.startswith(whole_sentences(text))


def test_published_reasons_pass(shared: Path) -> None:
    """Of MERR's reasons the gate keeps nine in ten, and finds the refusals among them."""
    file = shared / "merr" / "MERR_fine_grained_train.json"
    if not file.is_file():
        pytest.skip(f"research data not here: {file} is absent")
    reasons, _ = merr.read(file)
    found = Counter(failed(r.caption, r.emotion, codes_in("; ".join(r.phrases))) for r in reasons)
    assert found[""] > 0.88 * len(reasons)
    assert found["refusal"] == 7
    assert found["language"] == found["length"] == found["repetition"] == found["cut"] == 0
    assert found["action_units"] < 10
