"""Writing token by token: a language model's step, with the keys and values it has seen so far.

A step over a handful of tokens is bound by reading the weights once. `FusedLlama` reads them as
8-bit integers with one scale a row, joins the projections that read the same input and leaves
nothing between them that a step does not need. It is for CPUs; whatever the model's precision, its
8-bit steps run in bfloat16. Every other model takes transformers' own step. Both get the same
`Branch`es and give the same interface, so that what is written does not know which it runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import DynamicCache

from emoverse.models.emoverse import EmoVerse
from emoverse.models.language import Language


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A sequence that was run and may be continued.

    Attributes:
        keys: (layers, kv heads, length, d), rotated to their positions.
        values: the same shape.
        hidden: (width,) hidden state of the last token, after the last norm.
        following: the position of the next token.
    """

    keys: torch.Tensor
    values: torch.Tensor
    hidden: torch.Tensor
    following: int


class Steps(Protocol):
    """Sequences that go on side by side."""

    def step(
        self, tokens: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        """Run further tokens.

        Args:
            tokens: (rows, new) ids of words.
            positions: (rows, new) their places in their sequences.
            seen: (rows, new, old + new) bool, what each may attend to.

        Returns:
            (rows, new, width) hidden states after the last norm.
        """

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        """Scores of the next token.

        Args:
            hidden: (rows, width).
            allowed: ids of the tokens that are asked for; all by default.

        Returns:
            (rows, vocabulary or allowed) float32.
        """


def begin(
    model: Language, branches: Sequence[Branch], fused: FusedLlama | None = None
) -> tuple[Steps, torch.Tensor]:
    """Put branches side by side, shorter ones behind padding.

    Args:
        model: what ran them.
        branches: at least one.
        fused: `FusedLlama.of(model)`, which is worth keeping between calls.

    Returns:
        What takes the next step, and (rows, longest) bool: False where there is padding.
    """
    longest = max(branch.keys.shape[2] for branch in branches)
    seen = torch.zeros(len(branches), longest, dtype=torch.bool, device=branches[0].keys.device)
    keys, values = [], []
    for row, branch in enumerate(branches):
        missing = longest - branch.keys.shape[2]
        keys.append(functional.pad(branch.keys, (0, 0, missing, 0)))
        values.append(functional.pad(branch.values, (0, 0, missing, 0)))
        seen[row, missing:] = True
    past = torch.stack(keys, dim=1), torch.stack(values, dim=1)  # (layers, rows, heads, ...)
    return (_FusedSteps(fused, *past) if fused else _PlainSteps(model, *past)), seen


class FusedLlama:
    """The weights of a Llama language model, laid out for steps of few tokens."""

    def __init__(self, model: EmoVerse, eight_bits: bool) -> None:
        """Lay out the weights; use `of`, which knows what fits.

        Args:
            model: of Llama's architecture.
            eight_bits: whether to round weights to 8 bits, one scale a row.
        """
        language = model.network.model.language_model
        config = language.config
        self.dtype = torch.bfloat16 if eight_bits else model.dtype
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width = config.head_dim or config.hidden_size // config.num_attention_heads
        self.epsilon = config.rms_norm_eps
        self.embedding = language.get_input_embeddings()
        self.rotary = language.rotary_emb
        self.norm = language.norm.weight.to(self.dtype)
        self.words = model.network.lm_head.weight
        # A norm's weights are folded into the projections that read it.
        self.layers = [
            (
                _Matrix.of(
                    [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj],
                    layer.input_layernorm.weight,
                    eight_bits,
                ),
                _Matrix.of([layer.self_attn.o_proj], None, eight_bits),
                _Matrix.of(
                    [layer.mlp.gate_proj, layer.mlp.up_proj],
                    layer.post_attention_layernorm.weight,
                    eight_bits,
                ),
                _Matrix.of([layer.mlp.down_proj], None, eight_bits),
            )
            for layer in language.layers
        ]
        self.head = _Matrix.of([model.network.lm_head], None, eight_bits)

    @staticmethod
    def of(model: EmoVerse, eight_bits: bool = True) -> FusedLlama | None:
        """The fused weights of `model`; None when it is no plain Llama on a CPU.

        Args:
            model: any.
            eight_bits: False keeps the weights as exact as the model's.
        """
        language = model.network.model.language_model
        config = language.config
        plain = (
            config.model_type == "llama"
            and config.hidden_act == "silu"
            and not config.attention_bias
            and not config.mlp_bias
            and type(language.layers[0].self_attn.q_proj) is torch.nn.Linear  # no LoRA on it
        )
        if not plain or model.network.lm_head.weight.device.type != "cpu":
            return None
        return FusedLlama(model, eight_bits)


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    """Linear layers without bias as one: (out, in) weights, and (out,) scales where 8-bit."""

    weight: torch.Tensor
    scales: torch.Tensor | None

    @staticmethod
    def of(
        layers: Sequence[torch.nn.Linear], norm: torch.Tensor | None, eight_bits: bool
    ) -> _Matrix:
        dtype = layers[0].weight.dtype
        weight = torch.cat([layer.weight.detach() for layer in layers]).float()
        if norm is not None:
            weight *= norm.detach().float()
        if not eight_bits:
            return _Matrix(weight.to(dtype), None)
        scales = weight.abs().amax(dim=1).clamp(min=1e-8).div_(127)
        rounded = weight.div_(scales[:, None]).round_().to(torch.int8)
        return _Matrix(rounded, scales.to(torch.bfloat16))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        if self.scales is None:
            return functional.linear(rows, self.weight)
        rows = rows.to(self.scales.dtype)
        product: torch.Tensor = torch._weight_int8pack_mm(rows, self.weight, self.scales)
        return product


class _FusedSteps:
    def __init__(self, fused: FusedLlama, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._fused = fused
        self._length = keys.shape[3]
        self._keys, self._values = keys.to(fused.dtype), values.to(fused.dtype)
        self._make_room(128)

    def step(
        self, tokens: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        fused = self._fused
        rows, new = tokens.shape
        if self._length + new > self._keys.shape[3]:
            self._make_room(max(new, 128))
        start, end = self._length, self._length + new
        self._length = end
        heads, groups, width = fused.heads, fused.groups, fused.width
        x = fused.embedding(tokens).to(fused.dtype).view(rows * new, -1)
        # One pair of angles a token serves all layers.
        cos, sin = fused.rotary(x, positions)
        cos, sin = cos.view(rows, new, 1, width), sin.view(rows, new, 1, width)
        mask = torch.zeros(seen.shape, dtype=fused.dtype)
        mask.masked_fill_(~seen, torch.finfo(fused.dtype).min)
        # The heads of a group are rows of one query, so that no key is repeated for them.
        each = heads // groups
        mask = mask[:, None, None].expand(rows, 1, each, new, end).reshape(rows, 1, -1, end)
        for layer, (attend, merge, widen, narrow) in enumerate(fused.layers):
            joined = attend(_norm(x, fused.epsilon)).view(rows, new, heads + 2 * groups, width)
            turned = _rotate(joined[:, :, : heads + groups], cos, sin)
            self._keys[layer, :, :, start:end] = turned[:, :, heads:].transpose(1, 2)
            self._values[layer, :, :, start:end] = joined[:, :, heads + groups :].transpose(1, 2)
            query = turned[:, :, :heads].transpose(1, 2).reshape(rows, groups, each * new, width)
            mixed = functional.scaled_dot_product_attention(
                query,
                self._keys[layer, :, :, :end],
                self._values[layer, :, :, :end],
                attn_mask=mask,
            ).reshape(rows, heads, new, width)
            x = x + merge(mixed.transpose(1, 2).reshape(rows * new, -1))
            gate, up = widen(_norm(x, fused.epsilon)).chunk(2, dim=-1)
            x = x + narrow(functional.silu(gate) * up)
        states: torch.Tensor = (_norm(x, fused.epsilon) * fused.norm).view(rows, new, -1)
        return states

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        if allowed is not None:
            chosen: torch.Tensor = self._fused.words[allowed].float()
            return functional.linear(hidden.float(), chosen)
        return self._fused.head(hidden).float()

    def _make_room(self, tokens: int) -> None:
        self._keys = functional.pad(self._keys[:, :, :, : self._length], (0, 0, 0, tokens))
        self._values = functional.pad(self._values[:, :, :, : self._length], (0, 0, 0, tokens))


class _PlainSteps:
    def __init__(self, model: Language, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._language: Any = model.language
        self._head: Any = model.head
        self._cache = DynamicCache()
        for layer in range(len(keys)):
            self._cache.update(keys[layer], values[layer], layer)

    def step(
        self, tokens: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        embeddings = self._language.get_input_embeddings()(tokens)
        mask = torch.zeros(seen.shape, dtype=embeddings.dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(embeddings.dtype).min)
        output = self._language(
            inputs_embeds=embeddings,
            attention_mask=mask[:, None],
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        states: torch.Tensor = output.last_hidden_state
        return states

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        head = self._head
        if allowed is None:
            scores: torch.Tensor = head(hidden).float()
            return scores
        bias = None if head.bias is None else head.bias[allowed]
        return functional.linear(hidden, head.weight[allowed], bias).float()


def _norm(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return functional.rms_norm(x, x.shape[-1:], eps=epsilon)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
