"""The fast tokenizers say what the published ones say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.models.internvl2.chat import TEMPLATES, chat_format
from emoverse.models.internvl2.sentencepiece import read_model
from emoverse.models.internvl2.tokenizer import Words, read_tokenizer
from emoverse.models.prompt import prompt_tokens
from emoverse.tasks import SYSTEM_PROMPT

from . import published
from .conftest import Converted

sentencepiece = pytest.importorskip("sentencepiece", reason="is what the tokenizers are held to")

PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0▁"), max_size=40)
ENGLISH = st.lists(st.sampled_from(" ".join(published.TEXTS).split(" ")), max_size=12).map(" ".join)


@pytest.fixture(scope="module", params=[(True, False), (False, False), (True, True), (False, True)])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Words, object]:
    """A model with and without a leading space, and with and without trimming."""
    prefix, trims = request.param
    folder = tmp_path_factory.mktemp("words")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(published.TEXTS * 4),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=trims,
        normalization_rule_name="identity",
        user_defined_symbols=[] if prefix or trims else ["[MARK]"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "InternLM2Tokenizer", "add_bos_token": False})
    )
    original = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    return read_tokenizer(folder), original


@settings(max_examples=60, deadline=None)
@given(text=PLAIN | ENGLISH)
def test_any_text_has_the_ids_sentencepiece_gives_it(
    trained: tuple[Words, object], text: str
) -> None:
    words, original = trained
    assert words.fast.encode(text).ids == original.encode(text)  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", [*published.TEXTS, "   ", "", "x  y "])
def test_the_texts_it_was_trained_on(trained: tuple[Words, object], text: str) -> None:
    words, original = trained
    assert words.fast.encode(text).ids == original.encode(text)  # type: ignore[attr-defined]
    assert words.fast.decode(words.fast.encode(text).ids) == original.decode(  # type: ignore[attr-defined]
        original.encode(text)  # type: ignore[attr-defined]
    )


def test_a_piece_the_trainer_was_given_is_never_cut(trained: tuple[Words, object]) -> None:
    words, original = trained
    if words.fast.token_to_id("[MARK]") is None:
        pytest.skip("this model has none")
    text = "a [MARK] b[MARK]surprise"
    assert words.fast.encode(text).ids == original.encode(text)  # type: ignore[attr-defined]


@settings(max_examples=40, deadline=None)
@given(text=PLAIN | ENGLISH)
def test_after_a_chat_mark_phi3_puts_no_space(phi3: tuple[Words, object], text: str) -> None:
    """As Llama's slow tokenizer with `legacy: false`; its marks swallow the space after them."""
    # Python strips these four as well; to the marks they are no white space.
    assume(not re.match(r"\s*[\x1c-\x1f]", text))
    words, original = phi3
    (mark,) = words.fast.encode("<|user|>").ids
    found = words.fast.encode(f"<|user|>\n{text}").ids
    assert found == [mark, *original.encode(text.lstrip())]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def phi3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Words, object]:
    folder = tmp_path_factory.mktemp("phi3")
    published.phi3_words(folder)
    words, path = read_tokenizer(folder), folder / "tokenizer.model"
    path.write_bytes(path.read_bytes() + b"\x1a\x02\x18\x00")  # add_dummy_prefix = false
    assert not read_model(path).dummy_prefix
    return words, sentencepiece.SentencePieceProcessor(str(path))


def test_every_piece_keeps_its_text_score_and_kind(converted: Converted) -> None:
    if converted.kind == "qwen2":
        pytest.skip("has no SentencePiece model")
    path = converted.source / "tokenizer.model"
    model, original = read_model(path), sentencepiece.SentencePieceProcessor(str(path))
    assert len(model.pieces) == original.get_piece_size()
    for number, piece in enumerate(model.pieces):
        assert piece.text == original.id_to_piece(number)
        assert piece.score == pytest.approx(original.get_score(number))
        assert (piece.kind == 6) == original.is_byte(number)
        assert (piece.kind == 3) == original.is_control(number)


def test_added_tokens_keep_their_published_ids(converted: Converted) -> None:
    config = json.loads((converted.source / "tokenizer_config.json").read_text())
    for number, token in config["added_tokens_decoder"].items():
        assert converted.tokenizer.convert_tokens_to_ids(token["content"]) == int(number)
        assert converted.tokenizer.decode([int(number)]) == token["content"]
    assert converted.image_token == converted.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")


def test_the_prompt_is_the_published_one(converted: Converted) -> None:
    """The strings of OpenGVLab's conversation.py, spelt out."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]}]
    found = converted.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    body = f"{SYSTEM_PROMPT}{{end}}{{user}}<IMG_CONTEXT>\nWhy?{{end}}{{assistant}}"
    if converted.kind == "phi3":
        wanted = "<|system|>\n" + body.format(
            end="<|end|>", user="<|user|>\n", assistant="<|assistant|>\n"
        )
    else:
        wanted = "<|im_start|>system\n" + body.format(
            end="<|im_end|>", user="<|im_start|>user\n", assistant="<|im_start|>assistant\n"
        )
    if converted.kind == "internlm2":
        wanted = "<s>" + wanted
    assert found == wanted


def test_several_turns_and_a_system_prompt_of_ones_own(converted: Converted) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    found = converted.tokenizer.apply_chat_template(messages, tokenize=False)
    assert SYSTEM_PROMPT not in found
    assert found.index("Be short.") < found.index("Hi") < found.index("Hello") < found.index("Bye")
    assert found.count("<|end|>" if converted.kind == "phi3" else "<|im_end|>") == 4


def test_emoverse_writes_the_prompt_that_the_chat_template_writes(converted: Converted) -> None:
    name = converted.checkpoint["config"]["template"]
    first = "<s>" if converted.kind == "internlm2" else ""
    mine = prompt_tokens(converted.tokenizer, "Why?", chat=chat_format(name, first))
    theirs = converted.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}], add_generation_prompt=True, return_dict=False
    )
    assert mine == list(theirs)


def test_special_marks_are_single_tokens_and_generation_stops_at_them(converted: Converted) -> None:
    tokenizer = converted.tokenizer
    end = chat_format(converted.checkpoint["config"]["template"]).end
    for mark in ("<img>", "</img>", "<IMG_CONTEXT>", end):
        assert len(tokenizer(mark, add_special_tokens=False)["input_ids"]) == 1
    assert tokenizer.convert_tokens_to_ids(end) in converted.model.generation_config.eos_token_id


def test_there_are_the_three_published_formats() -> None:
    assert set(TEMPLATES) == {"phi3-chat", "internlm2-chat", "Hermes-2"}
    with pytest.raises(EmoVerseError, match=r"vicuna.*unknown"):
        chat_format("vicuna")


@pytest.mark.parametrize("data", [b"", b"\x08", b"hello, this is no model", b"\x0a\xff\xff"])
def test_a_damaged_model_file_is_told_in_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(EmoVerseError, match="not a SentencePiece model"):
        read_model(path)


def test_an_added_token_that_cannot_keep_its_id_is_refused(tmp_path: Path) -> None:
    published.internlm2_words(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    last = max(map(int, config["added_tokens_decoder"]))
    config["added_tokens_decoder"][str(last + 5)] = config["added_tokens_decoder"].pop(str(last))
    path.write_text(json.dumps(config))
    with pytest.raises(EmoVerseError, match=r"</box>.*id"):
        read_tokenizer(tmp_path)
