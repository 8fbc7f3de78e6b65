"""Photos and clips are read by the same action unit source."""

from __future__ import annotations

import json
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


def test_an_unknown_source_is_told(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(EmoVerseError, match="'eyes'"):
        list(records(faces, tmp_path, "eyes", []))
