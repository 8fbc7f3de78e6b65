from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from emoverse.corpora import ecf, meld
from emoverse.corpora.ecf_clips import with_meld_clips
from emoverse.corpora.records import Utterance
from emoverse.corpora.tables import SPLITS

LINKS = """1 4
null
1 | Ann | joy | Hello | train_dia3_utt0
2 | Bob | neutral | Well | dev_dia3_utt0
3 | Ann | joy | Bye | train_dia125_utt3
4 | Ann | joy | Bye now |
2 2
null
1 | Ann | joy | Hello | somewhere else
2 | Ann | joy | Bye | test_dia9_utt1
"""


def utterances() -> list[Utterance]:
    places = [("1", at) for at in (1, 2, 3, 4)] + [("2", 1), ("2", 2), ("3", 1)]
    return [Utterance(f"dia{d}utt{at}", "ecf", "train", d, at, "Hi") for d, at in places]


def test_clips_are_found_in_melds_own_folders(tmp_path: Path) -> None:
    (tmp_path / "links.txt").write_text(LINKS)
    for name in ("train_splits/dia3_utt0", "dev_splits_complete/dia3_utt0",
                 "train_splits/dia125_utt3"):  # fmt: skip
        file = tmp_path / "MELD" / f"{name}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    joined, problems = with_meld_clips(
        utterances(), tmp_path / "links.txt", meld.clip_index(tmp_path / "MELD", SPLITS)
    )
    assert [u.id for u in joined] == [u.id for u in utterances()]
    found = {u.id: (u.clip and u.clip.parent.name, u.clip_problem) for u in joined}
    assert found["dia1utt1"] == ("train_splits", None)
    assert found["dia1utt2"] == ("dev_splits_complete", None)
    assert "corrupt file" in str(found["dia1utt3"][1])
    assert found["dia1utt4"] == found["dia3utt1"] == found["dia2utt1"] == (None, None)
    assert found["dia2utt2"] == (None, "not found in the folder of clips")
    assert [problem.message for problem in problems] == [
        "dia2utt1: 'somewhere else' is not a MELD clip's name like train_dia559_utt0"
    ]


def test_a_clip_of_its_own_is_kept(tmp_path: Path) -> None:
    (tmp_path / "links.txt").write_text(LINKS)
    own, borrowed = tmp_path / "dia1utt1.mp4", tmp_path / "dia3_utt0.mp4"
    borrowed.write_bytes(b"x")
    first, second, *_ = utterances()
    rows = [replace(first, clip=own), second]
    clips = {("train", "dia3_utt0"): borrowed, ("valid", "dia3_utt0"): borrowed}
    joined, _ = with_meld_clips(rows, tmp_path / "links.txt", clips)
    assert [row.clip for row in joined] == [own, borrowed]


@pytest.mark.slow
def test_the_real_links_join_the_same_words(shared: Path, tmp_path: Path) -> None:
    """ECF 2.0 and MELD say the same at linked places, up to spelling and cutting."""
    links = shared / "ecf2" / "all_data_pair_ECFvsMELD.txt"
    if not links.is_file():
        pytest.skip(f"research data not here: {links} is absent")
    talks, _ = ecf.read(shared / "ecf2" / "Subtask_2_train.json")
    said, _ = meld.read(shared / "meld")
    folders = {"train": "train_splits", "valid": "dev_splits_complete"}
    for folder in folders.values():
        (tmp_path / folder).mkdir()
    for row in said:
        (tmp_path / folders[row.split] / f"{row.id.split('_', 1)[1]}.mp4").write_bytes(b"x")
    joined, problems = with_meld_clips(talks, links, meld.clip_index(tmp_path, SPLITS))
    assert problems == []
    found = [row for row in joined if row.clip is not None]
    assert len(found) == 10854
    missing = Counter(row.clip_problem for row in joined if row.clip is None)
    assert missing.pop(None) == 230  # ECF utterances that are no MELD clip
    assert missing.total() == 2535  # MELD's test set, not here
    assert missing["wrongly cut, minutes long (declare-lab/MELD issue 20)"] == 1
    splits = {folder: split for split, folder in folders.items()}
    texts = {(row.split, row.id.split("_", 1)[1]): row.text for row in said}
    alike = 0
    for row in found:
        assert row.clip is not None
        other = texts[splits[row.clip.parent.name], row.clip.stem]
        one, two = (re.sub(r"[^a-z]", "", text.lower()) for text in (row.text, other))
        alike += one == two or SequenceMatcher(None, one, two).ratio() > 0.5
    assert alike > 0.97 * len(found), alike / len(found)
