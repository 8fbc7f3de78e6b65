"""The dataset's manifest: what it was made from, with what, and the hash of every file in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emoverse import __version__
from emoverse.emt.clips import crop_hashes
from emoverse.files import sha256_of, write_json, write_text

CROPS = "crops.jsonl"
_DATA = (
    *("*.jsonl", "eval/*.jsonl", "data/*.parquet", "reasons/*.jsonl", "build.json"),
    *("skipped.txt", "clips.txt", "leaks.txt"),
)


def write(
    out: Path,
    inputs: Sequence[Path],
    faces: Mapping[str, Any] | None,
    keys: Iterable[str],
    photos: Iterable[str],
) -> None:
    """Write `manifest.json` and, when there are pictures, `crops.jsonl` (a line a clip or photo).

    Nothing in it depends on the hour or the machine, so that equal datasets have equal manifests.

    Args:
        out: the dataset's folder, everything else in it written.
        inputs: annotation files, and sets of photos.
        faces: how faces were measured; None without clips and photos.
        keys: of the clips' results that the records use, in order.
        photos: paths of the photos' crops, in order.
    """
    if faces:
        rows = [{"key": key} | crop_hashes(out, key) for key in keys]
        for path in photos:
            face = {"path": path, "sha256": sha256_of(out / path)}
            rows.append({"key": Path(path).stem, "face": face})
        write_text(out / CROPS, "".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        (out / CROPS).unlink(missing_ok=True)
    files = sorted({file for pattern in _DATA for file in out.glob(pattern)})
    versions = {"emoverse": __version__} | (dict(faces["libraries"]) if faces else {})
    if any(file.suffix == ".parquet" for file in files):
        versions["pyarrow"] = version("pyarrow")
    content: dict[str, Any] = {
        "versions": versions,
        "inputs": [{"file": at.name, "sha256": _digest(at)} for at in inputs],
        "faces": faces,
        "files": {
            file.relative_to(out).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": sha256_of(file),
            }
            for file in files
        },
    }
    write_json(out / "manifest.json", content)


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of a list of its files with theirs."""
    if path.is_file():
        return sha256_of(path)
    files = (at for at in sorted(path.rglob("*")) if at.is_file() and at.name[0] != ".")
    lines = (f"{at.relative_to(path).as_posix()} {sha256_of(at)}\n" for at in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
