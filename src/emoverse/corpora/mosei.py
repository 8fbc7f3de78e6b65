"""CMU-MOSEI and CMU-MOSI: segments with a sentiment in [-3, 3].

Zadeh et al., "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable
Dynamic Fusion Graph", ACL 2018; Zadeh et al., "MOSI", IEEE Intelligent Systems 2016. Three
public forms: tab-separated tables, MMSA's `label.csv`, and the CMU SDK's `.csd` (module `csd`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from emoverse.corpora import csd, tables
from emoverse.corpora.records import Problem, Utterance
from emoverse.errors import EmoVerseError

CORPORA = ("mosei", "mosi")
_LABELS, _WORDS = "CMU_MOSEI_Labels.csd", "CMU_MOSEI_TimestampedWords.csd"
_TSV = ("vid", "cid", "start", "stop", "label", "text")
_MMSA = ("video_id", "clip_id", "text", "label", "mode")


@dataclass(frozen=True, slots=True)
class _Segment:
    """One row of any of the forms, before positions in the video are known."""

    line: int | None
    split: str
    video: str
    clip: str
    text: str
    score: float
    start: float | None = None
    end: float | None = None
    emotion: str | None = None


def read(
    path: Path | str,
    clips: Path | str | None = None,
    split: str | None = None,
    corpus: str | None = None,
    *,
    splits: Mapping[str, str] | None = None,
    words: Path | str | None = None,
) -> tuple[list[Utterance], list[Problem]]:
    """Read CMU-MOSEI or CMU-MOSI.

    Args:
        path: a folder with `train.tsv`, `valid.tsv`, `test.tsv` (those that are there) or MMSA's
            `label.csv` or the SDK's `CMU_MOSEI_Labels.csd` (needs h5py); or one such file.
        clips: folder with `<video>/<clip>.mp4` (MMSA's `Raw`), `<video>_<clip>.mp4`, or whole
            videos `<video>.mp4` where the labels have times; for `label.csv` the `Raw` beside it
            when there.
        split: read this split only; for one TSV, the split it is.
        corpus: `mosei` or `mosi`; told from the path and the columns otherwise.
        splits: for a `.csd` file, video → split; by default as the SDK's
            `cmu_mosei_std_folds.py` beside it says.
        words: for a `.csd` file, `CMU_MOSEI_TimestampedWords.csd`, which holds the text; by
            default the one beside it.

    Returns:
        Utterances with ids `<video>_<clip>`, `index` by time in the video (by clip number
        where no times are given), `sentiment` by the sign of `score`; and the skipped rows.
        Times are seconds in the source video; the SDK's small negative starts become 0.
        `emotion` is filled from `.csd` only.

    Raises:
        EmoVerseError: nothing readable there, a column missing, an unknown split or corpus, no
            clip found, h5py missing, or no `splits` for a `.csd` file.
    """
    path = tables.existing(path)
    wanted = None if split is None else tables.checked_split(split)
    if corpus is not None and corpus not in CORPORA:
        raise EmoVerseError(f"corpus {corpus!r} is unknown; use mosei or mosi.")
    named = clips is not None
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    for file in _files(path, wanted):
        segments: list[_Segment] = []
        if file.suffix.lower() == ".csv":
            segments = _mmsa(file, problems, wanted)
            if clips is None and (file.parent / "Raw").is_dir():
                clips = file.parent / "Raw"
        elif file.suffix.lower() == ".csd":
            segments = _csd(file, problems, wanted, splits, words)
        else:
            segments = _tsv(file, problems, tables.split_of_file(file, wanted))
        utterances += _utterances(file, segments, corpus or _corpus(file), problems)
    if clips is not None:
        found = _with_clips(utterances, Path(clips))
        # A Raw folder that merely lies beside the labels may be half fetched; a named one not.
        if named and utterances and not any(utterance.clip for utterance in found):
            raise EmoVerseError(
                f"{clips}: no clip named <video>/<clip>.mp4, <video>_<clip>.mp4 or <video>.mp4 of "
                "this corpus there; check the path."
            )
        utterances = found
    return utterances, problems


def _files(path: Path, wanted: str | None) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [
        file
        for file in sorted(path.glob("*.tsv"))
        if not file.name.startswith(".")
        and any(tables.split_name(word) for word in re.split(r"[^A-Za-z]+", file.stem))
        and wanted in (None, tables.split_of_file(file))
    ]
    files = files or [path / name for name in ("label.csv", _LABELS) if (path / name).is_file()][:1]
    if not files:
        raise EmoVerseError(
            f"{path}: no {wanted or 'train'}.tsv and no label.csv or {_LABELS} there; give the "
            "folder of MOSEI's or MOSI's labels."
        )
    order = {name: rank for rank, name in enumerate(tables.SPLITS)}
    return sorted(
        files, key=lambda file: order[tables.split_of_file(file)] if len(files) > 1 else 0
    )


def _tsv(file: Path, problems: list[Problem], split: str) -> list[_Segment]:
    segments = []
    for row in tables.rows(file, _TSV, problems, delimiter="\t"):
        try:
            segments.append(
                _Segment(
                    row.line,
                    split,
                    _filled(row, "vid"),
                    _filled(row, "cid"),
                    _filled(row, "text"),
                    _score(row.number("label")),
                    row.number("start"),
                    row.number("stop"),
                )
            )
        except ValueError as error:
            problems.append(Problem(file, row.line, str(error)))
    return segments


def _mmsa(file: Path, problems: list[Problem], wanted: str | None) -> list[_Segment]:
    segments = []
    for row in tables.rows(file, _MMSA, problems):
        try:
            split = tables.split_name(row["mode"])
            if split is None:
                raise ValueError(f"mode {row['mode']!r} is not train, valid or test")
            if wanted not in (None, split):
                continue
            segments.append(
                _Segment(
                    row.line,
                    split,
                    _filled(row, "video_id"),
                    _filled(row, "clip_id"),
                    _filled(row, "text"),
                    _score(row.number("label")),
                )
            )
        except ValueError as error:
            problems.append(Problem(file, row.line, str(error)))
    return segments


def _csd(
    file: Path,
    problems: list[Problem],
    wanted: str | None,
    splits: Mapping[str, str] | None,
    words: Path | str | None,
) -> list[_Segment]:
    folds = file.parent / csd.FOLDS
    if splits is None and folds.is_file():
        splits = csd.folds(folds)
    if not splits:
        raise EmoVerseError(
            f"{file}: the SDK's label file does not say which video is in which split; "
            f"put the SDK's {csd.FOLDS} beside it, or pass splits (video to train, valid or test)."
        )
    beside = file.parent / _WORDS
    words = beside if words is None and beside.is_file() else words
    named = {video: tables.checked_split(split) for video, split in splits.items()}
    spoken = {} if words is None else csd.words(words)
    segments = []
    for label in csd.labels(file):
        split = named.get(label.video)
        if split is None or wanted not in (None, split):
            continue
        text = csd.text_between(spoken.get(label.video, ()), label.start, label.end)
        try:
            score = _score(label.score)
            if words is not None and not text:
                raise ValueError(f"no words between {label.start:.2f} s and {label.end:.2f} s")
        except ValueError as error:
            problems.append(Problem(file, None, f"{label.video}, clip {label.clip}: {error}"))
            continue
        segments.append(
            _Segment(
                None,
                split,
                label.video,
                str(label.clip),
                text,
                score,
                label.start,
                label.end,
                label.emotion,
            )
        )
    return segments


def _filled(row: tables.Row, column: str) -> str:
    cell = row.get(column)
    if cell is None:
        raise ValueError(f"{column} is empty")
    return cell


def _score(value: float | None) -> float:
    if value is None:
        raise ValueError("label is empty")
    if not -3.0 <= value <= 3.0:
        raise ValueError(f"label {value} is outside [-3, 3]")
    return value


def _corpus(file: Path) -> str:
    if file.suffix.lower() == ".tsv":
        # MOSI's tables alone have the columns id and elapse.
        return "mosi" if "elapse" in tables.text_of(file).split("\n", 1)[0].split("\t") else "mosei"
    places = [file.stem, *(part.name for part in file.resolve().parents)]
    for place in places:
        found = re.search("mosei|mosi", place.lower())
        if found:
            return found[0]
    return "mosei"


def _utterances(
    file: Path, segments: list[_Segment], corpus: str, problems: list[Problem]
) -> list[Utterance]:
    unique: dict[tuple[str, str], _Segment] = {}
    for segment in segments:
        first = unique.setdefault((segment.video, segment.clip), segment)
        if first is not segment:
            message = f"video {segment.video} clip {segment.clip} was already on line {first.line}"
            problems.append(Problem(file, segment.line, message))
    videos: dict[str, list[_Segment]] = {}
    for segment in unique.values():
        videos.setdefault(segment.video, []).append(segment)
    ranks = {
        (video, segment.clip): rank
        for video, members in videos.items()
        for rank, segment in enumerate(sorted(members, key=_order), start=1)
    }
    return [
        Utterance(
            id=f"{segment.video}_{segment.clip}",
            corpus=corpus,
            split=segment.split,
            dialogue=segment.video,
            index=ranks[segment.video, segment.clip],
            text=segment.text,
            start=None if segment.start is None else max(0.0, segment.start),
            end=segment.end,
            emotion=segment.emotion,
            score=segment.score,
            sentiment=_sentiment(segment.score),
        )
        for segment in unique.values()
    ]


def _order(segment: _Segment) -> tuple[float, list[tuple[int, int, str]]]:
    return (segment.start if segment.start is not None else 0.0, tables.natural(segment.clip))


def _sentiment(score: float) -> str:
    return "positive" if score > 0 else "negative" if score < 0 else "neutral"


def _with_clips(utterances: list[Utterance], folder: Path) -> list[Utterance]:
    found: dict[str, Path] = {}
    for file in tables.clip_files(folder):
        found.setdefault(file.stem, file)
        found[f"{file.parent.name}_{file.stem}"] = file
    out = []
    for utterance in utterances:
        clip = found.get(utterance.id)
        # Only whole videos: the part that is meant is known where the corpus gives times.
        whole = clip is None and utterance.start is not None and utterance.end is not None
        clip = found.get(utterance.dialogue) if whole else clip
        problem = tables.clip_problem(clip)
        whole = whole and clip is not None
        out.append(replace(utterance, clip=clip, clip_problem=problem, whole_video=whole))
    return out
