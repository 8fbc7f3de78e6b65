from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.corpora import ecf, mecpe
from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.tasks.labels import EMOTIONS

TALK = """\
7 3
(1,1),(3,1),(3,2)
1 | Ann | joy | We won ! | Show_S1E1: 00:01:19.037 - 00:01:25.417
2 | Ben | neutral | a | b | train_dia5_utt1
3 | All | sadness | Oh . |
8 1

1 | Ann | neutral | So ? | \n"""


def _parse(path: Path, text: str) -> tuple[list[mecpe.Conversation], list[Problem]]:
    path.write_text(text, encoding="utf-8")
    problems: list[Problem] = []
    return mecpe.parse(path, problems), problems


def test_blocks_are_read_with_pairs_spans_and_bars_in_the_text(tmp_path: Path) -> None:
    talks, problems = _parse(tmp_path / "train.txt", TALK)
    assert problems == []
    assert [talk.id for talk in talks] == ["7", "8"]
    assert talks[0].pairs == ((1, 1), (3, 1), (3, 2))
    assert talks[0].lines[1] == mecpe.Line(2, "Ben", "neutral", "a | b", "train_dia5_utt1")
    assert talks[0].lines[2].place == ""
    assert talks[1].pairs == ()
    utterances = mecpe.utterances(talks[0], "train")
    assert [utterance.causes for utterance in utterances] == [(1,), (), (1, 2)]
    assert (utterances[0].start, utterances[0].end) == (79.037, 85.417)
    assert (utterances[1].start, utterances[1].end) == (None, None)


def test_links_name_the_meld_clip_of_an_utterance(tmp_path: Path) -> None:
    file = tmp_path / "all_data_pair_ECFvsMELD.txt"
    file.write_text("1 2\nnull\n1 | Ann | joy | Yes . | dev_dia5_utt0\n2 | Ann | joy | Well . | \n")
    assert ecf.meld_links(file) == {("1", 1): "dev_dia5_utt0"}


@pytest.mark.parametrize(
    ("block", "line", "message"),
    [
        ("5 2\nnull\n1 | Ann | joy | Yes . | \n", 8, "no line `2 |"),
        ("5 1\nnull\n1 | Ann | bliss | Yes . | \n", 7, "emotion 'bliss' is unknown"),
        ("5 1\nnull\n1 | Ann | joy |  | \n", 7, "no text"),
        ("5 1\n(1;1)\n1 | Ann | joy | Yes . | \n", 6, "are not"),
        ("5 1\n(1,4)\n1 | Ann | joy | Yes . | \n", 6, "names an utterance that is not there"),
        ("4 1\nnull\n1 | Ann | joy | Yes . | \n", 5, "was already in this file"),
        ("stray words\n", 5, "no header"),
    ],
)
def test_a_malformed_block_is_reported_and_skipped(
    tmp_path: Path, block: str, line: int, message: str
) -> None:
    good = "{} 1\nnull\n1 | Ann | joy | Yes . | \n"
    text = good.format(4) + "\n" + block + good.format(6)
    talks, problems = _parse(tmp_path / "train.txt", text)
    assert [talk.id for talk in talks] == ["4", "6"]
    assert [(problem.line, message in problem.message) for problem in problems] == [(line, True)]


def test_a_split_cannot_be_cut_from_a_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "dev.txt"
    file.write_text("1 1\nnull\n1 | Ann | joy | Yes . | \nstray\n")
    with pytest.raises(EmoVerseError, match=r"dev\.txt:4: no header"):
        ecf.conversation_ids(file)
    with pytest.raises(EmoVerseError, match="mend it"):
        ecf.meld_links(file)


def test_a_file_without_conversations_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text("hello\n")
    with pytest.raises(EmoVerseError, match="no conversation in the MECPE text form"):
        ecf.conversation_ids(tmp_path / "dev.txt")


_WORDS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=30
).map(lambda text: " ".join(text.split()))
_FIELDS = _WORDS.filter(lambda text: text != "" and " | " not in f" {text} ")
_TEXTS = _WORDS.filter(bool)


@st.composite
def _talks(draw: st.DrawFn) -> list[mecpe.Conversation]:
    talks = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        count = draw(st.integers(1, 6))
        lines = tuple(
            mecpe.Line(
                index,
                draw(_FIELDS),
                draw(st.sampled_from(EMOTIONS)),
                draw(_TEXTS),
                draw(st.just("") | _FIELDS),
            )
            for index in range(1, count + 1)
        )
        places = st.integers(1, count)
        pairs = tuple(draw(st.lists(st.tuples(places, places), max_size=6)))
        talks.append(mecpe.Conversation(str(number), pairs, lines))
    return talks


@given(_talks())
def test_what_is_written_is_read_back(talks: list[mecpe.Conversation]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        again, problems = _parse(Path(folder) / "train.txt", mecpe.dumps(talks))
    assert problems == []
    assert again == talks
