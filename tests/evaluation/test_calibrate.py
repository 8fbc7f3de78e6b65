from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoverse.cli import main
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.calibrate import fit
from emoverse.evaluation.weighing import Weighed, draw, left_out, weigh
from emoverse.inference import calibration, causes
from emoverse.tasks import ecpe, er, msa

from .made import talk


def _sentences(count: int, scale: float, lean: float, seed: int = 0) -> list[Weighed]:
    """A model whose log-odds of "positive" are `scale` times the truth, plus `lean`."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 2, count)
    positive = rng.random(count) < 1 / (1 + np.exp(-truth))
    return [
        Weighed(
            Record(msa.query(f"Sentence {n}"), "", "msa", id=str(n), label=1.0 if yes else -1.0),
            msa.choices(),
            np.array([scale * odds + lean, 0.0]),
        )
        for n, (odds, yes) in enumerate(zip(truth, positive, strict=True))
    ]


@pytest.mark.parametrize(("scale", "lean"), [(2.0, -1.5), (0.5, 0.3), (1.0, 0.0)])
def test_the_lean_and_the_sureness_of_a_model_are_found(scale: float, lean: float) -> None:
    assert msa.parse(msa.choices()[0]) == "positive"
    fitted, worth = fit(_sentences(4000, scale, lean))
    positive, negative = (fitted.biases["msa"][answer] for answer in msa.choices())
    assert fitted.temperatures["msa"] == pytest.approx(scale, rel=0.15)
    assert positive - negative == pytest.approx(-lean / scale, abs=0.15)
    assert worth["msa"].records == fitted.fitted_on["msa"] == 4000
    assert worth["msa"].after["ece"] < 3
    assert worth["msa"].after["nll"] <= worth["msa"].before["nll"] + 1e-3


def test_rare_answers_are_lifted_as_far_as_weighted_f1_gains() -> None:
    rng = np.random.default_rng(3)
    answers = er.choices()
    weighed = []
    for n in range(1500):
        place = int(rng.choice(7, p=[0.08, 0.06, 0.1, 0.03, 0.15, 0.55, 0.03]))
        logs = rng.normal(0, 1, 7)
        logs[place] += 1.5
        logs[5] += 1.0  # a model that has seen as much of "neutral" leans to it
        record = Record(er.query(f"Text {n}"), "", "er", str(n), label=er.parse(answers[place]))
        weighed.append(Weighed(record, answers, logs))
    _, worth = fit(weighed)
    assert worth["er"].after["weighted_f1"] > worth["er"].before["weighted_f1"]


def test_what_a_fit_is_worth_is_judged_without_it() -> None:
    """Where scores say nothing of the gold, a fit cannot look better than chance."""
    rng = np.random.default_rng(1)
    noise = [
        replace(one, record=replace(one.record, label=float(rng.choice([-1, 1]))))
        for one in _sentences(2000, 1.0, 0.0)
    ]
    assert fit(noise)[1]["msa"].after["nll"] >= np.log(2) - 0.002


def test_emotions_of_both_wordings_are_fitted_together() -> None:
    rng = np.random.default_rng(2)
    weighed = []
    for n in range(600):
        wording = "mosei" if n % 2 else "meld"
        answers = er.choices(wording)
        emotion = str(er.parse(answers[int(rng.integers(len(answers)))]))
        logs = rng.normal(0, 1, len(answers))
        record = Record(er.query(f"Text {n}", wording=wording), "", "er", str(n), label=emotion)
        weighed.append(Weighed(record, answers, logs))
    fitted, _ = fit(weighed)
    assert set(fitted.biases["er"]) == set(er.choices("meld")) | set(er.choices("mosei"))


def _conversations(count: int, sureness: float) -> list[Weighed]:
    """A model that finds the causes, but gives each right set no more than `sureness`."""
    weighed = []
    for number in range(count):
        turns, right = talk(number)
        for target, names in right.items():
            emotion = turns[target - 1].emotion
            sets = causes.cause_sets(turns, target)
            chances = np.full(len(sets), (1 - sureness) / (len(sets) - 1))
            chances[sets.index(tuple(names))] = sureness
            label = [[target, emotion, name] for name in names]
            answers = tuple(
                ecpe.answer([ecpe.Pair(target, emotion, name) for name in one]) for one in sets
            )
            record = Record(
                ecpe.query(turns, target), "", "ecpe", id=f"{number}/{target}", label=label
            )
            weighed.append(Weighed(record, answers, np.log(chances)))
    return weighed


def test_an_unsure_model_names_causes_at_its_own_threshold() -> None:
    fitted, worth = fit(_conversations(40, 0.3))
    assert worth["ecpe"].before["pair_f1"] < 90 < worth["ecpe"].after["pair_f1"]
    assert fitted.temperatures["ecpe"] < 1
    assert "ecpe" not in fitted.biases


def _previous(number: int) -> tuple[ecpe.Turn, ...]:
    """A conversation in which the utterance before each target causes its emotion."""
    moods = np.random.default_rng(number).choice(["joy", "anger", "sadness"], 6)
    return tuple(
        ecpe.Turn(place + 1, "AB"[place % 2], f"Word {number} {place}", str(mood))
        for place, mood in enumerate(moods)
    )


def _blind(count: int) -> list[Weighed]:
    """A model that holds every answer about causes for equally likely."""
    weighed = []
    for number in range(count):
        turns = _previous(number)
        for target in range(2, 7):
            sets = causes.cause_sets(turns, target)
            emotion = turns[target - 1].emotion
            answers = tuple(
                ecpe.answer([ecpe.Pair(target, emotion, name) for name in one]) for one in sets
            )
            label = [[target, emotion, target - 1]]
            query = ecpe.query(turns, target)
            record = Record(query, "", "ecpe", id=f"{number}/{target}", label=label)
            weighed.append(Weighed(record, answers, np.zeros(len(sets))))
    return weighed


def test_the_form_of_conversations_answers_where_the_model_knows_nothing() -> None:
    weighed = _blind(80)
    alone, worth = fit(weighed)
    assert alone.cause_form is None and worth["ecpe"].after["pair_f1"] < 60
    fitted, worth = fit(weighed, [one.record for one in weighed])
    assert fitted.cause_form is not None
    assert worth["ecpe"].after["pair_f1"] > 95
    turns = _previous(1000)  # in none of them
    sets = causes.cause_sets(turns, 5)
    found, named = fitted.causes(turns, 5, sets, np.full(len(sets), 1 / len(sets)))
    assert named == (4,) and found[4] > 0.9 > 0.1 > found[3]


def test_a_model_that_knows_is_heard_beside_a_form_that_says_nothing() -> None:
    weighed = _conversations(80, 0.9)
    rng = np.random.default_rng(5)
    talks = []
    for one in weighed:  # what was said is drawn anew, so that form and causes are strangers
        turns, target = ecpe.parse_query(one.record.query)
        cause = int(rng.integers(1, target + 1))
        label = [[target, turns[target - 1].emotion, cause]]
        talks.append(replace(one.record, label=label))
    fitted, worth = fit(weighed, talks)
    assert worth["ecpe"].after["pair_f1"] > 95
    assert fitted.cause_form is not None and fitted.cause_form.words > 0.5


def test_too_few_records_are_refused() -> None:
    with pytest.raises(EmoVerseError, match="fewer than 50 usable records"):
        fit(_sentences(20, 1.0, 0.0))


def test_draw_is_the_same_every_time_and_keeps_the_order() -> None:
    records = [one.record for one in _sentences(300, 1.0, 0.0)]
    records.append(Record("<FER> ...", "", "fer"))
    drawn = draw(records, 100)
    assert drawn == draw(list(records), 100)
    assert len(drawn) == 100 and "fer" not in {record.task for record in drawn}
    places = [records.index(record) for record in drawn]
    assert places == sorted(places)


def test_what_was_trained_on_is_left_out_under_any_name() -> None:
    records = [one.record for one in _sentences(10, 1.0, 0.0)]
    trained = [replace(record, id=f"other/{record.id}") for record in records[:4]]
    assert left_out(records, trained) == records[4:]


@dataclass
class _Posed:
    record: Record
    answers: tuple[str, ...]


class _Engine:
    """Weighs by the length of the query; may be killed after some records."""

    def __init__(self, die_after: int | None = None) -> None:
        self.asked: list[str] = []
        self._die_after = die_after

    def weigh(
        self, records: Sequence[Record], media_root: Path | None
    ) -> Iterator[tuple[Any, np.ndarray]]:
        for count, record in enumerate(records):
            if count == self._die_after:
                raise KeyboardInterrupt
            self.asked.append(record.id)
            yield _Posed(record, msa.choices()), np.array([-float(len(record.query)), -1.0])


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    records = [one.record for one in _sentences(30, 1.0, 0.0)]
    log = tmp_path / "run" / "log.jsonl"
    first, second = _Engine(die_after=12), _Engine()
    with pytest.raises(KeyboardInterrupt):
        weigh(first, records, log)  # type: ignore[arg-type]
    with open(log, "a", encoding="utf-8") as torn:
        torn.write('{"key": "abc", "lo')
    told: list[tuple[int, int]] = []
    weighed = weigh(second, records, log, progress=lambda *at: told.append(at))  # type: ignore[arg-type]
    assert first.asked + second.asked == [record.id for record in records]
    assert [one.record for one in weighed] == records
    assert weighed[3].logs == pytest.approx([-len(records[3].query), -1.0])
    assert told[0] == (12, 30) and told[-1] == (30, 30)
    assert weigh(_Engine(die_after=0), records, log)  # type: ignore[arg-type]


def test_the_command_fits_and_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    data = dump_records(
        tmp_path / "valid.jsonl",
        [replace(one.record, source="mosei") for one in _sentences(80, 1.0, 0.0)],
    )
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda name, exact: _Engine())
    with pytest.raises(SystemExit) as done:
        main(["calibrate", str(model), str(data), "--source", "mosei", "--json", "-"])
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert calibration.load(model).biases == told["calibration"]["biases"]
    assert told["worth"]["msa"]["records"] == 80
    with pytest.raises(SystemExit) as failed:
        main(["calibrate", str(model), str(data), "--source", "meld"])
    assert failed.value.code == 1
    assert "no MSA, ER or ECPE record" in capsys.readouterr().err


def test_what_any_of_the_recipes_trains_on_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    data = dump_records(tmp_path / "train.jsonl", [one.record for one in _sentences(120, 1.0, 0.0)])
    recipes = []
    for name, samples in (("first", range(40)), ("second", range(20, 60))):
        plan = tmp_path / f"{name}.tsv"
        plan.write_text("".join(f"one\t{sample}\tmsa\n" for sample in samples), encoding="utf-8")
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(
            f"model: compact\ntrain: {data}\nplan: {plan}\n"
            "stages: [{name: one, rates: {msa: 1}}]\n",
            encoding="utf-8",
        )
        recipes += ["--recipe", str(recipe)]
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda name, exact: _Engine())
    with pytest.raises(SystemExit) as done:
        main(["calibrate", str(model), str(data), *recipes, "--json", "-"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["worth"]["msa"]["records"] == 60
