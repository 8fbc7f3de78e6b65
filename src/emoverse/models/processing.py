"""A record through a model's own processor: chat text, token ids, positions, visual features."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from emoverse.errors import EmoVerseError
from emoverse.models.any_mllm import Mllm, projector_of
from emoverse.models.prompt import dictated
from emoverse.tasks import SYSTEM_PROMPT

_TEXT_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What the processor makes of a record's pictures.

    Attributes:
        texts: per picture, what the processor writes in place of its placeholder.
        inputs: the arguments of the model's `get_image_features`.
    """

    texts: tuple[str, ...]
    inputs: dict[str, torch.Tensor]


def chat(model: Mllm, query: str, pictures: int, answer: str | None = None) -> str:
    """The chat as the model's template writes it, placeholders not yet filled.

    Args:
        model: whose template is used.
        query: the user's turn.
        pictures: how many pictures stand in front of it; several are the frames of one clip.
        answer: the assistant's turn; without it the text ends where the answer begins.

    Raises:
        EmoVerseError: the template cannot write such a chat.
    """
    shown: list[dict[str, str]] = []
    for number in range(1, pictures + 1):
        if pictures > 1:
            shown.append({"type": "text", "text": f"Frame{number}: "})
        shown.append({"type": "image"})
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]},
        {"role": "user", "content": [*shown, {"type": "text", "text": query}]},
    ]
    if answer is not None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    try:
        text: str = model.processor.apply_chat_template(turns, add_generation_prompt=answer is None)
    except Exception as error:  # templates raise whatever their authors chose
        raise EmoVerseError(
            f"{model.name}: its chat template cannot write a system, a user and an assistant turn "
            f"({' '.join(str(error).split())[:200]}); use another model."
        ) from None
    if text.count(model.processor.image_token) != pictures:
        raise EmoVerseError(
            f"{model.name}: the query {query[:60]!r} holds the model's picture mark "
            f"{model.processor.image_token!r}, or its template leaves pictures out; mend the query."
        )
    return text.rstrip() if answer is not None else text


def show(model: Mllm, pictures: Sequence[Image.Image]) -> Shown:
    """Let the processor prepare the pictures of one record together, as it would in a chat."""
    made = model.processor(
        images=[list(pictures)],
        text=["".join([model.processor.image_token] * len(pictures))],
        return_tensors="pt",
        return_text_replacement_offsets=True,
    )
    texts = tuple(part["replacement"] for part in made["text_replacement_offsets"][0])
    left_out = (*_TEXT_INPUTS, "text_replacement_offsets")
    inputs = {key: value for key, value in made.items() if key not in left_out}
    return Shown(texts, inputs)


def look(model: Mllm, shown: Shown) -> torch.Tensor:
    """Run the visual encoder over a record's pictures.

    Returns:
        (m, columns) rows, one per placeholder token; before the projector, (tiles, tokens, width).

    Raises:
        EmoVerseError: with `before_projector`, when more than the projector stands between its
            input and the features, so that what was kept could not be projected later.
    """
    device = model.network.get_input_embeddings().weight.device
    inputs = {key: value.to(device) for key, value in shown.inputs.items()}
    entered: list[torch.Tensor] = []
    if model.before_projector:
        hook = projector_of(model).register_forward_pre_hook(
            lambda _, given: entered.append(given[0])
        )
    try:
        output = model.network.model.get_image_features(**inputs, return_dict=True)
    finally:
        if model.before_projector:
            hook.remove()
    rows = _rows(output.pooler_output)
    deep = getattr(output, "deepstack_features", None) or ()
    if not model.before_projector:
        return torch.cat([rows, *(_rows(part).to(rows) for part in deep)], dim=1)
    kept = torch.cat(entered)
    again = model.project(kept) if kept.ndim == 3 and not deep else None
    if again is None or again.shape != rows.shape or not torch.allclose(again, rows, atol=1e-3):
        raise EmoVerseError(
            f"{model.name}: this family does more than project between visual encoder and language "
            "model, so its projector cannot be trained from kept visual tokens; set "
            "visual_cache_gb: 0, or projector_lr: 0 to leave the projector as it is."
        )
    return kept


def encode(
    model: Mllm, query: str, answer: str, shown: Shown | None = None
) -> tuple[list[int], list[int], np.ndarray | None]:
    """Tokenise a record as the model's processor would.

    Returns:
        Token ids (placeholders as the model's own id), the indices of the answer tokens that
        carry loss, and (axes, len) positions for models that have their own.
    """
    texts = shown.texts if shown else ()
    prompt = _ids(model, _filled(model, chat(model, query, len(texts)), texts))
    ids = _ids(model, _filled(model, chat(model, query, len(texts), answer), texts))
    start = next(
        (n for n, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt)
    )
    if start < len(prompt) - 1 or start >= len(ids):
        raise EmoVerseError(
            f"{model.name}: its chat template asks for an answer in other words than it writes one "
            "in, so prompts cannot be shared; use a model with a plain chat template."
        )
    forced = dictated(model.tokenizer, ids[start:])
    learnt = [start + place for place, skip in enumerate(forced) if not skip]
    return ids, learnt, _positions(model, ids, shown)


def own_losses(
    model: Mllm,
    items: Sequence[tuple[str, str, Sequence[Image.Image]]],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Losses by the processor's and the model's own path: the measure of everything here.

    Args:
        model: the model.
        items: (query, answer, pictures) of records that all have pictures, or all none.

    Returns:
        Per item, for every token after the first: its cross-entropy, (len - 1,) float32, and
        whether it was the likeliest, (len - 1,) bool.
    """
    texts = [chat(model, query, len(shown), answer) for query, answer, shown in items]
    batch = model.processor(
        text=texts,
        images=[list(shown) for _, _, shown in items] if items[0][2] else None,
        return_tensors="pt",
        padding=True,
        padding_side="right",
        add_special_tokens=_adds_special(model, texts[0]),
    ).to(model.network.get_input_embeddings().weight.device)
    logits = model.network(**batch, use_cache=False).logits.float()
    losses = []
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        targets = batch["input_ids"][row, 1:length]
        said = logits[row, : length - 1]
        own = nn.functional.cross_entropy(said, targets, reduction="none")
        losses.append((own, said.argmax(dim=-1) == targets))
    return losses


def _rows(features: Any) -> torch.Tensor:
    parts = [features] if isinstance(features, torch.Tensor) else list(features)
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _filled(model: Mllm, text: str, texts: Sequence[str]) -> str:
    pieces = text.split(model.processor.image_token)
    return pieces[0] + "".join(a + b for a, b in zip(texts, pieces[1:], strict=True))


def _adds_special(model: Mllm, text: str) -> bool:
    bos = model.tokenizer.bos_token
    return not (bos and text.startswith(bos))


def _ids(model: Mllm, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=_adds_special(model, text))[
        "input_ids"
    ]
    return ids


def _positions(model: Mllm, ids: list[int], shown: Shown | None) -> np.ndarray | None:
    rope = getattr(model.network.model, "get_rope_index", None)
    if rope is None or shown is None:
        return None
    known = inspect.signature(rope).parameters
    given = {key: value for key, value in shown.inputs.items() if key in known}
    if "mm_token_type_ids" in known:
        kinds = model.processor.create_mm_token_type_ids([ids])
        given["mm_token_type_ids"] = torch.tensor(kinds, dtype=torch.int)
    found: torch.Tensor = rope(input_ids=torch.tensor([ids]), **given)[0]
    return found[:, 0].numpy()
