"""The dataset in the formats that other trainers read.

`ms-swift`: JSONL of `messages`, with `images` and `videos` beside them and an `<image>` or
`<video>` tag for each in the user's turn (ms-swift 4, "Custom dataset", standard format).
`sharegpt`: a JSON list of `conversations` (`from`, `value`) with `system`, tags as above.
`llama-factory`: the same lists and the `dataset_info.json` that names them (LLaMA-Factory,
`data/README.md`). `datasets`: Parquet with the pictures in it, read by `datasets.load_dataset`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoverse.corpora.tables import SPLITS
from emoverse.emt import parquet
from emoverse.emt.card import write_card
from emoverse.emt.record import Record, Splits
from emoverse.errors import EmoVerseError
from emoverse.files import write_json, write_text
from emoverse.tasks import SYSTEM_PROMPT

FORMATS = ("ms-swift", "llama-factory", "sharegpt", "datasets")
MEDIA = ("refer", "copy")
# What the peers read a media list from, and the tag that stands for one of it in the text.
_TAGS = {"images": "<image>", "videos": "<video>"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        files: data files, relative to the folder, with the number of records in each.
        missing: media paths that no file is at; records keep the path.
        empty: records without an answer (ECPE targets without a cause), written all the same.
    """

    files: Mapping[str, int]
    missing: tuple[str, ...]
    empty: int


def export(
    splits: Splits,
    root: Path,
    out: Path,
    to: str,
    *,
    media: str = "refer",
    tasks: Sequence[str] = (),
) -> Exported:
    """Write records in another trainer's format.

    Media paths are written relative to `out`, so that both folders can be moved together: with
    `refer` they lead to where the files are, with `copy` the files are copied to `out/media`.
    `datasets` puts copied pictures into the Parquet files themselves.

    Args:
        splits: records by split.
        root: where relative media paths of the records start.
        out: the folder to write to; files of an earlier export are replaced, and those of splits
            that have no records now removed.
        to: one of `FORMATS`.
        media: one of `MEDIA`.
        tasks: only records of these tasks; all when empty.

    Raises:
        EmoVerseError: unknown format or media choice, no records, `out` is the dataset's own
            folder, or `datasets` without pyarrow.
    """
    if to not in FORMATS:
        raise EmoVerseError(f"Format {to!r} is unknown; use one of {', '.join(FORMATS)}.")
    if media not in MEDIA:
        raise EmoVerseError(f"Media choice {media!r} is unknown; use {' or '.join(MEDIA)}.")
    chosen = {
        split: [record for record in part if not tasks or record.task in tasks]
        for split, part in splits.items()
    }
    chosen = {split: part for split, part in chosen.items() if part}
    if not any(splits.values()):
        raise EmoVerseError(f"{root}: no records in it; name another dataset.")
    if not chosen:
        raise EmoVerseError(f"{root}: no records of the tasks {', '.join(tasks)}; name others.")
    if out.resolve() == root.resolve():
        raise EmoVerseError(f"{out}: the dataset itself lies there; name another folder.")
    records = [record for part in chosen.values() for record in part]
    place, missing = _placed(records, root, out, media, embed=to == "datasets")
    if to == "datasets":
        parquet.needed()
        parquet.clear(out)
        files = parquet.write_dataset(chosen, root, out, place, embed=media == "copy")
        write_card(chosen, root, out, [parquet.hub_split(split) for split in chosen])
    else:
        files = {"ms-swift": _swift, "sharegpt": _sharegpt, "llama-factory": _llama_factory}[to](
            chosen, out, place
        )
        for split in set(SPLITS) - set(chosen):
            (out / f"{split}{'.jsonl' if to == 'ms-swift' else '.json'}").unlink(missing_ok=True)
    return Exported(files, missing, sum(not record.response for record in records))


def swift_row(record: Record, place: Callable[[str], str] = str) -> dict[str, Any]:
    """One line for ms-swift. Its own `label` key is left out: there it means another thing."""
    turns = (("system", SYSTEM_PROMPT), ("user", tagged(record)), ("assistant", record.response))
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"id": record.id, "messages": messages} | _media(record, place)


def sharegpt_row(record: Record, place: Callable[[str], str] = str) -> dict[str, Any]:
    """One conversation in ShareGPT's form."""
    said = [{"from": "human", "value": tagged(record)}, {"from": "gpt", "value": record.response}]
    row = {"id": record.id, "conversations": said, "system": SYSTEM_PROMPT}
    return row | _media(record, place)


def tagged(record: Record) -> str:
    """The query with a tag in front for every picture and clip, as ms-swift itself puts them."""
    tags = "".join(tag * len(getattr(record, name)) for name, tag in _TAGS.items())
    return tags + record.query


def _swift(splits: Splits, out: Path, place: Callable[[str], str]) -> dict[str, int]:
    for split, part in splits.items():
        lines = (json.dumps(swift_row(record, place), ensure_ascii=False) for record in part)
        write_text(out / f"{split}.jsonl", "".join(f"{line}\n" for line in lines))
    return {f"{split}.jsonl": len(part) for split, part in splits.items()}


def _sharegpt(splits: Splits, out: Path, place: Callable[[str], str]) -> dict[str, int]:
    for split, part in splits.items():
        rows = (json.dumps(sharegpt_row(record, place), ensure_ascii=False) for record in part)
        write_text(out / f"{split}.json", "[\n" + ",\n".join(rows) + "\n]\n")
    return {f"{split}.json": len(part) for split, part in splits.items()}


def _llama_factory(splits: Splits, out: Path, place: Callable[[str], str]) -> dict[str, int]:
    files = _sharegpt(splits, out, place)
    info = {}
    for split, part in splits.items():
        columns = {"messages": "conversations", "system": "system"}
        # A column that no row of the file has would stop the loader.
        columns |= {name: name for name in _TAGS if any(getattr(r, name) for r in part)}
        info[f"emt_{split}"] = {
            "file_name": f"{split}.json",
            "formatting": "sharegpt",
            "columns": columns,
            "tags": {
                "role_tag": "from",
                "content_tag": "value",
                "user_tag": "human",
                "assistant_tag": "gpt",
            },
        }
    write_json(out / "dataset_info.json", info)
    return files


def _media(record: Record, place: Callable[[str], str]) -> dict[str, list[str]]:
    return {
        name: [place(path) for path in paths] for name in _TAGS if (paths := getattr(record, name))
    }


def _placed(
    records: Iterable[Record], root: Path, out: Path, media: str, *, embed: bool
) -> tuple[Callable[[str], str], tuple[str, ...]]:
    """Copy the media if asked to; the path that every one has in the export, and those missing."""
    home = root.resolve()
    places: dict[str, str] = {}
    missing = []
    taken: dict[str, str] = {}
    for record in records:
        for path in record.media:
            if path in places:
                continue
            file = home / path
            if not file.is_file():
                missing.append(path)
            if media == "refer":
                places[path] = Path(os.path.relpath(file, out.resolve())).as_posix()
                continue
            places[path] = f"media/{_inside(file, home, taken)}"
            # Pictures go into the Parquet file itself, clips would make it unwieldy.
            if file.is_file() and not (embed and path in record.images):
                _copy(file, out / places[path])
    return places.__getitem__, tuple(missing)


def _inside(file: Path, home: Path, taken: dict[str, str]) -> str:
    """A name below `media/`: the file's place in the dataset, or its last folder and name."""
    inside = file.is_relative_to(home)
    parts = file.relative_to(home).parts if inside else file.parts[-2:]
    name = Path(*parts)
    number = 1
    while taken.setdefault(name.as_posix(), str(file)) != str(file):
        number += 1
        name = Path(*parts).with_stem(f"{file.stem}-{number}")
    return name.as_posix()


def _copy(file: Path, target: Path) -> None:
    """Copy a file with its time of change, by which the next export knows it."""
    if target.is_file() and _facts(target) == _facts(file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copy2(file, part)
    os.replace(part, target)


def _facts(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
