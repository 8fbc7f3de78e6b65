"""InternVL2's tokenizers as fast ones, every token with its published id.

InternLM2 (2B, 8B) and Phi-3 (4B) come as SentencePiece models, InternLM2's with a tokenizer of
its own in remote code; Qwen2 (1B) comes as byte-level BPE. All are written as a `tokenizer.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
)

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_json, write_text
from emoverse.models.emoverse import IMAGE_TOKENS
from emoverse.models.internvl2.sentencepiece import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Model,
    Piece,
    read_model,
)

VIDEO_TOKEN = "<video>"
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True)
class Words:
    """A converted tokenizer.

    Attributes:
        fast: the tokenizer itself.
        named: bos, eos, unk and pad token, those that exist.
        first: the token every sequence starts with, or an empty string.
        longest: `model_max_length` as published.
    """

    fast: Tokenizer
    named: dict[str, str]
    first: str
    longest: int

    def id_of(self, token: str, folder: Path) -> int:
        """A token's id.

        Raises:
            EmoVerseError: the tokenizer does not have it.
        """
        found: int | None = self.fast.token_to_id(token)
        if found is None:
            raise EmoVerseError(
                f"{folder}: the tokenizer has no token {token!r}; download tokenizer_config.json "
                "and added_tokens.json again."
            )
        return found


def read_tokenizer(folder: Path) -> Words:
    """Read a published tokenizer.

    Args:
        folder: holds `tokenizer_config.json` and `tokenizer.model`, `tokenizer.json`, or
            `vocab.json` with `merges.txt`.

    Raises:
        EmoVerseError: a file is missing or damaged, or an added token would not keep its id.
    """
    path = folder / "tokenizer_config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise EmoVerseError(f"{path}: not a tokenizer configuration; download it again.")
    added = _added_tokens(folder, config)
    named = {key: text for key in _NAMED if (text := _content(config.get(key)))}
    kind = str(config.get("tokenizer_class", ""))
    if (folder / "tokenizer.json").is_file():
        fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "tokenizer.model").is_file():
        internlm2 = kind.startswith("InternLM2")
        if internlm2:  # its own code's defaults
            named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | named
            named.setdefault("pad_token", "</s>")
        model = read_model(folder / "tokenizer.model")
        # Llama's `legacy: false` puts a space before a text as a whole, but not where it starts
        # with a special token, as every chat does. Here it is never put, so that a prompt made
        # of parts has the ids it has as one text.
        prefix = model.dummy_prefix and (internlm2 or config.get("legacy") is not False)
        fast = _from_pieces(model, added, named, prefix=prefix, path=folder)
        _frame(
            fast,
            first=named.get("bos_token", "") if config.get("add_bos_token", True) else "",
            last=named.get("eos_token", "") if config.get("add_eos_token", False) else "",
        )
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        fast = _byte_level(folder, added)
    else:
        raise EmoVerseError(
            f"{folder}: no tokenizer.model, tokenizer.json or vocab.json with merges.txt; download "
            "the tokenizer's files beside the weights."
        )
    for number, token in added.items():
        if fast.token_to_id(token.content) != number:
            raise EmoVerseError(
                f"{folder}: added token {token.content!r} should have id {number} but would get "
                f"{fast.token_to_id(token.content)}; download the tokenizer's files again."
            )
    empty = fast.encode("").tokens
    first = empty[0] if empty and empty[0] == named.get("bos_token") else ""
    return Words(fast, named, first, min(int(config.get("model_max_length", 8192)), 1 << 30))


def write_tokenizer(words: Words, folder: Path, template: str) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`.

    Args:
        words: the tokenizer.
        folder: where to.
        template: Jinja chat template.
    """
    start, end, context = IMAGE_TOKENS
    write_text(folder / "tokenizer.json", words.fast.to_str())
    write_text(folder / "chat_template.jinja", template)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "InternVLProcessor",
        **words.named,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": words.longest,
        "padding_side": "left",
        "extra_special_tokens": {
            "start_image_token": start,
            "end_image_token": end,
            "context_image_token": context,
            "video_token": VIDEO_TOKEN,
        },
    }
    write_json(folder / "tokenizer_config.json", config)


def _added_tokens(folder: Path, config: dict[str, Any]) -> dict[int, AddedToken]:
    """Added tokens by id, with the way each takes the spaces around it."""
    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    if decoder := config.get("added_tokens_decoder"):
        return {
            int(number): AddedToken(token["content"], **{f: bool(token.get(f)) for f in flags})
            for number, token in sorted(decoder.items(), key=lambda item: int(item[0]))
        }
    path = folder / "added_tokens.json"
    names = read_json(path) if path.is_file() else {}
    return {
        number: AddedToken(name, normalized=False, special=True)
        for name, number in sorted(names.items(), key=lambda item: item[1])
    }


def _content(token: Any) -> str:
    return str(token.get("content") or "") if isinstance(token, dict) else str(token or "")


def _from_pieces(
    model: Model,
    added: dict[int, AddedToken],
    named: dict[str, str],
    *,
    prefix: bool,
    path: Path,
) -> Tokenizer:
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(model.pieces):
        text = added[number].content if number in added else piece.text
        if text in vocabulary:
            raise EmoVerseError(
                f"{path}: token {text!r} has the ids {vocabulary[text]} and {number}; download "
                "the tokenizer's files again."
            )
        vocabulary[text] = number
    bpe = models.BPE(
        vocab=vocabulary,
        merges=_merges(model.pieces, added),
        unk_token=next((p.text for p in model.pieces if p.kind == UNKNOWN), None),
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )
    fast = Tokenizer(bpe)
    fast.normalizer = _normalizer(model, prefix)
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    fast.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * prefix)
    for number, piece in enumerate(model.pieces):
        if number not in added and (
            piece.kind in (UNKNOWN, CONTROL)
            or piece.text in named.values()
            or (piece.kind == USER_DEFINED and "▁" not in piece.text)
        ):
            special = piece.kind != USER_DEFINED
            fast.add_tokens([AddedToken(piece.text, normalized=False, special=special)])
    _add(fast, added, path)
    return fast


def _merges(pieces: tuple[Piece, ...], added: dict[int, AddedToken]) -> list[tuple[str, str]]:
    """BPE merges in SentencePiece's order: the best-scored result first."""
    mergeable = {
        piece.text: number
        for number, piece in enumerate(pieces)
        if number not in added
        and (piece.kind == NORMAL or (piece.kind == USER_DEFINED and "▁" in piece.text))
    }
    ranked: list[tuple[float, int, str, str]] = []
    for text, number in mergeable.items():
        piece = pieces[number]
        score = float("inf") if piece.kind == USER_DEFINED else piece.score
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in mergeable and right in mergeable:
                ranked.append((-score, cut, left, right))
    ranked.sort(key=lambda each: each[:2])
    return [(left, right) for _, _, left, right in ranked]


def _normalizer(model: Model, prefix: bool) -> normalizers.Normalizer:
    steps: list[Any] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.trims:
        for pattern, content in ((r"^ +", ""), (r" +$", ""), (r" {2,}", " ")):
            steps.append(normalizers.Replace(Regex(pattern), content))
    if prefix:
        steps.append(normalizers.Prepend("▁"))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])


def _frame(fast: Tokenizer, first: str, last: str) -> None:
    """Have every sequence start with `first` and end with `last`, where they are not empty."""
    if not first and not last:
        return
    parts = [first, "$A", last]
    fast.post_processor = processors.TemplateProcessing(
        single=" ".join(part for part in parts if part),
        special_tokens=[(part, fast.token_to_id(part)) for part in (first, last) if part],
    )


def _byte_level(folder: Path, added: dict[int, AddedToken]) -> Tokenizer:
    """Qwen2's tokenizer, whose rules transformers knows."""
    from transformers import Qwen2Tokenizer

    fast = Tokenizer.from_str(Qwen2Tokenizer.from_pretrained(folder).backend_tokenizer.to_str())
    _add(fast, added, folder)
    return fast


def _add(fast: Tokenizer, added: dict[int, AddedToken], path: Path) -> None:
    for number, token in added.items():
        if number > fast.get_vocab_size() and fast.token_to_id(token.content) is None:
            raise EmoVerseError(
                f"{path}: no token has id {fast.get_vocab_size()}, so {token.content!r} would not "
                f"keep its id {number}; download the tokenizer's files again."
            )
        fast.add_tokens([token])
