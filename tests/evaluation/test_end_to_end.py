from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emoverse import cli
from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.evaluation.compare import compare
from emoverse.evaluation.end_to_end import SUBMISSION, evaluate_semeval, score_semeval_run
from emoverse.evaluation.runner import evaluate, score_predictions
from emoverse.evaluation.score import score_files
from emoverse.files import read_json
from emoverse.tasks import ecpe, er
from emoverse.tasks.ecpe import Pair

from .made import Prediction, talk

TALKS = (1, 2, 4)


def _file(folder: Path, *, pairs: bool = True) -> Path:
    rows = []
    for number in TALKS:
        turns, causes = talk(number)
        row: dict[str, Any] = {
            "conversation_ID": number,
            "conversation": [
                {
                    "utterance_ID": turn.index,
                    "text": turn.text,
                    "speaker": turn.speaker,
                    "emotion": turn.emotion,
                }
                for turn in turns
            ],
        }
        if pairs:
            row["emotion-cause_pairs"] = [
                [f"{target}_{turns[target - 1].emotion}", str(cause)]
                for target, found in causes.items()
                for cause in found
            ]
        rows.append(row)
    path = folder / "Subtask_2_dev.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


class Knowing:
    """Names the gold emotions, but for `wrong` ids, and the gold causes of the emotion it named."""

    def __init__(self, wrong: dict[str, str] | None = None, die_after: int | None = None) -> None:
        self.name, self.sha256 = "knowing", "feed"
        self.asked: list[Record] = []
        self.wrong = wrong or {}
        self.die_after = die_after

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Prediction]:
        for record in records:
            if len(self.asked) == self.die_after:
                raise KeyboardInterrupt
            self.asked.append(record)
            yield Prediction(record.id, self._text(record))

    def _text(self, record: Record) -> str:
        if record.task == "er":
            return self.wrong.get(record.id, record.response)
        turns, target = ecpe.parse_query(record.query)
        _, causes = talk(int(record.id.split("/")[0]))
        emotion = turns[target - 1].emotion
        return ecpe.answer([Pair(target, emotion, cause) for cause in causes.get(target, ())])


def test_a_model_that_knows_everything_is_right_and_is_never_told_an_emotion(tmp_path: Path):
    engine = Knowing()
    seen: list[tuple[int, int]] = []
    scores = evaluate_semeval(
        "m",
        _file(tmp_path),
        out=tmp_path / "out",
        engine=engine,
        progress=lambda *at: seen.append(at),
    )
    block = scores["tasks"]["ecpe"]
    assert block["headline"]["weighted_f1"] == pytest.approx(100, abs=1e-5)
    assert (block["protocol"], block["n"], block["bootstrap"]["unit"]) == (
        "semeval", len(TALKS), "conversation"
    )  # fmt: skip
    assert (block["model_sha256"], block["data_sha256"]) == ("feed", scores["data"]["sha256"])
    assert scores["tasks"]["er"]["headline"]["accuracy"] == 100
    assert seen[-1][0] == seen[-1][1] == len(engine.asked)
    first = [record for record in engine.asked if record.task == "er"]
    assert len(first) == 6 * len(TALKS) and engine.asked[: len(first)] == first
    # What stands in front of the question is what was said before, by whom, and nothing else.
    turns, _ = talk(1)
    said = [(turn.speaker, turn.text) for turn in turns]
    assert first[2].query == er.query(turns[2].text, speaker=turns[2].speaker, context=said[:2])
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "protocol “semeval”" in page and 'id="ecpe"' in page and 'id="er"' in page


def test_a_wrong_emotion_costs_its_pairs_and_stands_in_the_next_prompt(tmp_path: Path):
    data = _file(tmp_path)
    turns, causes = talk(1)
    target = next(iter(causes))
    engine = Knowing({f"1/{target}": "Fear."})
    scores = evaluate_semeval("m", data, out=tmp_path / "out", engine=engine)
    asked = next(r for r in engine.asked if r.task == "ecpe" and r.id == f"1/{target}")
    assert f"{target}_fear. " in asked.query and f"{target}_{turns[target - 1].emotion}." not in (
        asked.query
    )
    gold = sum(len(found) for number in TALKS for found in talk(number)[1].values())
    lost = len(causes[target])
    figures = scores["tasks"]["ecpe"]["scores"]
    assert figures["precision"] == pytest.approx(100 * (gold - lost) / gold, abs=1e-5)
    assert figures["f1"] == pytest.approx(100 * (gold - lost) / gold, abs=1e-5)
    # The submission is one that the file scorer takes, with the same figures.
    block = score_files("ecpe", data, tmp_path / "out" / SUBMISSION, "semeval")
    assert block["scores"] == figures


def test_no_emotion_told_is_neutral_and_then_no_cause_is_asked_for(tmp_path: Path):
    _, causes = talk(1)
    target = next(iter(causes))
    engine = Knowing({f"1/{target}": "Hard to tell"})
    scores = evaluate_semeval("m", _file(tmp_path), out=tmp_path / "out", engine=engine)
    assert f"1/{target}" not in [r.id for r in engine.asked if r.task == "ecpe"]
    assert scores["tasks"]["er"]["unparseable"] == 1
    assert scores["tasks"]["ecpe"]["scores"]["recall"] < 100


@pytest.mark.parametrize("die_after", [4, 20])
def test_a_killed_run_goes_on_in_either_round(tmp_path: Path, die_after: int):
    data, out = _file(tmp_path), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate_semeval("m", data, out=out, engine=Knowing(die_after=die_after))
    with pytest.raises(EmoVerseError, match=r"semeval|answered|no evaluation"):
        score_semeval_run(out)
    again = Knowing()
    scores = evaluate_semeval("m", data, out=out, engine=again)
    whole = Knowing()
    fresh = evaluate_semeval("m", data, out=tmp_path / "other", engine=whole)
    assert len(again.asked) == len(whole.asked) - die_after
    assert scores["tasks"]["ecpe"]["scores"] == fresh["tasks"]["ecpe"]["scores"]
    idle = Knowing()
    evaluate_semeval("m", data, out=out, engine=idle)
    assert not idle.asked


def test_limit_takes_conversations_and_a_clip_is_shown_where_there_is_one(tmp_path: Path):
    (tmp_path / "dia1utt2.mp4").write_bytes(b"")
    engine = Knowing()
    scores = evaluate_semeval(
        "m", _file(tmp_path), out=tmp_path / "out", media_root=tmp_path, limit=1, engine=engine
    )
    assert scores["tasks"]["ecpe"]["n"] == 1
    assert [r.id for r in engine.asked if r.videos] == ["1/2"]
    assert {r.id.split("/")[0] for r in engine.asked} == {"1"}


def test_the_limit_may_grow_and_another_model_breaks_nothing(tmp_path: Path):
    data, out = _file(tmp_path), tmp_path / "out"
    evaluate_semeval("m", data, out=out, limit=1, engine=Knowing())
    other = Knowing()
    other.sha256 = "dead"
    with pytest.raises(EmoVerseError, match="another model_sha256"):
        evaluate_semeval("m", data, out=out, limit=3, engine=other)
    assert score_semeval_run(out)["tasks"]["ecpe"]["n"] == 1
    dying = Knowing(die_after=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate_semeval("m", data, out=out, limit=3, engine=dying)
    with pytest.raises(EmoVerseError, match="8 of 18 questions are answered"):
        score_semeval_run(out)
    engine, whole = Knowing(), Knowing()
    grown = evaluate_semeval("m", data, out=out, limit=3, engine=engine)
    fresh = evaluate_semeval("m", data, out=tmp_path / "fresh", limit=3, engine=whole)
    assert grown["tasks"]["ecpe"]["scores"] == fresh["tasks"]["ecpe"]["scores"]
    asked = [f"{record.task} {record.id}" for record in [*dying.asked, *engine.asked]]
    assert sorted(asked) == sorted(
        f"{record.task} {record.id}" for record in whole.asked if not record.id.startswith("1/")
    )


def test_a_run_that_names_no_source_is_scored_and_goes_on(tmp_path: Path):
    data, out = _file(tmp_path), tmp_path / "out"
    evaluate_semeval("m", data, out=out, engine=Knowing())
    for part in ("emotions", "causes"):
        told = read_json(out / part / "run.json")
        del told["source_sha256"]
        (out / part / "run.json").write_text(json.dumps(told), encoding="utf-8")
    assert score_semeval_run(out)["tasks"]["ecpe"]["n"] == len(TALKS)
    idle = Knowing()
    evaluate_semeval("m", data, out=out, engine=idle)
    assert not idle.asked


def test_what_could_not_be_read_or_shown_is_counted_over_both_rounds(tmp_path: Path):
    class Mumbling(Knowing):
        def _text(self, record: Record) -> str:
            return super()._text(record) if record.task == "er" else "Who can say?"

    _, causes = talk(1)
    engine = Mumbling({f"1/{next(iter(causes))}": "Hard to tell"})
    block = evaluate_semeval("m", _file(tmp_path), out=tmp_path / "out", engine=engine)["tasks"][
        "ecpe"
    ]
    second = sum(record.task == "ecpe" for record in engine.asked)
    assert second and block["unparseable"] == 1 + second
    assert block["text_alone"] == 6 * len(TALKS) + second and block["media_missing"] == 0


def test_two_runs_are_compared_over_the_conversations_that_both_have(tmp_path: Path, capsys: Any):
    data = _file(tmp_path)
    target = next(iter(talk(1)[1]))
    evaluate_semeval("m", data, out=tmp_path / "a", engine=Knowing({f"1/{target}": "Fear."}))
    evaluate_semeval("m", data, out=tmp_path / "b", limit=2, engine=Knowing())
    result = compare(tmp_path / "a", tmp_path / "b", "semeval")
    found = result["tasks"]["ecpe"]
    assert (found["n"], found["unit"]) == (2, "conversation")
    assert [run["answered"] for run in result["runs"]] == [3, 2]
    row = found["figures"]["f1"]
    assert row["a"] < row["b"] == pytest.approx(100, abs=1e-5)
    low, high = row["interval"]
    assert low <= row["difference"] <= high and row["difference"] > 0
    same = compare(tmp_path / "a", tmp_path / "a", "semeval")["tasks"]["ecpe"]["figures"]
    assert same["f1"]["interval"] == [0, 0] and same["f1"]["p"] == 1
    told = ("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(SystemExit) as ended:
        cli.main((*told, "--protocol", "semeval"))
    assert not ended.value.code
    assert "protocol semeval, 2 answered by both" in capsys.readouterr().out
    first = compare(tmp_path / "a" / "emotions", tmp_path / "a" / "emotions")
    assert first["tasks"]["er"]["figures"]
    with pytest.raises(EmoVerseError, match=r"nothing to compare.*--protocol semeval"):
        compare(tmp_path / "a" / "causes", tmp_path / "a" / "causes")
    with pytest.raises(EmoVerseError, match="--protocol semeval"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(EmoVerseError, match="--protocol semeval"):
        score_predictions(tmp_path / "a")


def test_what_does_not_fit_is_told(tmp_path: Path):
    data = _file(tmp_path)
    evaluate_semeval("m", data, out=tmp_path / "out", engine=Knowing())
    rows = read_json(data)
    data.write_text(json.dumps(rows[:2]), encoding="utf-8")
    with pytest.raises(EmoVerseError, match="changed"):
        score_semeval_run(tmp_path / "out")
    with pytest.raises(EmoVerseError, match="another source_sha256"):
        evaluate_semeval("m", data, out=tmp_path / "out", engine=Knowing())
    data.write_text(json.dumps(rows), encoding="utf-8")
    assert score_semeval_run(tmp_path / "out")["tasks"]["ecpe"]["n"] == len(TALKS)  # unharmed
    with pytest.raises(EmoVerseError, match="holds no run of protocol semeval"):
        score_semeval_run(tmp_path)
    with pytest.raises(EmoVerseError, match="limit"):
        evaluate_semeval("m", data, out=tmp_path / "o", limit=0, engine=Knowing())
    with pytest.raises(EmoVerseError, match=r"SemEval file; .*--protocol semeval"):
        evaluate("m", data, out=tmp_path / "o", engine=Knowing())
    bare = _file(tmp_path, pairs=False)
    with pytest.raises(EmoVerseError, match="emotion-cause_pairs"):
        evaluate_semeval("m", bare, out=tmp_path / "o", engine=Knowing())
    data.write_text(
        json.dumps([{k: v for k, v in row.items() if k != "conversation"} for row in rows]),
        encoding="utf-8",
    )
    with pytest.raises(EmoVerseError, match="`conversation` is missing"):
        evaluate_semeval("m", data, out=tmp_path / "o", engine=Knowing())


def test_the_command_evaluates_and_scores_again(tmp_path: Path, monkeypatch: Any, capsys: Any):
    engines: list[Knowing] = []

    def load(model: str, exact: bool) -> Knowing:
        engines.append(Knowing())
        return engines[-1]

    monkeypatch.setattr("emoverse.inference.engine.load_model", load)
    data, out = _file(tmp_path), tmp_path / "out"

    def run(*arguments: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return ended.value.code or 0, capsys.readouterr().out

    told = ("eval", "compact", str(data), "--protocol", "semeval", "--out", str(out))
    code, printed = run(*told)
    assert code == 0 and "ECPE, protocol semeval" in printed and "gold emotions" in printed
    printed_first = printed
    assert len(engines) == 1  # one load for both rounds
    code, printed = run("score", "--run", str(out), "--protocol", "semeval", "--json", "-")
    assert code == 0 and json.loads(printed)["tasks"]["ecpe"]["n"] == len(TALKS)
    assert len(engines) == 1
    assert 'Not among the floors: "no text"' in printed_first
    assert run(*told, "--derive-scores")[0] == 2
    again = ("score", "--run", str(out), "--protocol", "semeval")
    for option in (("--floors-train", str(data)), ("--derive-scores",), ("--similarity", "m")):
        assert run(*again, *option)[0] == 2, option
    assert run("score", "--run", str(out))[0] == 1


def test_turns_keep_their_gold_only_in_the_gold(tmp_path: Path):
    """The engine here answers "Joy." to all: no gold emotion may come through by another way."""

    class Joyful(Knowing):
        def _text(self, record: Record) -> str:
            return "Joy." if record.task == "er" else ""

    engine = Joyful()
    evaluate_semeval("m", _file(tmp_path), out=tmp_path / "out", engine=engine)
    for record in engine.asked:
        if record.task == "ecpe":
            turns, _ = ecpe.parse_query(record.query)
            assert {turn.emotion for turn in turns} == {"joy"}
            assert turns == tuple(
                replace(turn, emotion="joy") for turn in talk(int(record.id.split("/")[0]))[0]
            )
