from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoverse.emt import tally
from emoverse.emt.build import FaceWork, build
from emoverse.emt.clips import Cut, Settings, basis, key_of, measure, result_file
from emoverse.emt.record import Record, load_records
from emoverse.emt.sources import Folder
from emoverse.errors import EmoVerseError
from emoverse.faces.landmarks import detector
from emoverse.files import read_json
from emoverse.tasks.action_units import EMOTION_AUS
from tests.faces.clips import write

from . import drawn
from .conftest import tree


def _records(out: Path, task: str) -> list[Record]:
    return [record for record in load_records(out / "train.jsonl") if record.task == task]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, landmarker: Path) -> tuple[Path, Path]:
    """Raw folders and the dataset built from them, with two workers."""
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("EMT")
    meld = drawn.meld(raw / "meld", clips=4)
    clips = meld / "train" / "train_splits"
    (clips / "dia0_utt3.mp4").write_bytes(b"\0\1 no video" * 100)
    (clips / "final_videos_testdia1_utt1.mp4").write_bytes(b"extra clip without a row")
    with (meld / "train" / "train_sent_emo.csv").open("a") as table:
        table.write("9,Cut off,Ann,joy,positive,125,3,,\n9,Lost,Ann,joy,positive,7,0,,\n")
    (clips / "dia125_utt3.mp4").write_bytes((clips / "dia0_utt0.mp4").read_bytes())
    mosei = drawn.mosei(raw / "mosei", [(0.0, 1.5), (2.0, 4.5), (60.0, 61.0)])
    build(
        out,
        meld_dir=meld,
        mosei_dir=mosei,
        faces=FaceWork(workers=2, model=landmarker),
        log=lambda _: None,
    )
    return raw, out


def test_every_clip_with_a_face_gives_a_caption(dataset: tuple[Path, Path]) -> None:
    _, out = dataset
    captions = {record.id: record for record in _records(out, "fer")}
    assert set(captions) >= {"meld/train_dia0_utt0/fer", "meld/train_dia0_utt2/fer"}
    surprise = captions["meld/train_dia0_utt2/fer"]
    # Eq 3: of what the open mouth shows, what belongs to surprise.
    assert set(surprise.label) <= set(EMOTION_AUS["surprise"]) and "fallback" not in surprise.meta
    for record in captions.values():
        (image,) = record.images
        assert record.videos == ()
        with Image.open(out / image) as picture:
            assert picture.format == "JPEG" and picture.size == (320, 240)
        with Image.open(out / str(record.meta["face"])) as picture:
            assert picture.size == (192, 192)


def test_the_peak_is_where_the_mouth_is_widest(dataset: tuple[Path, Path]) -> None:
    _, out = dataset
    for number in range(3):
        (record,) = [r for r in _records(out, "fer") if r.id == f"meld/train_dia0_utt{number}/fer"]
        assert abs(record.meta["peak"]["frame"] - (4 + 2 * number)) <= 1


def test_meld_shows_clips_and_mosei_peak_frames(dataset: tuple[Path, Path]) -> None:
    raw, out = dataset
    records = {record.id: record for record in load_records(out / "train.jsonl")}
    clip = raw / "meld" / "train" / "train_splits" / "dia0_utt0.mp4"
    assert records["meld/train_dia0_utt0/er"].videos == (str(clip),)
    assert records["meld/train_dia0_utt0/er"].images == ()
    (peak,) = records["mosei/abc_0/msa"].images
    assert peak.endswith("-peak.jpg") and records["mosei/abc_0/msa"].videos == ()
    assert records["mosei/abc_1/fer"].meta["peak"]["seconds"] == pytest.approx(40 / 12 - 2, abs=0.1)


def test_clips_that_cannot_be_used_are_told_and_their_words_stay(
    dataset: tuple[Path, Path],
) -> None:
    _, out = dataset
    records = {record.id: record for record in load_records(out / "train.jsonl")}
    for name in ("dia0_utt3", "dia125_utt3", "dia7_utt0"):
        record = records.get(f"meld/train_{name}/er")
        assert record is not None and record.media == ()
        assert f"meld/train_{name}/fer" not in records
    told = (out / "clips.txt").read_text()
    assert "train_dia0_utt3: " in told and "not a video" in told
    assert "train_dia125_utt3: corrupt file (declare-lab/MELD issues 39 and 52)" in told
    assert "train_dia7_utt0: not found" in told
    assert "mosei/abc_2: " in told and "no frame can be decoded between 60.00 s" in told
    counts = json.loads((out / "build.json").read_text())["clips"]
    assert counts == {"missing": 1, "unreadable": 2, "unusable": 1, "with a face": 5}


def test_captions_are_counted_by_how_they_came_about(dataset: tuple[Path, Path]) -> None:
    _, out = dataset
    told = json.loads((out / "build.json").read_text())["captions"]
    records = _records(out, "fer")
    whole = sum("fallback" in record.meta for record in records)
    assert told[tally.AGREE] + told[tally.WHOLE] == len(records)
    assert told[tally.WHOLE] == whole >= 2, "MOSEI's two have no emotion"
    assert told[tally.EMPTY] <= whole + told[tally.NOTHING]


def test_the_manifest_holds_every_files_hash(dataset: tuple[Path, Path]) -> None:
    _, out = dataset
    manifest = json.loads((out / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        data = (out / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert {"train.jsonl", "build.json", "crops.jsonl"} <= set(manifest["files"])
    assert manifest["faces"]["settings"]["max_fps"] > 0
    used = {"emoverse", "av", "mediapipe", "numpy", "pillow"}
    assert set(manifest["versions"]) - {"pyarrow"} == used
    listed = set()
    for line in (out / "crops.jsonl").read_text().splitlines():
        for name, crop in json.loads(line).items():
            if name != "key":
                listed.add(crop["path"])
                assert (
                    hashlib.sha256((out / crop["path"]).read_bytes()).hexdigest() == crop["sha256"]
                )
    assert listed == {f.relative_to(out).as_posix() for f in (out / "crops").rglob("*.jpg")}


def test_other_workers_other_folder_same_bytes(
    dataset: tuple[Path, Path], tmp_path: Path, landmarker: Path
) -> None:
    raw, out = dataset
    (out / "crops" / "00").mkdir(exist_ok=True)
    build(
        tmp_path / "EMT",
        meld_dir=Folder(raw / "meld" / "train", raw / "meld" / "train" / "train_splits"),
        mosei_dir=raw / "mosei",
        faces=FaceWork(workers=1, model=landmarker),
        log=lambda _: None,
    )
    assert tree(tmp_path / "EMT") == tree(out)


def test_a_second_run_measures_nothing(
    dataset: tuple[Path, Path], landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = dataset
    before = tree(out)
    told: list[tuple[int, int]] = []
    stale = out / "crops" / "ab" / f"{'ab' * 16}-peak.jpg"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"of an earlier build")
    (out / "faces" / f".{'a' * 32}.json.x1y2z3_4").write_text("half writ")
    work = FaceWork(
        workers=1, model=landmarker, progress=lambda done, total: told.append((done, total))
    )
    build(out, meld_dir=raw / "meld", mosei_dir=raw / "mosei", faces=work, log=lambda _: None)
    assert told == [] and tree(out) == before


def test_text_alone_leaves_clips_out(dataset: tuple[Path, Path], tmp_path: Path) -> None:
    raw, _ = dataset
    build(
        tmp_path / "EMT",
        meld_dir=raw / "meld",
        mosei_dir=raw / "mosei",
        clips=False,
        log=lambda _: None,
    )
    assert all(r.media == () for r in load_records(tmp_path / "EMT" / "train.jsonl"))
    assert not (tmp_path / "EMT" / "faces").exists()


def test_ecf_without_clips_borrows_melds(tmp_path: Path, landmarker: Path) -> None:
    meld = drawn.meld(tmp_path / "meld", clips=2)
    ecf = tmp_path / "ecf"
    ecf.mkdir()
    turns = [
        {"utterance_ID": 1, "text": "Line 0", "speaker": "Ann", "emotion": "joy"},
        {"utterance_ID": 2, "text": "Line 1", "speaker": "Ann", "emotion": "anger"},
    ]
    talk = {"conversation_ID": 4, "conversation": turns, "emotion-cause_pairs": [["2_anger", "1"]]}
    (ecf / "Subtask_2_train.json").write_text(json.dumps([talk]))
    (ecf / "all_data_pair_ECFvsMELD.txt").write_text(
        "4 2\n(2,1)\n1 | Ann | joy | Line 0 | train_dia0_utt0\n2 | Ann | anger | Line 1 | \n"
    )
    build(
        tmp_path / "EMT",
        meld_dir=meld,
        ecf_dir=ecf,
        faces=FaceWork(workers=2, model=landmarker),
        log=lambda _: None,
    )
    causes = {record.id: record for record in _records(tmp_path / "EMT", "ecpe")}
    own = meld / "train" / "train_splits" / "dia0_utt0.mp4"
    assert causes["ecf/dia4utt1/ecpe"].videos == (str(own),)
    assert causes["ecf/dia4utt2/ecpe"].videos == ()
    # The shared clip is captioned once.
    assert {r.source for r in _records(tmp_path / "EMT", "fer")} == {"meld"}


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    from filelock import FileLock

    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(EmoVerseError, match="another build is at work"),
    ):
        build(tmp_path, meld_dir=tmp_path)


def test_the_speakers_peak_is_taken_where_it_is_wanted(tmp_path: Path, landmarker: Path) -> None:
    # A face that gapes all the time, and to its right one whose mouth opens a little and closes.
    talking = [0.0, 0.25, 0.5, 0.25] * 6
    images = [np.hstack([drawn.face(1.0), drawn.face(mouth)]) for mouth in talking]
    path = write(tmp_path / "talk.mp4", images, fps=12)
    middles = {}
    for person in ("max", "speaker"):
        settings = Settings(person=person)
        with detector(model=landmarker) as eyes:
            measure(Cut(person, str(path)), tmp_path, settings, eyes)
        row = read_json(result_file(tmp_path, person))
        assert row["people"] == 2
        left, _, right, _ = row["peak"]["box"]
        middles[person] = (left + right) / 2
    assert middles["max"] < 320 < middles["speaker"]
    one, other = (basis(Settings(person=person), landmarker) for person in ("max", "speaker"))
    assert key_of("ab", 0.0, None, None, one) != key_of("ab", 0.0, None, None, other)
