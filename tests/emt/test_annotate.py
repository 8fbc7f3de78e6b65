from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emoverse import cli
from emoverse.corpora import ecf
from emoverse.corpora.records import Dialogue, Utterance
from emoverse.emt.annotate import (
    CONFIG,
    TASKS,
    conversations,
    export_tasks,
    import_annotations,
)
from emoverse.emt.label_studio import NO_CAUSE
from emoverse.emt.record import load_records
from emoverse.errors import EmoVerseError

Causes = dict[int, Sequence[int] | None]


def dialogue(name: str = "4", split: str = "train", first: str | None = "neutral") -> Dialogue:
    said = [("Ann", "I sold\nthe car.", first), ("Bob", "What?!", "surprise"), ("Bob", "", "anger")]
    return Dialogue(
        name,
        "meld",
        split,
        tuple(
            Utterance(f"u{at}", "meld", split, name, at, text, who, emotion=emotion)
            for at, (who, text, emotion) in enumerate(said, 1)
        ),
    )


def exported(tmp_path: Path, *dialogues: Dialogue) -> list[dict[str, Any]]:
    export_tasks(dialogues or [dialogue()], tmp_path)
    tasks: list[dict[str, Any]] = json.loads((tmp_path / TASKS).read_text(encoding="utf-8"))
    return [{"id": at, **task} for at, task in enumerate(tasks, 1)]


def done(task: dict[str, Any], who: int, causes: Causes, **other: Any) -> dict[str, Any]:
    """An annotation as Label Studio saves it: the prediction taken over, causes ticked."""
    result = copy.deepcopy(task["predictions"][0]["result"])
    options = [option["value"] for option in task["data"]["utterances"]]
    for at, found in causes.items():
        place = f"utterance-{at}"
        if found is not None:
            ticked = [options[cause - 1] for cause in found] or [NO_CAUSE]
            result.append({"id": place, "type": "choices", "value": {"choices": ticked}})
    return {"id": 100 + who, "completed_by": who, "was_cancelled": False, "result": result, **other}


def saved(tmp_path: Path, tasks: list[dict[str, Any]], name: str = "export.json") -> Path:
    file = tmp_path / name
    file.write_text(json.dumps(tasks), encoding="utf-8")
    return file


def causes_of(folder: Path, split: str = "train") -> dict[int, tuple[int, ...] | None]:
    utterances, problems = ecf.read(folder / f"Subtask_2_{split}.json")
    assert problems == []
    return {utterance.index: utterance.causes for utterance in utterances if utterance.causes}


def test_one_annotator_there_and_back(tmp_path: Path) -> None:
    tasks = exported(tmp_path)
    tasks[0]["annotations"] = [done(tasks[0], 1, {2: [1], 3: [1, 2, 3]})]
    report, problems = import_annotations([saved(tmp_path, tasks)], tmp_path / "out")
    assert problems == []
    assert causes_of(tmp_path / "out") == {2: (1,), 3: (1, 2, 3)}
    utterances, _ = ecf.read(tmp_path / "out")
    assert [(u.text, u.speaker, u.emotion) for u in utterances] == [
        ("I sold the car.", "Ann", "neutral"),
        ("What?!", "Bob", "surprise"),
        ("…", "Bob", "anger"),
    ]
    assert (report["pairs"], report["conversations"], report["annotations"]) == (4, 1, {"1": 1})
    assert report["agreement"]["pairs"] == []


@pytest.mark.parametrize(
    ("merge", "kept"),
    [("majority", {2: (1,)}), ("union", {2: (1, 2, 3), 3: (3,)}), ("intersection", {})],
)
def test_three_annotators_are_combined(tmp_path: Path, merge: Any, kept: Any) -> None:
    tasks = exported(tmp_path)
    tasks[0]["annotations"] = [
        done(tasks[0], 1, {2: [1, 2], 3: [3]}),
        done(tasks[0], 2, {2: [1], 3: []}),
        done(tasks[0], 3, {2: [3], 3: []}),
    ]
    report, _ = import_annotations([saved(tmp_path, tasks)], tmp_path / "out", merge=merge)
    assert causes_of(tmp_path / "out") == kept
    assert len(report["agreement"]["pairs"]) == 3
    assert report["agreement"]["emotion"]["fleiss"] == pytest.approx(1)


def test_a_file_for_each_annotator(tmp_path: Path) -> None:
    tasks = exported(tmp_path)
    files = []
    for who in (1, 2):
        tasks[0]["annotations"] = [done(tasks[0], who, {2: [1], 3: [2]})]
        files.append(saved(tmp_path, tasks, f"{who}.json"))
    report, _ = import_annotations(files, tmp_path / "out")
    [pair] = report["agreement"]["pairs"]
    assert (pair["annotators"], pair["cause_kappa"], pair["pair_f1"]) == (["1", "2"], 1.0, 100.0)


def test_an_annotators_latest_work_counts_and_cancelled_work_does_not(tmp_path: Path) -> None:
    tasks = exported(tmp_path)
    tasks[0]["annotations"] = [
        done(tasks[0], 1, {2: [2], 3: [3]}, updated_at="2026-05-02T10:00:00Z"),
        done(tasks[0], 1, {2: [1], 3: [1]}, updated_at="2026-05-01T10:00:00Z"),
        done(tasks[0], 2, {2: [1], 3: [1]}, was_cancelled=True),
    ]
    import_annotations([saved(tmp_path, tasks)], tmp_path / "out")
    assert causes_of(tmp_path / "out") == {2: (2,), 3: (3,)}


def test_malformed_annotations_are_reported_and_skipped(tmp_path: Path) -> None:
    tasks = exported(tmp_path, dialogue("4"), dialogue("5"))
    broken = done(tasks[0], 2, {2: [1], 3: [2]})
    broken["result"][0]["value"]["end"] = "2"
    tasks[0]["annotations"] = [done(tasks[0], 1, {2: [1], 3: [2]}), broken, "text"]
    tasks[1]["annotations"] = [done(tasks[1], 1, {2: [1], 3: [2]})]
    tasks.append({"id": 3, "data": {"text": "not ours"}, "annotations": []})
    file = saved(tmp_path, tasks)
    report, problems = import_annotations([file], tmp_path / "out")
    assert report["skipped"] == 3
    assert [str(problem).removeprefix(f"{file}: ") for problem in problems] == [
        "conversation 4, annotation 102: region 'utterance-2' is not on one utterance of the "
        "conversation",
        "conversation 4, annotation 2: an annotation has no list `result`",
        "task 3: its data is not what `emoverse annotate export` wrote",
    ]
    assert report["files"] == {str(tmp_path / "out" / "Subtask_2_train.json"): 2}


def test_unfinished_conversations_are_left_out(tmp_path: Path) -> None:
    """An unanswered target must not become one without a cause."""
    tasks = exported(tmp_path, dialogue("4"), dialogue("5"))
    tasks[0]["annotations"] = [done(tasks[0], 1, {2: [1]})]
    tasks[1]["annotations"] = [done(tasks[1], 1, {2: [1], 3: []})]
    report, problems = import_annotations([saved(tmp_path, tasks)], tmp_path / "out")
    assert report["left_out"] == 1
    assert "conversation 4 left out: nobody answered what caused utterance 3" in str(problems[0])
    assert {u.dialogue for u in ecf.read(tmp_path / "out")[0]} == {"5"}


def test_a_tie_over_an_emotion_leaves_the_corpuss_own(tmp_path: Path) -> None:
    tasks = exported(tmp_path, dialogue("4"), dialogue("5", first=None))
    for task in tasks:
        mine, yours = (done(task, who, {2: [1], 3: [2]}) for who in (1, 2))
        extra = {"id": "new", "type": "paragraphlabels"}
        extra["value"] = {"start": "0", "end": "0", "paragraphlabels": ["joy"]}
        mine["result"] += [extra, {"id": "new", "type": "choices", "value": {"choices": ["1."]}}]
        task["annotations"] = [mine, yours]
    _, problems = import_annotations([saved(tmp_path, tasks)], tmp_path / "out")
    utterances, _ = ecf.read(tmp_path / "out")
    assert [(u.dialogue, u.emotion) for u in utterances if u.index == 1] == [("4", "neutral")]
    assert "conversation 5 left out: no emotion of utterance 1 has a majority" in str(problems[0])


def test_every_split_has_its_file(tmp_path: Path) -> None:
    tasks = exported(tmp_path, dialogue("4", "train"), dialogue("4", "valid"))
    for task in tasks:
        task["annotations"] = [done(task, 1, {2: [1], 3: [2]})]
    report, _ = import_annotations([saved(tmp_path, tasks)], tmp_path / "out")
    assert sorted(Path(file).name for file in report["files"]) == [
        "Subtask_2_train.json",
        "Subtask_2_valid.json",
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[{"id": 1, "dialogue": [], "emotion": []}]', "JSON-MIN and CSV lose the causes"),
        ('{"tasks": []}', "not Label Studio's JSON export"),
        ("[]", "no annotation there"),
        ("[", "not valid JSON"),
    ],
)
def test_other_files_are_told(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "export.json"
    file.write_text(content)
    with pytest.raises(EmoVerseError, match=complaint):
        import_annotations([file], tmp_path / "out")


def test_nothing_to_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no conversation"):
        export_tasks([], tmp_path)


def test_clips_that_fit_no_conversation_are_told(tmp_path: Path) -> None:
    (tmp_path / "ecf1_train.txt").write_text("1 1\nnull\n1 | Ann | joy | Hello | Friends_S1E1\n")
    (tmp_path / "links.txt").write_text("1 1\nnull\n1 | Ann | joy | Hello | train_dia3_utt0\n")
    (tmp_path / "train_splits").mkdir()
    (tmp_path / "train_splits" / "dia77_utt0.mp4").write_bytes(b"x")
    with pytest.raises(EmoVerseError, match="none of its clips belongs to these conversations"):
        conversations(
            "ecf",
            tmp_path / "ecf1_train.txt",
            clips=tmp_path,
            links=tmp_path / "links.txt",
        )


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code if isinstance(ended.value.code, int) else 0


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = tmp_path / "clips" / "scene"
    scene.mkdir(parents=True)
    for name in ("1", "2"):
        (scene / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "clips" / "transcripts.csv").write_text(
        "clip,text,speaker,emotion\nscene/1,Look!,Ann,neutral\nscene/2,Oh no!,Bob,fear\n"
    )
    tasks, out = tmp_path / "tasks", tmp_path / "out"
    arguments = ["--folder", tmp_path / "clips", "--out", tasks, "--clips-url", "/files"]
    assert run("annotate", "export", *arguments) == 0
    assert "Wrote 1 tasks" in capsys.readouterr().out
    assert "HyperText" in (tasks / CONFIG).read_text()
    [task] = json.loads((tasks / TASKS).read_text())
    assert 'src="/files/scene/2.mp4"' in task["data"]["clips"]
    task["annotations"] = [done(task, who, {2: [1]}) for who in (1, 2)]
    file = saved(tmp_path, [task])
    assert run("annotate", "import", file, "--out", out, "--json", tmp_path / "r.json") == 0
    printed = capsys.readouterr().out
    assert "1 - 2" in printed
    assert "1.000" in printed
    assert json.loads((tmp_path / "r.json").read_text())["pairs"] == 1
    assert causes_of(out) == {2: (1,)}


def test_what_was_annotated_is_built_with_its_own_clips(tmp_path: Path) -> None:
    """MELD numbers the dialogues and clips of every split alike."""
    meld, causes = tmp_path / "MELD", tmp_path / "causes"
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    for split, folder in (("train", "train_splits"), ("dev", "dev_splits_complete")):
        (meld / folder).mkdir(parents=True)
        (meld / folder / "dia0_utt0.mp4").write_bytes(split.encode())
        rows = f"1,Spoken in {split},Ann,joy,positive,0,0\n"
        (meld / f"{split}_sent_emo.csv").write_text(header + rows)
    arguments = ["--meld", meld, "--clips", meld, "--out", tmp_path / "tasks"]
    assert run("annotate", "export", *arguments) == 0
    tasks = json.loads((tmp_path / "tasks" / TASKS).read_text())
    for task in tasks:
        task["annotations"] = [done(task, 1, {1: [1]})]
    import_annotations([saved(tmp_path, tasks)], causes)

    for utterance in ecf.read(causes, clips=meld)[0]:
        assert utterance.clip and utterance.clip_problem is None
        folder = "train_splits" if utterance.split == "train" else "dev_splits_complete"
        assert utterance.clip.parent.name == folder
    assert run("build", "--ecf", causes, "--no-clips", "--out", tmp_path / "EMT") == 0
    for split in ("train", "valid"):
        [record] = load_records(tmp_path / "EMT" / f"{split}.jsonl")
        assert record.id == f"ecf/{split}_dia0utt1/ecpe"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--meld", "a", "--ecf", "b"],
        ["--ecf", "b", "--clips-url", "/files"],
        ["--meld", "b", "--clips", "c", "--links", "d"],
    ],
)
def test_bad_use(tmp_path: Path, arguments: list[str]) -> None:
    assert run("annotate", "export", "--out", tmp_path, *arguments) == 2
