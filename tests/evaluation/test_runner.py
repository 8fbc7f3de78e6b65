from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emoverse.cli import main
from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.runner import evaluate, score_predictions

from .made import FakeEngine, ecpe_records, er_records, msa_records


def _mixed(tmp_path):
    records = [*er_records(), *msa_records(), *ecpe_records(range(4))]
    return dump_records(tmp_path / "emt.jsonl", records), records


def _lines(out):
    return (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_mixed_file_gives_a_block_per_task(tmp_path):
    data, records = _mixed(tmp_path)
    out = tmp_path / "out"
    engine = FakeEngine(wrong={"u0/er": "Anger.", "u1/er": "Who knows?"})
    seen = []
    scores = evaluate(
        "fake",
        data,
        out=out,
        engine=engine,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (0, len(records)) and seen[-1] == (len(records), len(records))
    assert json.loads((out / "scores.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(scores)
    )
    assert set(scores) == {
        "model", "model_sha256", "protocol", "data", "tasks", "seconds", "seed", "settings",
        "versions",
    }  # fmt: skip
    assert scores["model"] == "fake" and len(scores["data"]["sha256"]) == 64
    assert set(scores["tasks"]) == {"msa", "er", "ecpe"}
    assert scores["versions"]["numpy"]
    block = scores["tasks"]["er"]
    assert (block["n"], block["unparseable"], block["answered"]) == (10, 1, 10)
    assert block["headline"]["accuracy"] == 80
    assert block["text_alone"] == block["media_missing"] == 10  # no clip is on disk
    assert (block["data_sha256"], block["seed"]) == (scores["data"]["sha256"], 0)
    assert block["model_sha256"] == scores["model_sha256"] == "feed"
    assert block["settings"]["model"] == "fake"
    low, high = block["intervals"]["accuracy"]
    assert low <= 80 <= high
    assert block["bootstrap"] == {"level": 0.95, "resamples": 2000, "seed": 0, "unit": "record"}
    assert set(scores["tasks"]["ecpe"]["floors"]) == {
        "cause = target",
        "target + previous utterance",
    }
    assert (out / "report.html").is_file()


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    data, records = _mixed(tmp_path)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate("fake", data, out=out, engine=FakeEngine(die_after=5))
    assert len(_lines(out)) == 5
    with open(out / "predictions.jsonl", "a", encoding="utf-8") as file:
        file.write('{"id": "u5/er", "text": "Jo')  # a torn line
    second = FakeEngine()
    scores = evaluate("fake", data, out=out, engine=second)
    assert len(second.asked) == len(records) - 5 and "u5/er" in second.asked
    assert scores["tasks"]["er"]["headline"]["accuracy"] == 100
    assert len({json.loads(line)["id"] for line in _lines(out)}) == len(records)
    third = FakeEngine()
    evaluate("fake", data, out=out, engine=third)
    assert third.asked == []


def test_a_killed_run_can_be_scored_as_far_as_it_went(tmp_path):
    data, _ = _mixed(tmp_path)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate("fake", data, out=out, engine=FakeEngine(die_after=5))
    block = score_predictions(out)["tasks"]["er"]
    assert (block["records"], block["answered"], block["n"]) == (10, 5, 5)
    empty = score_predictions(out)["tasks"]["msa"]
    assert empty["answered"] == 0 and set(empty["headline"].values()) == {None}


def test_the_command_tells_what_is_missing(tmp_path, capsys):
    data, _ = _mixed(tmp_path)
    out = tmp_path / "out"

    def printed():
        with pytest.raises(SystemExit) as ended:
            main(["score", "--run", str(out)])
        assert not ended.value.code
        return " ".join(capsys.readouterr().out.split())

    with pytest.raises(KeyboardInterrupt):
        evaluate("fake", data, out=out, engine=FakeEngine(die_after=5))
    assert "5 scored, only 5 of 10 answered so far" in printed()
    evaluate("fake", data, out=out, engine=FakeEngine())
    told = printed()
    assert "so far" not in told
    assert 'Not among the floors: "no text"' in told and "--floors-train" in told


def test_another_model_other_data_or_other_media_are_refused(tmp_path):
    records = er_records(4)
    data, out = dump_records(tmp_path / "emt.jsonl", records), tmp_path / "out"
    evaluate("fake", data, out=out, limit=2, engine=FakeEngine())
    before = (out / "predictions.jsonl").read_bytes()
    other, engine = FakeEngine(), FakeEngine()
    other.sha256 = "beef"
    with pytest.raises(EmoVerseError, match="another model_sha256"):
        evaluate("fake", data, out=out, engine=other)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(EmoVerseError, match="another media_root"):
        evaluate("fake", data, out=out, media_root=tmp_path / "elsewhere", engine=engine)
    with pytest.raises(EmoVerseError, match="nowhere: no such folder"):
        evaluate("fake", data, out=out, media_root=tmp_path / "nowhere", engine=engine)
    dump_records(data, [replace(records[0], query=records[0].query + " "), *records[1:]])
    with pytest.raises(EmoVerseError, match="another data_sha256"):
        evaluate("fake", data, out=out, engine=engine)
    assert other.asked == engine.asked == []
    assert (out / "predictions.jsonl").read_bytes() == before


def test_the_limit_may_grow_and_asks_only_the_rest(tmp_path):
    data, out = dump_records(tmp_path / "emt.jsonl", er_records(4)), tmp_path / "out"
    evaluate("fake", data, out=out, limit=2, engine=FakeEngine())
    more = FakeEngine()
    scores = evaluate("fake", data, out=out, engine=more)
    assert more.asked == ["u2", "u3"]
    assert scores["tasks"]["er"]["n"] == 4


def test_a_clip_that_turned_up_is_asked_about_again(tmp_path):
    data, out = dump_records(tmp_path / "emt.jsonl", er_records(3)), tmp_path / "out"
    evaluate("fake", data, out=out, media_root=tmp_path, engine=FakeEngine())
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/u1.mp4").write_bytes(b"clip")
    again = FakeEngine()
    scores = evaluate("fake", data, out=out, media_root=tmp_path, engine=again)
    assert again.asked == ["u1"]
    assert scores["tasks"]["er"]["media_missing"] == 2


def test_scoring_again_asks_nothing_and_changes_the_protocol(tmp_path):
    data = dump_records(tmp_path / "emt.jsonl", ecpe_records([3, 4, 5]))
    out = tmp_path / "out"
    paper = evaluate("fake", data, out=out, engine=FakeEngine())
    strict = score_predictions(out, "strict")
    assert strict["tasks"]["ecpe"]["n"] > paper["tasks"]["ecpe"]["n"]
    assert json.loads((out / "scores.json").read_text())["protocol"] == "strict"
    data.write_text(data.read_text() + "\n")
    with pytest.raises(EmoVerseError, match="has changed"):
        score_predictions(out)
    with pytest.raises(EmoVerseError, match="holds no evaluation"):
        score_predictions(tmp_path)


def test_limit_and_bad_use(tmp_path):
    data, _ = _mixed(tmp_path)
    scores = evaluate("fake", data, out=tmp_path / "o", limit=4, engine=FakeEngine())
    assert scores["tasks"]["er"]["n"] == 4 and list(scores["tasks"]) == ["er"]
    for wrong, told in (
        ({"limit": 0}, "limit"),
        ({"protocol": "loose"}, "unknown"),
        ({"protocol": "semeval"}, "whole conversations"),
    ):
        with pytest.raises(EmoVerseError, match=told):
            evaluate("fake", data, out=tmp_path / "o2", engine=FakeEngine(), **wrong)


def test_an_unreadable_gold_stops_before_the_model_is_asked(tmp_path):
    records = er_records(3)
    bad = dump_records(tmp_path / "bad.jsonl", [*records, replace(records[0], id="z", label="??")])
    engine = FakeEngine()
    with pytest.raises(EmoVerseError, match="Record z"):
        evaluate("fake", bad, out=tmp_path / "out", engine=engine)
    assert engine.asked == []


def test_the_page_escapes_what_was_said_and_answered(tmp_path):
    evil = "<script>alert(1)</script>"
    records = [replace(r, text=evil, id=evil) for r in er_records(1)]
    data = dump_records(tmp_path / "emt.jsonl", records)
    engine = FakeEngine(wrong={evil: f"{evil}\"'><img src=x>"})
    engine.name = evil
    evaluate(evil, data, out=tmp_path / "out", engine=engine)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert evil not in page and "&lt;script&gt;alert(1)" in page and "<img" not in page
    assert page.count("<script>") == 1  # the page's own filter
    assert "http://" not in page and "https://" not in page


def test_the_page_shows_at_most_200_errors(tmp_path):
    records = er_records(230)
    data = dump_records(tmp_path / "emt.jsonl", records)
    engine = FakeEngine(wrong={record.id: "Fear." for record in records})
    evaluate("fake", data, out=tmp_path / "out", engine=engine)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert page.count('<td class="id">') == 200
    assert "230 wrong answers, the first 200" in page
