"""Memory and time that a recipe needs, worked out on shapes alone: `emoverse train --estimate`.

The model is built without weights (PyTorch's meta device) and its language model is run forward
for one and for two layers, while everything that the backward pass would keep is counted. So the
figures follow the installed versions of transformers and peft, not a formula.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface

from emoverse.errors import EmoVerseError
from emoverse.files import read_json
from emoverse.m2se.recipe import Recipe
from emoverse.models import quantized
from emoverse.models.any_mllm import Mllm, prepare, projector_of
from emoverse.models.internvl2.configuration import model_config
from emoverse.models.internvl2.convert import meta_model
from emoverse.models.internvl2.published import published_size
from emoverse.training.optimiser import add_lora, unfreeze_parts
from emoverse.training.projection import ENTRIES, EPOCHS, clip_operations, row_operations

GPUS = (24, 40, 80, 141)
"""Memory of common cards in GB: RTX 3090/4090, A100, A100/H100, H200."""

_USABLE = 0.92  # the rest is the driver's context and what the allocator cannot use
_ANSWER_SHARE = 0.25  # of a batch's tokens, generously; logits exist for these alone
_PROBE = 64  # tokens run on the meta device; everything counted grows in proportion to them
_BYTES = 2  # bfloat16
_ATTENTION = "memory_of_fused_attention"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory of a recipe, in bytes, and its work.

    Attributes:
        model: what was looked at.
        parameters: numbers in the model.
        trained: numbers that are trained.
        weights: the frozen weights.
        optimiser: trained weights, their float32 copies, gradients and AdamW's moments.
        activations: what the backward pass keeps, per token of a batch.
        mask: the attention mask, per token of a batch.
        working: logits, their gradients and the largest intermediate results, per token.
        seeing: the frozen visual encoder while it looks at one clip.
        cache: keys and values of one prompt token when the model answers.
        prompt: tokens of the longest prompt: a clip's visual tokens and a query.
        batch_tokens: the recipe's.
        operations: floating-point operations of a training step, per token of a full row.
        clip_operations: of the frozen visual encoder, once for each clip.
    """

    model: str
    parameters: int
    trained: int
    weights: int
    optimiser: int
    activations: int
    mask: int
    working: int
    seeing: int
    cache: int
    prompt: int
    batch_tokens: int
    operations: int
    clip_operations: int

    def schedule(self) -> int:
        """Operations of the paper's schedule, every entry a clip with its queries."""
        once = ENTRIES * self.clip_operations
        return once + ENTRIES * EPOCHS * self.prompt * self.operations

    @property
    def per_token(self) -> int:
        """Bytes that each further token of a batch costs."""
        return self.activations + self.mask + self.working

    def training(self, batch_tokens: int | None = None) -> int:
        """Peak of a training step.

        Args:
            batch_tokens: tokens run side by side; the recipe's when None.
        """
        tokens = self.batch_tokens if batch_tokens is None else batch_tokens
        return self.weights + self.optimiser + max(tokens * self.per_token, self.seeing)

    @property
    def answering(self) -> int:
        """Peak while one prompt is answered."""
        return self.weights + max(self.prompt * self.cache, self.seeing)

    def most_tokens(self, gigabytes: float) -> int:
        """The largest `batch_tokens` that a card has room for, 0 when not even the weights fit."""
        room = gigabytes * 1e9 * _USABLE - self.weights - self.optimiser
        return max(0, int(room // self.per_token)) if room >= self.seeing else 0

    def fits(self, gigabytes: float) -> bool:
        """Whether the recipe, as it stands, trains on a card."""
        return self.training() <= gigabytes * 1e9 * _USABLE


def estimate(recipe: Recipe) -> Estimate:
    """Work out a recipe's memory.

    Args:
        recipe: its model is a converted folder, or one to be: `.../InternVL2-4B`.

    Raises:
        EmoVerseError: the model is `compact`, or its sizes are unknown.
    """
    model = built(recipe)
    network = model.network
    text, vision = network.config.text_config, network.config.vision_config
    smaller = _quantized(model, recipe.quantize)
    frozen = [p for name, p in network.named_parameters() if "lora_" not in name]
    projector = any(stage.projector_lr > 0 for stage in recipe.stages)
    live = [p for p in network.parameters() if p.requires_grad]
    kept = [p for p in frozen if not p.requires_grad]
    weights = math.ceil(sum(_size(p) * smaller.get(id(p), 1.0) for p in kept))
    # Live weights and gradients in their own precision, then copy, gradient and two moments.
    optimiser = sum(2 * _size(p) + 16 * p.numel() for p in live)
    tokens_per_tile = network.config.image_seq_length
    patches = (vision.image_size[0] // vision.patch_size[0]) ** 2 + 1
    widest = 2 * text.intermediate_size
    head = text.hidden_size // text.num_attention_heads
    return Estimate(
        model=recipe.model,
        parameters=sum(p.numel() for p in frozen),
        trained=sum(p.numel() for p in live),
        weights=weights,
        optimiser=optimiser,
        activations=_kept(model, checkpointing=recipe.gradient_checkpointing)
        + _projected(model, projector, vision.hidden_size),
        mask=_BYTES * recipe.row_tokens,
        # Logits in bfloat16 and float32, their softmax and gradient; three of the widest tensors.
        working=int(_ANSWER_SHARE * text.vocab_size * (_BYTES + 4 + 4 + 4)) + 3 * widest * _BYTES,
        seeing=recipe.frames
        * patches
        * _BYTES
        * (6 * vision.hidden_size + 2 * vision.intermediate_size),
        cache=2 * text.num_hidden_layers * text.num_key_value_heads * head * _BYTES,
        prompt=recipe.frames * tokens_per_tile + 300,
        batch_tokens=recipe.batch_tokens,
        operations=row_operations(
            model, recipe.row_tokens, checkpointing=recipe.gradient_checkpointing
        )
        // recipe.row_tokens
        # The output layer, frozen, at answers alone.
        + int(_ANSWER_SHARE * 4 * text.hidden_size * text.vocab_size),
        clip_operations=clip_operations(network, recipe.frames),
    )


def built(recipe: Recipe, device: str = "meta") -> Mllm:
    """A recipe's model in bfloat16 with a new LoRA, what it trains marked so.

    Args:
        recipe: see `estimate`.
        device: `meta` for shapes alone; elsewhere the weights are random.

    Raises:
        EmoVerseError: see `estimate`.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        network = meta_model(_config(recipe.model), device)
        model = prepare(recipe.model, network, _NoProcessor(), recipe.projector)
        with warnings.catch_warnings(), torch.device(device):
            # peft and transformers talk to each other
            warnings.simplefilter("ignore", FutureWarning)
            add_lora(model, recipe.lora)
    finally:
        torch.set_default_dtype(before)
    unfreeze_parts(
        model,
        projector=any(stage.projector_lr > 0 for stage in recipe.stages),
        vit=any(stage.vit_lr > 0 for stage in recipe.stages),
    )
    return model


def _quantized(model: Mllm, kind: str | None) -> dict[int, float]:
    """The share of its bytes that each quantized weight keeps, by its id."""
    if kind is None:
        return {}
    language = getattr(model.network.model, model.language_name)
    linear = [part for part in language.modules() if isinstance(part, torch.nn.Linear)]
    return {id(part.weight): quantized.BITS[kind] / (8 * _BYTES) for part in linear}


class _NoProcessor:
    """Stands where a processor would: shapes need none."""

    image_token_id = 0


def _config(model: str) -> dict[str, Any]:
    if model == "compact":
        raise EmoVerseError(
            "The compact model trains in 3 GB of main memory; --estimate is for recipes whose "
            "model is a converted InternVL2."
        )
    path = Path(model) / "config.json"
    if path.is_file():
        config = read_json(path)
        if config.get("model_type") != "internvl":
            raise EmoVerseError(
                f"{path}: not a converted InternVL2; run `emoverse convert internvl2` first."
            )
        return dict(config)
    published = published_size(model)
    return model_config(published, dtype="bfloat16", image_token=0, tied=False)


def _kept(model: Mllm, *, checkpointing: bool) -> int:
    """Bytes per token that the language model keeps for its backward pass."""
    language = getattr(model.network.model, model.language_name)
    inner = language.get_base_model()
    one, two = (_kept_by(language, inner, layers) for layers in (1, 2))
    layers = len(inner.layers)
    # Checkpointed, a layer keeps what enters it; one at a time is whole again.
    further = inner.config.hidden_size * _BYTES * _PROBE if checkpointing else two - one
    return math.ceil((one + (layers - 1) * further) / _PROBE)


def _kept_by(language: Any, inner: Any, layers: int) -> int:
    """Bytes kept by the first `layers` layers for `_PROBE` tokens."""
    whole = inner.layers
    inner.layers = whole[:layers]
    attention = inner.config._attn_implementation
    inner.config._attn_implementation = _ATTENTION
    try:
        width = inner.config.hidden_size
        states = torch.empty(
            1, _PROBE, width, dtype=torch.bfloat16, device="meta", requires_grad=True
        )
        positions = torch.arange(_PROBE, device="meta")[None]
        weights = {_storage(p) for p in language.parameters()}
        with _counted(weights) as kept:
            language(
                inputs_embeds=states,
                attention_mask=torch.zeros(
                    1, 1, _PROBE, _PROBE, dtype=torch.bfloat16, device="meta"
                ),
                position_ids=positions,
                use_cache=False,
            )
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    finally:
        inner.layers = whole
        inner.config._attn_implementation = attention


def _projected(model: Mllm, trained: bool, width: int) -> int:
    """Bytes per token that a trained projector keeps, as if every token were visual."""
    if not trained:
        return 0
    projector = projector_of(model)
    tokens = torch.empty(_PROBE, 4 * width, dtype=torch.bfloat16, device="meta")
    with _counted({_storage(p) for p in projector.parameters()}) as kept:
        projector(tokens)
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return math.ceil(total / _PROBE)


@contextmanager
def _counted(weights: set[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Collect what autograd keeps inside, each storage once, weights left out."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in weights:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class _Fused(torch.autograd.Function):
    """Keeps what fused attention kernels keep: inputs, output and one number per head and token."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
        mixed = torch.empty_like(query)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mixed, sums)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("only what is kept is counted")


def _fused(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    mixed: torch.Tensor = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(_ATTENTION, _fused)
