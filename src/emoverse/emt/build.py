"""`emoverse build`: corpora folders in, EMT records out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from emoverse.corpora import merr
from emoverse.corpora.records import Problem, dialogues
from emoverse.emt import manifest, parquet, photos, sources
from emoverse.emt.assemble import (
    cause_records,
    expression_records,
    paired_records,
    reason_records,
    utterance_records,
)
from emoverse.emt.clips import Settings, basis
from emoverse.emt.dataset import DROPPED, QUALITY, dropped_line
from emoverse.emt.leaks import Leak, leaks, talks
from emoverse.emt.looks import TIMEOUT, Engine, Looks, Progress, sweep
from emoverse.emt.record import Record, dump_records
from emoverse.emt.sources import Folder, Spoken
from emoverse.emt.tally import Tally, caption_counts
from emoverse.emt.usage import SKIPPED
from emoverse.errors import EmoVerseError
from emoverse.faces import programs
from emoverse.faces.captions import Style
from emoverse.faces.readers import reader
from emoverse.files import write_json, write_text
from emoverse.models import weights

if TYPE_CHECKING:
    from emoverse.emt.reasons import Describer

SPLITS = ("train", "valid", "test")
# What the reason step tells of one dataset; its answers, beside them, serve every further one.
REASONS = ("reasons/reasons.jsonl", "reasons/rejected.jsonl")
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
        style: of the captions.
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
    style: Style = "paper"


def build(
    out: Path,
    *,
    meld_dir: Path | Folder | None = None,
    mosei_dir: Path | Folder | None = None,
    mosi_dir: Path | Folder | None = None,
    ecf_dir: Path | Folder | None = None,
    merr_file: Path | None = None,
    merr_published: bool = False,
    faces_dir: Path | None = None,
    context: bool = True,
    clips: bool = True,
    faces: FaceWork | None = None,
    describer: Describer | None = None,
    drop_leaks: bool = False,
    with_parquet: bool | None = None,
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
        ecf_dir: folder with `Subtask_2_train.json` (dev, test); training conversations of
            `ecf1_dev.txt`, when that is there too, become the valid split.
        merr_file: MERR's JSON.
        merr_published: tell its reasons as published; otherwise without what only its clips show,
            which are not at hand, and those that explain nothing then are skipped.
        faces_dir: folder of photo sets; `.tar`s in it hold unlabelled photos.
        context: put a dialogue's earlier turns in front of its ER queries.
        clips: False builds from text alone, whatever clips there are.
        faces: how clips are measured.
        describer: who writes reasons for the clips; nobody when None.
        drop_leaks: leave out training conversations that a held-out split also has (`leaks`);
            they go to `dropped.jsonl`. Otherwise they are only counted.
        with_parquet: also write `data/<split>-*.parquet`; when None, where pyarrow is installed.
        log: told one line per corpus.

    Returns:
        What `build.json` holds: records per split and task, leaks, clips, captions, reasons, and
        skipped rows.

    Raises:
        EmoVerseError: no corpus was named, one lacks its files, the AU source cannot be used on
            what was named, a prompt file is unusable, Parquet is wanted and pyarrow is not
            installed, or another build is at work in `out`.
    """
    if with_parquet:
        parquet.needed()
    elif with_parquet is None:
        with_parquet = parquet.installed()
        if not with_parquet:
            log("No Parquet files are written; for them, pip install 'emoverse[parquet]'.")
    faces = faces or FaceWork()
    if faces_dir:
        reader(faces.settings.source)  # of photos; an unsuitable one is told before the clips' work
    if describer:
        from emoverse.emt import describe  # its HTTP client is not always needed

        describe.templates(describer.prompts)  # told before the work, likewise
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise EmoVerseError(f"{out}: another build is at work there; wait for it.") from None
    with lock:
        sweep(out)
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
        looks = _measured(corpora, out, faces, log)
        tally = Tally()
        records: list[Record] = []
        for corpus in corpora:
            own = _corpus_records(corpus, looks, tally, context, faces.style)
            records += _told(corpus.name, own, log)
        leaking = leaks(talks(records), sources.ecf_links(named[3]))
        dropped: list[tuple[Record, Leak]] = []
        if drop_leaks:
            records, dropped = _without(records, leaking)
        if merr_file:
            reasons, bad = merr.read(merr_file)
            problems += bad
            unfit: list[str] = []
            told = reason_records(reasons, unfit, published=merr_published)
            records += _told("MERR", told, log)
            problems += [Problem(merr_file, None, why) for why in unfit]
        if faces_dir:
            source = faces.settings.source
            found = photos.records(faces_dir, out, source, problems, faces.style)
            records += _told("Face photos", found, log)
        records += _paired(records, log)
        left_out = {leak.talk.id for _, leak in dropped}
        made, reason_report = _reasons(corpora, looks, describer, left_out, faces.style, log)
        records += made
        if not records:
            raise EmoVerseError(
                "No corpus was named or none had records; name one, e.g. --meld DIR."
            )
        summary: dict[str, Any] = {
            "records": _written(records, out, with_parquet=with_parquet),
            "context": context,
            "au_source": faces.settings.source,
            "person": faces.settings.person,
            "emotion_aus": faces.emotion_aus,
            "caption_style": faces.style,
            "skipped": len(problems),
            "leaks": _counted(leaking),
        }
        if merr_file:
            summary["merr_published"] = merr_published
        if dropped:
            summary["dropped"] = {"leak": len(dropped)}
        if looks:
            summary["clips"] = dict(sorted(tally.counts.items()))
            summary["captions"] = caption_counts(tally.captioned.values())
            looks.sweep_crops(tally.keys)
        summary["reasons"] = reason_report
        _forget(out, reasons=not reason_report["skipped"])
        write_json(out / "build.json", summary)
        _listed(out / "skipped.txt", problems)
        _listed(out / "clips.txt", tally.lines)
        _listed(out / "leaks.txt", leaking)
        _put_aside(out / DROPPED, dropped)
        files = sources.annotation_files([at for at in named if at])
        files += [merr_file] if merr_file else []
        files += photos.sets(faces_dir) if faces_dir else []
        shown = {path for one in records if one.source == "photo" for path in one.images}
        measured = _face_basis(faces, looks) if looks or faces_dir else None
        manifest.write(out, files, measured, sorted(tally.keys), sorted(shown))
    return summary


def _folder(at: Path | Folder | None) -> Folder | None:
    return Folder(at) if isinstance(at, Path) else at


def _measured(corpora: Sequence[Spoken], out: Path, how: FaceWork, log: Log) -> Looks | None:
    """Do the face work of all clips; None when there are none."""
    speakers = [one for corpus in corpora for one in corpus.utterances if one.clip is not None]
    if not speakers:
        return None
    source = how.settings.source
    whole = [one for one in speakers if one.whole_video]
    if whole and source in programs.PROGRAMS:
        raise EmoVerseError(
            f"AU source {source} measures clips that are files of their own, and "
            f"{whole[0].corpus} has whole videos; cut them, or use --au-source mediapipe."
        )
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


def _face_basis(how: FaceWork, looks: Looks | None) -> dict[str, Any]:
    """What the measured faces depend on; photos are measured as clips are."""
    model = Path(how.model or weights.face_landmarker())
    rests_on = looks.basis if looks else basis(how.settings, model)
    return dict(rests_on) | {"emotion_aus": how.emotion_aus}


def _corpus_records(
    corpus: Spoken, looks: Looks | None, tally: Tally, context: bool, style: Style
) -> Iterator[Record]:
    for dialogue in dialogues(corpus.utterances):
        seen = tally.seen(dialogue, looks) if looks else {}
        if dialogue.corpus == "ecf":
            yield from cause_records(dialogue, seen)
        else:
            yield from utterance_records(dialogue, context=context, seen=seen)
        yield from expression_records(dialogue, seen, tally.captioned, style)


def _without(
    records: Sequence[Record], leaking: Sequence[Leak]
) -> tuple[list[Record], list[tuple[Record, Leak]]]:
    """The records that no leak blames, and the others, each with the first leak that does."""
    blame: dict[str, Leak] = {}
    for leak in leaking:
        for name in leak.talk.records:
            blame.setdefault(name, leak)
    own = [record for record in records if record.split == "train" and record.id in blame]
    kept = [record for record in records if record.split != "train" or record.id not in blame]
    return kept, [(record, blame[record.id]) for record in own]


def _counted(leaking: Sequence[Leak]) -> dict[str, int]:
    blamed = {leak.talk.id: len(leak.talk.records) for leak in leaking}
    return {"conversations": len(blamed), "records": sum(blamed.values())}


def _reasons(
    corpora: Sequence[Spoken],
    looks: Looks | None,
    describer: Describer | None,
    left_out: Collection[str],
    style: Style,
    log: Log,
) -> tuple[list[Record], Mapping[str, Any]]:
    """ERI records of the clips, and what `build.json` tells of them."""
    if describer is None:
        return [], {"skipped": SKIPPED}
    if looks is None:
        return [], {"skipped": "No corpus has clips, so no reasons were made."}
    from emoverse.emt import reasons  # its HTTP client is not always needed

    made, report = reasons.records(corpora, looks, describer, left_out, style)
    # It tells how often the work was interrupted, which is no part of the dataset.
    run = report.pop("run")
    spent = "" if run["cost"] is None else f", {run['cost']:.2f} US dollars"
    log(
        f"Reasons, in this run: {run['asked']:,} answers asked for, {run['cached']:,} on disk "
        f"already, {run['tokens_in']:,} tokens in, {run['tokens_out']:,} out{spent}"
    )
    return made, report


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


def _written(
    records: Sequence[Record], out: Path, *, with_parquet: bool
) -> dict[str, dict[str, int]]:
    for old in (*(out / f"{split}.jsonl" for split in SPLITS), *out.glob("eval/*.jsonl")):
        old.unlink(missing_ok=True)
    parquet.clear(out)
    parts = {split: [one for one in records if one.split == split] for split in SPLITS}
    parts = {split: part for split, part in parts.items() if part}
    for split, part in parts.items():
        dump_records(out / f"{split}.jsonl", part)
        if split != "train":
            for source, task in sorted({(record.source, record.task) for record in part}):
                own = [record for record in part if (record.source, record.task) == (source, task)]
                dump_records(out / "eval" / f"{split}-{source}-{task}.jsonl", own)
    if with_parquet:
        parquet.write_dataset(parts, out, out, str, embed=False)
    return {split: dict(Counter(record.task for record in part)) for split, part in parts.items()}


def _listed(file: Path, lines: Iterable[object]) -> None:
    write_text(file, "".join(f"{line}\n" for line in lines))


def _forget(out: Path, *, reasons: bool) -> None:
    """Remove what tells of the records that were here before; the models' answers stay."""
    told = [QUALITY] if reasons else [QUALITY, *REASONS]
    for name in told:
        (out / name).unlink(missing_ok=True)


def _put_aside(file: Path, dropped: Sequence[tuple[Record, Leak]]) -> None:
    if dropped:
        write_text(file, "".join(dropped_line(one, "leak", str(leak)) for one, leak in dropped))
    else:
        file.unlink(missing_ok=True)
