from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from emoverse.cli import app
from emoverse.emt import dataset
from emoverse.emt.export import export
from emoverse.emt.record import dump_records
from emoverse.errors import EmoVerseError
from emoverse.tasks import SYSTEM_PROMPT
from tests.emt import made
from tests.faces import clips

LINES = [("Ann", "Look, a “dog” \u2028 and a cat!"), ("Bob", "Oh, I see it now.")]


@pytest.fixture
def emt(tmp_path: Path) -> Path:
    """A dataset of the five tasks: text alone, with a picture, with a clip from elsewhere."""
    folder = tmp_path / "EMT"
    (folder / "crops").mkdir(parents=True)
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(folder / "crops" / "p.png")
    (tmp_path / "raw").mkdir()
    clip = clips.write(tmp_path / "raw" / "c.mp4", count=5)
    dump_records(
        folder / "train.jsonl",
        [
            *made.meld("train", 0, LINES),
            *made.ecf("train", 3, LINES, {1: [], 2: [1, 2]}),
            made.photo("p", "train", "crops/p.png"),
            made.reason("1", "train", str(clip)),
        ],
    )
    dump_records(folder / "valid.jsonl", made.meld("valid", 0, LINES[:1]))
    return folder


def _export(emt: Path, out: Path, to: str, **how: Any) -> Any:
    return export(dataset.read(emt), emt, out, to, **how)


def _rows(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().split("\n") if line]
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def test_ms_swift_reads_turns_tags_and_paths(emt: Path, tmp_path: Path) -> None:
    done = _export(emt, tmp_path / "out", "ms-swift")
    assert done.files == {"train.jsonl": 8, "valid.jsonl": 2}
    assert (done.missing, done.empty) == ((), 1)
    rows = _rows(tmp_path / "out" / "train.jsonl")
    records = dataset.read(emt)["train"]
    for row, record in zip(rows, records, strict=True):
        system, user, assistant = row["messages"]
        assert system == {"role": "system", "content": SYSTEM_PROMPT}
        assert user["content"].endswith(record.query)
        assert assistant == {"role": "assistant", "content": record.response}
        assert user["content"].count("<image>") == len(row.get("images", []))
        assert user["content"].count("<video>") == len(row.get("videos", []))
        assert "label" not in row
    assert rows[-2]["images"] == ["../EMT/crops/p.png"]
    assert rows[-1]["videos"] == ["../raw/c.mp4"]


@pytest.mark.parametrize("to", ["ms-swift", "llama-factory", "sharegpt"])
def test_copied_media_make_a_folder_that_stands_alone(emt: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    _export(emt, out, to, media="copy")
    shutil.rmtree(tmp_path / "raw")
    moved = out.rename(tmp_path / "moved")
    file = moved / ("train.jsonl" if to == "ms-swift" else "train.json")
    paths = [p for row in _rows(file) for p in row.get("images", []) + row.get("videos", [])]
    assert paths == ["media/crops/p.png", "media/raw/c.mp4"]
    assert all((moved / path).stat().st_size for path in paths)


@pytest.mark.parametrize("to", ["ms-swift", "llama-factory", "sharegpt", "datasets"])
def test_nothing_of_an_earlier_export_is_left(emt: Path, tmp_path: Path, to: str) -> None:
    if to == "datasets":
        pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    out = tmp_path / "out"
    valid = {"ms-swift": "valid.jsonl", "datasets": "data/validation-00000.parquet"}
    _export(emt, out, to)
    assert (out / valid.get(to, "valid.json")).is_file()
    _export(emt, out, to, tasks=["ecpe"])
    assert not (out / valid.get(to, "valid.json")).exists()


def test_changed_media_are_copied_again(emt: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out" / "media" / "crops" / "p.png"
    _export(emt, tmp_path / "out", "sharegpt", media="copy")
    before = copy.stat().st_ino
    _export(emt, tmp_path / "out", "sharegpt", media="copy")
    assert copy.stat().st_ino == before, "what is the same is not copied again"
    changed = bytes(reversed((emt / "crops" / "p.png").read_bytes()))
    (emt / "crops" / "p.png").write_bytes(changed)
    _export(emt, tmp_path / "out", "sharegpt", media="copy")
    assert copy.read_bytes() == changed


def test_a_dataset_is_not_written_over(emt: Path) -> None:
    before = (emt / "train.jsonl").read_bytes()
    with pytest.raises(EmoVerseError, match="the dataset itself lies there"):
        _export(emt, emt, "ms-swift")
    assert (emt / "train.jsonl").read_bytes() == before


def test_files_of_one_name_from_two_folders_are_both_copied(tmp_path: Path) -> None:
    paths = []
    for number, outer in enumerate(("a", "b")):
        file = tmp_path / outer / "clips" / "c.mp4"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes([number]))
        paths.append(str(file))
    records = [made.reason(str(n), "train", path) for n, path in enumerate(paths)]
    out = tmp_path / "out"
    export({"train": records}, tmp_path / "EMT", out, "ms-swift", media="copy")
    named = [row["videos"][0] for row in _rows(out / "train.jsonl")]
    assert named == ["media/clips/c.mp4", "media/clips/c-2.mp4"]
    assert [(out / name).read_bytes() for name in named] == [b"\0", b"\1"]


def test_llama_factory_is_told_what_the_files_hold(emt: Path, tmp_path: Path) -> None:
    _export(emt, tmp_path / "out", "llama-factory")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info["emt_train"]["columns"] == {
        "messages": "conversations",
        "system": "system",
        "images": "images",
        "videos": "videos",
    }
    assert info["emt_valid"]["columns"] == {"messages": "conversations", "system": "system"}
    for split in ("train", "valid"):
        assert (tmp_path / "out" / info[f"emt_{split}"]["file_name"]).is_file()


def test_missing_media_are_told_and_kept(emt: Path, tmp_path: Path) -> None:
    (emt / "crops" / "p.png").unlink()
    assert _export(emt, tmp_path / "out", "sharegpt").missing == ("crops/p.png",)
    done = CliRunner().invoke(
        app, ["export", str(emt), "--to", "sharegpt", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0
    assert "1 media file is missing, e.g. crops/p.png" in done.stderr


def test_tasks_can_be_chosen(emt: Path, tmp_path: Path) -> None:
    done = _export(emt, tmp_path / "out", "sharegpt", tasks=["ecpe"])
    assert done.files == {"train.json": 2}
    with pytest.raises(EmoVerseError, match="no records of the tasks fer"):
        export({"valid": dataset.read(emt)["valid"]}, emt, tmp_path, "sharegpt", tasks=["fer"])


@pytest.mark.parametrize("command", [("export", "--to", "sharegpt"), ("stats",), ("check",)])
def test_a_file_without_records_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    out = ("--out", "out") if command[0] == "export" else ()
    done = CliRunner().invoke(app, [*command, "empty.jsonl", *out])
    assert isinstance(done.exception, EmoVerseError)
    assert str(done.exception).startswith("empty.jsonl: it holds no records")


def test_unknown_formats_are_refused(emt: Path, tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="'alpaca' is unknown"):
        _export(emt, tmp_path, "alpaca")
    with pytest.raises(EmoVerseError, match="'move' is unknown"):
        _export(emt, tmp_path, "sharegpt", media="move")


def test_the_same_export_has_the_same_bytes(emt: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _export(emt, tmp_path / name, "llama-factory", media="copy")
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_parquet_needs_pyarrow(emt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EmoVerseError, match=r"emoverse\[parquet\]"):
        _export(emt, tmp_path / "out", "datasets")


def test_parquet_is_split_where_it_grows_large(
    emt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    records = [made.photo(str(number), "train", "crops/p.png") for number in range(7)]
    monkeypatch.setattr("emoverse.emt.parquet._SHARD", 150)
    done = export({"train": records}, emt, tmp_path / "out", "datasets", media="copy")
    assert len(done.files) > 1
    assert sum(done.files.values()) == 7
    tables = [reading.read_table(tmp_path / "out" / file) for file in done.files]
    ids = [name for table in tables for name in table["id"].to_pylist()]
    assert ids == [record.id for record in records]
    monkeypatch.undo()
    done = export({"train": records}, emt, tmp_path / "out", "datasets", media="copy")
    found = sorted(p.name for p in (tmp_path / "out" / "data").iterdir())
    assert found == ["train-00000.parquet"]


# What follows opens the exports with the peers' own loaders.

SWIFT = """
import json, sys
from swift.dataset import load_dataset
from swift.template.vision_utils import load_image
train, _ = load_dataset([sys.argv[1]], strict=True)
rows = [dict(row) for row in train]
for row in rows:
    row["sizes"] = [load_image(image["path"]).size for image in row.get("images") or []]
print("ROWS" + json.dumps(rows))
"""
LLAMA_FACTORY = """
import json, os, sys
os.environ["DISABLE_VERSION_CHECK"] = "1"
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments
rows = _get_merged_dataset(
    ["emt_train"],
    ModelArguments(model_name_or_path="none"),
    DataArguments(dataset="emt_train", dataset_dir=sys.argv[1]),
    Seq2SeqTrainingArguments(output_dir=sys.argv[1]),
    stage="sft",
)
print("ROWS" + json.dumps([dict(row) for row in rows]))
"""


def _peer(variable: str, module: str) -> str:
    """A Python that has the peer, else the test is skipped."""
    python = os.environ.get(variable)
    if python:
        return python
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}; install it, or name a Python that has it in {variable}")
    return sys.executable


def _opened(python: str, script: str, argument: str, cwd: Path, tmp_path: Path) -> list[Any]:
    homes = {"HF_HOME": "hf", "MODELSCOPE_CACHE": "ms", "HF_DATASETS_OFFLINE": "1"}
    settings = {name: str(tmp_path / "cache" / home) for name, home in homes.items()}
    settings |= {"HF_DATASETS_OFFLINE": "1", "ROOT_IMAGE_DIR": str(tmp_path / "out")}
    done = subprocess.run(
        [python, "-c", script, argument],
        cwd=cwd,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("ROWS")[2])  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["ms-swift", "sharegpt"])
def test_ms_swift_opens_it(emt: Path, tmp_path: Path, to: str) -> None:
    python = _peer("EMOVERSE_PEER_SWIFT", "swift")
    _export(emt, tmp_path / "out", to)
    file = tmp_path / "out" / ("train.jsonl" if to == "ms-swift" else "train.json")
    rows = _opened(python, SWIFT, str(file), emt, tmp_path)
    records = {record.response + record.query: record for record in dataset.read(emt)["train"]}
    assert len(rows) == len(records) == 8
    for row in rows:
        system, user, assistant = row["messages"]
        assert system == {"role": "system", "content": SYSTEM_PROMPT}
        said = user["content"].removeprefix("<image>").removeprefix("<video>")
        record = records.pop(assistant["content"] + said)
        assert row["sizes"] == [[30, 40]] * len(record.images)
        assert len(row["videos"] or []) == len(record.videos)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["llama-factory"])
def test_llama_factory_opens_it(emt: Path, tmp_path: Path, to: str) -> None:
    python = _peer("EMOVERSE_PEER_LLAMAFACTORY", "llamafactory")
    _export(emt, tmp_path / "out", to)
    rows = _opened(python, LLAMA_FACTORY, str(tmp_path / "out"), tmp_path, tmp_path)
    records = dataset.read(emt)["train"]
    for row, record in zip(rows, records, strict=True):
        (asked,) = row["_prompt"]
        (told,) = row["_response"]
        assert (asked["role"], told["role"]) == ("user", "assistant")
        assert asked["content"].endswith(record.query)
        assert told["content"] == record.response
        assert row["_system"] == SYSTEM_PROMPT
        found = (row["_images"] or []) + (row["_videos"] or [])
        assert len(found) == len(record.media)
        assert all(Path(path).is_file() for path in found)


@pytest.mark.slow
def test_datasets_opens_it(emt: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    for media in ("copy", "refer"):
        _export(emt, tmp_path / media, "datasets", media=media)
        found = datasets.load_dataset(str(tmp_path / media), cache_dir=str(tmp_path / "cache"))
        assert {split: len(part) for split, part in found.items()} == {"train": 8, "validation": 2}
        records = dataset.read(emt)["train"]
        for row, record in zip(found["train"], records, strict=True):
            assert (row["query"], row["response"]) == (record.query, record.response)
            assert json.loads(row["label"]) == record.label
            assert json.loads(row["meta"]) == dict(record.meta)
            assert len(row["images"]) == len(record.images)
        picture = found["train"][6]["images"][0]
        if media == "copy":
            assert (picture.size, picture.getpixel((3, 3))) == ((30, 40), (90, 90, 90))
            assert (tmp_path / media / found["train"][7]["videos"][0]).is_file()
        else:
            assert (tmp_path / media / picture).resolve() == emt / "crops" / "p.png"
