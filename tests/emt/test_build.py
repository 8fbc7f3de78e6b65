from __future__ import annotations

import json
from pathlib import Path

import pytest

from emoverse.emt.build import build
from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError

MELD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime\n"
MOSEI = "vid\tstart\tstop\tlabel\tcid\ttext\n"


def _meld(folder: Path) -> Path:
    folder.mkdir()
    times = '"00:00:01,000","00:00:02,000"'
    (folder / "train_sent_emo.csv").write_text(
        MELD
        + f"1,Well hello,Ann,joy,positive,0,0,{times}\n"
        + f"2,Go away,Bob,anger,negative,0,1,{times}\n"
        + f"3,Broken row,Bob,bliss,negative,0,2,{times}\n"
    )
    (folder / "dev_sent_emo.csv").write_text(MELD + f"1,Fine,Ann,neutral,neutral,0,0,{times}\n")
    return folder


def _mosei(folder: Path) -> Path:
    folder.mkdir()
    (folder / "train.tsv").write_text(MOSEI + "v\t0\t1\t2.0\t0\tgood\nv\t1\t2\t0.0\t1\tso so\n")
    (folder / "test.tsv").write_text(MOSEI + "w\t0\t1\t-1.0\t0\tbad\nw\t1\t2\t9\t1\tbroken\n")
    return folder


def _ecf(folder: Path) -> Path:
    folder.mkdir()
    turns = [("neutral", "Look."), ("surprise", "Oh!"), ("anger", "Hey!")]
    conversations = [
        {
            "conversation_ID": key,
            "conversation": [
                {"utterance_ID": n, "text": text, "speaker": "Ann", "emotion": emotion}
                for n, (emotion, text) in enumerate(turns, 1)
            ],
            "emotion-cause_pairs": [["2_surprise", "1"], ["2_surprise", "2"]],
        }
        for key in (1, 2)
    ]
    (folder / "Subtask_2_train.json").write_text(json.dumps(conversations))
    (folder / "ecf1_dev.txt").write_text("2 1\nnull\n1 | Ann | joy | Line 1 . | \n")
    return folder


def _merr(path: Path) -> Path:
    entry = {"AU_list": ["AU04"], "pseu_emotion": "angry", "text": "No."}
    path.write_text(
        json.dumps(
            {
                "sample_1": entry | {"smp_reason_caption": "A man frowns."},
                "sample_2": entry | {"smp_reason_caption": "A man smiles."},
                "sample_3": entry,
            }
        )
    )
    return path


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, Path]:
    return {
        "meld_dir": _meld(tmp_path / "meld"),
        "mosei_dir": _mosei(tmp_path / "mosei"),
        "ecf_dir": _ecf(tmp_path / "ecf"),
        "merr_file": _merr(tmp_path / "merr.json"),
    }


def _split(out: Path, split: str, task: str) -> list[Record]:
    return [record for record in load_records(out / f"{split}.jsonl") if record.task == task]


def test_every_corpus_gives_its_records_to_their_splits(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    out, lines = tmp_path / "EMT", []
    summary = build(out, log=lines.append, **corpora)  # type: ignore[arg-type]
    assert summary == json.loads((out / "build.json").read_text())
    counts = summary["records"]
    assert counts["train"] | {"eri": 0} == {"msa": 3, "er": 2, "ecpe": 2, "eri": 0}
    assert counts["valid"] | {"eri": 0} == {"er": 1, "ecpe": 2, "eri": 0}
    assert counts["test"] == {"msa": 1}
    assert sum(part.get("eri", 0) for part in counts.values()) == 2
    assert [line.split(":")[0] for line in lines] == ["MELD", "CMU-MOSEI", "ECF 2.0", "MERR"]
    for split in ("train", "valid", "test"):
        records = load_records(out / f"{split}.jsonl")
        assert {record.split for record in records} == {split}
        assert len({record.id for record in records}) == len(records)


def test_an_emotion_query_tells_what_was_said_before(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    build(tmp_path / "a", meld_dir=corpora["meld_dir"], log=lambda _: None)
    build(tmp_path / "b", meld_dir=corpora["meld_dir"], context=False, log=lambda _: None)
    (first, second) = _split(tmp_path / "a", "train", "er")
    assert first.query.startswith("The person says: 'Well hello'")
    assert second.query.startswith(
        "The conversation so far:\nAnn: Well hello\nNow Bob speaks.\nThe person says: 'Go away'"
    )
    assert all("so far" not in record.query for record in _split(tmp_path / "b", "train", "er"))


def test_a_dev_list_cuts_conversations_out_of_training(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    build(tmp_path / "a", ecf_dir=corpora["ecf_dir"], log=lambda _: None)
    assert [record.response for record in _split(tmp_path / "a", "train", "ecpe")] == [
        "2_surprise,1;2_surprise,2",
        "",
    ]
    assert len(_split(tmp_path / "a", "valid", "ecpe")) == 2
    (corpora["ecf_dir"] / "ecf1_dev.txt").unlink()
    build(tmp_path / "b", ecf_dir=corpora["ecf_dir"], log=lambda _: None)
    assert len(_split(tmp_path / "b", "train", "ecpe")) == 4
    assert not (tmp_path / "b" / "valid.jsonl").exists()


def test_skipped_rows_are_counted_and_listed(tmp_path: Path, corpora: dict[str, Path]) -> None:
    out = tmp_path / "EMT"
    summary = build(out, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    skipped = (out / "skipped.txt").read_text().splitlines()
    assert summary["skipped"] == len(skipped) == 3
    assert "train_sent_emo.csv:4: " in skipped[0]
    assert "'bliss'" in skipped[0]
    assert "test.tsv:3: " in skipped[1]
    assert "sample_3" in skipped[2]


def test_building_again_writes_the_same_bytes(tmp_path: Path, corpora: dict[str, Path]) -> None:
    for name in ("a", "b"):
        build(tmp_path / name, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    for file in ("train.jsonl", "valid.jsonl", "test.jsonl", "build.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_no_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="No corpus was named"):
        build(tmp_path / "EMT")
    with pytest.raises(EmoVerseError, match=r"Subtask_2_train\.json"):
        build(tmp_path / "EMT", ecf_dir=tmp_path)
