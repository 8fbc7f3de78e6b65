"""Write EMT records as the data files that these lmms-eval tasks read, one file a task.

    python prepare.py EMT/valid.jsonl DIR [--media-root MEDIA]
    cd DIR
    lmms-eval --include_path .../integrations/lmms_eval --tasks emoverse_er --model ...

A record's label may be a score, a word or a list, which the table behind lmms-eval cannot mix, so
the record itself goes in as JSON text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from emoverse.emt.record import Record, load_records
from emoverse.errors import EmoVerseError
from emoverse.evaluation.gold import gold_label, unique_ids
from emoverse.files import write_text
from emoverse.tasks import TASKS


def prepare(data: Path, out: Path, media_root: Path = Path()) -> dict[str, int]:
    """Write `out/emoverse_<task>.jsonl` for every task in `data`; returns how many rows each.

    Raises:
        EmoVerseError: a record has no readable gold, or its media are not on disk.
    """
    records = unique_ids(load_records(data))
    counts = {}
    for task in TASKS:
        rows = [_row(record, media_root) for record in records if record.task == task]
        if rows:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(out / f"emoverse_{task}.jsonl", "".join(lines))
            counts[task] = len(rows)
    return counts


def _row(record: Record, media_root: Path) -> dict[str, object]:
    gold_label(record)
    missing = [path for path in record.media if not (media_root / path).is_file()]
    if missing:
        raise EmoVerseError(
            f"Record {record.id}: {media_root / missing[0]} is not there; give --media-root, or "
            "leave the record out."
        )
    return {
        "id": record.id,
        "task": record.task,
        "query": record.query,
        "response": record.response,
        "images": [str((media_root / path).resolve()) for path in record.images],
        "videos": [str((media_root / path).resolve()) for path in record.videos],
        "record": json.dumps(asdict(record), ensure_ascii=False),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--media-root", type=Path, default=Path())
    given = parser.parse_args(arguments)
    try:
        counts = prepare(given.data, given.out, given.media_root)
    except EmoVerseError as error:
        print(error, file=sys.stderr)
        return 1
    print(", ".join(f"{count} {task}" for task, count in counts.items()), "written to", given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
