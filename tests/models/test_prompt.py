from __future__ import annotations

import pytest

from emoverse.models.prompt import ChatFormat, answer_tokens, dictated, prompt_tokens

from .tiny import tokenizer


def _written(ids: list[int]) -> str:
    """The text of a prompt, a visual token as `*`."""
    tokens = tokenizer()
    return "".join("*" if token < 0 else str(tokens.decode([token])) for token in ids)


def test_a_prompt_is_the_authors_chat() -> None:
    assert _written(prompt_tokens(tokenizer(), "How are you?")) == (
        "<|im_start|>system\nYou are an sentiment and emotion analysis expert.<|im_end|>\n"
        "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_pictures_stand_between_their_marks_before_the_query() -> None:
    ids = prompt_tokens(tokenizer(), "Q", [[-1, -2], [-3, -4]])
    assert "user\n<img>**</img>\n<img>**</img>\nQ<|im_end|>" in _written(ids)
    assert [token for token in ids if token < 0] == [-1, -2, -3, -4]


def test_frames_of_a_clip_are_numbered_from_one() -> None:
    ids = prompt_tokens(tokenizer(), "Q", [[-1], [-2]], video=True)
    assert "user\nFrame1: <img>*</img>\nFrame2: <img>*</img>\nQ" in _written(ids)


def test_the_marks_are_single_tokens() -> None:
    tokens = tokenizer()
    for mark in ("<img>", "</img>", "<|im_end|>"):
        assert len(tokens(mark, add_special_tokens=False)["input_ids"]) == 1


def test_prompts_of_one_picture_share_everything_up_to_the_query() -> None:
    first = prompt_tokens(tokenizer(), "one", [[-1, -2]])
    second = prompt_tokens(tokenizer(), "two", [[-1, -2]])
    shared = next(n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    assert _written(first[:shared]).endswith("</img>\n")


def test_another_chat_format_is_kept_to() -> None:
    chat = ChatFormat(before_media="A:", before_answer="B:", end="C")
    assert _written(prompt_tokens(tokenizer(), "q", chat=chat)) == "A:qB:"
    assert _written(answer_tokens(tokenizer(), "yes", chat)) == "yesC"


@pytest.mark.parametrize(
    ("answer", "free"),
    [
        ("5_surprise,2", "52<|im_end|>"),
        ("5_surprise,2;5_surprise,15", "52;15<|im_end|>"),
        ("", "<|im_end|>"),
        ("Joy.", "Joy.<|im_end|>"),
        ("Eyes narrowing; Slightly puzzled", "Eyes narrowing; Slightly puzzled<|im_end|>"),
        ("Café … naïve 😀", "Café … naïve 😀<|im_end|>"),
    ],
)
def test_what_the_cause_grammar_dictates_is_told_from_what_is_answered(
    answer: str, free: str
) -> None:
    tokens = answer_tokens(tokenizer(), answer)
    forced = dictated(tokenizer(), tokens)
    kept = [token for token, skip in zip(tokens, forced, strict=True) if not skip]
    assert str(tokenizer().decode(kept)) == free
