"""Any image-text-to-text model of transformers, fed with rows that share prefixes.

A processor turns pictures and a chat into text with placeholder tokens; its model puts the
pictures' features in their place, gives the tokens positions (three a token in Qwen's models) and
runs the language model. Here, and in `emoverse.models.processing`, the same steps are done one by
one, so that pictures are looked at once, prompts that share a prefix are run once, and the losses
are still those of the processor's own path (`tests/models/test_any_mllm.py` holds them to it family
by family).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    Cache,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as chatter

from emoverse.errors import EmoVerseError
from emoverse.models import attention, precision, quantized
from emoverse.models.emoverse import LinearProjector
from emoverse.models.internvl2.processor import open_processor
from emoverse.models.prefix_tree import PrefixTree, padded

_PROJECTORS = ("multi_modal_projector", "connector", "visual.merger")


@dataclass(frozen=True, slots=True, eq=False)
class Mllm:
    """A model with its processor.

    Attributes:
        name: how reports call it.
        network: the model, its language model possibly wrapped by peft.
        processor: the model's own.
        before_projector: visual tokens are kept as they enter the projector, which can then be
            trained; otherwise as they leave it.
    """

    name: str
    network: Any
    processor: Any
    before_projector: bool = False

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The processor's tokenizer."""
        tokenizer: PreTrainedTokenizerBase = self.processor.tokenizer
        return tokenizer

    @property
    def dtype(self) -> torch.dtype:
        """Precision the language model runs in."""
        dtype: torch.dtype = self.network.get_input_embeddings().weight.dtype
        return dtype

    @property
    def language_name(self) -> str:
        """Name of the language model among the network's parts."""
        embeddings = self.network.get_input_embeddings()
        for name, part in self.network.model.named_children():
            if any(module is embeddings for module in part.modules()):
                return str(name)
        raise EmoVerseError(f"{self.name}: its language model was not found; use another model.")

    @property
    def language(self) -> torch.nn.Module:
        """The language model without its output layer."""
        language: torch.nn.Module = getattr(self.network.model, self.language_name)
        return language

    @property
    def head(self) -> torch.nn.Module:
        """The output layer."""
        head: torch.nn.Module = self.network.lm_head
        return head

    @property
    def attention(self) -> str:
        """How the language model attends, by transformers' name."""
        language: Any = self.language
        name: str = language.config._attn_implementation
        return name

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Kept visual tokens to (m, columns) rows that negative ids point into."""
        if not self.before_projector:
            return tokens
        projector = projector_of(self)
        weight = next(projector.parameters())
        rows: torch.Tensor = projector(tokens.to(weight.dtype)).flatten(0, 1)
        return rows

    def new_cache(self) -> DynamicCache:
        """See `Language`."""
        return DynamicCache()

    def hidden_states(
        self,
        trees: Sequence[PrefixTree],
        features: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """See `Language`.

        The columns of features are those that take the place of placeholders, then those that join
        inner layers (DeepStack).
        """
        embedding = self.network.get_input_embeddings()
        device = embedding.weight.device
        tokens, positions = padded(trees)
        ids = torch.from_numpy(tokens).to(device)
        embeddings: torch.Tensor = embedding(ids.clamp(min=0))
        width, seen, deep = embeddings.shape[-1], ids < 0, {}
        if features is not None and bool(seen.any()):
            rows = features[-1 - ids[seen]].to(embeddings.dtype)
            embeddings = embeddings.index_put((seen,), rows[:, :width])
            if rows.shape[1] > width:
                deep = {
                    "visual_pos_masks": seen,
                    "deepstack_visual_embeds": list(
                        rows[:, width:].chunk(rows.shape[1] // width - 1, dim=1)
                    ),
                }
        output = self.language(
            inputs_embeds=embeddings,
            position_ids=torch.from_numpy(positions).to(device),
            past_key_values=cache,
            use_cache=cache is not None,
            **attention.masks(trees, tokens.shape[1], self.attention, embeddings.dtype, device),
            **deep,
        )
        states: torch.Tensor = output.last_hidden_state
        return states


def load(
    source: str,
    *,
    dtype: torch.dtype | None = None,
    projector: str = "own",
    before_projector: bool = False,
    quantize: str | None = None,
    device: torch.device | None = None,
) -> Mllm:
    """Load a model and its processor from a folder or the hub.

    Args:
        source: folder or hub id.
        dtype: precision of the frozen weights; what `device` is fast in by default.
        projector: `own`; `linear`, a new one after the paper's Eq 4; `mlp`, its own, which must
            have more than one linear layer.
        before_projector: see `Mllm`.
        quantize: `nf4` or `int8` for the language model's weights; see `quantized`.
        device: where the model will run and quantized weights go; the CPU when None.

    Raises:
        EmoVerseError: it is no image-text-to-text model with a processor, lacks such a projector,
            or bitsandbytes is wanted and missing.
    """
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    place = device or torch.device("cpu")
    dtype = dtype or precision.fast(place)
    try:
        processor = open_processor(source)
        smaller: dict[str, Any] = {}
        if quantize:
            smaller = quantized.loading(source, quantize, dtype, place)
        network = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, **smaller
        )
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EmoVerseError(
            f"{source}: not an image-text-to-text model that transformers can load ({reason}); "
            "say `compact`, or give such a model's folder or hub id."
        ) from None
    model = prepare(source, network, processor, projector, before_projector)
    if quantize:
        quantized.settle(network, getattr(network.model, model.language_name), quantize)
    return model


def prepare(
    name: str,
    network: PreTrainedModel,
    processor: Any,
    projector: str = "own",
    before_projector: bool = False,
) -> Mllm:
    """Freeze a loaded model and put the wanted projector in; see `load`."""
    network.requires_grad_(False).train(False)
    if getattr(processor, "image_token_id", None) is None:
        raise EmoVerseError(f"{name}: its processor has no picture placeholder; use another model.")
    inner = getattr(network, "model", None)
    if not hasattr(network, "lm_head") or not hasattr(inner, "get_image_features"):
        raise EmoVerseError(
            f"{name}: {type(network).__name__} is not built as a visual encoder before a language "
            "model, the way LLaVA, InternVL, Idefics and Qwen-VL are; use such a model."
        )
    model = Mllm(name, network, processor, before_projector)
    if projector == "own":
        return model
    own = getattr(network.model, "multi_modal_projector", None)
    layers = [part for part in own.modules() if isinstance(part, nn.Linear)] if own else []
    if not layers:
        raise EmoVerseError(f"{name}: it has no projector that could be replaced; projector: own.")
    if projector == "linear":
        weight = layers[0].weight
        fresh = LinearProjector(layers[0].in_features, layers[-1].out_features)
        network.model.multi_modal_projector = fresh.to(weight).requires_grad_(False)
    elif len(layers) < 2:
        raise EmoVerseError(f"{name}: its projector is one linear layer; say projector: linear.")
    return model


def projector_of(model: Mllm) -> nn.Module:
    """The module between visual encoder and language model.

    Raises:
        EmoVerseError: none of the known places holds one.
    """
    for place in _PROJECTORS:
        try:
            found: nn.Module = model.network.model.get_submodule(place)
            return found
        except AttributeError:
            continue
    raise EmoVerseError(f"{model.name}: its projector was not found; set projector_lr: 0.")


def fingerprint(model: Mllm) -> str:
    """Text that changes when the processor would prepare pictures or clips otherwise."""
    processor = model.processor
    parts = [getattr(processor, name, None) for name in ("image_processor", "video_processor")]
    settings = [part.to_dict() for part in parts if part is not None]
    plain = (bool, int, float, str)  # its own, such as how many tokens stand for a picture
    own = {key: value for key, value in vars(processor).items() if isinstance(value, plain)}
    return json.dumps([type(processor).__name__, *settings, own], sort_keys=True, default=str)


def save_standalone(model: Mllm, folder: Path) -> None:
    """Write model and processor, LoRA merged, as `from_pretrained` takes them."""
    name = model.language_name
    language = getattr(model.network.model, name)
    if hasattr(language, "merge_and_unload"):
        setattr(model.network.model, name, language.merge_and_unload())
    model.network.save_pretrained(folder)
    model.processor.save_pretrained(folder)
