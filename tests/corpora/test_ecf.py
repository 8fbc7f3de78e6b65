from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoverse.corpora import ecf
from emoverse.corpora.records import dialogues
from emoverse.errors import EmoVerseError


def _conversation(key: int, *emotions: str | None, pairs: Any = ()) -> dict[str, Any]:
    turns = []
    for index, emotion in enumerate(emotions, start=1):
        turn = {
            "utterance_ID": index,
            "text": f"Line {index} .",
            "speaker": "Ann",
            "emotion": emotion,
            "video_name": f"dia{key}utt{index}.mp4",
        }
        turns.append({name: value for name, value in turn.items() if value is not None})
    conversation: dict[str, Any] = {"conversation_ID": key, "conversation": turns}
    if pairs is not None:
        conversation["emotion-cause_pairs"] = [list(pair) for pair in pairs]
    return conversation


def _write(file: Path, *conversations: Any) -> Path:
    file.write_text(json.dumps(conversations, indent=1))
    return file


def test_causes_are_filled_and_empty_where_none_is_annotated(tmp_path: Path) -> None:
    pairs = [("3_surprise", "1"), ("3_surprise", "3"), ("2_joy", "2"), ("3_surprise", "1")]
    file = _write(
        tmp_path / "Subtask_2_train.json",
        _conversation(1, "neutral", "joy", "surprise", "fear", pairs=pairs),
    )
    utterances, problems = ecf.read(file)
    assert [utterance.causes for utterance in utterances] == [(), (2,), (1, 3), ()]
    assert [utterance.id for utterance in utterances][:2] == ["dia1utt1", "dia1utt2"]
    assert {(u.corpus, u.split, u.dialogue, u.speaker) for u in utterances} == {
        ("ecf", "train", "1", "Ann")
    }
    assert problems == []


def test_subtask_1_causes_with_words_are_read(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "Subtask_1_train.json",
        _conversation(1, "joy", pairs=[("1_joy", "1_what a_day\nindeed")]),
    )
    assert ecf.read(file)[0][0].causes == (1,)


def test_a_file_without_labels_leaves_them_open(tmp_path: Path) -> None:
    file = _write(tmp_path / "Subtask_2_test.json", _conversation(9, None, None, pairs=None))
    utterances, problems = ecf.read(file)
    assert [(u.split, u.emotion, u.causes) for u in utterances] == [("test", None, None)] * 2
    assert problems == []


def test_a_dev_split_is_cut_out_by_conversation_ids(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "Subtask_2_train.json", *(_conversation(key, "joy") for key in (1, 2, 3))
    )
    text = tmp_path / "ecf1_dev.txt"
    text.write_text("2 1\nnull\n1 | Ann | joy | Line 1 . | \n")
    ids = ecf.conversation_ids(text)
    utterances, _ = ecf.read(file, valid_ids=ids)
    assert [(talk.id, talk.split) for talk in dialogues(utterances)] == [
        ("1", "train"),
        ("2", "valid"),
        ("3", "train"),
    ]
    assert [u.split for u in ecf.read(file, valid_ids=[2])[0]] == ["train", "valid", "train"]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("1_joy", "7"), "names an utterance that is not there"),
        (("8_joy", "1"), "names an utterance that is not there"),
        (("1_anger", "1"), "disagrees with utterance 1's emotion joy"),
        (("joy_1", "1"), "is not"),
        (("1_joy",), "is not"),
    ],
)
def test_a_malformed_pair_is_reported_and_the_others_stay(
    tmp_path: Path, pair: tuple[str, ...], message: str
) -> None:
    file = _write(
        tmp_path / "Subtask_2_train.json",
        _conversation(4, "joy"),
        _conversation(5, "joy", pairs=[pair, ("1_joy", "1")]),
    )
    utterances, problems = ecf.read(file)
    assert utterances[1].causes == (1,)
    assert len(problems) == 1
    assert message in problems[0].message
    assert problems[0].line is not None
    assert '"conversation_ID": 5' in file.read_text().split("\n")[problems[0].line - 1]


def _broken(**changes: Any) -> dict[str, Any]:
    conversation = _conversation(5, "joy", "joy")
    conversation["conversation"][1] |= changes
    return conversation


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        (_broken(emotion="bliss"), "conversation 5, utterance 2: emotion 'bliss' is unknown"),
        (_broken(text=" "), "conversation 5, utterance 2: no text"),
        (_broken(utterance_ID=4), "utterance_ID is not 2"),
        ({"conversation_ID": 5, "conversation": []}, "conversation 5: no utterances"),
        ({"conversation": []}, "without conversation_ID"),
        (_conversation(1, "joy"), "conversation 1 was already in this file"),
        ("nothing", "not a conversation object"),
    ],
)
def test_a_malformed_conversation_is_left_out_whole(
    tmp_path: Path, conversation: Any, message: str
) -> None:
    file = _write(
        tmp_path / "Subtask_2_train.json",
        _conversation(1, "joy"),
        conversation,
        _conversation(6, "joy"),
    )
    utterances, problems = ecf.read(file)
    assert [utterance.dialogue for utterance in utterances] == ["1", "6"]
    assert [message in problem.message for problem in problems] == [True]


def test_clips_are_found_by_video_name_at_any_depth(tmp_path: Path) -> None:
    file = _write(tmp_path / "Subtask_2_train.json", _conversation(1, "joy", "fear", "joy"))
    folder = tmp_path / "clips"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "dia1utt1.mp4").write_bytes(b"clip")
    (folder / "train" / "dia1utt2.mp4").touch()
    utterances, _ = ecf.read(file, clips=folder)
    assert utterances[0].clip == folder / "train" / "dia1utt1.mp4"
    assert [utterance.clip_problem for utterance in utterances] == [
        None,
        "empty file",
        "not found in the folder of clips",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(EmoVerseError, match="check the path"):
        ecf.read(file, clips=tmp_path / "none")


def test_clips_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    """MELD's names come again in every split; what annotations name has the folder too."""
    talk = _conversation(1, "joy", "fear", "anger")
    for turn, name in zip(talk["conversation"], ("dev/a.mp4", "a.mp4", "moved/b.mp4"), strict=True):
        turn["video_name"] = name
    file = _write(tmp_path / "Subtask_2_valid.json", talk)
    clips = tmp_path / "clips"
    for place in ("train/a.mp4", "dev/a.mp4", "dev/b.mp4"):
        (clips / place).parent.mkdir(parents=True, exist_ok=True)
        (clips / place).write_bytes(b"clip")
    utterances, _ = ecf.read(file, clips=clips)
    assert [utterance.clip for utterance in utterances] == [
        clips / "dev" / "a.mp4",
        None,
        clips / "dev" / "b.mp4",
    ]
    assert utterances[1].clip_problem == "2 clips in the folder of clips are called a"


def test_conversations_with_a_name_keep_it(tmp_path: Path) -> None:
    talk = _conversation(1, "joy") | {"conversation_ID": "valid_dia0"}
    file = _write(tmp_path / "Subtask_2_valid.json", talk)
    assert [utterance.id for utterance in ecf.read(file)[0]] == ["valid_dia0utt1"]


def test_only_training_conversations_are_cut_out(tmp_path: Path) -> None:
    _write(tmp_path / "Subtask_2_train.json", _conversation(1, "joy"), _conversation(2, "joy"))
    _write(tmp_path / "Subtask_2_test.json", _conversation(2, "joy"))
    assert [u.split for u in ecf.read(tmp_path, valid_ids=[2])[0]] == ["test", "train", "valid"]


def test_a_folder_prefers_json_and_takes_all_its_splits(tmp_path: Path) -> None:
    _write(tmp_path / "Subtask_2_train.json", _conversation(1, "joy"))
    _write(tmp_path / "Subtask_2_test.json", _conversation(2, "joy"))
    (tmp_path / "ecf1_train.txt").write_text("1 1\nnull\n1 | Ann | joy | Line 1 . | \n")
    assert {u.split for u in ecf.read(tmp_path)[0]} == {"train", "test"}
    assert {u.split for u in ecf.read(tmp_path, split="test")[0]} == {"test"}


def test_a_folder_of_text_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "ecf1_dev.txt").write_text("1 1\n(1,1)\n1 | Ann | joy | Line 1 . | \n")
    (utterance,), _ = ecf.read(tmp_path)
    assert (utterance.split, utterance.causes) == ("valid", (1,))


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "line 1: not valid JSON"), ("{}", "not a list of conversations"), ("[]", "not a list")],
)
def test_a_wrong_file_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "Subtask_2_train.json"
    file.write_text(content)
    with pytest.raises(EmoVerseError, match=message):
        ecf.read(file)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="Subtask_2_train"):
        ecf.read(tmp_path)
