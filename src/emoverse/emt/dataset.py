"""An EMT folder on disk: its splits, its records, and where their media lie."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from emoverse.corpora.tables import SPLITS
from emoverse.emt import parquet
from emoverse.emt.record import Record, Splits, dump_records, load_records, to_row
from emoverse.errors import EmoVerseError
from emoverse.files import read_json, read_text, sha256_of, write_json, write_text

DROPPED = "dropped.jsonl"
"""Training records that were left out, in a dataset's folder."""
QUALITY = "quality.json"
"""What `emoverse check` found there."""


def read(path: Path | str) -> dict[str, list[Record]]:
    """The records of a dataset by split.

    Args:
        path: a folder that `emoverse build` wrote (`train.jsonl`, `valid.jsonl`, `test.jsonl`,
            those that are there), or one file of records, whose name then names the split.

    Raises:
        EmoVerseError: nothing to read there, or a record is malformed.
    """
    path = Path(path)
    if not path.is_dir():
        return {path.stem: load_records(path)}
    files = {split: path / f"{split}.jsonl" for split in SPLITS}
    found = {split: load_records(file) for split, file in files.items() if file.is_file()}
    if not found:
        raise EmoVerseError(
            f"{path}: no train.jsonl, valid.jsonl or test.jsonl there; name a folder that "
            "`emoverse build` wrote."
        )
    return found


def filled(path: Path | str) -> dict[str, list[Record]]:
    """`read`, of a dataset that has records.

    Raises:
        EmoVerseError: likewise, or there is not one record.
    """
    found = read(path)
    if not any(found.values()):
        raise EmoVerseError(f"{path}: it holds no records; name another dataset.")
    return found


def root(path: Path | str) -> Path:
    """The folder that the records' relative media paths start from."""
    path = Path(path)
    return path if path.is_dir() else path.parent


def drop(path: Path, kept: Splits, dropped: Sequence[tuple[Record, str, str]]) -> None:
    """Leave training records out of a dataset folder, on disk.

    They move from `train.jsonl` to `dropped.jsonl`, each with `kind` and `why`; Parquet files of
    the training split are written anew, `build.json` then tells the new counts, `manifest.json`
    the new hashes. Building again undoes it.

    Args:
        path: the dataset's folder.
        kept: what remains, by split.
        dropped: (record, kind, why).

    Raises:
        EmoVerseError: there are Parquet files and pyarrow is not installed; nothing was changed.
    """
    if any((path / "data").glob("train-*.parquet")):
        parquet.needed()
    lines = [dropped_line(*one) for one in dropped]
    aside = path / DROPPED
    earlier = read_text(aside) if aside.is_file() else ""
    # First the copy, then the cut: killed in between, no record is lost.
    write_text(aside, earlier + "".join(line for line in lines if line not in earlier))
    dump_records(path / "train.jsonl", kept["train"])
    if (path / "build.json").is_file():
        told = read_json(path / "build.json")
        counts = dict(Counter(record.task for record in kept["train"]))
        told["records"] = told.get("records", {}) | {"train": counts}
        told["dropped"] = dict(
            Counter(json.loads(line)["kind"] for line in read_text(aside).splitlines())
        )
        write_json(path / "build.json", told)
    again = ["build.json", DROPPED, "train.jsonl"]
    old = [file.relative_to(path).as_posix() for file in (path / "data").glob("train-*.parquet")]
    if old:
        again += parquet.write_dataset({"train": kept["train"]}, path, path, str, embed=False)
    if (path / "manifest.json").is_file():
        manifest = read_json(path / "manifest.json")
        files = manifest.setdefault("files", {})
        for name in old:
            files.pop(name, None)
        for name in again:
            if (file := path / name).is_file():
                files[name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        manifest["files"] = dict(sorted(files.items()))
        write_json(path / "manifest.json", manifest)


def dropped_line(record: Record, kind: str, why: str) -> str:
    """A line of `dropped.jsonl`: the record, the `kind` of finding that blames it, and `why`."""
    row = to_row(record) | {"kind": kind, "why": why}
    return json.dumps(row, ensure_ascii=False) + "\n"
