"""How a record becomes tokens: system prompt, media, query, answer, in the model's chat format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from emoverse.models.language import Tokenizer
from emoverse.tasks import SYSTEM_PROMPT

IMAGE_TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>")

_ECHO = re.compile(r"\d+_[a-z]+,")


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The strings around each turn (ChatML by default, as in SmolLM2 and InternVL2).

    Attributes:
        before_media: everything up to the media, system prompt included.
        before_answer: from the end of the query to the start of the answer.
        end: ends the answer; also the stop token of generation.
    """

    before_media: str = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n"
    before_answer: str = "<|im_end|>\n<|im_start|>assistant\n"
    end: str = "<|im_end|>"


def prompt_tokens(
    tokenizer: Tokenizer,
    query: str,
    images: Sequence[Sequence[int]] = (),
    *,
    video: bool = False,
    chat: ChatFormat | None = None,
) -> list[int]:
    """Token ids of a prompt up to where the answer begins.

    Args:
        tokenizer: knows `<img>` and `</img>`.
        query: the user's turn.
        images: per picture the negative ids of its visual features (`PrefixTree.tokens`).
        video: the pictures are frames of one clip and get InternVL's `Frame{i}: ` lines.
        chat: the model's chat format.
    """
    chat = chat or ChatFormat()
    ids: list[int] = _text(tokenizer, chat.before_media)
    for number, features in enumerate(images, 1):
        ids += _text(tokenizer, f"Frame{number}: <img>" if video else "<img>")
        ids += features
        ids += _text(tokenizer, "</img>\n")
    return ids + _text(tokenizer, query + chat.before_answer)


def answer_tokens(tokenizer: Tokenizer, answer: str, chat: ChatFormat | None = None) -> list[int]:
    """Token ids of an answer, the end mark included."""
    return _text(tokenizer, answer + (chat or ChatFormat()).end)


def dictated(tokenizer: Tokenizer, answer: Sequence[int]) -> list[bool]:
    """For each token of an answer, whether the ECPE grammar leaves it no choice.

    `5_surprise,` only repeats the question; the causes are the answer. Leaving it out of the loss
    also keeps a gold emotion shown in an ECPE prompt from ever being a training target. The very
    first token stays free: it says whether there is a cause at all.
    """
    pieces = [str(tokenizer.decode([token])) for token in answer]
    forced = {i for found in _ECHO.finditer("".join(pieces)) for i in range(*found.span())}
    result, start = [], 0
    for piece in pieces:
        result.append(set(range(start, start + len(piece))) <= forced)
        start += len(piece)
    return [False, *result[1:]]


def _text(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
