from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emoverse.inference.scoring import Question, deciding, read
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prefix_tree import PADDING, PrefixTree, merge
from emoverse.models.prompt import answer_tokens, dictated, prompt_tokens
from emoverse.tasks import ecpe, er, msa

from ..models.tiny import alone, features, picture_ids, tiny_model


@pytest.fixture(scope="module")
def model() -> EmoVerse:
    return tiny_model()


def _question(
    model: EmoVerse, query: str, answers: tuple[str, ...], picture: int | None
) -> Question:
    images = [] if picture is None else [picture_ids(model, picture)]
    tokens = [answer_tokens(model.tokenizer, answer) for answer in answers]
    scored = [
        [n for n, forced in enumerate(dictated(model.tokenizer, t)) if not forced] for t in tokens
    ]
    return Question(prompt_tokens(model.tokenizer, query, images), tokens, scored)


def _scores(
    model: EmoVerse,
    questions: list[Question],
    seen: torch.Tensor | None = None,
    tree_tokens: int = 1536,
) -> list[np.ndarray]:
    found = read(model, questions, seen, tree_tokens)
    assert all(isinstance(values, np.ndarray) for values in found)
    return found  # type: ignore[return-value]


def _plain(model: EmoVerse, question: Question, seen: torch.Tensor) -> list[float]:
    """The same by one run per answer and a plain log-softmax."""
    values = []
    for tokens, scored in zip(question.answers, question.scored, strict=True):
        states = alone(model, question.prompt + tokens, seen)
        with torch.no_grad():
            logs = model.network.lm_head(states).log_softmax(dim=-1)
        start = len(question.prompt)
        values.append(sum(float(logs[start + n - 1, tokens[n]]) for n in scored))
    return values


@pytest.mark.parametrize("tree_tokens", [1, 300, 10_000])
def test_every_answer_has_the_probability_it_has_alone(model: EmoVerse, tree_tokens: int) -> None:
    turns = [ecpe.Turn(1, "Ann", "Well.", "joy"), ecpe.Turn(2, "Bob", "No.", "anger")]
    causes = ("", "2_anger,1", "2_anger,2", "2_anger,1;2_anger,2")
    questions = [
        _question(model, er.query("Go away"), er.choices(), 0),
        _question(model, msa.query("Go away"), msa.choices(), 0),
        _question(model, msa.query("Go away"), msa.choices(), 1),
        _question(model, er.query("Well"), er.choices("mosei"), None),
        _question(model, ecpe.query(turns, 2), causes, None),
    ]
    seen = features(model, 2)
    found = _scores(model, questions, seen, tree_tokens)
    assert [len(values) for values in found] == [7, 2, 2, 7, 4]
    for question, values in zip(questions, found, strict=True):
        np.testing.assert_allclose(values, _plain(model, question, seen), atol=1e-3)
    assert abs(found[1] - found[2]).max() > 1e-3  # another picture, another answer


@given(st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=8, unique_by=tuple))
def test_answers_are_cut_where_each_is_told_from_all_others(words: list[list[int]]) -> None:
    whole = [[*answer, 9] for answer in words]
    cuts = deciding(whole)
    for answer, cut in zip(whole, cuts, strict=True):
        assert cut and answer[: len(cut)] == cut
        others = [other for other in whole if other is not answer]
        assert all(other[: len(cut)] != cut for other in others)
        # A token less would leave a doubt.
        assert len(cut) == 1 or any(other[: len(cut) - 1] == cut[:-1] for other in others)


def test_tokens_that_are_not_scored_do_not_count(model: EmoVerse) -> None:
    question = _question(model, "q", ("Joy.",), None)
    last = Question(question.prompt, question.answers, [[len(question.answers[0]) - 1]])
    ((everything,), (end,)) = _scores(model, [question, last])
    assert everything < end < 0


def test_no_question_needs_no_run(model: EmoVerse) -> None:
    assert read(model, []) == []


class _Spy:
    """A model that keeps the trees it is asked to run."""

    def __init__(self, model: EmoVerse) -> None:
        self.head, self._model, self.trees = model.head, model, list[PrefixTree]()

    def hidden_states(self, trees: list[PrefixTree], *rest: Any) -> torch.Tensor:
        self.trees += trees
        return self._model.hidden_states(trees, *rest)


def _conversation(topic: int, lines: int) -> list[list[int]]:
    """Prompts of made tokens: each line of a talk with all lines before it."""
    talk = [[topic, *range(100 + 10 * n, 110 + 10 * n)] for n in range(lines)]
    return [[*sum(talk[:n], [1, topic]), 300 + n, *range(200, 241)] for n in range(lines)]


def test_trees_are_cut_between_conversations(model: EmoVerse) -> None:
    prompts = [*_conversation(2, 5), *_conversation(3, 5), *_conversation(4, 5)]
    questions = [Question(prompt, [[5], [6]], [[0], [0]]) for prompt in sorted(prompts)]
    whole = len(merge(prompts[:5]).tokens)
    assert whole % PADDING == 0  # or padding decides
    spy = _Spy(model)
    found = read(spy, questions, tree_tokens=2 * whole - 2)  # type: ignore[arg-type]
    assert [len(tree.tokens) for tree in spy.trees] == [whole] * 3
    alone = read(model, questions, tree_tokens=1)
    np.testing.assert_allclose(found, alone, atol=1e-4)  # type: ignore[arg-type]


def test_what_prompts_share_comes_first_in_a_tree(model: EmoVerse) -> None:
    prompts = sorted(_conversation(2, 6))
    spy = _Spy(model)
    read(spy, [Question(prompt, [[5], [6]], [[0], [0]]) for prompt in prompts])  # type: ignore[arg-type]
    (tree,) = spy.trees
    children = np.bincount(tree.parents[1:], minlength=len(tree.tokens))
    # Nothing but the shared lines lies before the last token at which prompts part.
    assert np.flatnonzero(children > 1).max() < 2 + 11 * 5
