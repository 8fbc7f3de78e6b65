from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.inference import phrases
from emoverse.inference.phrases import ORDER, TIMES, Phrases, gather

END = 2
ANSWERS = st.lists(st.lists(st.integers(3, 9), max_size=12), max_size=20)


def test_what_several_answers_share_is_guessed_and_what_one_says_is_kept_nowhere() -> None:
    answers = [[10, 11, 12, 13, END]] * TIMES + [[10, 11, 40, 41, 42, END]] * (TIMES - 1)
    found = gather(answers)
    assert found.after([]) == (10, 1.0)
    assert found.after([10, 11]) == (12, round(TIMES / (2 * TIMES - 1), 2))
    assert found.after([10, 11, 12, 13]) == (END, 1.0)
    assert found.after([41]) is None
    said = {token for run, (token, _) in found.following.items() for token in (*run, token)}
    assert said.isdisjoint({40, 41, 42})
    # A run counts once an answer: a stutter in one is no habit.
    assert gather([[7, 8] * 50 + [END]]).following == {}


def test_the_longest_run_that_is_known_decides() -> None:
    table = Phrases({(5,): (6, 0.9), (4, 5): (7, 0.8), (-1, 5): (8, 0.7), (-1,): (5, 1.0)})
    assert table.after([]) == (5, 1.0)
    assert table.after([5]) == (8, 0.7)
    assert table.after([9, 5]) == (6, 0.9)
    assert table.after([3, 3, 3, 4, 5]) == (7, 0.8)
    assert table.after([9]) is None


def test_the_prompt_is_quoted_where_the_table_is_unsure() -> None:
    table = Phrases({(5,): (6, 0.9), (8,): (9, 0.3)})
    prompt = [7, 8, 20, 7, 8, 21, 4, 5, 22, 3, 7]
    assert table.after([7, 8], prompt) == (21, 0.75)  # where it stands last
    assert table.after([4, 5], prompt) == (6, 0.9)
    assert table.after([1, 8], prompt) == (9, 0.3)
    assert table.after([7], prompt) is None
    assert table.after([3, 7], prompt) is None  # nothing follows
    assert table.after([7, 8], [7, 8, -3, 1]) == (9, 0.3)  # a picture is no word


@given(ANSWERS)
def test_shares_are_those_of_a_count_by_hand(answers: list[list[int]]) -> None:
    found = gather([[*answer, END] for answer in answers])
    for run, (token, share) in found.following.items():
        assert 1 <= len(run) <= ORDER
        holds = [[-1, *answer, END] for answer in answers]
        ways = {
            tuple(text[n : n + len(run) + 1]) for text in holds for n in range(len(text) - len(run))
        }
        followed = {
            way[-1]: sum(
                way in {tuple(text[n : n + len(way)]) for n in range(len(text))} for text in holds
            )
            for way in ways
            if way[:-1] == run
        }
        assert followed[token] == max(followed.values()) >= TIMES
        assert share == round(followed[token] / sum(followed.values()), 2)


@given(ANSWERS)
def test_a_folder_gives_back_what_was_saved(answers: list[list[int]]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        made = {"eri": gather([[*answer, END] for answer in answers * TIMES]), "fer": Phrases()}
        phrases.save(made, Path(name))
        assert phrases.load(Path(name), 10) == made


def test_no_file_and_a_wrong_file(tmp_path: Path) -> None:
    assert phrases.load(tmp_path, 10) == {}
    for row in ('[["a"], 3, 0.5]', "[[3], -1, 0.5]", "[[3], 10, 0.5]"):
        (tmp_path / phrases.FILE).write_text(f'{{"eri": [{row}]}}', encoding="utf-8")
        with pytest.raises(EmoVerseError, match=r"phrases\.json: .+make it again"):
            phrases.load(tmp_path, 10)
    assert phrases.load(tmp_path, 11)["eri"].after([3]) == (10, 0.5)
