"""A Llama language model for answering on CPUs, its weights laid out for few operations.

A step over a handful of tokens is bound by reading the weights once. `FusedLlama` joins the
projections that read the same input, folds the norms into them, and leaves nothing between them
that a step does not need. Its weights lie in the order that a library multiplies them in: oneDNN
for bfloat16, FBGEMM for float32, which then reads them as float16, half as many bytes. A whole
prompt is a step from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from emoverse.models.key_runs import Runs, picked


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
        packed: bool = False,
    ) -> FusedLlama:
        """Lay out weights, each as exact as `dtype`.

        Args:
            shape: of the model.
            weights: by the names that transformers gives them within the language model.
            words: (vocabulary, width) of the output layer.
            dtype: in which steps shall run.
            packed: in the order of the library that multiplies them (`precision.packs`).
        """

        def matrix(names: Sequence[str], norm: str | None = None) -> _Matrix:
            joined = torch.cat([weights[f"{name}.weight"].detach() for name in names]).float()
            if norm:  # its weights are folded into the projections that read it
                joined *= weights[f"{norm}.weight"].detach().float()
            return _Matrix.of(joined, dtype, packed)

        def layer(number: int) -> tuple[_Matrix, _Matrix, _Matrix, _Matrix]:
            name = f"layers.{number}"
            attend = [f"{name}.self_attn.{letter}_proj" for letter in "qkv"]
            widen = [f"{name}.mlp.{part}_proj" for part in ("gate", "up")]
            return (
                matrix(attend, f"{name}.input_layernorm"),
                matrix([f"{name}.self_attn.o_proj"]),
                matrix(widen, f"{name}.post_attention_layernorm"),
                matrix([f"{name}.mlp.down_proj"]),
            )

        # FBGEMM packs on one core each call, which for a model of 135 M takes two seconds in all.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            head = pool.submit(_Matrix.of, words.detach(), dtype, packed)
            layers = tuple(pool.map(layer, range(shape.layers)))
        return FusedLlama(
            shape,
            dtype,
            layers,
            weights["norm.weight"].detach().to(dtype),
            weights["embed_tokens.weight"].detach(),
            words.detach(),
            head.result(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    """Linear layers without bias as one: (out, in) weights, or a library's pack of them."""

    weight: torch.Tensor | torch.ScriptObject

    @staticmethod
    def of(weight: torch.Tensor, dtype: torch.dtype, packed: bool) -> _Matrix:
        if not packed:
            return _Matrix(weight.to(dtype))
        if dtype == torch.float32:
            return _Matrix(torch.ops.quantized.linear_prepack_fp16(weight.float(), None))
        return _Matrix(torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), None))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor
        if not isinstance(self.weight, torch.Tensor):
            product = torch.ops.quantized.linear_dynamic_fp16(rows, self.weight)
        elif self.weight.is_mkldnn:
            product = torch.ops.mkldnn._linear_pointwise(rows, self.weight, None, "none", [], "")
        else:
            product = functional.linear(rows, self.weight)
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
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Steps`."""
        embedded = functional.embedding(tokens, self._fused.embedding)
        return self.run(embedded, positions, seen, real=real)

    def run(
        self,
        embedded: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
        key_runs: Runs | None = None,
        real: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run further tokens, see `Steps.step`.

        Args:
            embedded: (rows, new, width).
            positions: (rows, new).
            seen: (rows, new, old + new) bool.
            key_runs: of `seen`; without them every query is held to every key.
            real: (rows, new) bool, False where there is but padding; all are real by default.

        Returns:
            (rows, new, width) hidden states after the last norm.
        """
        fused, shape = self._fused, self._fused.shape
        rows, new, _ = embedded.shape
        places = _Places.of(real, rows * new)
        if not self._length:
            empty = embedded.new_empty(shape.layers, rows, shape.groups, new, shape.width)
            self._keys = empty.to(fused.dtype)
            self._values = torch.empty_like(self._keys)
        elif self._length + new > self._keys.shape[3]:
            self._make_room(max(new, 128))
        start, end = self._length, self._length + new
        self._length = end
        heads, groups, width = shape.heads, shape.groups, shape.width
        # What the layers add up stays in float32: rounded to bfloat16 after every layer, the states
        # are off by 1.3 % at the end, and so by 0.8 %, in the same time.
        x = places.taken(embedded.flatten(0, 1)).to(torch.float32, copy=True)
        # One pair of angles a token serves all layers.
        cos, sin = _angles(positions, shape, fused.dtype)
        blocks = _blocks(seen, fused.dtype, heads // groups, key_runs or ((new, ((0, end),)),))
        for layer, (attend, merge, widen, narrow) in enumerate(fused.layers):
            joined = places.spread(attend(self._normed(x)))
            joined = joined.view(rows, new, heads + 2 * groups, width)
            turned = _rotate(joined[:, :, : heads + groups], cos, sin)
            self._keys[layer, :, :, start:end] = turned[:, :, heads:].transpose(1, 2)
            self._values[layer, :, :, start:end] = joined[:, :, heads + groups :].transpose(1, 2)
            mixed = _attend(
                turned[:, :, :heads].transpose(1, 2),
                self._keys[layer, :, :, :end],
                self._values[layer, :, :, :end],
                blocks,
            )
            x += merge(places.taken(mixed.transpose(1, 2).reshape(rows * new, -1)))
            gate, up = widen(self._normed(x)).chunk(2, dim=-1)
            x += narrow(functional.silu(gate).mul_(up))
        return places.spread(self._normed(x) * fused.norm).view(rows, new, -1)

    def logits(self, hidden: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
        """See `Steps`."""
        if allowed is not None:
            chosen: torch.Tensor = self._fused.words[allowed].float()
            return functional.linear(hidden.float(), chosen)
        return self._fused.head(hidden.to(self._fused.dtype)).float()

    def _normed(self, x: torch.Tensor) -> torch.Tensor:
        whole = functional.rms_norm(x, x.shape[-1:], eps=self._fused.shape.epsilon)
        return whole.to(self._fused.dtype)

    def _make_room(self, tokens: int) -> None:
        self._keys = functional.pad(self._keys[:, :, :, : self._length], (0, 0, 0, tokens))
        self._values = functional.pad(self._values[:, :, :, : self._length], (0, 0, 0, tokens))


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Which tokens of rows side by side are real; layers run these alone, attention all.

    Attributes:
        total: how many tokens there are.
        real: the places of the real ones; None where all are.
    """

    total: int
    real: torch.Tensor | None

    @staticmethod
    def of(real: torch.Tensor | None, total: int) -> _Places:
        some = real is not None and not bool(real.all())
        return _Places(total, real.flatten().nonzero()[:, 0] if some and real is not None else None)

    def taken(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.real is None else x.index_select(0, self.real)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        if self.real is None:
            return x
        return x.new_zeros(self.total, x.shape[1]).index_copy_(0, self.real, x)


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


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
