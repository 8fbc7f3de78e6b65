"""`emoverse build`: corpora folders in, EMT records out."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from emoverse.corpora import ecf, face_photos, meld, merr, mosei, tables
from emoverse.corpora.records import Problem, Utterance, dialogues
from emoverse.emt.assemble import (
    cause_records,
    paired_records,
    photo_records,
    reason_records,
    utterance_records,
)
from emoverse.emt.record import Record, dump_records
from emoverse.errors import EmoVerseError
from emoverse.faces import action_units
from emoverse.faces.crop import crop
from emoverse.faces.landmarks import detector
from emoverse.files import write_json, write_text

SPLITS = ("train", "valid", "test")
Log = Callable[[str], None]


def build(
    out: Path,
    *,
    meld_dir: Path | None = None,
    mosei_dir: Path | None = None,
    mosi_dir: Path | None = None,
    ecf_dir: Path | None = None,
    merr_file: Path | None = None,
    faces_dir: Path | None = None,
    context: bool = True,
    log: Log = print,
) -> dict[str, Any]:
    """Write `train.jsonl`, `valid.jsonl`, `test.jsonl` (those that have records) and `build.json`.

    For evaluation every corpus and task of a valid or test split has a file of its own as well,
    e.g. `eval/valid-mosei-msa.jsonl`.

    Args:
        out: the dataset's folder; photo crops go to `crops/` in it.
        meld_dir: folder as `emoverse.corpora.meld` reads it.
        mosei_dir: folder as `emoverse.corpora.mosei` reads it.
        mosi_dir: the same for CMU-MOSI.
        ecf_dir: folder with `Subtask_2_train.json`; conversations of `ecf1_dev.txt`, when that
            is there too, become the valid split.
        merr_file: MERR's JSON.
        faces_dir: folder of photo sets; `.tar`s in it hold unlabelled photos.
        context: put a dialogue's earlier turns in front of its ER queries.
        log: told one line per corpus.

    Returns:
        What `build.json` holds: records per split and task, and the skipped rows.

    Raises:
        EmoVerseError: no corpus was named, or one lacks its files.
    """
    problems: list[Problem] = []
    records: list[Record] = []
    for name, reader, folder in (
        ("MELD", meld.read, meld_dir),
        ("CMU-MOSEI", mosei.read, mosei_dir),
        ("CMU-MOSI", mosei.read, mosi_dir),
    ):
        if folder:
            found = _utterances(reader(folder), problems)
            said = (utterance_records(d, context=context) for d in dialogues(found))
            records += _told(name, chain.from_iterable(said), log)
    if ecf_dir:
        conversations = dialogues(_utterances(_ecf(ecf_dir), problems))
        records += _told("ECF 2.0", chain.from_iterable(map(cause_records, conversations)), log)
    if merr_file:
        reasons, bad = merr.read(merr_file)
        problems += bad
        records += _told("MERR", reason_records(reasons), log)
    if faces_dir:
        records += _told("Face photos", _photos(faces_dir, out, problems), log)
    train = [record for record in records if record.split == "train"]
    labelled = [record for record in train if record.source == "photo" and record.task == "er"]
    spoken = [record for record in train if record.source in ("meld", "mosei", "mosi")]
    if labelled and spoken:
        records += _told("Photos with borrowed words", paired_records(labelled, spoken), log)
    if not records:
        raise EmoVerseError("No corpus was named or none had records; name one, e.g. --meld DIR.")
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        part = [record for record in records if record.split == split]
        if part:
            dump_records(out / f"{split}.jsonl", part)
            counts[split] = dict(Counter(record.task for record in part))
        if split != "train":
            for source, task in sorted({(record.source, record.task) for record in part}):
                own = [record for record in part if (record.source, record.task) == (source, task)]
                dump_records(out / "eval" / f"{split}-{source}-{task}.jsonl", own)
    summary = {"records": counts, "context": context, "skipped": len(problems)}
    write_json(out / "build.json", summary)
    write_text(out / "skipped.txt", "".join(f"{problem}\n" for problem in problems))
    return summary


def _ecf(folder: Path) -> tuple[list[Utterance], list[Problem]]:
    valid = folder / "ecf1_dev.txt"
    ids = ecf.conversation_ids(valid) if valid.is_file() else set()
    return ecf.read(folder / "Subtask_2_train.json", valid_ids=ids)


def _utterances(
    result: tuple[list[Utterance], list[Problem]], problems: list[Problem]
) -> list[Utterance]:
    problems += result[1]
    return result[0]


def _told(name: str, records: Iterable[Record], log: Log) -> list[Record]:
    found = list(records)
    counts = Counter(record.task for record in found)
    log(f"{name}: " + ", ".join(f"{count:,} {task}" for task, count in sorted(counts.items())))
    return found


def _photos(folder: Path, out: Path, problems: list[Problem]) -> Iterator[Record]:
    (out / "crops").mkdir(parents=True, exist_ok=True)
    with detector(max_faces=1) as landmarker:
        for name, source, split, emotion in _photo_sources(folder, problems):
            try:
                with Image.open(source) as picture:
                    image = np.asarray(picture.convert("RGB"))
            except (OSError, UnidentifiedImageError) as error:
                problems.append(Problem(folder / name, None, f"unreadable picture ({error})"))
                continue
            faces = landmarker.detect(image)
            if not faces:
                problems.append(Problem(folder / name, None, "no face was found"))
                continue
            path = f"crops/{name.replace('/', '_')}.png"
            Image.fromarray(crop(image, faces[0].landmarks)).save(out / path)
            values = action_units.intensities(faces[0].blendshapes, faces[0].landmarks)
            yield from photo_records(name, split, path, values, emotion)


def _photo_sources(
    folder: Path, problems: list[Problem]
) -> Iterator[tuple[str, Path | IO[bytes], str, str | None]]:
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos, bad = face_photos.read(part)
        problems += bad
        for photo in photos:
            name = f"{photo.corpus}/{photo.label}/{photo.path.stem}"
            yield name, photo.path, photo.split, photo.emotion
    for archive in sorted(folder.glob("*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream and member.name.lower().endswith(face_photos.IMAGE_SUFFIXES):
                    stem = Path(member.name).stem
                    held_out = tables.hashed(stem.rpartition("_")[0], face_photos.VALID_SHARE)
                    split = "valid" if held_out else "train"
                    yield f"{archive.stem}/{stem}", stream, split, None
