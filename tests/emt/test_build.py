from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from emoverse import cli
from emoverse.emt.build import build
from emoverse.emt.record import Record, load_records
from emoverse.emt.sources import Folder, annotation_files
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
    why = "A man {} at what he was told, which suggests that he is angry."
    path.write_text(
        json.dumps(
            {
                "sample_1": entry | {"smp_reason_caption": why.format("frowns")},
                "sample_2": entry | {"smp_reason_caption": why.format("scowls")},
                "sample_3": entry,
                "sample_4": entry | {"smp_reason_caption": "The room is dark."},
                "sample_5": entry | {"smp_reason_caption": why.replace("angry", "happy")},
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
    assert summary["skipped"] == len(skipped) == 5
    assert "train_sent_emo.csv:4: " in skipped[0]
    assert "'bliss'" in skipped[0]
    assert "test.tsv:3: " in skipped[1]
    assert "sample_3" in skipped[2]
    assert "sample_4: nothing of its reason holds without the clip" in skipped[3]
    assert "sample_5: its reason names joy, its label is anger" in skipped[4]


def test_merrs_reasons_may_be_told_as_published(tmp_path: Path, corpora: dict[str, Path]) -> None:
    told = {}
    for published in (False, True):
        out = tmp_path / str(published)
        merr = corpora["merr_file"]
        summary = build(out, merr_file=merr, merr_published=published, log=lambda _: None)
        assert summary["merr_published"] is published
        files = [out / f"{split}.jsonl" for split in ("train", "valid")]
        records = [one for file in files if file.is_file() for one in load_records(file)]
        told[published] = {one.id: one.response for one in records}
    assert len(told[False]) == 2 and len(told[True]) == 4
    assert told[True]["merr/sample_4/eri"] == "The room is dark."
    assert told[False]["merr/sample_1/eri"] == (
        "A person frowns at what they were told, which suggests that they are angry."
    )


def test_building_again_writes_the_same_bytes(tmp_path: Path, corpora: dict[str, Path]) -> None:
    for name in ("a", "b"):
        build(tmp_path / name, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    for file in ("train.jsonl", "valid.jsonl", "test.jsonl", "build.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_building_again_leaves_nothing_of_the_records_before(
    tmp_path: Path, corpora: dict[str, Path]
) -> None:
    out = tmp_path / "EMT"
    build(out, meld_dir=corpora["meld_dir"], log=lambda _: None)
    for file in ("quality.json", "reasons/reasons.jsonl", "reasons/rejected.jsonl"):
        (out / file).parent.mkdir(exist_ok=True)
        (out / file).write_text("{}\n")
    (out / "reasons" / "answers").mkdir()
    build(out, mosei_dir=corpora["mosei_dir"], log=lambda _: None)
    assert not (out / "quality.json").exists()
    assert [file.name for file in (out / "reasons").iterdir()] == ["answers"]
    assert "reasons/reasons.jsonl" not in (out / "manifest.json").read_text()


def test_the_files_that_name_splits_are_inputs_too(tmp_path: Path) -> None:
    for name in ("CMU_MOSEI_Labels.csd", "cmu_mosei_std_folds.py", "other.py"):
        (tmp_path / name).touch()
    named = annotation_files([Folder(tmp_path)])
    assert [file.name for file in named] == ["CMU_MOSEI_Labels.csd", "cmu_mosei_std_folds.py"]


def test_no_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="No corpus was named"):
        build(tmp_path / "EMT")
    with pytest.raises(EmoVerseError, match=r"Subtask_2_train\.json"):
        build(tmp_path / "EMT", ecf_dir=tmp_path)


SAID = [("Ann", "Where have you been all this time?"), ("Bob", "I sold the old car to Joey.")]


def _leaking(tmp_path: Path) -> dict[str, Path]:
    """MELD's test set and ECF's training set with one conversation in both."""
    corpora = {"meld_dir": _meld(tmp_path / "meld"), "ecf_dir": _ecf(tmp_path / "ecf")}
    rows = [f"1,{text},{who},joy,positive,5,{n},," for n, (who, text) in enumerate(SAID)]
    (corpora["meld_dir"] / "test_sent_emo.csv").write_text(MELD + "\n".join(rows) + "\n")
    turns = [
        {"utterance_ID": n, "text": text, "speaker": who, "emotion": "surprise"}
        for n, (who, text) in enumerate(SAID, 1)
    ]
    table = corpora["ecf_dir"] / "Subtask_2_train.json"
    talk = {
        "conversation_ID": 9,
        "conversation": turns,
        "emotion-cause_pairs": [["2_surprise", "1"]],
    }
    table.write_text(json.dumps([*json.loads(table.read_text()), talk]))
    return corpora


def test_leaks_are_told_and_kept_unless_they_are_to_be_dropped(tmp_path: Path) -> None:
    corpora, out = _leaking(tmp_path), tmp_path / "EMT"
    summary = build(out, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert summary["leaks"] == {"conversations": 1, "records": 2}
    assert "dropped" not in summary
    assert (out / "leaks.txt").read_text() == "ecf/train/9 shares 2 turns with meld/test/dia5\n"
    assert len(_split(out, "train", "ecpe")) == 4

    summary = build(out, drop_leaks=True, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert summary["leaks"] == {"conversations": 1, "records": 2}
    assert summary["dropped"] == {"leak": 2} and summary["records"]["train"]["ecpe"] == 2
    assert {record.id for record in _split(out, "train", "ecpe")} == {
        "ecf/dia1utt2/ecpe",
        "ecf/dia1utt3/ecpe",
    }
    assert len(_split(out, "test", "er")) == 2, "held-out splits stay whole"
    aside = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [row["id"] for row in aside] == ["ecf/dia9utt1/ecpe", "ecf/dia9utt2/ecpe"]
    assert {row["why"] for row in aside} == {"ecf/train/9 shares 2 turns with meld/test/dia5"}
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert {"leaks.txt", "dropped.jsonl"} <= set(listed)

    build(out, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert not (out / "dropped.jsonl").exists(), "building again without the flag undoes it"


def test_the_command_says_what_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpora, out = _leaking(tmp_path), tmp_path / "EMT"
    named = ["--meld", corpora["meld_dir"], "--ecf", corpora["ecf_dir"], "--out", out]
    for flags, said in (
        ([], "their 2 records are kept (--drop-leaks leaves them out)"),
        (["--drop-leaks"], f"their 2 records went to {out / 'dropped.jsonl'}"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["build", *map(str, named), *flags])
        assert not ended.value.code
        told = capsys.readouterr().out
        assert f"Leaks: 1 training conversations are in a held-out split too, see {out}" in told
        assert said in told


def test_parquet_holds_what_the_jsonl_holds(tmp_path: Path, corpora: dict[str, Path]) -> None:
    table = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")
    out = tmp_path / "EMT"
    files = {
        "train": "train-00000.parquet",
        "valid": "validation-00000.parquet",
        "test": "test-00000.parquet",
    }
    build(out, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    manifest = json.loads((out / "manifest.json").read_text())
    for split, file in files.items():
        rows = table.read_table(out / "data" / file).to_pylist()
        records = load_records(out / f"{split}.jsonl")
        assert [row["id"] for row in rows] == [record.id for record in records]
        assert [json.loads(row["label"]) for row in rows] == [record.label for record in records]
        assert [row["response"] for row in rows] == [record.response for record in records]
        digest = hashlib.sha256((out / "data" / file).read_bytes()).hexdigest()
        assert manifest["files"][f"data/{file}"]["sha256"] == digest
    assert "pyarrow" in manifest["versions"]

    before = {file: (out / "data" / file).read_bytes() for file in files.values()}
    (out / "data" / ".test-00000.parquet.part").write_bytes(b"of a killed run")
    build(out, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert {file.name: file.read_bytes() for file in (out / "data").iterdir()} == before

    build(out, with_parquet=False, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert list((out / "data").iterdir()) == []
    manifest = json.loads((out / "manifest.json").read_text())
    assert "pyarrow" not in manifest["versions"]
    assert not any(name.endswith(".parquet") for name in manifest["files"])


def test_without_pyarrow_parquet_is_left_out_or_the_extra_named(
    tmp_path: Path, corpora: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out, lines = tmp_path / "EMT", []
    with pytest.raises(EmoVerseError, match=r"pip install 'emoverse\[parquet\]'"):
        build(out, with_parquet=True, log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert not out.exists(), "told before any work"
    build(out, log=lines.append, **corpora)  # type: ignore[arg-type]
    assert (out / "train.jsonl").is_file() and not (out / "data").exists()
    assert "emoverse[parquet]" in lines[0]


@pytest.mark.parametrize(
    "flags",
    [
        ["--meld-clips", "clips"],
        ["--ecf", "ecf", "--no-clips", "--ecf-clips", "clips"],
        ["--merr-published"],
        ["--fps", "0"],
        ["--fps", "2", "--no-clips"],
        ["--no-clips", "--engine", "local"],
        ["--no-clips", "--workers", "2"],
        ["--no-clips", "--au-source", "mediapipe"],
        ["--engine", "spark"],
        ["--ray-address", "auto"],
        ["--reason-endpoint", "http://localhost:1/v1"],
        ["--reason-model", "mind"],
        ["--price", "1", "2"],
        ["--prompts", "mine"],
        ["--max-tokens", "9"],
    ],
)
def test_an_option_that_would_do_nothing_is_bad_use(tmp_path: Path, flags: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["build", "--ecf", "ecf", "--out", str(tmp_path / "EMT"), *flags])
    assert ended.value.code == 2 and not (tmp_path / "EMT").exists()


def test_without_an_endpoint_the_report_says_so(tmp_path: Path, corpora: dict[str, Path]) -> None:
    summary = build(tmp_path / "EMT", log=lambda _: None, **corpora)  # type: ignore[arg-type]
    assert "No endpoint was named" in summary["reasons"]["skipped"]
