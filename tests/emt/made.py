"""Small records for the tests of what is done with a built dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emoverse.emt.record import Record
from emoverse.tasks import ecpe, er, eri, fer, msa

Line = tuple[str, str]  # speaker, text


def meld(split: str, dialogue: int, lines: Sequence[Line], **changes: Any) -> list[Record]:
    """ER and MSA records of a MELD dialogue in which everyone is glad."""
    found = []
    for number, (speaker, text) in enumerate(lines):
        sample = f"meld/{split}_dia{dialogue}_utt{number}"
        meta = {
            "sample": sample,
            "dialogue": f"meld/{split}/dia{dialogue}",
            "speaker": speaker,
            "seconds": 2.0,
        }
        fields = {"source": "meld", "split": split, "text": text, "meta": meta} | changes
        found += [
            Record(
                msa.query(text), "Positive.", "msa", f"{sample}/msa", label="positive", **fields
            ),
            Record(er.query(text), "Joy.", "er", f"{sample}/er", label="joy", **fields),
        ]
    return found


def ecf(
    split: str, conversation: int, lines: Sequence[Line], pairs: dict[int, list[int]]
) -> list[Record]:
    """ECPE records of an ECF conversation in which everyone is surprised."""
    turns = [ecpe.Turn(i, who, text, "surprise") for i, (who, text) in enumerate(lines, 1)]
    name = f"ecf/{split}/{conversation}"
    found = []
    for target, causes in pairs.items():
        mine = [ecpe.Pair(target, "surprise", cause) for cause in causes]
        found.append(
            Record(
                ecpe.query(turns, target),
                ecpe.answer(mine),
                "ecpe",
                f"ecf/dia{conversation}utt{target}/ecpe",
                source="ecf",
                split=split,
                text=turns[target - 1].text,
                label=[[pair.emotion_index, pair.emotion, pair.cause_index] for pair in mine],
                meta={"sample": f"ecf/{conversation}", "dialogue": name},
            )
        )
    return found


def photo(name: str, split: str, image: str) -> Record:
    """A FER record of a face photo."""
    return Record(
        fer.query(),
        "Eyes narrowing; Slightly puzzled",
        "fer",
        f"photo/{name}/fer",
        images=(image,),
        source="photo",
        split=split,
        label=["AU04", "AU07"],
        meta={"sample": f"photo/{name}"},
    )


def reason(name: str, split: str, clip: str) -> Record:
    """An ERI record of a clip."""
    return Record(
        eri.query("No.", None),
        "He frowns; he is angry because nobody listens.",
        "eri",
        f"merr/{name}/eri",
        videos=(clip,),
        source="merr",
        split=split,
        text="No.",
        label="anger",
        meta={"sample": f"merr/{name}"},
    )
