"""A record through a model's own processor: chat text, token ids, positions, visual features."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers.video_utils import VideoMetadata

from emoverse.errors import EmoVerseError
from emoverse.models.any_mllm import Mllm, projector_of
from emoverse.models.prompt import dictated
from emoverse.tasks import SYSTEM_PROMPT

_TEXT_INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
_TILING = ("crop_to_patches", "do_image_splitting")  # how processors call cutting into tiles
_CLOCK = 1000  # ticks a second in which a clip's frame times are told to a processor


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames of a clip, for processors that take videos.

    Attributes:
        frames: in order, all of one size.
        times: seconds from the clip's start, one a frame.
        duration: seconds, of the whole clip.
    """

    frames: tuple[Image.Image, ...]
    times: tuple[float, ...]
    duration: float


Sight = Image.Image | Clip
"""What a record shows: a picture, or a clip that the processor takes as a video."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What the processor makes of a record's pictures and clips.

    Attributes:
        texts: per picture, then per clip, what the processor writes in place of its placeholder.
        inputs: the arguments of the model's `get_image_features` and `get_video_features`.
        clips: how many of `texts` are those of clips.
    """

    texts: tuple[str, ...]
    inputs: dict[str, torch.Tensor]
    clips: int = 0


def chat(
    model: Mllm, query: str, pictures: int, answer: str | None = None, *, clips: int = 0
) -> str:
    """The chat as the model's template writes it, placeholders not yet filled.

    Args:
        model: whose template is used.
        query: the user's turn.
        pictures: how many pictures stand in front of it; several are the frames of one clip.
        answer: the assistant's turn; without it the text ends where the answer begins.
        clips: how many videos stand after the pictures.

    Raises:
        EmoVerseError: the template cannot write such a chat.
    """
    shown: list[dict[str, str]] = []
    for number in range(1, pictures + 1):
        if pictures > 1:
            shown.append({"type": "text", "text": f"Frame{number}: "})
        shown.append({"type": "image"})
    shown += [{"type": "video"}] * clips
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
    wanted = {model.processor.image_token: pictures, _video_token(model): clips}
    for mark, count in wanted.items():
        if mark and text.count(mark) != count:
            raise EmoVerseError(
                f"{model.name}: the query {query[:60]!r} holds the model's picture mark {mark!r}, "
                "or its template leaves pictures or clips out; mend the query, or set "
                "videos: frames."
            )
    return text.rstrip() if answer is not None else text


def check_clips(model: Mllm) -> None:
    """Make sure that the processor takes videos.

    Raises:
        EmoVerseError: it does not.
    """
    if getattr(model.processor, "video_processor", None) is None or not _video_token(model):
        raise EmoVerseError(
            f"{model.name}: its processor takes no videos here (most need torchvision: pip install "
            "'emoverse[video]'); install it, or set videos: frames to show clips as pictures."
        )


def mark_ids(model: Mllm) -> frozenset[int]:
    """Ids of the tokens in whose place the features of pictures and clips stand."""
    found = {model.processor.image_token_id}
    if mark := _video_token(model):
        found.add(model.tokenizer.convert_tokens_to_ids(mark))
    return frozenset(found - {None, model.tokenizer.unk_token_id})


def show(model: Mllm, sights: Sequence[Sight]) -> Shown:
    """Let the processor prepare what a record shows together, as it would in a chat."""
    clips = sum(isinstance(sight, Clip) for sight in sights)
    marks = [model.processor.image_token] * (len(sights) - clips) + [_video_token(model)] * clips
    made = model.processor(
        **media(model, [sights]),
        text=["".join(marks)],
        return_tensors="pt",
        return_text_replacement_offsets=True,
    )
    texts = tuple(part["replacement"] for part in made["text_replacement_offsets"][0])
    left_out = (*_TEXT_INPUTS, "text_replacement_offsets")
    inputs = {key: value for key, value in made.items() if key not in left_out}
    return Shown(texts, inputs, clips)


def media(model: Mllm, shown: Sequence[Sequence[Sight]]) -> dict[str, Any]:
    """The processor's arguments for what each of several records shows.

    Several pictures are the frames of a clip, and are not cut into tiles.

    Args:
        model: whose processor it is.
        shown: per record; all with several pictures, or none.
    """
    pictures = [[sight for sight in sights if not isinstance(sight, Clip)] for sights in shown]
    clips = [sight for sights in shown for sight in sights if isinstance(sight, Clip)]
    given: dict[str, Any] = {"images": pictures if any(pictures) else None}
    if max(map(len, pictures)) > 1:
        tiles = [name for name in _TILING if hasattr(model.processor.image_processor, name)]
        given["images_kwargs"] = dict.fromkeys(tiles, False)
    if clips:
        given["videos"] = [np.stack([np.asarray(f) for f in clip.frames]) for clip in clips]
        given["videos_kwargs"] = {
            "video_metadata": [_metadata(clip) for clip in clips],
            "do_sample_frames": False,
        }
    return given


def feature_count(model: Mllm, shown: Shown) -> int:
    """How many placeholder tokens, and so rows of features, pictures and clips take."""
    marks = {model.processor.image_token, _video_token(model)} - {""}
    return sum(text.count(mark) for text in shown.texts for mark in marks)


def look(model: Mllm, shown: Shown) -> torch.Tensor:
    """Run the visual encoder over what a record shows.

    Returns:
        (m, columns) rows, one per placeholder token; before the projector, (tiles, tokens, width).

    Raises:
        EmoVerseError: with `before_projector`, when more than the projector stands between its
            input and the features, so that what was kept could not be projected later; or when
            the processor made of pictures and clips together something it has no places for.
    """
    entered: list[torch.Tensor] = []
    if model.before_projector:
        hook = projector_of(model).register_forward_pre_hook(
            lambda _, given: entered.append(given[0])
        )
    try:
        outputs = _features(model, shown)
    finally:
        if model.before_projector:
            hook.remove()
    rows = torch.cat([_rows(output.pooler_output) for output in outputs])
    if len(rows) != feature_count(model, shown):
        raise EmoVerseError(
            f"{model.name}: its processor cannot take a record's pictures and clips together; set "
            "videos: frames."
        )
    deep = [getattr(output, "deepstack_features", None) or () for output in outputs]
    layers = [torch.cat([_rows(part) for part in parts]) for parts in zip(*deep, strict=True)]
    if not model.before_projector:
        return torch.cat([rows, *(layer.to(rows) for layer in layers)], dim=1)
    kept = torch.cat(entered)
    again = model.project(kept) if kept.ndim == 3 and not layers else None
    if again is None or again.shape != rows.shape or not torch.allclose(again, rows, atol=1e-3):
        raise EmoVerseError(
            f"{model.name}: this family does more than project between visual encoder and language "
            "model, so its projector cannot be trained from kept visual tokens; set "
            "visual_cache_gb: 0, or projector_lr: 0 to leave the projector as it is."
        )
    return kept


def chat_ids(
    model: Mllm, query: str, shown: Shown | None = None, answer: str | None = None
) -> list[int]:
    """A chat as the model's processor would tokenise it, placeholders as the model's own id.

    Args:
        model: whose template is used.
        query: the user's turn.
        shown: what stands in front of it.
        answer: the assistant's turn; without it the ids end where the answer begins.

    Raises:
        EmoVerseError: see `chat`.
    """
    texts, clips = (shown.texts, shown.clips) if shown else ((), 0)
    text = chat(model, query, len(texts) - clips, answer, clips=clips)
    return _ids(model, _filled(model, text, texts))


def positions(model: Mllm, ids: Sequence[int], shown: Shown | None) -> np.ndarray | None:
    """(axes, len) positions of a chat's tokens, for models that have their own."""
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


def pointing(model: Mllm, ids: Sequence[int], rows: Sequence[int]) -> list[int]:
    """A chat's tokens with the (negative) ids of visual features in their placeholders' place."""
    marks, following = mark_ids(model), iter(rows)
    return [next(following) if token in marks else token for token in ids]


def encode(
    model: Mllm, query: str, answer: str, shown: Shown | None = None
) -> tuple[list[int], list[int], np.ndarray | None]:
    """Tokenise a record as the model's processor would.

    Returns:
        Token ids (placeholders as the model's own id), the indices of the answer tokens that
        carry loss, and (axes, len) positions for models that have their own.
    """
    prompt = chat_ids(model, query, shown)
    ids = chat_ids(model, query, shown, answer)
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
    return ids, learnt, positions(model, ids, shown)


def own_losses(
    model: Mllm,
    items: Sequence[tuple[str, str, Sequence[Sight]]],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Losses by the processor's and the model's own path: the measure of everything here.

    Args:
        model: the model.
        items: (query, answer, what is shown) of records that all show none, one or several
            pictures, and clips with the same numbers of frames.

    Returns:
        Per item, for every token after the first: its cross-entropy, (len - 1,) float32, and
        whether it was the likeliest, (len - 1,) bool.
    """
    texts = []
    for query, answer, shown in items:
        clips = sum(isinstance(sight, Clip) for sight in shown)
        texts.append(chat(model, query, len(shown) - clips, answer, clips=clips))
    batch = model.processor(
        text=texts,
        **media(model, [shown for _, _, shown in items]),
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


def _metadata(clip: Clip) -> VideoMetadata:
    """The frames' times, as frame numbers of a clock that ticks faster than any video."""
    width, height = clip.frames[0].size
    return VideoMetadata(
        total_num_frames=max(round(clip.duration * _CLOCK), len(clip.frames)),
        fps=float(_CLOCK),
        width=width,
        height=height,
        duration=clip.duration,
        frames_indices=[round(time * _CLOCK) for time in clip.times],
    )


def _features(model: Mllm, shown: Shown) -> list[Any]:
    """The encoder's outputs for pictures, then for clips that have a function of their own."""
    device = model.network.get_input_embeddings().weight.device
    inputs = {key: value.to(device) for key, value in shown.inputs.items()}
    outputs = []
    for_clips = getattr(model.network.model, "get_video_features", None)
    of_clips: dict[str, torch.Tensor] = {}
    if for_clips is not None and "pixel_values_videos" in inputs:
        known = inspect.signature(for_clips).parameters
        of_clips = {key: value for key, value in inputs.items() if key in known}
        inputs = {k: v for k, v in inputs.items() if "video" not in k and k != "second_per_grid_ts"}
    if "pixel_values" in inputs:
        outputs.append(model.network.model.get_image_features(**inputs, return_dict=True))
    if for_clips is not None and of_clips:
        outputs.append(for_clips(**of_clips, return_dict=True))
    return outputs


def _rows(features: Any) -> torch.Tensor:
    parts = [features] if isinstance(features, torch.Tensor) else list(features)
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _video_token(model: Mllm) -> str:
    """The mark that a video stands at in a chat; "" for processors without one."""
    return str(getattr(model.processor, "video_token", None) or "")


def _filled(model: Mllm, text: str, texts: Sequence[str]) -> str:
    marks = [mark for mark in (model.processor.image_token, _video_token(model)) if mark]
    pieces = re.split("|".join(map(re.escape, marks)), text)
    return pieces[0] + "".join(a + b for a, b in zip(texts, pieces[1:], strict=True))


def _adds_special(model: Mllm, text: str) -> bool:
    bos = model.tokenizer.bos_token
    return not (bos and text.startswith(bos))


def _ids(model: Mllm, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=_adds_special(model, text))[
        "input_ids"
    ]
    return ids
