"""A Llama language model for answering on CPUs, its weights laid out for few operations.

A step over a handful of tokens is bound by reading the weights once. `FusedLlama` joins the
projections that read the same input, folds the norms into them, and leaves nothing between them
that a step does not need; `packed` keeps the weights in float16, half as many bytes, in FBGEMM's
order, and computes in float32. A whole prompt is a step from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
            packed: at once as `packed` does it, so that never all weights are there twice.
        """

        def matrix(names: Sequence[str], norm: str | None = None) -> _Matrix:
            joined = torch.cat([weights[f"{name}.weight"].detach() for name in names]).float()
            if norm:  # its weights are folded into the projections that read it
                joined *= weights[f"{norm}.weight"].detach().float()
            return laid(joined)

        def laid(weight: torch.Tensor) -> _Matrix:
            return _Matrix(weight).packed() if packed else _Matrix(weight.to(dtype))

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
            head = pool.submit(laid, words.detach())
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

    def packed(self) -> FusedLlama:
        """The same with weights in float16, and all else in float32; see `precision.packs`."""
        layers = tuple(
            (a.packed(), b.packed(), c.packed(), d.packed()) for a, b, c, d in self.layers
        )
        return replace(
            self,
            dtype=torch.float32,
            layers=layers,
            norm=self.norm.float(),
            head=self.head.packed(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Matrix:
    """Linear layers without bias as one: (out, in) weights, or FBGEMM's pack of them."""

    weight: torch.Tensor | torch.ScriptObject

    def packed(self) -> _Matrix:
        assert isinstance(self.weight, torch.Tensor), "packed already"
        return _Matrix(torch.ops.quantized.linear_prepack_fp16(self.weight.float(), None))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        if isinstance(self.weight, torch.Tensor):
            return functional.linear(rows, self.weight)
        product: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(rows, self.weight)
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
