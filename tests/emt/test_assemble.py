from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emoverse.corpora.merr import Reason
from emoverse.corpora.records import Dialogue, Utterance
from emoverse.emt.assemble import (
    cause_records,
    expression_records,
    paired_records,
    photo_records,
    reason_record,
    reason_records,
    utterance_records,
)
from emoverse.emt.clips import Look
from emoverse.emt.quality import check
from emoverse.emt.record import Record
from emoverse.emt.tally import AGREE, EMPTY, NOTHING, WHOLE, caption_counts
from emoverse.faces.captions import Caption
from emoverse.tasks import ecpe, er, msa, task_of
from emoverse.tasks.action_units import BY_CODE


def _dialogue(corpus: str, *utterances: Utterance) -> Dialogue:
    return Dialogue("d0", corpus, "train", utterances)


def _utterance(index: int, text: str, corpus: str = "meld", **fields: object) -> Utterance:
    values = {"id": f"d0_{index}", "split": "train", "dialogue": "d0", "speaker": "Ann"} | fields
    return Utterance(corpus=corpus, index=index, text=text, **values)  # type: ignore[arg-type]


def test_an_utterance_is_asked_for_what_it_is_labelled_with() -> None:
    talk = _dialogue(
        "meld",
        _utterance(1, "Hi.", emotion="joy", sentiment="positive"),
        _utterance(2, "So.", emotion="neutral", sentiment="neutral"),
        _utterance(3, "Hm."),
    )
    records = list(utterance_records(talk, context=False))
    assert [(r.task, r.response, r.label) for r in records] == [
        ("msa", "Positive.", "positive"),
        ("er", "Joy.", "joy"),
        ("er", "Neutral.", "neutral"),
    ]
    assert [r.query for r in records[:2]] == [msa.query("Hi."), er.query("Hi.")]
    assert {r.meta["sample"] for r in records[:2]} == {"meld/d0_1"}
    assert records[0].meta["dialogue"] == records[2].meta["dialogue"]
    assert len({r.id for r in records}) == 3
    assert all(task_of(r.query) == r.task for r in records)


def test_context_is_what_was_said_before_and_nothing_later() -> None:
    talk = _dialogue(
        "meld",
        _utterance(1, "First.", emotion="joy", speaker="Bob"),
        _utterance(2, "Second.", emotion="anger", speaker=None),
        _utterance(3, "Third.", emotion="fear"),
    )
    queries = [record.query for record in utterance_records(talk, context=True)]
    assert queries[0] == er.query("First.")
    assert queries[1].startswith("The conversation so far:\nBob: First.\n")
    assert queries[2] == er.query(
        "Third.", speaker="Ann", context=[("Bob", "First."), ("Someone", "Second.")]
    )


def test_mosei_scores_give_polarity_and_its_own_emotion_words() -> None:
    talk = _dialogue(
        "mosei",
        *(_utterance(n, "x", "mosei", score=s) for n, s in ((1, -0.5), (2, 0.0), (3, 2.0))),
        _utterance(4, "y", "mosei", score=1.0, emotion="joy"),
    )
    records = list(utterance_records(talk, context=False))
    assert [(r.task, r.response, r.label) for r in records] == [
        ("msa", "Negative.", -0.5),
        ("msa", "Positive.", 2.0),
        ("msa", "Positive.", 1.0),
        ("er", "Happy.", "joy"),
    ]


def test_the_pace_of_speech_is_known_where_only_the_peak_frame_is_shown() -> None:
    """MMSA's layout of MOSEI tells no times, and its records show a picture."""
    said = _utterance(1, " ".join(["word"] * 30), "mosei", score=1.0, clip=Path("a.mp4"))
    seen = {said.id: Look("k", seconds=2.5, intensities={"AU12": 3.0}, peak="crops/k-peak.jpg")}
    (record,) = utterance_records(_dialogue("mosei", said), context=False, seen=seen)
    assert record.images == ("crops/k-peak.jpg",) and record.meta["seconds"] == 2.5
    (found,) = check({"train": [record]}, {})
    assert found.kind == "pace" and "30 words in 2.50 s" in found.message


def test_a_clip_that_must_not_be_used_is_not_named() -> None:
    talk = _dialogue(
        "meld",
        _utterance(1, "a", emotion="joy", clip=Path("a.mp4")),
        _utterance(2, "b", emotion="joy", clip=Path("b.mp4"), clip_problem="corrupt"),
    )
    assert [r.videos for r in utterance_records(talk, context=False)] == [("a.mp4",), ()]


def test_every_utterance_that_is_not_neutral_is_a_target() -> None:
    talk = _dialogue(
        "ecf",
        _utterance(1, "So.", "ecf", emotion="neutral", causes=()),
        _utterance(2, "Oh!", "ecf", emotion="surprise", causes=(1, 2)),
        _utterance(3, "No.", "ecf", emotion="anger", causes=()),
        _utterance(4, "Ah.", "ecf", emotion="joy", causes=None),
    )
    records = list(cause_records(talk))
    assert [(r.response, r.label) for r in records] == [
        ("2_surprise,1;2_surprise,2", [[2, "surprise", 1], [2, "surprise", 2]]),
        ("", []),
    ]
    turns, target = ecpe.parse_query(records[1].query)
    assert ([turn.emotion for turn in turns], target) == (
        ["neutral", "surprise", "anger", "joy"],
        3,
    )
    assert {r.meta["sample"] for r in records} == {"ecf/d0"}


def test_a_reason_gets_words_and_expression_as_clues() -> None:
    told = "Their brows are drawn together, so they are angry about what was said."
    reason = Reason("s1", "No.", "anger", "angry", ("AU04", "AU99"), (), (), "", told, "train")
    (record,) = reason_records([reason])
    assert "'No.'" in record.query
    assert BY_CODE["AU04"].phrase in record.query
    assert (record.task, record.response, record.split) == ("eri", told, "train")
    (bare,) = reason_records([Reason("s2", "", None, "doubt", (), (), (), "", told, "valid")])
    assert "The person says" not in bare.query
    assert "Facial expression:" not in bare.query
    # Another emotion than the label's, and nothing that explains.
    unfit = [replace(reason, emotion="joy"), replace(reason, caption="He frowns.")]
    assert not list(reason_records(unfit, left_out := []))
    assert "names anger, its label is joy" in left_out[0]
    assert "nothing of its reason holds" in left_out[1] and len(left_out) == 2


def test_a_photo_is_asked_for_expression_and_for_the_emotion_it_is_labelled_with() -> None:
    face = {"AU12": 3.0, "AU06": 2.0}
    caption, emotion = photo_records("set/joy/1", "train", "crops/1.png", face, "joy")
    assert (caption.task, caption.label, caption.images) == (
        "fer",
        ["AU12", "AU06"],
        ("crops/1.png",),
    )
    assert (emotion.task, emotion.response) == ("er", "Joy.")
    assert caption.meta == emotion.meta
    assert [r.task for r in photo_records("u", "train", "c", face, None)] == ["fer"]
    assert [r.task for r in photo_records("u", "train", "c", {"AU12": 0.1}, None)] == []


def _photo(name: str, emotion: str) -> Record:
    return next(photo_records(name, "train", f"{name}.png", {}, emotion))


def test_a_photo_borrows_words_of_its_emotion_and_its_polarity() -> None:
    spoken = [
        Record(er.query("Hooray"), "Joy.", "er", text="Hooray"),
        Record(msa.query("Nice"), "Positive.", "msa", text="Nice"),
        Record(msa.query("Bad"), "Negative.", "msa", text="Bad"),
        Record(er.query("Later", speaker="A", context=[("B", "x")]), "Joy.", "er", text="Later"),
    ]
    photos = [_photo("a", "joy"), _photo("b", "surprise"), _photo("c", "anger")]
    pairs = list(paired_records(photos, spoken))
    assert [(r.task, r.text, r.label, r.images) for r in pairs] == [
        ("er", "Hooray", "joy", ("a.png",)),
        ("msa", "Nice", "positive", ("a.png",)),
        ("msa", "Bad", "negative", ("c.png",)),
    ]
    assert {(r.source, r.split) for r in pairs} == {("paired", "train")}
    assert pairs == list(paired_records(photos, spoken))


@pytest.mark.parametrize("emotion", ["surprise", "neutral"])
def test_an_emotion_without_polarity_borrows_no_sentiment(emotion: str) -> None:
    spoken = [Record(msa.query(t), a, "msa", text=t) for t, a in (("x", "Positive."),)]
    assert list(paired_records([_photo("a", emotion)], spoken)) == []


def test_captions_are_counted_by_how_they_came_about() -> None:
    smile, calm = {"AU12": 3.0}, {"AU12": 0.1}
    shown = [("joy", smile), ("anger", smile), ("anger", calm), ("neutral", smile), (None, smile)]
    talk = _dialogue(
        "meld", *(_utterance(n, "Hi.", emotion=emotion) for n, (emotion, _) in enumerate(shown))
    )
    seen = {
        f"d0_{n}": Look(f"key{n}", intensities=face, peak="peak.jpg", frame=0, timestamp=0.0)
        for n, (_, face) in enumerate(shown)
    }
    captioned: dict[str, Caption] = {}
    records = list(expression_records(talk, seen, captioned))
    assert [record.meta.get("fallback", False) for record in records] == [False, True, True, True]
    # Eq 3 is empty for anger on a smile, and for anger on a calm face, which gives no record;
    # neutral and no label have no AUs to share.
    assert caption_counts(captioned.values()) == {AGREE: 1, EMPTY: 2, WHOLE: 3, NOTHING: 1}
    assert list(expression_records(talk, seen, captioned)) == [], "a clip is captioned once"


def test_captions_can_be_worded_in_merrs_style() -> None:
    face = {"AU12": 1.5, "AU06": 0.3, "AU04": 3.0}
    utterance = _utterance(0, "Hi.", emotion="joy")
    look = Look("key", intensities=face, peak="peak.jpg", frame=0, timestamp=0.0)
    seen = {utterance.id: look}
    (told,) = expression_records(_dialogue("meld", utterance), seen, {}, "merr")
    assert told.response == "moderately Lip Corner Puller; slightly Cheek Raiser"
    assert told.label == ["AU12", "AU06"]
    reason = reason_record(utterance, look, "The person is glad.", "merr")
    assert "moderately Lip Corner Puller; slightly Cheek Raiser" in reason.query
    (photo,) = photo_records("u", "train", "c", face, None, "merr")
    assert photo.response.startswith("strongly Brow Lowerer; moderately Lip Corner Puller")
