from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import gold_label, read_answer, unique_ids
from emoverse.evaluation.score import score_files
from emoverse.evaluation.scored import DERIVED, GIVEN
from emoverse.files import sha256_of
from emoverse.tasks import ecpe, er, eri, fer, msa

from .made import ecpe_records, er_records, msa_records, talk


def test_records_against_their_own_responses_are_all_right(tmp_path):
    for task, records in (
        ("er", er_records()),
        ("msa", [r for r in msa_records() if r.label != 0]),
        ("ecpe", ecpe_records(range(6))),
    ):
        file = dump_records(tmp_path / f"{task}.jsonl", records)
        result = score_files(task, file, file, "paper")
        assert all(value == pytest.approx(100) for value in result["headline"].values())
        assert result["unparseable"] == 0
        assert result["floors"]


def test_paper_leaves_targets_without_cause_out_and_strict_keeps_them(tmp_path):
    records = ecpe_records([3, 4])
    empty = sum(not record.label for record in records)
    assert empty
    file = dump_records(tmp_path / "gold.jsonl", records)
    rules = [ecpe.parse_query(record.query) for record in records]
    said = [
        replace(record, response=ecpe.answer(ecpe.self_pairs(*rule)))
        for record, rule in zip(records, rules, strict=True)
    ]
    pred = dump_records(tmp_path / "pred.jsonl", said)
    paper = score_files("ecpe", file, pred, "paper")
    strict = score_files("ecpe", file, pred, "strict")
    assert (paper["n"], strict["n"]) == (len(records) - empty, len(records))
    assert strict["headline"]["precision"] < paper["headline"]["precision"]
    assert paper["headline"] == paper["floors"]["cause = target"]
    assert paper["bootstrap"]["unit"] == "conversation"


def test_authors_format_is_matched_by_position_and_unparseable_counts(tmp_path):
    rows = [{"query": r.query, "response": r.response, "videos": ["x"]} for r in er_records(4)]
    gold = tmp_path / "gold.json"
    gold.write_text(json.dumps(rows), encoding="utf-8")
    answers = [{"response": row["response"]} for row in rows[:3]] + [{"response": "Hm?"}]
    pred = tmp_path / "pred.json"
    pred.write_text(json.dumps(answers), encoding="utf-8")
    result = score_files("er", gold, pred, "paper")
    assert result["headline"]["accuracy"] == 75
    assert result["unparseable"] == 1
    pred.write_text(json.dumps(answers[:2]), encoding="utf-8")
    with pytest.raises(EmoVerseError, match="2 answers for 4 records"):
        score_files("er", gold, pred, "paper")


def test_answers_with_ids_may_come_in_any_order_but_must_be_there(tmp_path):
    records = er_records(5)
    gold = dump_records(tmp_path / "gold.jsonl", records)
    rows = [json.dumps({"id": r.id, "text": r.response}) for r in reversed(records)]
    pred = tmp_path / "pred.jsonl"
    pred.write_text("\n".join(rows), encoding="utf-8")
    assert score_files("er", gold, pred, "paper")["headline"]["accuracy"] == 100
    again = json.dumps({"id": "u4", "text": "Fear."})
    pred.write_text("\n".join([*rows, again]), encoding="utf-8")
    twice = score_files("er", gold, pred, "paper")
    assert (twice["headline"]["accuracy"], twice["replaced"]) == (80, 1)
    pred.write_text("\n".join(rows[1:]), encoding="utf-8")
    with pytest.raises(EmoVerseError, match="no answer for record u4"):
        score_files("er", gold, pred, "paper")


@pytest.mark.parametrize(
    ("record", "gold"),
    [
        (Record(msa.query("a"), "Negative.", "msa"), "negative"),
        (Record(msa.query("a"), "", "msa", label="-1.5"), -1.5),
        (Record(er.query("a"), "Happy.", "er"), "joy"),
        (Record(er.query("a"), "", "er", label="angry"), "anger"),
    ],
)
def test_gold_comes_from_the_label_else_from_the_response(record, gold):
    assert gold_label(record) == gold


def test_a_bare_score_is_positive_from_0_up():
    record = Record(msa.query("a"), "", "msa", label=1.0)
    said = [read_answer(record, text) for text in ("0", "0.2", "-0.2")]
    assert said == ["positive", "positive", "negative"]


def test_an_unreadable_gold_names_the_record():
    with pytest.raises(EmoVerseError, match="Record k7"):
        gold_label(Record(er.query("a"), "Hm.", "er", id="k7"))
    turns, _ = talk(0)
    with pytest.raises(EmoVerseError, match="Record k8"):
        gold_label(Record(ecpe.query(turns, 1), "", "ecpe", id="k8", label=[[1, "glee", 1]]))


def test_repeated_ids_are_told_apart():
    same = [replace(record, id="a") for record in er_records(2)] + [
        replace(record, id="a") for record in msa_records(1)
    ]
    ids = [record.id for record in unique_ids(same)]
    assert ids == ["a/er", "a/er/2", "a/msa"]
    assert unique_ids(er_records(3)) == er_records(3)


def test_a_block_says_where_its_figures_are_from(tmp_path):
    file = dump_records(tmp_path / "er.jsonl", er_records())
    block = score_files("er", file, file, "paper")
    assert block["data_sha256"] == block["predictions_sha256"] == sha256_of(file)
    assert block["model_sha256"] is None
    assert block["seed"] == 0
    assert block["settings"]["gold"] == str(file)


def test_what_hangs_together_in_a_conversation_is_resampled_together(tmp_path):
    # All of a conversation is right or wrong, so ten of them say less than 100 records would.
    records = [
        replace(record, meta={"dialogue": f"d{place // 10}"})
        for place, record in enumerate(er_records(100))
    ]
    said = [replace(r, response="Fear.") if int(r.id[1:]) < 50 else r for r in records]
    pred = dump_records(tmp_path / "pred.jsonl", said)

    def scored(gold):
        return score_files("er", dump_records(tmp_path / "gold.jsonl", gold), pred, "paper")

    whole = scored(records)
    assert whole["bootstrap"]["unit"] == "conversation"
    alone = scored([replace(record, meta={}) for record in records])
    assert alone["bootstrap"]["unit"] == "record"
    assert whole["headline"] == alone["headline"]
    wide, narrow = (
        block["intervals"]["accuracy"][1] - block["intervals"]["accuracy"][0]
        for block in (whole, alone)
    )
    assert wide > 2 * narrow
    # A record that names no conversation stands for itself.
    assert scored([*records[:99], replace(records[99], meta={})])["intervals"] != whole["intervals"]


def test_sentiment_scores_are_used_when_given_and_named_when_derived(tmp_path):
    records = msa_records(10)
    gold = dump_records(tmp_path / "gold.jsonl", records)
    pred = tmp_path / "pred.jsonl"

    def scored(rows, **options):
        pred.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return score_files("msa", gold, pred, "paper", **options)

    given = scored([{"id": r.id, "text": r.response, "score": r.label} for r in records])
    assert given["scores_from"] == GIVEN
    assert (given["headline"]["mae"], given["headline"]["acc7"]) == (0, 100)
    assert given["headline"]["corr"] == pytest.approx(1)
    bare = scored([{"id": r.id, "text": f"{r.label}"} for r in records])
    assert bare["headline"] == pytest.approx(given["headline"])
    shares = [{"positive": 0.8, "negative": 0.2} for _ in records]
    rows = [
        {"id": r.id, "text": r.response, "probabilities": p}
        for r, p in zip(records, shares, strict=True)
    ]
    assert "mae" not in scored(rows)["headline"]
    derived = scored(rows, derive_scores=True)
    assert derived["scores_from"] == DERIVED
    assert derived["headline"]["mae"] == pytest.approx(
        sum(abs(r.label - 1.8) for r in records) / len(records)
    )
    assert "always" in next(iter(derived["floors"]))
    assert next(iter(derived["floors"].values()))["mae"] > 0


def test_the_wheel_reads_what_the_label_words_cannot(tmp_path):
    records = er_records(4)  # joy, neutral, anger, sadness
    gold = dump_records(tmp_path / "gold.jsonl", records)
    said = [replace(r, response="He is elated." if r.label == "joy" else "?") for r in records]
    pred = dump_records(tmp_path / "pred.jsonl", said)
    plain = score_files("er", gold, pred, "paper")
    assert (plain["headline"]["accuracy"], plain["unparseable"]) == (0, 4)
    wheel = score_files("er", gold, pred, "paper", open_vocabulary=True)
    assert (wheel["headline"]["accuracy"], wheel["unparseable"]) == (25, 3)
    assert wheel["through_wheel"] == 1


def test_captions_and_reasons_have_intervals_and_floors(tmp_path):
    captions = ["Grinning; Eyes narrowing", "Grinning", "Frowns furrowed", "Eyes widened"]
    units = [["AU12", "AU06"], ["AU12"], ["AU04"], ["AU05"]]
    records = [
        Record(fer.query(), caption, "fer", id=f"f{n}", label=codes)
        for n, (caption, codes) in enumerate(zip(captions, units, strict=True))
    ]
    reasons = ["She is happy because she won.", "He fears the dark.", "She is angry at Ross."]
    records += [Record(eri.query(str(n)), r, "eri", id=f"r{n}") for n, r in enumerate(reasons)]
    file = dump_records(tmp_path / "both.jsonl", records)
    faces = score_files("fer", file, file, "paper")
    assert faces["headline"]["f1"] == faces["headline"]["caption_f1"] == 100
    assert faces["intervals"]["f1"] == [100, 100]
    assert set(faces["floors"]) == {"always AU12 (most frequent here)"}
    # What is always said, "Grinning", is the whole of one gold caption and a third of another.
    floor = faces["floors"]["always AU12 (most frequent here)"]
    assert floor["caption_f1"] == pytest.approx((50 + 100 + 0 + 0) / 4)
    told = score_files("eri", file, file, "paper")
    assert told["headline"]["clue_overlap"] == told["headline"]["wheel_overlap"] == 100
    floor = told["floors"]["another record's reason"]
    assert floor["label_overlap"] < 50


def test_ids_that_repeat_across_tasks_are_matched_by_place(tmp_path):
    records = [*msa_records(3), *er_records(3)]  # u0, u1, u2 twice
    file = dump_records(tmp_path / "both.jsonl", records)
    assert score_files("er", file, file, "paper")["headline"]["accuracy"] == 100
    shorter = dump_records(tmp_path / "shorter.jsonl", records[:4])
    with pytest.raises(EmoVerseError, match="no answer for record u0/er"):
        score_files("er", file, shorter, "paper")
