"""The corpora that a dataset is built from: their folders, their rows, and their clips."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emoverse.corpora import csd, ecf, meld, mosei, tables
from emoverse.corpora.ecf_clips import with_meld_clips
from emoverse.corpora.records import Problem, Utterance
from emoverse.errors import EmoVerseError

_ECF_VALID = "ecf1_dev.txt"
_ECF_LINKS = "all_data_pair_ECFvsMELD.txt"


@dataclass(frozen=True, slots=True)
class Folder:
    """A corpus on disk.

    Attributes:
        path: its annotations; clips may lie there too, at any depth.
        clips: folder of the clips; None looks for them in `path`.
    """

    path: Path
    clips: Path | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """A corpus that was read."""

    name: str
    utterances: tuple[Utterance, ...]


def read(
    *,
    meld_at: Folder | None,
    mosei_at: Folder | None,
    mosi_at: Folder | None,
    ecf_at: Folder | None,
    with_clips: bool,
    problems: list[Problem],
) -> list[Spoken]:
    """Read the corpora that were named.

    Training conversations of `ecf1_dev.txt`, when that lies beside ECF's JSON, become the valid
    split.
    ECF's utterances without a clip of their own get MELD's, through
    `all_data_pair_ECFvsMELD.txt` when that lies there.

    Args:
        meld_at: as `emoverse.corpora.meld` reads it.
        mosei_at: CMU-MOSEI as `emoverse.corpora.mosei` reads it.
        mosi_at: the same for CMU-MOSI.
        ecf_at: ECF as `emoverse.corpora.ecf` reads it, every split that is there.
        with_clips: look for clips.
        problems: rows that were skipped are added.

    Raises:
        EmoVerseError: a corpus lacks its files, or clips were named and are not there.
    """
    found: list[Spoken] = []
    for name, reader, at in (
        ("MELD", meld.read, meld_at),
        ("CMU-MOSEI", mosei.read, mosei_at),
        ("CMU-MOSI", mosei.read, mosi_at),
    ):
        if at:
            rows, bad = reader(at.path, _clips(at, with_clips))
            problems += bad
            found.append(Spoken(name, tuple(rows if with_clips else _bare(rows))))
    if ecf_at:
        valid = ecf_at.path / _ECF_VALID
        rows, bad = ecf.read(
            ecf_at.path,
            _clips(ecf_at, with_clips),
            valid_ids=ecf.conversation_ids(valid) if valid.is_file() else (),
        )
        problems += bad
        links = ecf_at.path / _ECF_LINKS
        if (borrowed := _meld_clips(found)) and links.is_file():
            rows, bad = with_meld_clips(rows, links, borrowed)
            problems += bad
        found.append(Spoken("ECF 2.0", tuple(rows)))
    return found


def ecf_links(folder: Folder | None) -> dict[tuple[str, int], str]:
    """Which MELD utterance an ECF one is (`ecf.meld_links`); {} where the list is not there."""
    links = folder.path / _ECF_LINKS if folder else None
    return ecf.meld_links(links) if links and links.is_file() else {}


def annotation_files(folders: Sequence[Folder]) -> list[Path]:
    """The files that hold the corpora's rows and labels, for the manifest."""
    suffixes = (".csv", ".tsv", ".json", ".txt", ".csd")
    files: list[Path] = []
    for folder in folders:
        if folder.path.is_file():
            files.append(folder.path)
        else:
            found = (p for pattern in ("*", "*/*") for p in sorted(folder.path.glob(pattern)))
            wanted = (p for p in found if p.suffix.lower() in suffixes or p.name == csd.FOLDS)
            files += [p for p in wanted if p.is_file()]
    return files


def _clips(folder: Folder, wanted: bool) -> Path | None:
    if not wanted:
        return None
    if folder.clips is not None:
        if not folder.clips.is_dir():
            raise EmoVerseError(f"{folder.clips}: no such folder of clips; check the path.")
        return folder.clips.absolute()
    found = folder.path.is_dir() and _holds_clips(folder.path)
    return folder.path.absolute() if found else None


def _holds_clips(folder: Path) -> bool:
    return any(
        os.path.splitext(name)[1].lower() in tables.VIDEO_SUFFIXES and name[0] != "."
        for _, _, files in os.walk(folder, followlinks=False)
        for name in files
    )


def _bare(rows: Sequence[Utterance]) -> Iterator[Utterance]:
    # A `Raw` folder beside MMSA's labels is read unasked.
    return (replace(row, clip=None, clip_problem=None, whole_video=False) for row in rows)


def _meld_clips(corpora: Sequence[Spoken]) -> dict[tuple[str, str], Path]:
    """MELD's clips that were found, by (split, `dia0_utt0`)."""
    rows = (row for corpus in corpora if corpus.name == "MELD" for row in corpus.utterances)
    return {(row.split, row.id.partition("_")[2]): row.clip for row in rows if row.clip}
