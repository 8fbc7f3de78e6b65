from __future__ import annotations

import pytest
import torch

from emoverse.inference.generation import generate
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prompt import prompt_tokens

from ..models.tiny import alone, features, picture_ids, tiny_model


@pytest.fixture(scope="module")
def model() -> EmoVerse:
    return tiny_model()


def _prompts(model: EmoVerse) -> list[list[int]]:
    return [
        prompt_tokens(model.tokenizer, "a", [picture_ids(model, 1)]),
        prompt_tokens(model.tokenizer, "a much longer query than the others have"),
        [5, 6, 7],
        prompt_tokens(model.tokenizer, "b", [picture_ids(model, 0)]),
    ]


def _greedy(
    model: EmoVerse, prompt: list[int], seen: torch.Tensor, end: int, most: int
) -> list[int]:
    """Token by token, everything run again for each."""
    written: list[int] = []
    for _ in range(most):
        states = alone(model, prompt + written, seen)
        token = int(model.network.lm_head(states[-1]).argmax())
        if token == end:
            break
        written.append(token)
    return written


def test_a_batch_is_continued_as_each_prompt_alone(model: EmoVerse) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    free = [_greedy(model, prompt, seen, end=-1, most=12) for prompt in prompts]
    assert generate(model, prompts, seen, end=-1, most=12) == free
    end = free[0][5]  # a token that stops some prompts early and others not
    expected = [_greedy(model, prompt, seen, end=end, most=12) for prompt in prompts]
    assert generate(model, prompts, seen, end=end, most=12) == expected
    assert len(expected[0]) <= 5
    assert [generate(model, [p], seen, end=end, most=12)[0] for p in prompts] == expected


def test_no_more_tokens_than_allowed_and_no_end_mark(model: EmoVerse) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    assert [len(tokens) for tokens in generate(model, prompts, seen, end=-1, most=3)] == [3] * 4
    first = generate(model, prompts, seen, end=-1, most=1)[0][0]
    assert generate(model, prompts[:1], seen, end=first, most=5) == [[]]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_banned_repeat_is_written(model: EmoVerse, size: int) -> None:
    for tokens in generate(
        model, _prompts(model), features(model, 2), end=-1, most=40, ban_repeats=size
    ):
        runs = [tuple(tokens[n : n + size]) for n in range(len(tokens) - size + 1)]
        assert len(set(runs)) == len(runs)
