from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emoverse.corpora import csd, mosei
from emoverse.errors import EmoVerseError

MOSEI = "vid\tstart\tstop\tlabel\tcid\ttext\n"
MOSI = "id\tstart\tstop\tcid\tvid\ttext\tlabel\telapse\n"
MMSA = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"


def test_mosei_and_mosi_columns_are_both_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "train.tsv").write_text(MOSEI + "v-1\t1.5\t2.5\t-0.5\t3\tfine words\n")
    (tmp_path / "b" / "dev.tsv").write_text(MOSI + "v_7\t1\t2\t7\tv\tGOOD\t2.0\t1\n")
    (first,), _ = mosei.read(tmp_path / "a")
    (second,), _ = mosei.read(tmp_path / "b")
    assert (first.id, first.corpus, first.split) == ("v-1_3", "mosei", "train")
    assert (first.start, first.end, first.score, first.sentiment) == (1.5, 2.5, -0.5, "negative")
    assert (second.id, second.corpus, second.split) == ("v_7", "mosi", "valid")
    assert second.emotion is None


def test_quotes_in_the_text_cost_no_row(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(
        MOSEI + 'v\t0\t1\t0\t0\t"open\nv\t1\t2\t0\t1\t"say ""no"" now"\nv\t2\t3\t0\t2\tplain\n'
    )
    utterances, problems = mosei.read(file)
    assert [utterance.text for utterance in utterances] == ['"open', 'say "no" now', "plain"]
    assert problems == []


def test_the_index_follows_time_and_negative_starts_become_zero(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(MOSEI + "v\t9\t10\t0\t10\tlate\nv\t-0.4\t2\t0\t2\tearly\n")
    utterances, _ = mosei.read(file)
    assert [(utterance.index, utterance.start) for utterance in utterances] == [(2, 9.0), (1, 0.0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v\t0\t1\t3.5\t1\tx", "label 3.5 is outside [-3, 3]"),
        ("v\t0\t1\tgood\t1\tx", "label 'good' is not a number"),
        ("v\t0\t1\t\t1\tx", "label is empty"),
        ("v\t0\t1\t1\t1\t ", "text is empty"),
        ("v\t0\t1\t1\t1", "6 cells expected, 5 cells found"),
        ("v\t0\t1\t1\t0\tx", "video v clip 0 was already on line 2"),
    ],
)
def test_a_malformed_row_is_reported_and_skipped(tmp_path: Path, row: str, message: str) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(f"{MOSEI}v\t0\t1\t1\t0\tfirst\n{row}\nv\t2\t3\t1\t9\tlast\n")
    utterances, problems = mosei.read(file)
    assert [utterance.text for utterance in utterances] == ["first", "last"]
    assert [(problem.line, problem.message) for problem in problems] == [(3, message)]


def test_mmsa_labels_take_split_from_mode_and_clips_from_raw(tmp_path: Path) -> None:
    folder = tmp_path / "MOSI"
    (folder / "Raw" / "v_1").mkdir(parents=True)
    (folder / "Raw" / "v_1" / "10.mp4").write_bytes(b"clip")
    (folder / "label.csv").write_text(
        MMSA
        + 'v_1,10,"words, more",1.2,,,,Positive,train\n'
        + "v_1,9,words,0,,,,Neutral,valid\n"
        + "v_1,11,words,0,,,,Neutral,other\n"
    )
    utterances, problems = mosei.read(folder)
    assert [(u.id, u.corpus, u.split, u.index) for u in utterances] == [
        ("v_1_10", "mosi", "train", 2),
        ("v_1_9", "mosi", "valid", 1),
    ]
    assert utterances[0].clip == folder / "Raw" / "v_1" / "10.mp4"
    assert utterances[1].clip_problem == "not found in the folder of clips"
    assert problems[0].line == 4
    only, _ = mosei.read(folder / "label.csv", split="valid", clips=None, corpus="mosei")
    assert [(u.id, u.corpus) for u in only] == [("v_1_9", "mosei")]


def test_flat_clip_names_are_found_too(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(MOSEI + "v\t0\t1\t1\t0\tx\n")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "v_0.mp4").touch()
    (utterance,), _ = mosei.read(file, clips=tmp_path / "clips")
    assert utterance.clip == tmp_path / "clips" / "v_0.mp4"
    assert utterance.clip_problem == "empty file"


def test_folder_errors_name_the_mend(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"no train\.tsv and no label\.csv"):
        mosei.read(tmp_path)
    (tmp_path / "train.tsv").write_text(MOSEI + "v\t0\t1\t1\t0\tx\n")
    with pytest.raises(EmoVerseError, match="corpus 'iemocap' is unknown"):
        mosei.read(tmp_path, corpus="iemocap")
    (tmp_path / "clips").mkdir()
    with pytest.raises(EmoVerseError, match="check the path"):
        mosei.read(tmp_path, clips=tmp_path / "clips")
    (tmp_path / "train.tsv").write_text("vid\tlabel\nv\t1\n")
    with pytest.raises(EmoVerseError, match=r"train\.tsv: column cid, start, stop, text missing"):
        mosei.read(tmp_path)


class _Array:
    """What h5py gives for `dataset[()]`, as far as the reader uses it."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __getitem__(self, key: tuple[()]) -> _Array:
        return self

    def tolist(self) -> list[Any]:
        return self.values


class _File(dict[str, Any]):
    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _h5py(monkeypatch: pytest.MonkeyPatch, files: dict[str, dict[str, Any]]) -> None:
    module = ModuleType("h5py")

    def open_file(path: Path, mode: str) -> _File:
        if path.name not in files:
            raise OSError("file signature not found")
        return _File(files[path.name])

    module.File = open_file  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "h5py", module)


LABELS = {
    "v": {
        "features": _Array([[1.0, 0, 0.3, 2.0, 0, 0, 0], [-1.0, 0, 0, 0, 0, 0, 0]]),
        "intervals": _Array([[0.0, 2.0], [2.0, 4.0]]),
    },
    "w": {"features": _Array([[0.0, 1, 1, 0, 0, 0, 0]]), "intervals": _Array([[0.0, 1.0]])},
}
WORDS = {
    "v": {
        "features": _Array([[b"so"], [b"sp"], [b"bad"], [b"well"]]),
        "intervals": _Array([[0.0, 0.5], [0.5, 1.0], [1.0, 1.9], [2.1, 2.5]]),
    },
}


def test_the_sdk_file_gives_scores_emotions_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "CMU_MOSEI_Labels.csd": {"All Labels": {"data": LABELS}},
        "words.csd": {"words": {"data": WORDS}},
    }
    _h5py(monkeypatch, files)
    for name in files:
        (tmp_path / name).touch()
    utterances, problems = mosei.read(
        tmp_path / "CMU_MOSEI_Labels.csd",
        splits={"v": "train", "w": "dev"},
        words=tmp_path / "words.csd",
    )
    assert [(u.id, u.emotion, u.score, u.text, u.split, u.index) for u in utterances] == [
        ("v_0", "anger", 1.0, "so bad", "train", 1),
        ("v_1", "neutral", -1.0, "well", "train", 2),
    ]
    assert "w, clip 0: no words between" in problems[0].message
    texts, _ = mosei.read(tmp_path / "CMU_MOSEI_Labels.csd", splits={"w": "valid"})
    assert [(u.emotion, u.sentiment, u.text) for u in texts] == [("joy", "neutral", "")]


def test_the_sdks_folder_tells_splits_and_words_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "CMU_MOSEI_Labels.csd": {"All Labels": {"data": LABELS}},
        "CMU_MOSEI_TimestampedWords.csd": {"words": {"data": WORDS}},
    }
    _h5py(monkeypatch, files)
    for name in files:
        (tmp_path / name).touch()
    folds = tmp_path / "cmu_mosei_std_folds.py"
    folds.write_text("standard_train_fold=['x','w']\nstandard_valid_fold = [\n 'v',\n]\n")
    utterances, _ = mosei.read(tmp_path)
    assert [(u.id, u.text, u.split) for u in utterances] == [
        ("v_0", "so bad", "valid"),
        ("v_1", "well", "valid"),
    ]
    assert {u.emotion for u in utterances} == {"anger", "neutral"}
    for text, said in (("standard_test_fold = names()", "not the SDK's"), ("x = 1", "no standard")):
        folds.write_text(text)
        with pytest.raises(EmoVerseError, match=said):
            mosei.read(tmp_path)


def test_the_sdk_file_needs_h5py_and_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labels.csd"
    file.touch()
    with pytest.raises(EmoVerseError, match="pass splits"):
        mosei.read(file)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(EmoVerseError, match=r"pip install emoverse\[mmsdk\]"):
        mosei.read(file, splits={"v": "train"})


def test_a_wrong_sdk_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _h5py(monkeypatch, {"other.csd": {"x": {"metadata": {}}}, "empty.csd": {}})
    for name in ("other.csd", "empty.csd"):
        with pytest.raises(EmoVerseError, match="not laid out as"):
            list(csd.labels(tmp_path / name))
    with pytest.raises(EmoVerseError, match="not an HDF5 file"):
        csd.words(tmp_path / "text.csd")


def test_a_real_sdk_file_is_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py (extra mmsdk) is not installed")
    file = tmp_path / "labels.csd"
    with h5py.File(file, "w") as stream:
        group = stream.create_group("All Labels/data/v")
        group["features"] = [[0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
        group["intervals"] = [[0.0, 1.0]]
        words = stream.create_group("All Labels/data/w")
        words["features"] = [[0.0] * 7]
        words["intervals"] = [[0.0, 1.0]]
    utterances, _ = mosei.read(file, splits={"v": "train", "w": "train"})
    assert [(u.id, u.emotion) for u in utterances] == [("v_0", "fear"), ("w_0", "neutral")]
    spoken = tmp_path / "words.csd"
    with h5py.File(spoken, "w") as stream:
        group = stream.create_group("words/data/v")
        group["features"] = [[b"sp"], [b"hello"]]
        group["intervals"] = [[0.0, 0.1], [0.1, 0.5]]
    assert csd.words(spoken) == {"v": (csd.Word("hello", 0.1, 0.5),)}
