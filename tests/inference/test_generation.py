from __future__ import annotations

import pytest
import torch

from emoverse.inference.caption_grammar import caption_grammar
from emoverse.inference.generation import generate
from emoverse.inference.reader import FaceReader
from emoverse.inference.scoring import Question, read
from emoverse.models.decoder import Branch
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prompt import prompt_tokens

from ..models.tiny import alone, features, laid_out, picture_ids, tiny_model


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


def _read(model: EmoVerse, prompts: list[list[int]], seen: torch.Tensor) -> list[Branch]:
    branches = read(model, [Question(prompt) for prompt in prompts], seen)
    assert all(isinstance(branch, Branch) for branch in branches)
    return branches  # type: ignore[return-value]


@pytest.mark.parametrize("fused", [False, True])
def test_a_batch_is_continued_as_each_prompt_alone(model: EmoVerse, fused: bool) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    weights = laid_out(model) if fused else None
    branches = _read(model, prompts, seen)
    free = [_greedy(model, prompt, seen, end=-1, most=12) for prompt in prompts]
    assert generate(model, branches, end=-1, most=12, fused=weights) == free
    end = free[0][5]  # a token that stops some prompts early and others not
    expected = [_greedy(model, prompt, seen, end=end, most=12) for prompt in prompts]
    assert generate(model, branches, end=end, most=12, fused=weights) == expected
    assert len(expected[0]) <= 5
    assert [generate(model, [one], end=end, most=12)[0] for one in branches] == expected


def test_no_more_tokens_than_allowed_and_no_end_mark(model: EmoVerse) -> None:
    branches = _read(model, _prompts(model), features(model, 2))
    assert [len(tokens) for tokens in generate(model, branches, end=-1, most=3)] == [3] * 4
    first = generate(model, branches, end=-1, most=1)[0][0]
    assert generate(model, branches[:1], end=first, most=5) == [[]]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_banned_repeat_is_written(model: EmoVerse, size: int) -> None:
    branches = _read(model, _prompts(model), features(model, 2))
    for tokens in generate(model, branches, end=-1, most=40, ban_repeats=size):
        runs = [tuple(tokens[n : n + size]) for n in range(len(tokens) - size + 1)]
        assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("fused", [False, True])
def test_within_a_grammar_the_likeliest_allowed_token_is_written(
    model: EmoVerse, fused: bool
) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    end = int(model.tokenizer.convert_tokens_to_ids("<|im_end|>"))  # type: ignore[arg-type]
    grammar = caption_grammar(FaceReader(model).words, end)
    found = generate(
        model,
        _read(model, prompts, seen),
        end=end,
        most=60,
        grammar=grammar,
        fused=laid_out(model) if fused else None,
    )
    for prompt, tokens in zip(prompts, found, strict=True):
        written: list[int] = []
        for token in [*tokens, end]:
            scores = model.network.lm_head(alone(model, prompt + written, seen)[-1])
            best = max(grammar(written), key=lambda one: float(scores[one]))
            assert token == best
            written.append(token)


def test_a_listener_hears_every_answer_grow_and_may_end_it(model: EmoVerse) -> None:
    branches = _read(model, _prompts(model), features(model, 2))
    heard: dict[int, list[list[int]]] = {}

    def listen(row: int, tokens: list[int]) -> bool:
        heard.setdefault(row, []).append(list(tokens))
        return row != 1 or len(tokens) < 2

    found = generate(model, branches, end=-1, most=6, told=listen)  # type: ignore[arg-type]
    assert [len(tokens) for tokens in found] == [6, 2, 6, 6]
    for row, tokens in enumerate(found):
        assert heard[row] == [tokens[: n + 1] for n in range(len(tokens))]


def test_unwanted_runs_are_not_written_and_only_where_they_are_unwanted(model: EmoVerse) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    branches = _read(model, prompts, seen)
    free = generate(model, branches, end=-1, most=12)
    unwanted = [[[free[0][3]]], [], [free[2][4:6]], []]
    told = generate(model, branches, end=-1, most=12, unwanted=unwanted)
    assert free[0][3] not in told[0] and told[0][:3] == free[0][:3]
    assert told[1] == free[1] and told[3] == free[3]
    pair = free[2][4:6]
    assert all(told[2][n : n + 2] != pair for n in range(11)) and told[2] != free[2]


def test_an_unwanted_run_is_taken_back_to_where_it_began(model: EmoVerse) -> None:
    """Without its last token alone, a word that was begun would end as none."""
    prompts, seen = _prompts(model), features(model, 2)
    free = generate(model, _read(model, prompts, seen), end=-1, most=12)
    for first, last in ((4, 6), (2, 7), (0, 3)):
        unwanted = [[tokens[first:last]] for tokens in free]
        heard: list[int] = []

        def listen(row: int, tokens: list[int], heard: list[int] = heard) -> bool:
            if row == 0:
                heard.append(len(tokens))
            return True

        told = generate(
            model,
            _read(model, prompts, seen),
            end=-1,
            most=12,
            unwanted=unwanted,
            told=listen,  # type: ignore[arg-type]
        )
        assert len(heard) > len(set(heard)) == 12  # it was written, and taken back
        for prompt, before, after in zip(prompts, free, told, strict=True):
            assert after[:first] == before[:first] and after[first] != before[first]
            # What was taken back leaves no trace: the rest is as if it had never been there.
            given = [*prompt, *after[: first + 1]]
            (alone,) = generate(
                model, _read(model, [given], seen), end=-1, most=11 - first,
                unwanted=[[before[first:last]]],
            )  # fmt: skip
            assert after[first + 1 :] == alone
