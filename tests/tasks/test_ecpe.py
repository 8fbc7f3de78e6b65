from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from emoverse.errors import EmoVerseError
from emoverse.tasks import ecpe, labels
from emoverse.tasks.ecpe import Pair, Turn

DATA = Path(__file__).parents[2] / "../shared/data"
EXAMPLES = DATA / "emt_format/ecf2_ecpe_examples.json"

INDEX = st.integers(1, 40)
PAIR = st.builds(Pair, INDEX, st.sampled_from(labels.ECPE_EMOTIONS), INDEX)
PAIRS = st.lists(PAIR, unique=True)
LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
NAME = st.text(
    st.one_of(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), st.just(":"))
).filter(lambda name: not re.search(r":\s", name))
TURNS = (
    Turn(1, "Ann", "Guess what!", "neutral"),
    Turn(2, "Bo", "What?", "neutral"),
    Turn(3, "Ann", "We won!", "joy"),
)


def pairs(text: str) -> tuple[Pair, ...]:
    rows = (item.split("_") for item in text.split())
    return tuple(Pair(int(a), emotion, int(b)) for a, emotion, b in rows)


def test_wording() -> None:
    assert ecpe.query(TURNS, 3) == (
        "Below is a conversation containing multiple utterances from different speakers, \n"
        "along with the corresponding emotion label for each utterance. \n"
        "Your task is to identify the indices of the candidate utterances that elicited the "
        "emotion in the target utterance.\n"
        "Input conversation:1_neutral. Ann: Guess what!\n2_neutral. Bo: What?\n"
        "3_joy. Ann: We won!\n"
        "Candidate utterances:1_neutral. Ann: Guess what!\n2_neutral. Bo: What?\n"
        "Target utterance:3_joy. Ann: We won!\n"
        'You need to return the answer as, for example, "3_surprise,1", \n'
        "which means that the emotion of surprise in the third sentence is related to the first "
        "sentence, \nand if the emotion is related to more than one sentence, separate the "
        "sentences with “;”.\nThe emotion-cause indices of the target utterance are:"
    )
    assert "\nCandidate utterances:\nTarget utterance:1_" in ecpe.query(TURNS, 1)


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the authors' example records are not here")
def test_the_authors_records_are_met_to_the_character() -> None:
    for record in json.loads(EXAMPLES.read_text(encoding="utf-8")):
        assert ecpe.query(*ecpe.parse_query(record["query"])) == record["query"]
        read = ecpe.parse(record["response"])
        assert read is not None
        assert ecpe.answer(read) == record["response"]


@given(st.lists(st.tuples(NAME, LINE, st.sampled_from(labels.EMOTIONS)), min_size=1), st.data())
def test_queries_are_read_back(rows: list[tuple[str, str, str]], data: st.DataObject) -> None:
    turns = tuple(Turn(index, *row) for index, row in enumerate(rows, 1))
    target = data.draw(st.integers(1, len(turns)))
    query = ecpe.query(turns, target)
    assert ecpe.parse_query(query) == (turns, target)
    assert ecpe.parse_query(f"<video>\n{query}\n") == (turns, target)


def test_line_breaks_inside_a_text_become_spaces() -> None:
    turns, _ = ecpe.parse_query(ecpe.query([Turn(1, "Ann", "Hi\r\nTarget utterance:9_", "joy")], 1))
    assert turns[0].text == "Hi Target utterance:9_"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("A:B", "A:B"), ("A:", "A:"), ("12:30", "12:30"), (":", ":"), ("SPEAKER:00", "SPEAKER:00"),
     ("A: B", "A:B"), ("A:\r\n B: ", "A:B:")],
)  # fmt: skip
def test_a_speaker_with_a_colon_is_read_back(name: str, shown: str) -> None:
    said = Turn(1, name, "Well: no", "joy")
    turns, _ = ecpe.parse_query(ecpe.query([said], 1))
    assert turns == (Turn(1, shown, "Well: no", "joy"),)


@given(st.text())
def test_another_text_is_no_query(text: str) -> None:
    with pytest.raises(EmoVerseError, match="not an emotion-cause query"):
        ecpe.parse_query(text)


def test_a_target_outside_the_conversation_is_named() -> None:
    with pytest.raises(EmoVerseError, match="Utterance 9 is not in the conversation"):
        ecpe.query(TURNS, 9)


@given(PAIRS)
def test_answers_are_read_back(items: list[Pair]) -> None:
    assert ecpe.parse(ecpe.answer(items)) == tuple(items)
    assert ecpe.parse(ecpe.answer(items + items)) == tuple(items)


@given(st.text(st.one_of(st.characters(), st.sampled_from("0123456789_,;jonad ٣ſ"))), PAIR)
def test_no_text_breaks_the_parser(text: str, pair: Pair) -> None:
    ecpe.parse(text)
    ecpe.parse(text, TURNS[2])
    assert pair in (ecpe.parse(f"{text}\n#{ecpe.answer([pair])}\n{text}") or ())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5_surprise,2,5", "5_surprise_2 5_surprise_5"),
        ("5_SURPRISED , 2； 5", "5_surprise_2 5_surprise_5"),
        ("5_surprise,2\n5_surprise,5.", "5_surprise_2 5_surprise_5"),
        ("5_surprise,2, 5_joy,3 7 happy: 1 and 2", "5_surprise_2 5_joy_3 7_joy_1 7_joy_2"),
        ("The causes of utterance 5 are: [(5_surprise,2), (5_surprise,2)].", "5_surprise_2"),
        ("15_fear,12", "15_fear_12"),
        ("5_surprise,2;5_surprise", "5_surprise_2"),
        ("none", ""),
        ("There is no clear cause.", ""),
        (" ", ""),
    ],
)
def test_spellings(text: str, wanted: str) -> None:
    assert ecpe.parse(text) == pairs(wanted)


@pytest.mark.parametrize("text", ["I do not know", "5_confused,3", "5_surprise", "5,2", "99"])
def test_answers_that_cannot_be_read(text: str) -> None:
    assert ecpe.parse(text) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("2;3", "3_joy_2 3_joy_3"), ("3,2", "3_joy_2"), ("3_,1;3_,3", "3_joy_1 3_joy_3"),
     ("1, 2.", "3_joy_1 3_joy_2")],
)  # fmt: skip
def test_bare_indices_are_read_when_the_target_is_known(text: str, wanted: str) -> None:
    assert ecpe.parse(text, TURNS[2]) == pairs(wanted)


def test_the_protocols_differ_in_targets_without_a_cause() -> None:
    gold = [pairs("3_joy_2 3_joy_3"), ()]
    pred = [pairs("3_joy_3 3_fear_3"), pairs("5_anger_5")]
    paper, strict = ecpe.score(gold, pred), ecpe.score(gold, pred, "strict")
    assert (paper["n"], paper["precision"], paper["recall"], paper["f1"]) == (1, 50, 50, 50)
    assert (strict["n"], strict["recall"]) == (2, 50)
    assert strict["precision"] == pytest.approx(100 / 3)
    assert paper["weighted_f1"] == pytest.approx(200 / 3)
    assert strict["per_emotion"]["joy"]["support"] == 2


def test_unparseable_answers_predict_nothing_and_are_counted() -> None:
    scores = ecpe.score([pairs("3_joy_2"), ()], [None, None])
    assert (scores["f1"], scores["unparseable"]) == (0, 1)
    assert ecpe.score([()], [None], "strict")["unparseable"] == 1
    assert ecpe.score([], [])["weighted_f1"] == 0


@given(st.lists(st.tuples(PAIRS, st.one_of(PAIRS, st.none()))))
def test_scores_agree_with_scikit_learn(items: list[tuple[list[Pair], list[Pair] | None]]) -> None:
    gold, pred = [truth for truth, _ in items], [guess for _, guess in items]
    scores = ecpe.score(gold, pred, "strict")
    # Each candidate pair, on either side, is one item of a six-class problem with a null class.
    rows = [(pair in a, pair in (b or ()), pair.emotion)
            for a, b in items for pair in {*a, *(b or ())}]  # fmt: skip
    if not any(a for a, _, _ in rows):
        return
    y = [emotion if a else "none" for a, _, emotion in rows]
    z = [emotion if b else "none" for _, b, emotion in rows]
    names = list(labels.ECPE_EMOTIONS)
    for average, key in (("micro", "f1"), ("weighted", "weighted_f1")):
        wanted = precision_recall_fscore_support(
            y, z, labels=names, average=average, zero_division=0
        )
        assert scores[key] == pytest.approx(100 * wanted[2])


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(EmoVerseError, match="'loose' is unknown"):
        ecpe.score([], [], "loose")


def test_floors() -> None:
    assert ecpe.self_pairs(TURNS, 3) == pairs("3_joy_3")
    assert ecpe.self_and_previous(TURNS, 3) == pairs("3_joy_2 3_joy_3")
    assert ecpe.self_and_previous(TURNS, 1) == pairs("1_neutral_1")
