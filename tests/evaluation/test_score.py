from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.score import gold_label, score_files, unique_ids
from emoverse.tasks import ecpe, er, msa

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
