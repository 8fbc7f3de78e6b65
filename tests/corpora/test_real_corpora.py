"""Row counts of the real corpora, where they lie beside the repository."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from emoverse.corpora import ecf, face_photos, meld, merr, mosei
from emoverse.corpora.records import dialogues

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def _data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"research data not here: ../shared/data/{name} is absent")
    return path


def test_meld() -> None:
    utterances, problems = meld.read(_data("meld"))
    splits = Counter(utterance.split for utterance in utterances)
    assert (splits["train"], splits["valid"]) == (9989, 1109)
    assert len({utterance.id for utterance in utterances}) == len(utterances)
    assert not any(0x80 <= ord(sign) < 0xA0 for u in utterances for sign in u.text)
    assert problems == []


@pytest.mark.parametrize(("corpus", "sizes"), [("mosei", (16326, 1871)), ("mosi", (1284, 229))])
def test_mosei_and_mosi(corpus: str, sizes: tuple[int, int]) -> None:
    utterances, problems = mosei.read(_data(corpus))
    splits = Counter(utterance.split for utterance in utterances)
    assert (splits["train"], splits["valid"]) == sizes
    assert {utterance.corpus for utterance in utterances} == {corpus}
    assert problems == []


def test_ecf() -> None:
    ids = ecf.conversation_ids(_data("ecf2/ecf1_dev.txt"))
    utterances, problems = ecf.read(_data("ecf2/Subtask_2_train.json"), valid_ids=ids)
    talks = dialogues(utterances)
    assert (len(talks), len(utterances)) == (1374, 13619)
    assert sum(len(utterance.causes or ()) for utterance in utterances) == 9794
    assert Counter(talk.split for talk in talks) == {"train": 1262, "valid": 112}
    assert problems == []


def test_ecf_text_form_agrees_with_the_json() -> None:
    texts, problems = ecf.read(_data("ecf2/ecf1_train.txt"))
    assert (len(texts), problems) == (9966, [])
    spoken = {u.id: u for u in ecf.read(_data("ecf2/Subtask_2_train.json"))[0]}
    assert all(spoken[text.id].speaker == text.speaker for text in texts)


def test_ecf_links_name_meld_utterances() -> None:
    links = ecf.meld_links(_data("ecf2/all_data_pair_ECFvsMELD.txt"))
    known = {u.id for u in meld.read(_data("meld"))[0]}
    named = {name.replace("dev_", "valid_") for name in links.values() if name[:5] != "test_"}
    assert len(links) == 13389
    assert named <= known


def test_merr() -> None:
    reasons, problems = merr.read(_data("merr/MERR_fine_grained_train.json"))
    assert (len(reasons), problems) == (4000, [])
    assert all(len(reason.aus) == len(reason.phrases) for reason in reasons)
    assert {reason.label for reason in reasons if reason.emotion is None} == {"doubt", "contempt"}


@pytest.mark.parametrize(("name", "size"), [("muxspace", 1597), ("ckplus48", 981)])
def test_face_photos(name: str, size: int) -> None:
    photos, problems = face_photos.read(_data(f"faces/{name}"))
    assert (len(photos), problems) == (size, [])
    train, valid = ({p.subject for p in photos if p.split == s} for s in ("train", "valid"))
    assert train
    assert valid
    assert not train & valid
