"""Photos and clips are read by the same action unit source."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoverse.corpora.records import Problem
from emoverse.emt.build import FaceWork, build
from emoverse.emt.clips import Settings
from emoverse.emt.photos import records
from emoverse.emt.record import load_records
from emoverse.errors import EmoVerseError
from emoverse.faces import captions
from emoverse.faces.landmarks import detector
from emoverse.faces.readers import READERS, reader

from . import drawn


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "sets" / "drawn" / "joy"
    folder.mkdir(parents=True)
    for number, mouth in enumerate((0.2, 1.0)):
        Image.fromarray(drawn.face(mouth)).save(folder / f"face{number}.png")
    return tmp_path / "sets"


@pytest.mark.parametrize("source", READERS)
def test_the_source_that_is_named_reads_the_photos(
    tmp_path: Path, faces: Path, landmarker: Path, source: str
) -> None:
    problems: list[Problem] = []
    made = [one for one in records(faces, tmp_path, source, problems) if one.task == "fer"]
    assert problems == []
    with detector(max_faces=1, model=landmarker) as eyes:
        for record in made:
            name = record.id.removeprefix("photo/").removesuffix("/fer").rpartition("/")[2]
            image = np.asarray(Image.open(faces / "drawn" / "joy" / f"{name}.png").convert("RGB"))
            (face,) = eyes.detect(image)
            told = captions.describe(reader(source)(face))
            assert record.label == list(told.codes)
    assert made, "an open mouth shows action units by either source"


def test_a_build_reads_photos_by_its_au_source(
    tmp_path: Path, faces: Path, landmarker: Path
) -> None:
    told = {}
    for source in READERS:
        out = tmp_path / source
        work = FaceWork(settings=Settings(source=source), model=landmarker)
        summary = build(out, faces_dir=faces, faces=work, log=lambda _: None)
        assert summary["au_source"] == source
        assert json.loads((out / "build.json").read_text())["au_source"] == source
        read = [record for record in load_records(out / "train.jsonl") if record.task == "fer"]
        told[source] = {record.id: tuple(record.label) for record in read}
    default = build(tmp_path / "default", faces_dir=faces, log=lambda _: None)
    assert default["au_source"] == "mediapipe"
    assert told["mediapipe"] != told["blendshapes"]


def test_photos_of_one_name_are_two_and_all_are_in_the_manifest(
    tmp_path: Path, faces: Path, landmarker: Path
) -> None:
    Image.fromarray(drawn.face(0.6)).save(faces / "drawn" / "joy" / "face0.jpg", quality=95)
    out = tmp_path / "EMT"
    work = FaceWork(model=landmarker, emotion_aus=True)
    summary = build(out, faces_dir=faces, faces=work, log=lambda _: None)
    assert summary["emotion_aus"] is True
    made = [one for one in load_records(out / "train.jsonl") if one.task == "er"]
    assert {one.id for one in made} == {
        f"photo/drawn/joy/{name}/er" for name in ("face0", "face0-2", "face1")
    }
    crops = [json.loads(line) for line in (out / "crops.jsonl").read_text().splitlines()]
    assert [row["face"]["path"] for row in crops] == sorted(one.images[0] for one in made)
    for row in crops:
        digest = hashlib.sha256((out / row["face"]["path"]).read_bytes()).hexdigest()
        assert row["face"]["sha256"] == digest
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["faces"]["emotion_aus"] is True and "mediapipe" in manifest["versions"]
    (told,) = manifest["inputs"]
    assert told["file"] == "drawn"
    (faces / "drawn" / "joy" / "face0.jpg").unlink()
    build(out, faces_dir=faces, faces=work, log=lambda _: None)
    (again,) = json.loads((out / "manifest.json").read_text())["inputs"]
    assert again["sha256"] != told["sha256"]


@pytest.mark.parametrize("kept", [0, 700, 120_000])
def test_a_broken_archive_is_told_and_costs_only_what_is_broken(
    tmp_path: Path, faces: Path, landmarker: Path, kept: int
) -> None:
    whole = tmp_path / "whole.tar"
    with tarfile.open(whole, "w") as tar:
        for number in range(3):
            picture = tmp_path / f"more_{number}.bmp"
            Image.fromarray(drawn.face(0.4)).resize((160, 120)).save(picture)
            tar.add(picture, picture.name)
    (faces / "more.tar").write_bytes(b"no archive" if not kept else whole.read_bytes()[:kept])
    problems: list[Problem] = []
    made = {one.id.rpartition("/")[0] for one in records(faces, tmp_path, "mediapipe", problems)}
    assert {"photo/drawn/joy/face0", "photo/drawn/joy/face1"} <= made
    assert any("unreadable" in problem.message for problem in problems)


def test_an_unknown_source_is_told(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(EmoVerseError, match="'eyes'"):
        list(records(faces, tmp_path, "eyes", []))
