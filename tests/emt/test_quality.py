from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from emoverse.cli import app
from emoverse.corpora.ecf import meld_links
from emoverse.emt import dataset, leaks, parquet, quality
from emoverse.emt.build import build
from emoverse.emt.media import inspect
from emoverse.emt.record import Record, dump_records, load_records
from emoverse.errors import EmoVerseError
from tests.emt import made
from tests.faces import clips

MELD = [
    ("Ross", "I'm so sorry, I can't do this anymore, Rachel!"),
    ("Rachel", "What's that supposed to mean, huh?"),
    ("Ross", "It's Joey’s birthday and I didn't buy him anything."),
]
# The same dialogue as ECF spells it.
ECF = [
    ("Ross", "I am so sorry , I can not do this anymore , Rachel !"),
    ("Rachel", "What that supposed to mean , huh ?"),
    ("Ross", "It is Joey birthday and I did not buy him anything ."),
]
OTHER = [("Ann", "The train to Boston leaves at noon."), ("Bob", "Then we should hurry up a bit.")]


def _found(splits: dict[str, list[Record]], kind: str, **how: object) -> list[quality.Finding]:
    findings = quality.check(splits, {}, **how)  # type: ignore[arg-type]
    return [finding for finding in findings if finding.kind == kind]


def test_a_conversation_that_meld_holds_out_is_found_in_ecfs_training_part() -> None:
    splits = {
        "train": made.ecf("train", 7, ECF, {2: [1, 2], 3: [3]}) + made.meld("train", 0, OTHER),
        "valid": made.meld("valid", 5, MELD),
    }
    (leak,) = _found(splits, "leak")
    assert leak.message == "ecf/train/7 shares 3 turns with meld/valid/dia5"
    assert leak.drop == ("ecf/dia7utt2/ecpe", "ecf/dia7utt3/ecpe")


def test_the_same_words_from_others_are_no_leak() -> None:
    strangers = [("Ann" if who == "Ross" else "Bob", text) for who, text in ECF]
    splits = {
        "train": made.ecf("train", 7, strangers, {2: [1]}),
        "valid": made.meld("valid", 5, MELD),
    }
    assert not _found(splits, "leak")


def test_one_common_phrase_is_no_leak() -> None:
    lines = [("Ross", "Hey."), ("Rachel", "Hey."), *OTHER]
    held = [("Ross", "Hey."), ("Rachel", "Hey."), ("Ross", "Where have all the flowers gone?")]
    splits = {"train": made.meld("train", 0, lines), "test": made.meld("test", 0, held)}
    assert not _found(splits, "leak")


def test_ecfs_list_of_meld_clips_tells_of_splits_that_are_not_there(tmp_path: Path) -> None:
    listed = tmp_path / "links.txt"
    listed.write_text(
        "7 2\nnull\n1 | A | joy | x | test_dia9_utt0\n2 | B | joy | y | test_dia9_utt1\n"
        "8 1\nnull\n1 | A | joy | x | train_dia3_utt0\n"
    )
    records = made.ecf("train", 7, ECF, {2: [1]}) + made.ecf("train", 8, OTHER, {2: [1]})
    (leak,) = _found({"train": records}, "leak", links=meld_links(listed))
    assert leak.message == "ecf/train/7 shares 2 turns with meld/test/dia9"
    assert not _found({"train": records}, "leak")


def test_a_meld_dialogue_that_ecf_holds_out_is_found_by_its_clips(tmp_path: Path) -> None:
    links = {("7", 1): "train_dia3_utt0", ("7", 2): "train_dia3_utt1"}
    splits = {
        "train": made.meld("train", 3, OTHER),
        "valid": made.ecf("valid", 7, ECF, {2: [1]}),
    }
    (leak,) = _found(splits, "leak", links=links)
    assert set(leak.drop) == {record.id for record in splits["train"]}


def test_a_question_asked_in_two_splits_is_dropped_from_training_alone() -> None:
    line = [("Ann", "I would not recommend this film to anyone.")]
    splits = {"train": made.meld("train", 0, line), "test": made.meld("test", 8, line)}
    found = _found(splits, "overlap")
    assert {name for one in found for name in one.drop} == {r.id for r in splits["train"]}
    kept, dropped = quality.without(splits, found, ["overlap"])
    assert (len(kept["train"]), len(kept["test"]), len(dropped)) == (0, 2, 2)


def test_short_utterances_recur_by_chance_unless_a_clip_is_shown() -> None:
    one, two = made.meld("train", 0, [("A", "Yeah.")]), made.meld("train", 1, [("B", "Yeah.")])
    assert not _found({"train": one + two}, "duplicate")
    shown = [replace(record, videos=("a.mp4",)) for record in one + two]
    assert len(_found({"train": shown}, "duplicate")) == 2
    other = [*shown[:2], *(replace(record, videos=("b.mp4",)) for record in shown[2:])]
    assert not _found({"train": other}, "duplicate")


def test_the_first_of_a_question_asked_twice_stays() -> None:
    line = [("Ann", "And that is the end of the story.")]
    records = made.meld("train", 0, line) + made.meld("train", 1, line)
    found = _found({"train": records}, "duplicate")
    kept, _ = quality.without({"train": records}, found, ["duplicate"])
    assert kept["train"] == records[:2]


def test_other_answers_to_the_same_question_contradict() -> None:
    line = [("Ann", "Wow, nice, and also kind of a mess.")]
    records = made.meld("train", 0, line) + made.meld("train", 1, line)
    records[2] = replace(records[2], response="Negative.", label="negative")
    (found,) = _found({"train": records}, "contradiction")
    assert "answered 'Negative.' and 'Positive.'" in found.message
    assert set(found.drop) == {records[0].id, records[2].id}
    assert not quality.without({"train": records}, [found], ["leak"])[1]


def test_sentiment_and_emotion_of_an_utterance_must_agree() -> None:
    glad, sad = made.meld("train", 0, [("A", "Well, here we are.")])
    assert not _found({"train": [glad, sad]}, "opposed")
    sad = replace(sad, response="Sadness.", label="sadness")
    (found,) = _found({"train": [glad, sad]}, "opposed")
    assert found.message.endswith("is positive and shows sadness")
    surprised = replace(sad, response="Surprise.", label="surprise")
    assert not _found({"train": [glad, surprised]}, "opposed")


def test_an_answer_must_say_its_label() -> None:
    right = made.ecf("train", 1, OTHER, {2: [1, 2]})
    wrong = replace(right[0], label=[[2, "surprise", 1]])
    score = replace(made.meld("train", 0, OTHER)[0], label=-1.4)
    assert not _found({"train": [*right, *made.meld("train", 0, OTHER)]}, "mismatch")
    assert [one.drop for one in _found({"train": [wrong, score]}, "mismatch")] == [
        (wrong.id,),
        (score.id,),
    ]


def test_a_cause_after_the_target_cannot_be_answered() -> None:
    records = made.ecf("train", 1, MELD, {1: [3], 3: [1]})
    (found,) = _found({"train": records}, "unanswerable")
    assert found.drop == (records[0].id,)
    assert "causes up to 1, answers 3" in found.message


@pytest.mark.parametrize(
    ("text", "seconds", "wrong"),
    [
        ("one two three four five six seven eight", 1.0, True),
        ("one two three four five six seven eight", 2.0, False),
        ("No.", 305.0, True),
        ("No.", 4.0, False),
        ("Oh no!", 0.2, False),
    ],
)
def test_words_must_fit_their_time(text: str, seconds: float, wrong: bool) -> None:
    (record, _) = made.meld("train", 0, [("Ann", text)])
    record = replace(record, meta={**record.meta, "seconds": seconds})
    assert bool(_found({"train": [record]}, "pace")) == wrong


def test_files_are_opened_and_told_apart_by_their_bytes(tmp_path: Path) -> None:
    grey = np.full((16, 16, 3), 90, np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(grey).save(tmp_path / name)
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "empty.mp4").touch()
    clips.write(tmp_path / "long.mp4", count=12, fps=1)
    names = ["a.png", "b.png", "gone.png", "broken.mp4", "empty.mp4", "long.mp4"]
    seen = inspect(names, tmp_path)
    assert [seen[name].problem is None for name in names] == [True, True, False, False, False, True]
    assert seen["gone.png"].problem == "no such file"
    assert seen["empty.mp4"].problem == "empty file"
    assert seen["a.png"].content == seen["b.png"].content != seen["long.mp4"].content
    assert seen["long.mp4"].seconds == pytest.approx(12, abs=1)

    splits = {
        "train": [made.photo("x", "train", "a.png"), made.reason("1", "train", "broken.mp4")],
        "valid": [made.photo("y", "valid", "b.png"), made.reason("2", "valid", "long.mp4")],
    }
    found = {finding.kind: finding for finding in quality.check(splits, seen)}
    assert found.keys() == {"overlap", "unreadable", "pace"}
    assert found["overlap"].drop == ("photo/x/fer",)
    assert found["unreadable"].drop == ("merr/1/eri",)
    assert "1 words in 12" in found["pace"].message
    assert found["pace"].drop == ()


def test_an_unknown_kind_cannot_be_dropped() -> None:
    with pytest.raises(EmoVerseError, match="'nonsense' cannot be dropped"):
        quality.without({"train": []}, [], ["nonsense"])


@pytest.fixture
def emt(tmp_path: Path) -> Path:
    folder = tmp_path / "EMT"
    leaky = made.ecf("train", 7, ECF, {2: [1, 2], 3: [3]})
    dump_records(folder / "train.jsonl", leaky + made.meld("train", 0, OTHER))
    dump_records(folder / "valid.jsonl", made.meld("valid", 5, MELD))
    (folder / "build.json").write_text('{"records": {"train": {"ecpe": 2, "er": 2, "msa": 2}}}')
    (folder / "manifest.json").write_text('{"files": {"train.jsonl": {"sha256": "old"}}}')
    return folder


def test_the_command_drops_what_is_named_and_keeps_it_aside(emt: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(emt), "--drop", "leak", "--json", "-"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["dropped"], told["summary"]["leak"]["findings"]) == (2, 0)
    assert {record.source for record in load_records(emt / "train.jsonl")} == {"meld"}
    aside = [json.loads(line) for line in (emt / "dropped.jsonl").read_text().splitlines()]
    assert [row["id"] for row in aside] == ["ecf/dia7utt2/ecpe", "ecf/dia7utt3/ecpe"]
    assert {row["kind"] for row in aside} == {"leak"}
    summary = json.loads((emt / "build.json").read_text())
    assert summary == {"records": {"train": {"msa": 2, "er": 2}}, "dropped": {"leak": 2}}
    files = json.loads((emt / "manifest.json").read_text())["files"]
    assert files["train.jsonl"]["bytes"] == (emt / "train.jsonl").stat().st_size
    assert files.keys() == {"train.jsonl", "build.json", "dropped.jsonl"}
    assert json.loads((emt / "quality.json").read_text()) == told


def test_dropping_writes_parquet_anew(emt: Path) -> None:
    table = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")
    splits = dataset.read(emt)
    parquet.write_dataset(splits, emt, emt, str, embed=False)
    old = {"data/train-00001.parquet": {"bytes": 1, "sha256": "of a dataset that was larger"}}
    (emt / "data" / "train-00001.parquet").write_bytes(b"x")
    (emt / "manifest.json").write_text(json.dumps({"files": old}))
    findings = quality.check(splits, {})
    kept, out = quality.without(splits, findings, ["leak"])
    dataset.drop(emt, kept, [(record, why.kind, why.message) for record, why in out])
    (file,) = (emt / "data").glob("train-*.parquet")
    assert table.read_table(file).column("id").to_pylist() == [one.id for one in kept["train"]]
    listed = json.loads((emt / "manifest.json").read_text())["files"]
    assert [name for name in listed if "train-" in name] == ["data/train-00000.parquet"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert listed["data/train-00000.parquet"]["sha256"] == digest


def test_the_command_changes_nothing_by_itself(emt: Path) -> None:
    before = (emt / "train.jsonl").read_bytes()
    done = CliRunner().invoke(app, ["check", str(emt)])
    assert done.exit_code == 0
    assert "ecf/train/7 shares 3 turns with meld/valid/dia5" in done.stdout
    assert (emt / "train.jsonl").read_bytes() == before
    assert not (emt / "dropped.jsonl").exists()


def test_every_kind_can_be_named_on_the_command_line() -> None:
    from emoverse.commands.stats import Kind

    assert [kind.value for kind in Kind] == list(quality.KINDS)


@pytest.mark.slow
def test_shared_dialogues_of_the_real_corpora_are_found_without_the_list(
    shared: Path, tmp_path: Path
) -> None:
    build(tmp_path, meld_dir=shared / "meld", ecf_dir=shared / "ecf2", log=lambda _: None)
    splits = dataset.read(tmp_path)
    talks = leaks.talks(record for part in splits.values() for record in part)
    meld = [talk for talk in talks if talk.source == "meld"]
    ecf = {talk.id.rpartition("/")[2]: talk for talk in talks if talk.source == "ecf"}
    known = {talk.id for talk in meld}
    links = meld_links(shared / "ecf2" / "all_data_pair_ECFvsMELD.txt")
    listed = set()
    for (conversation, _), clip in links.items():
        split, dialogue, _ = clip.replace("dev_", "valid_").split("_")
        if conversation in ecf and f"meld/{split}/{dialogue}" in known:
            listed.add((conversation, f"meld/{split}/{dialogue}"))
    found = {
        (leak.talk.id.rpartition("/")[2], leak.other)
        for leak in leaks.matches(list(ecf.values()), meld)
    }
    assert len(found & listed) / len(listed) > 0.97
    assert len(found & listed) / len(found) > 0.98
    # With the dev list the splits agree; MELD's test set is in ECF's training part all the same.
    assert not leaks.leaks(talks)
    held = leaks.leaks(talks, links)
    assert len(held) > 240
    assert {leak.other.rpartition("/")[0] for leak in held} == {"meld/test"}
