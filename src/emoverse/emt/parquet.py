"""The dataset as Parquet, in a folder that Hugging Face `datasets` opens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoverse.corpora.tables import SPLITS
from emoverse.emt.record import Record, Splits
from emoverse.errors import EmoVerseError

if TYPE_CHECKING:
    import pyarrow

# Text columns; `label` and `meta` hold JSON text, because labels are words, numbers or lists.
_TEXTS = ("id", "task", "source", "split", "query", "response", "text", "label", "meta")
_ROWS = 1000  # in a row group
_SHARD = 400 * 2**20  # bytes of pictures in one file, about


def write_dataset(
    splits: Splits, root: Path, out: Path, place: Callable[[str], str], *, embed: bool
) -> dict[str, int]:
    """Write `data/<split>-00000.parquet` ..., large ones in several files.

    Columns: id, task, source, split, query, response, text, label, meta (text; the last two hold
    JSON), images (pictures or paths) and videos (paths).

    Args:
        splits: records by split.
        root: where relative media paths start.
        out: the folder to write to.
        place: a record's media path to the one that the export shows.
        embed: put the pictures' bytes into the files, as the feature `Image`; otherwise
            `images` holds paths. Clips are always paths.

    Returns:
        Files, relative to `out`, to the number of records in each.

    Raises:
        EmoVerseError: pyarrow is not installed, or a picture to embed is missing.
    """
    files: dict[str, int] = {}
    for split, part in splits.items():
        name = hub_split(split)
        pictures = root if embed else None
        written = _shards(part, out / "data", f"{name}-{{:05}}.parquet", place, pictures)
        own = {f"data/{file}": count for file, count in written}
        for stale in (out / "data").glob(f"{name}-*.parquet"):
            if f"data/{stale.name}" not in own:
                stale.unlink()
        files |= own
    return files


def clear(out: Path) -> None:
    """Remove the Parquet files of every split, and what a killed run left of one."""
    for split in SPLITS:
        name = f"{hub_split(split)}-*.parquet"
        for file in (*(out / "data").glob(name), *(out / "data").glob(f".{name}.part")):
            file.unlink()


def splits_in(out: Path) -> list[str]:
    """The splits, as the Hub names them, that `write_dataset` wrote to a folder."""
    names = (hub_split(split) for split in SPLITS)
    return [name for name in names if any((out / "data").glob(f"{name}-*.parquet"))]


def installed() -> bool:
    """Whether pyarrow is."""
    return find_spec("pyarrow") is not None


def needed() -> None:
    """Make sure that Parquet can be written.

    Raises:
        EmoVerseError: pyarrow is not installed.
    """
    _pyarrow()


def hub_split(split: str) -> str:
    """The split's name on the Hugging Face Hub: `validation` for `valid`."""
    return "validation" if split == "valid" else split


def _shards(
    records: Sequence[Record],
    folder: Path,
    name: str,
    place: Callable[[str], str],
    root: Path | None,
) -> Iterator[tuple[str, int]]:
    """Write records in order, a new file whenever one has grown large; yields names and counts.

    `name` has a place for the file's number. Pictures lie in `root`, None when paths will do.
    """
    arrow, writing = _pyarrow()
    schema = _schema(arrow, embed=root is not None)
    folder.mkdir(parents=True, exist_ok=True)
    number = start = 0
    while start < len(records):
        file = folder / name.format(number)
        part = file.with_name(f".{file.name}.part")
        size = 0
        first = start
        try:
            with writing.ParquetWriter(part, schema, compression="zstd") as writer:
                while start < len(records) and size < _SHARD:
                    rows: list[dict[str, Any]] = []
                    while start < len(records) and len(rows) < _ROWS and size < _SHARD:
                        rows.append(_row(records[start], place, root))
                        size += _weight(rows[-1])
                        start += 1
                    writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            os.replace(part, file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        number += 1
        yield file.name, start - first


def _row(record: Record, place: Callable[[str], str], root: Path | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _TEXTS}
    row["label"] = json.dumps(record.label, ensure_ascii=False)
    row["meta"] = json.dumps(dict(record.meta), ensure_ascii=False)
    row["images"] = [place(path) for path in record.images]
    row["videos"] = [place(path) for path in record.videos]
    if root is not None:
        row["images"] = [_picture(root / path) for path in record.images]
    return row


def _picture(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise EmoVerseError(f"{file}: no such picture; build again, or export with media `refer`.")
    return {"bytes": file.read_bytes(), "path": file.name}


def _weight(row: dict[str, Any]) -> int:
    pictures = (image for image in row["images"] if isinstance(image, dict))
    return sum(len(image["bytes"]) for image in pictures)


def _schema(arrow: Any, *, embed: bool) -> pyarrow.Schema:
    text = arrow.string()
    image = arrow.struct([("bytes", arrow.binary()), ("path", text)]) if embed else text
    fields = [(name, text) for name in _TEXTS]
    fields += [("images", arrow.list_(image)), ("videos", arrow.list_(text))]
    value = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {name: value for name in _TEXTS}
    features["images"] = {"feature": {"_type": "Image"} if embed else value, "_type": "Sequence"}
    features["videos"] = {"feature": value, "_type": "Sequence"}
    # Where `datasets` looks for the types that Parquet does not know.
    told = json.dumps({"info": {"features": features}})
    return arrow.schema(fields, metadata={"huggingface": told})


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EmoVerseError(
            "Parquet needs pyarrow, which is not installed; pip install 'emoverse[parquet]'."
        ) from None
    return pyarrow, pyarrow.parquet
