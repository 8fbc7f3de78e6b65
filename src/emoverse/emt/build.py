"""`emoverse build`: corpora folders in, EMT records out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from emoverse.corpora import merr
from emoverse.corpora.records import Dialogue, Problem, dialogues
from emoverse.emt import manifest, photos, sources
from emoverse.emt.assemble import (
    Seen,
    cause_records,
    expression_records,
    paired_records,
    reason_records,
    utterance_records,
)
from emoverse.emt.clips import Settings
from emoverse.emt.looks import TIMEOUT, Engine, Looks, Progress
from emoverse.emt.record import Record, dump_records
from emoverse.emt.sources import Folder, Spoken
from emoverse.errors import EmoVerseError
from emoverse.files import write_json, write_text

if TYPE_CHECKING:
    from emoverse.emt.reasons import Describer

SPLITS = ("train", "valid", "test")
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FaceWork:
    """How the clips' faces are measured.

    Attributes:
        settings: of a clip.
        engine: `local` or `ray`.
        workers: processes; one a core when None.
        timeout: seconds for a clip before it is given up.
        resume: keep the results of an earlier run; False measures everything anew.
        retry: try again what an earlier run gave up.
        ray_address: of a running cluster.
        emotion_aus: sum only the labelled emotion's AUs in Eq 1.
        model: face landmark model; the package's own when None.
        progress: told (clips done, clips in all).
    """

    settings: Settings = field(default_factory=Settings)
    engine: Engine = "local"
    workers: int | None = None
    timeout: float = TIMEOUT
    resume: bool = True
    retry: bool = False
    ray_address: str | None = None
    emotion_aus: bool = False
    model: Path | None = None
    progress: Progress | None = None


def build(
    out: Path,
    *,
    meld_dir: Path | Folder | None = None,
    mosei_dir: Path | Folder | None = None,
    mosi_dir: Path | Folder | None = None,
    ecf_dir: Path | Folder | None = None,
    merr_file: Path | None = None,
    faces_dir: Path | None = None,
    context: bool = True,
    clips: bool = True,
    faces: FaceWork | None = None,
    describer: Describer | None = None,
    log: Log = print,
) -> dict[str, Any]:
    """Write `train.jsonl`, `valid.jsonl`, `test.jsonl` (those that have records) and `build.json`.

    For evaluation every corpus and task of a valid or test split has a file of its own as well,
    e.g. `eval/valid-mosei-msa.jsonl`. Clips found in the corpora's folders are measured first,
    each into a file of its own in `faces/`, so that a run that was stopped, however hard, goes on
    where it was and ends with the same bytes; pictures go to `crops/`. `manifest.json` holds
    hashes, versions and settings.

    Args:
        out: the dataset's folder.
        meld_dir: folder as `emoverse.corpora.meld` reads it.
        mosei_dir: folder as `emoverse.corpora.mosei` reads it.
        mosi_dir: the same for CMU-MOSI.
        ecf_dir: folder with `Subtask_2_train.json`; conversations of `ecf1_dev.txt`, when that
            is there too, become the valid split.
        merr_file: MERR's JSON.
        faces_dir: folder of photo sets; `.tar`s in it hold unlabelled photos.
        context: put a dialogue's earlier turns in front of its ER queries.
        clips: False builds from text alone, whatever clips there are.
        faces: how clips are measured.
        describer: who writes reasons for the clips; nobody when None.
        log: told one line per corpus.

    Returns:
        What `build.json` holds: records per split and task, clips, captions, and skipped rows.

    Raises:
        EmoVerseError: no corpus was named, one lacks its files, or another build is at work in
            `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise EmoVerseError(f"{out}: another build is at work there; wait for it.") from None
    with lock:
        named = [_folder(at) for at in (meld_dir, mosei_dir, mosi_dir, ecf_dir)]
        problems: list[Problem] = []
        corpora = sources.read(
            meld_at=named[0],
            mosei_at=named[1],
            mosi_at=named[2],
            ecf_at=named[3],
            with_clips=clips,
            problems=problems,
        )
        looks = _measured(corpora, out, faces or FaceWork(), log)
        tally = _Clips()
        records: list[Record] = []
        captioned: set[str] = set()
        for corpus in corpora:
            said = _corpus_records(corpus, looks, tally, captioned, context)
            records += _told(corpus.name, said, log)
        if merr_file:
            reasons, bad = merr.read(merr_file)
            problems += bad
            records += _told("MERR", reason_records(reasons), log)
        if faces_dir:
            records += _told("Face photos", photos.records(faces_dir, out, problems), log)
        records += _paired(records, log)
        reason_report = None
        if describer and looks:
            from emoverse.emt import reasons as written  # its HTTP client is not always needed

            made, reason_report = written.records(corpora, looks, describer)
            records += _told("Reasons", made, log)
        if not records:
            raise EmoVerseError(
                "No corpus was named or none had records; name one, e.g. --meld DIR."
            )
        summary: dict[str, Any] = {
            "records": _written(records, out),
            "context": context,
            "skipped": len(problems),
        }
        if looks:
            summary["clips"] = dict(sorted(tally.counts.items()))
            summary["captions"] = _captions(records)
            looks.sweep_crops(tally.keys)
        if reason_report:
            summary["reasons"] = reason_report
        write_json(out / "build.json", summary)
        write_text(out / "skipped.txt", "".join(f"{problem}\n" for problem in problems))
        write_text(out / "clips.txt", "".join(f"{line}\n" for line in tally.lines))
        files = sources.annotation_files([at for at in named if at])
        files += [merr_file] if merr_file else []
        manifest.write(out, files, looks, sorted(tally.keys))
    return summary


def _folder(at: Path | Folder | None) -> Folder | None:
    return Folder(at) if isinstance(at, Path) else at


def _measured(corpora: Sequence[Spoken], out: Path, how: FaceWork, log: Log) -> Looks | None:
    """Do the face work of all clips; None when there are none."""
    speakers = [one for corpus in corpora for one in corpus.utterances if one.clip is not None]
    if not speakers:
        return None
    log(f"{len(speakers):,} clips to look at in {out}")
    looks = Looks(out, how.settings, model=how.model, emotion_aus=how.emotion_aus)
    looks.make(
        speakers,
        engine=how.engine,
        workers=how.workers,
        timeout=how.timeout,
        keep="all" if how.resume and not how.retry else "good" if how.resume else "none",
        ray_address=how.ray_address,
        progress=how.progress,
    )
    return looks


@dataclass(slots=True)
class _Clips:
    """What became of the clips: counts, sentences about those not used, keys of the results."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def seen(self, dialogue: Dialogue, looks: Looks) -> Seen:
        found = {}
        for utterance in dialogue.utterances:
            unique = f"{utterance.corpus}/{utterance.id}"
            if utterance.clip_problem:
                self.counts["unusable" if utterance.clip else "missing"] += 1
                self.lines.append(f"{unique}: {utterance.clip_problem}")
                continue
            look = looks.of(utterance)
            if look is None:
                continue
            found[utterance.id] = look
            if look.error:
                self.counts["unreadable"] += 1
                self.lines.append(f"{unique}: {look.error}")
            else:
                self.counts["with a face" if look.peak else "without a face"] += 1
                self.lines += [f"{unique}: {said}" for said in look.warnings]
                self.keys.add(look.key)
        return found


def _corpus_records(
    corpus: Spoken, looks: Looks | None, tally: _Clips, captioned: set[str], context: bool
) -> Iterator[Record]:
    for dialogue in dialogues(corpus.utterances):
        seen = tally.seen(dialogue, looks) if looks else {}
        if dialogue.corpus == "ecf":
            yield from cause_records(dialogue, seen)
        else:
            yield from utterance_records(dialogue, context=context, seen=seen)
        yield from expression_records(dialogue, seen, captioned)


def _paired(records: Sequence[Record], log: Log) -> list[Record]:
    train = [record for record in records if record.split == "train"]
    labelled = [record for record in train if record.source == "photo" and record.task == "er"]
    spoken = [record for record in train if record.source in ("meld", "mosei", "mosi")]
    if not (labelled and spoken):
        return []
    return _told("Photos with borrowed words", paired_records(labelled, spoken), log)


def _told(name: str, records: Iterable[Record], log: Log) -> list[Record]:
    found = list(records)
    counts = Counter(record.task for record in found)
    log(f"{name}: " + ", ".join(f"{count:,} {task}" for task, count in sorted(counts.items())))
    return found


def _written(records: Sequence[Record], out: Path) -> dict[str, dict[str, int]]:
    for old in (*(out / f"{split}.jsonl" for split in SPLITS), *out.glob("eval/*.jsonl")):
        old.unlink(missing_ok=True)
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
    return counts


def _captions(records: Iterable[Record]) -> dict[str, int]:
    """How the clips' captions came about."""
    made = [r for r in records if r.task == "fer" and r.source != "photo"]
    whole = sum(bool(record.meta.get("fallback")) for record in made)
    return {"label and face agree (Eq 3)": len(made) - whole, "all of the face's AUs": whole}
