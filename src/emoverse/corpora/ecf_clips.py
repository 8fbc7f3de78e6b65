"""ECF conversations and MELD clips: ECF was annotated on MELD's videos, under other names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from emoverse.corpora import meld, tables
from emoverse.corpora.mecpe import meld_links
from emoverse.corpora.records import Problem, Utterance

_NAME = re.compile(r"(train|dev|valid|test)_dia([0-9]+)_utt([0-9]+)")


def with_meld_clips(
    utterances: Iterable[Utterance], links: Path | str, clips: Mapping[tuple[str, str], Path]
) -> tuple[list[Utterance], list[Problem]]:
    """Give ECF utterances without a clip their MELD clips.

    Args:
        utterances: what `emoverse.corpora.ecf.read` gave, of ECF 1.0 or 2.0 (same numbering).
        links: `all_data_pair_ECFvsMELD.txt`.
        clips: MELD's, by (split, `dia0_utt0`), as `emoverse.corpora.meld.clip_index` finds them.

    Returns:
        The utterances in order. One whose clip MELD is known to have spoilt, or whose clip is
        not there, has `clip_problem`; one without a link keeps what it had. And the links that
        are no MELD name.

    Raises:
        EmoVerseError: the file of links cannot be read.
    """
    named = meld_links(links)
    joined: list[Utterance] = []
    problems: list[Problem] = []
    for utterance in utterances:
        name = named.get((utterance.dialogue, utterance.index))
        if name is None or utterance.clip is not None:
            joined.append(utterance)
            continue
        try:
            split, dialogue, number = _place(name)
        except ValueError as error:
            problems.append(Problem(Path(links), None, f"{utterance.id}: {error}"))
            joined.append(utterance)
            continue
        clip = clips.get((split, f"dia{dialogue}_utt{number}"))
        spoilt = meld.KNOWN_BAD_CLIPS.get((split, dialogue, number))
        problem = spoilt or tables.clip_problem(clip)
        joined.append(replace(utterance, clip=clip, clip_problem=problem))
    return joined, problems


def _place(name: str) -> tuple[str, int, int]:
    """(split, dialogue, utterance) of `train_dia559_utt0`; `dev` is `valid` here."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a MELD clip's name like train_dia559_utt0")
    return tables.split_name(match[1]) or match[1], int(match[2]), int(match[3])
