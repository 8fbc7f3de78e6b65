from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emoverse.cli import main
from emoverse.emt.record import Record, dump_records
from emoverse.evaluation.wording import word
from emoverse.inference import phrases
from emoverse.tasks import eri, fer

END = 1000


class _Engine:
    """Writes the same about everything, or signs of their own; may be killed on the way."""

    def __init__(self, die_after: int | None = None, text: str = "So it is.") -> None:
        self.asked: list[str] = []
        self.phrases: Mapping[str, Any] = {}
        self.reader = SimpleNamespace(answer=lambda text: [*map(ord, text), END])
        self._die_after, self._text = die_after, text

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Any]:
        for record in records:
            if len(self.asked) == self._die_after:
                raise KeyboardInterrupt
            self.asked.append(record.id)
            missing = record.id.startswith("gone")
            text = self._text or chr(2000 + len(self.asked))
            yield SimpleNamespace(text=text, media_missing=missing)


def _records(count: int) -> list[Record]:
    reasons = [
        Record(eri.query(f"Number {n}.", "Grinning"), "Joy.", "eri", id=f"r{n}")
        for n in range(count)
    ]
    faces = [
        Record(fer.query(), "Grinning.", "fer", images=(f"{n}.png",), id=f"f{n}")
        for n in range(count)
    ]
    return [*reasons, *faces, Record(fer.query(), "Grinning.", "fer", images=("x.png",), id="gone")]


def test_a_stopped_run_goes_on_and_pictures_that_are_gone_teach_nothing(tmp_path: Path) -> None:
    records, log = _records(10), tmp_path / "log.jsonl"
    first, second = _Engine(die_after=12), _Engine()
    with pytest.raises(KeyboardInterrupt):
        word(first, records, log)  # type: ignore[arg-type]
    worded = word(second, records, log)  # type: ignore[arg-type]
    assert first.asked + second.asked == [record.id for record in records]
    assert [one.record.id for one in worded] == [record.id for record in records[:-1]]
    third = _Engine()
    assert word(third, records, log) == worded  # type: ignore[arg-type]
    assert third.asked == ["gone"]  # it might have come back


def test_the_command_counts_and_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    data = dump_records(tmp_path / "data.jsonl", _records(60))
    engine = _Engine()
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda name: engine)
    with pytest.raises(SystemExit) as done:
        main(["phrases", str(model), str(data), "--json", "-"])
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    found = phrases.load(model, END + 1)
    assert set(told) == set(found) == {"fer", "eri"}
    assert told["eri"]["phrases"] == len(found["eri"].following)
    text: list[int] = []
    while (guess := found["eri"].after(text)) and guess[0] != END:
        text.append(guess[0])
    assert "".join(map(chr, text)) == "So it is."
    # Six of each are written again, with and without, and one before each to warm up.
    assert len(engine.asked) == 121 + 2 * 2 * (6 + 1)


@pytest.mark.parametrize(
    ("tasks", "text", "said"),
    [
        (("msa",), "So.", "no FER or ERI record"),
        (("eri",), "", "have anything in common"),
        (("gone",), "So.", "check the media's folder"),
    ],
)
def test_what_teaches_nothing_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tasks: Sequence[str],
    text: str,
    said: str,
) -> None:
    records = [
        Record(f"{n} {task}", "Joy.", "eri" if task == "gone" else task, id=f"{task}{n}")
        for n in range(60)
        for task in tasks
    ]
    data = dump_records(tmp_path / "data.jsonl", records)
    monkeypatch.setattr("emoverse.inference.engine.load_model", lambda name: _Engine(text=text))
    with pytest.raises(SystemExit) as failed:
        main(["phrases", str(tmp_path / "model"), str(data)])
    assert failed.value.code == 1
    assert said in capsys.readouterr().err
