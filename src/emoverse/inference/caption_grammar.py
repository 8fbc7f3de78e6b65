"""What a FER answer may be: AU phrases with semicolons between them, each AU once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from emoverse.faces.captions import MOST_PHRASES
from emoverse.tasks import fer

# The tokens of a phrase and its AU.
_Phrase = tuple[list[int], str]


def caption_grammar(
    words: Callable[[str], list[int]], end: int
) -> Callable[[Sequence[int]], list[int]]:
    """A grammar for `generate`: one to five of `fer.phrases`, no AU twice.

    Args:
        words: the tokens of the beginning of an answer.
        end: the token that ends an answer.
    """
    openings = [(words(phrase), code) for phrase, code in fer.phrases().items()]
    before = next(iter(fer.phrases()))
    start = len(words(before))
    further = [
        (words(f"{before}; {phrase}")[start:], code) for phrase, code in fer.phrases().items()
    ]

    @lru_cache(maxsize=1 << 14)  # the same beginnings come again and again
    def following(written: tuple[int, ...]) -> list[int]:
        told: list[str] = []
        partial: list[int] = []
        options = openings
        for token in written:
            going = [*partial, token]
            if not _fitting(options, going) and not _complete(options, going):
                told.append(_complete(options, partial)[0])
                partial, options = [], _untold(further, told)
            partial.append(token)
        follow = {tokens[len(partial)] for tokens in _fitting(options, partial)}
        for code in _complete(options, partial):
            follow.add(end)
            if len(told) + 1 < MOST_PHRASES:
                follow |= {tokens[0] for tokens, _ in _untold(further, [*told, code])}
        return sorted(follow)

    return lambda written: following(tuple(written))


def _fitting(options: Sequence[_Phrase], partial: Sequence[int]) -> list[list[int]]:
    """The phrases that begin so and go on."""
    size = len(partial)
    return [
        tokens for tokens, _ in options if len(tokens) > size and tokens[:size] == list(partial)
    ]


def _complete(options: Sequence[_Phrase], partial: Sequence[int]) -> list[str]:
    """The AU of the phrase that consists of just these tokens, in a list."""
    return [code for tokens, code in options if tokens == list(partial)][:1]


def _untold(options: Sequence[_Phrase], told: Sequence[str]) -> list[_Phrase]:
    return [option for option in options if option[1] not in told]
