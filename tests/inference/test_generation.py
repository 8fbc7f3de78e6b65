from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from emoverse.inference import generation
from emoverse.inference.caption_grammar import caption_grammar
from emoverse.inference.generation import generate
from emoverse.inference.phrases import TIMES, Phrases, gather
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


def _table(answers: list[list[int]], end: int) -> Phrases:
    return gather([[*answer, end] for answer in answers] * TIMES)


@dataclass
class _Counted:
    steps: Any
    calls: int = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> _Counted:
    """How often the model is run."""
    found = _Counted(generation.begin)

    def begin(*given: Any) -> Any:
        steps, seen = found.steps(*given)
        run = steps.step

        def step(*some: Any) -> Any:
            found.calls += 1
            return run(*some)

        steps.step = step
        return steps, seen

    monkeypatch.setattr(generation, "begin", begin)
    return found


@pytest.mark.parametrize("fused", [False, True])
def test_guesses_save_steps_and_change_nothing(
    model: EmoVerse, fused: bool, counted: _Counted
) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    weights = laid_out(model) if fused else None

    def write(end: int, **more: Any) -> tuple[list[list[int]], int]:
        counted.calls = 0
        found = generate(
            model, _read(model, prompts, seen), end=end, most=20, fused=weights, **more
        )
        return found, counted.calls

    free, _ = write(-1)
    for end in (-1, free[0][5]):
        plain, steps = write(end)
        right, fewer = write(end, phrases=_table(plain, end))
        assert right == plain and fewer < 0.6 * steps
        wrong, _ = write(end, phrases=_table([answer[::-1] for answer in plain], end))
        assert wrong == plain
        quoted, fewer = write(end, prompts=plain)  # as if the prompts said it all
        assert quoted == plain and fewer < 0.8 * steps
    heard: dict[int, list[list[int]]] = {}

    def listen(row: int, tokens: list[int]) -> bool:
        heard.setdefault(row, []).append(list(tokens))
        return True

    assert write(-1, phrases=_table(free, -1), told=listen)[0] == free
    for row, tokens in enumerate(free):
        assert heard[row][-1] == tokens and len(heard[row]) < 12
        assert all(tokens[: len(some)] == some for some in heard[row])


def test_a_listener_ends_an_answer_that_is_guessed(model: EmoVerse) -> None:
    prompts, seen = _prompts(model), features(model, 2)
    free = generate(model, _read(model, prompts, seen), end=-1, most=12)

    def listen(row: int, tokens: list[int]) -> bool:
        return row != 1 or len(tokens) < 5

    found = generate(
        model,
        _read(model, prompts, seen),
        end=-1,
        most=12,
        phrases=_table(free, -1),
        told=listen,  # type: ignore[arg-type]
    )
    assert [found[0], *found[2:]] == [free[0], *free[2:]]
    assert 5 <= len(found[1]) < 12 and found[1] == free[1][: len(found[1])]


@pytest.mark.parametrize("seed", range(6))
def test_wild_guesses_change_nothing_whatever_the_rules(model: EmoVerse, seed: int) -> None:
    rng = random.Random(seed)
    prompts, seen = _prompts(model), features(model, 2)
    end = int(model.tokenizer.convert_tokens_to_ids("<|im_end|>"))  # type: ignore[arg-type]
    grammar = caption_grammar(FaceReader(model).words, end)
    free = generate(model, _read(model, prompts, seen), end=-1, most=14)
    captions = generate(model, _read(model, prompts, seen), end=end, most=60, grammar=grammar)
    known = [*free, *captions]
    rows = {}
    for _ in range(400):  # runs that occur, with what follows right or wrong
        answer = rng.choice(known)
        place = rng.randrange(len(answer))
        run = (-1, *answer)[max(place + 1 - rng.randint(1, 4), 0) : place + 1]
        token = answer[place] if rng.random() < 0.7 else rng.choice(rng.choice(known))
        rows[tuple(run)] = token, rng.choice([0.2, 0.5, 0.9, 1.0])
    phrases = Phrases(rows)
    rules: list[dict[str, Any]] = [
        {"end": end, "most": 60, "grammar": grammar},
        {"end": -1, "most": 14},
        # What is unwanted does not bind a grammar, which may leave no other word.
        {"end": end, "most": 60, "grammar": grammar, "unwanted": [[t[:1]] for t in captions]},
        {"end": -1, "most": 14, "ban_repeats": 2},
        {"end": free[1][4], "most": 14},
        {"end": -1, "most": 14, "unwanted": [[tokens[3:5], tokens[7:8]] for tokens in free]},
    ]
    for rule in rules:
        plain = generate(model, _read(model, prompts, seen), **rule)
        branches = _read(model, prompts, seen)
        assert generate(model, branches, phrases=phrases, prompts=known[:4], **rule) == plain
