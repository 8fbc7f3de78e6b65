"""A Llama language model for answering on CPUs, its weights laid out for few operations.

A step over a handful of tokens is bound by reading the weights once. `FusedLlama` joins the
projections that read the same input, folds the norms into them, and leaves nothing between them
that a step does not need; `rounded` reads the weights as 8-bit integers with one scale a row. A
whole prompt is a step from nothing. Whatever the model's precision, 8-bit steps run in bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from emoverse.models.key_runs import Runs, picked

if TYPE_CHECKING:
    from emoverse.models.emoverse import EmoVerse


@dataclass(frozen=True, slots=True)
class Shape:
    """What a Llama's configuration says.

    Attributes:
        layers: how many.
        heads: of the queries; groups: of keys and values.
        width: numbers a head.
        epsilon: of the norms.
        theta: base of the rotary angles.
    """

    layers: int
    heads: int
    groups: int
    width: int
    epsilon: float
    theta: float

    @staticmethod
    def of(config: Mapping[str, Any]) -> Shape | None:
        """The shape in transformers' `config.json`; None when it is no plain Llama."""
        rotary = config.get("rope_parameters") or {}
        plain = (
            config.get("model_type") == "llama"
            and config.get("hidden_act") == "silu"
            and not config.get("attention_bias")
            and not config.get("mlp_bias")
            and rotary.get("rope_type") == "default"
        )
        if not plain:
            return None
        heads = int(config["num_attention_heads"])
        return Shape(
            int(config["num_hidden_layers"]),
            heads,
            int(config["num_key_value_heads"]),
            int(config.get("head_dim") or config["hidden_size"] // heads),
            float(config["rms_norm_eps"]),
            float(rotary["rope_theta"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class FusedLlama:
    """A Llama's weights.

    Attributes:
        shape: of the model.
        dtype: in which steps run.
        layers: of each layer the queries', keys' and values' projection, the one that merges the
            heads, the gate and its partner, and the last one.
        norm: (width,) weights of the last norm.
        embedding: (vocabulary, width).
        words: (vocabulary, width) of the output layer.
        head: the same, as steps use it.
    """

    shape: Shape
    dtype: torch.dtype
    layers: tuple[tuple[_Matrix, _Matrix, _Matrix, _Matrix], ...]
    norm: torch.Tensor
    embedding: torch.Tensor
    words: torch.Tensor
    head: _Matrix

    @staticmethod
    def lay_out(
        shape: Shape,
        weights: Mapping[str, torch.Tensor],
        words: torch.Tensor,
        dtype: torch.dtype,
    ) -> FusedLlama:
        """Lay out weights, each as exact as `dtype`.

        Args:
            shape: of the model.
            weights: by the names that transformers gives them within the language model.
            words: (vocabulary, width) of the output layer.
            dtype: in which steps shall run.
        """

        def matrix(names: Sequence[str], norm: str | None = None) -> _Matrix:
            joined = torch.cat([weights[f"{name}.weight"].detach() for name in names]).float()
            if norm:  # its weights are folded into the projections that read it
                joined *= weights[f"{norm}.weight"].detach().float()
            return _Matrix(joined.to(dtype))

        layers = []
        for number in range(shape.layers):
            layer = f"layers.{number}"
            attend = [f"{layer}.self_attn.{letter}_proj" for letter in "qkv"]
            widen = [f"{layer}.mlp.{name}_proj" for name in ("gate", "up")]
            layers.append(
                (
                    matrix(attend, f"{layer}.input_layernorm"),
                    matrix([f"{layer}.self_attn.o_proj"]),
                    matrix(widen, f"{layer}.post_attention_layernorm"),
                    matrix([f"{layer}.mlp.down_proj"]),
                )
            )
        return FusedLlama(
            shape,
            dtype,
            tuple(layers),
            weights["norm.weight"].detach().to(dtype),
            weights["embed_tokens.weight"].detach(),
            words.detach(),
            _Matrix(words.detach().to(dtype)),
        )

    @staticmethod
    def of(model: EmoVerse, eight_bits: bool = True) -> FusedLlama | None:
        """The laid out weights of `model`; None when it is no plain Llama on a CPU.

        Args:
            model: any.
            eight_bits: False keeps the weights as exact as the model's.
        """
        language: Any = model.language
        shape = Shape.of(language.config.to_dict())
        words = model.network.lm_head.weight
        lora = type(language.layers[0].self_attn.q_proj) is not torch.nn.Linear
        if shape is None or lora or words.device.type != "cpu":
            return None
        exact = FusedLlama.lay_out(shape, language.state_dict(), words, model.dtype)
        return exact.rounded() if eight_bits else exact

    def rounded(self) -> FusedLlama:
        """The same in 8 bits, but for embedding and last norm."""
        layers = tuple(
            (a.rounded(), b.rounded(), c.rounded(), d.rounded()) for a, b, c, d in self.layers
        )
        return replace(
            self,
            dtype=torch.bfloat16,
            layers=layers,
            norm=self.norm.to(torch.bfloat16),
            head=self.head.rounded(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    """Linear layers without bias as one: (out, in) weights, and (out,) scales where 8-bit."""

    weight: torch.Tensor
    scales: torch.Tensor | None = None

    def rounded(self) -> _Matrix:
        weight = self.weight.float()
        scales = weight.abs().amax(dim=1).clamp(min=1e-8).div_(127)
        rounded = (weight / scales[:, None]).round_().to(torch.int8)
        return _Matrix(rounded, scales.to(torch.bfloat16))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        if self.scales is None:
            return functional.linear(rows, self.weight)
        rows = rows.to(self.scales.dtype)
        product: torch.Tensor = torch._weight_int8pack_mm(rows, self.weight, self.scales)
        return product


class FusedSteps:
    """Sequences of one length that go on side by side; see `emoverse.models.decoder.Steps`."""

    def __init__(
        self,
        fused: FusedLlama,
        keys: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
    ) -> None:
        """Go on after what was seen.

        Args:
            fused: the weights.
            keys: (layers, rows, kv heads, length, d), rotated; None starts from nothing.
            values: the same shape.
        """
        self._fused = fused
        self._length = 0
        if keys is not None and values is not None:
            self._length = keys.shape[3]
            self._keys, self._values = keys.to(fused.dtype), values.to(fused.dtype)
            self._make_room(128)

    @property
    def past(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values so far, (layers, rows, kv heads, length, d) each."""
        end = self._length
        return self._keys[:, :, :, :end], self._values[:, :, :, :end]

    def step(
        self, tokens: torch.Tensor, positions: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        """See `Steps`."""
        return self.run(functional.embedding(tokens, self._fused.embedding), positions, seen)

    def run(
        self,
        embedded: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        key_runs: Runs | None = None,
    ) -> torch.Tensor:
        """Run further tokens, see `Steps.step`.

        Args:
            embedded: (rows, new, width).
            positions: (rows, new).
            seen: (rows, new, old + new) bool.
            key_runs: of `seen`; without them every query is held to every key.

        Returns:
            (rows, new, width) hidden states after the last norm.
        """
        fused, shape = self._fused, self._fused.shape
        rows, new, _ = embedded.shape
        if not self._length:
            empty = embedded.new_empty(shape.layers, rows, shape.groups, new, shape.width)
            self._keys = empty.to(fused.dtype)
            self._values = torch.empty_like(self._keys)
        elif self._length + new > self._keys.shape[3]:
            self._make_room(max(new, 128))
        start, end = self._length, self._length + new
        self._length = end
        heads, groups, width = shape.heads, shape.groups, shape.width
        x = embedded.to(fused.dtype).reshape(rows * new, -1)
        # One pair of angles a token serves all layers.
        cos, sin = _angles(positions, shape, fused.dtype)
        blocks = _blocks(seen, fused.dtype, heads // groups, key_runs or ((new, ((0, end),)),))
        for layer, (attend, merge, widen, narrow) in enumerate(fused.layers):
            joined = attend(_norm(x, shape.epsilon)).view(rows, new, heads + 2 * groups, width)
            turned = _rotate(joined[:, :, : heads + groups], cos, sin)
            self._keys[layer, :, :, start:end] = turned[:, :, heads:].transpose(1, 2)
            self._values[layer, :, :, start:end] = joined[:, :, heads + groups :].transpose(1, 2)
            mixed = _attend(
                turned[:, :, :heads].transpose(1, 2),
                self._keys[layer, :, :, :end],
                self._values[layer, :, :, :end],
                blocks,
            )
            x = x + merge(mixed.transpose(1, 2).reshape(rows * new, -1))
            gate, up = widen(_norm(x, shape.epsilon)).chunk(2, dim=-1)
            x = x + narrow(functional.silu(gate) * up)
        states: torch.Tensor = (_norm(x, shape.epsilon) * fused.norm).view(rows, new, -1)
        return states

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        """See `Steps`."""
        if allowed is not None:
            chosen: torch.Tensor = self._fused.words[allowed].float()
            return functional.linear(hidden.float(), chosen)
        return self._fused.head(hidden.to(self._fused.dtype)).float()

    def _make_room(self, tokens: int) -> None:
        self._keys = functional.pad(self._keys[:, :, :, : self._length], (0, 0, 0, tokens))
        self._values = functional.pad(self._values[:, :, :, : self._length], (0, 0, 0, tokens))


_Block = tuple[int, int, tuple[tuple[int, int], ...], torch.Tensor]
# Queries from, queries to, the runs of keys that they see, and their mask.


def _blocks(seen: torch.Tensor, dtype: torch.dtype, each: int, runs: Runs) -> list[_Block]:
    """Blocks of queries; `each` heads of a group share the keys, and so are rows of one query."""
    whole = torch.zeros(seen.shape, dtype=dtype)
    whole.masked_fill_(~seen, torch.finfo(dtype).min)
    found, begin = [], 0
    for end, keys in runs:
        mask = picked(whole[:, begin:end], keys, -1)[:, None, None]
        mask = mask.expand(-1, 1, each, -1, -1).flatten(2, 3)
        found.append((begin, end, keys, mask))
        begin = end
    return found


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, blocks: Sequence[_Block]
) -> torch.Tensor:
    """Queries (rows, heads, new, d) to as many values, keys and values being those of groups."""
    parts = []
    for begin, end, runs, mask in blocks:
        mine = query[:, :, begin:end]
        mixed = functional.scaled_dot_product_attention(
            mine.reshape(len(query), keys.shape[1], -1, query.shape[-1]),
            picked(keys, runs, -2),
            picked(values, runs, -2),
            attn_mask=mask,
        )
        parts.append(mixed.reshape(mine.shape))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _angles(
    positions: torch.Tensor, shape: Shape, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (rows, new, 1, width), computed in float32 and then rounded."""
    half = torch.arange(0, shape.width, 2, dtype=torch.int64).float() / shape.width
    angles = positions.float()[..., None] * (1.0 / (shape.theta**half))
    both = torch.cat([angles, angles], dim=-1)[:, :, None]
    return both.cos().to(dtype), both.sin().to(dtype)


def _norm(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return functional.rms_norm(x, x.shape[-1:], eps=epsilon)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
