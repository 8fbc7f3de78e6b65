"""The dataset's manifest: what it was made from, with what, and the hash of every file in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emoverse import __version__
from emoverse.emt.clips import crop_hashes
from emoverse.emt.looks import Looks
from emoverse.files import sha256_of, write_json, write_text

CROPS = "crops.jsonl"
_DATA = (
    *("*.jsonl", "eval/*.jsonl", "data/*.parquet", "reasons/*.jsonl", "build.json"),
    *("skipped.txt", "clips.txt", "leaks.txt"),
)


def write(out: Path, inputs: Sequence[Path], looks: Looks | None, keys: Iterable[str]) -> None:
    """Write `manifest.json` and, when clips were measured, `crops.jsonl` (one line a clip).

    Nothing in it depends on the hour or the machine, so that equal datasets have equal manifests.

    Args:
        out: the dataset's folder, everything else in it written.
        inputs: annotation files.
        looks: the face work; None without clips.
        keys: of the results that the records use, in order.
    """
    if looks:
        lines = (json.dumps({"key": key} | crop_hashes(out, key)) for key in keys)
        write_text(out / CROPS, "".join(f"{line}\n" for line in lines))
    else:
        (out / CROPS).unlink(missing_ok=True)
    files = sorted({file for pattern in _DATA for file in out.glob(pattern)})
    versions = {"emoverse": __version__} | (dict(looks.basis["libraries"]) if looks else {})
    if any(file.suffix == ".parquet" for file in files):
        versions["pyarrow"] = version("pyarrow")
    content: dict[str, Any] = {
        "versions": versions,
        "inputs": [{"file": file.name, "sha256": sha256_of(file)} for file in inputs],
        "faces": dict(looks.basis) if looks else None,
        "files": {
            file.relative_to(out).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": sha256_of(file),
            }
            for file in files
        },
    }
    write_json(out / "manifest.json", content)
