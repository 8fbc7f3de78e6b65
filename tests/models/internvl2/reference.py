"""InternVL2's own arithmetic, on the published tensors, without transformers.

Written from the papers' and files' facts: a pre-norm ViT with layer scale and fused biased qkv,
the class token dropped, pixel shuffle version 2, `mlp1`, and three language models: InternLM2
(`wqkv` grouped by key head, rotary angles whose base grows past the trained length), Phi-3 (fused
projections, long-rope) and Qwen2 (biased queries, keys and values).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]


def logits(
    checkpoint: dict[str, Any], ids: torch.Tensor, image_token: int, tiles: torch.Tensor | None
) -> torch.Tensor:
    """Next-token logits (t, vocabulary) of ids (t,) with pictures (n, 3, side, side) put in."""
    w, config = checkpoint["tensors"], checkpoint["config"]
    language = config["llm_config"]
    internlm2 = language["model_type"] == "internlm2"
    words = "tok_embeddings" if internlm2 else "embed_tokens"
    x = w[f"language_model.model.{words}.weight"][ids].clone()
    if tiles is not None:
        seen = visual_tokens(w, config, tiles)
        place = ids == image_token
        assert int(place.sum()) == len(seen)
        x[place] = seen
    cos, sin = angles(language, len(ids))
    for n in range(language["num_hidden_layers"]):
        layer = f"language_model.model.layers.{n}."
        x = {"internlm2": _internlm2, "phi3": _phi3, "qwen2": _qwen2}[language["model_type"]](
            w, layer, x, cos, sin, language
        )
    x = rms(x, w["language_model.model.norm.weight"], language["rms_norm_eps"])
    return x @ w[f"language_model.{'output' if internlm2 else 'lm_head'}.weight"].T


def visual_tokens(w: Tensors, config: dict[str, Any], tiles: torch.Tensor) -> torch.Tensor:
    """(n, 3, side, side) to (tokens of all tiles, width of the language model)."""
    found = []
    for tile in tiles:
        grid = vit(w, config["vision_config"], tile)
        x = shuffled(grid).flatten(0, 1)
        x = F.layer_norm(x, x.shape[-1:], w["mlp1.0.weight"], w["mlp1.0.bias"], 1e-5)
        x = gelu(x @ w["mlp1.1.weight"].T + w["mlp1.1.bias"])
        found.append(x @ w["mlp1.3.weight"].T + w["mlp1.3.bias"])
    return torch.cat(found)


def vit(w: Tensors, config: dict[str, Any], tile: torch.Tensor) -> torch.Tensor:
    """One tile (3, side, side) to patches (rows, columns, width), the class token dropped."""
    patch, width, heads = (config[k] for k in ("patch_size", "hidden_size", "num_attention_heads"))
    side = config["image_size"] // patch
    cut = tile.reshape(3, side, patch, side, patch).permute(1, 3, 0, 2, 4).reshape(side * side, -1)
    kernel = w["vision_model.embeddings.patch_embedding.weight"].reshape(width, -1)
    patches = cut @ kernel.T + w["vision_model.embeddings.patch_embedding.bias"]
    x = torch.cat([w["vision_model.embeddings.class_embedding"][0], patches])
    x = x + w["vision_model.embeddings.position_embedding"][0]
    for n in range(config["num_hidden_layers"]):
        p = f"vision_model.encoder.layers.{n}."

        def norm(t: torch.Tensor, name: str, p: str = p) -> torch.Tensor:
            eps = config["layer_norm_eps"]
            return F.layer_norm(t, (width,), w[p + name + ".weight"], w[p + name + ".bias"], eps)

        qkv = norm(x, "norm1") @ w[p + "attn.qkv.weight"].T + w[p + "attn.qkv.bias"]
        q, k, v = (
            qkv[:, i * width : (i + 1) * width].reshape(len(x), heads, -1).transpose(0, 1)
            for i in range(3)
        )
        scores = (q @ k.transpose(1, 2)) / math.sqrt(width // heads)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), width)
        attended = mixed @ w[p + "attn.proj.weight"].T + w[p + "attn.proj.bias"]
        x = x + attended * w[p + "ls1"]
        inner = gelu(norm(x, "norm2") @ w[p + "mlp.fc1.weight"].T + w[p + "mlp.fc1.bias"])
        x = x + (inner @ w[p + "mlp.fc2.weight"].T + w[p + "mlp.fc2.bias"]) * w[p + "ls2"]
    return x[1:].reshape(side, side, width)


def shuffled(grid: torch.Tensor) -> torch.Tensor:
    """Pixel shuffle 0.5, version 2: (rows, columns, c) to (rows/2, columns/2, 4c).

    A token holds its 2 x 2 patches in the order (0, 0), (0, 1), (1, 0), (1, 1), where the first
    number is the row.
    """
    rows, columns, _ = grid.shape
    return torch.stack(
        [
            torch.stack(
                [
                    torch.cat([grid[2 * r + i, 2 * c + j] for i in range(2) for j in range(2)])
                    for c in range(columns // 2)
                ]
            )
            for r in range(rows // 2)
        ]
    )


def angles(language: dict[str, Any], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary cosines and sines (length, head width)."""
    head = language["hidden_size"] // language["num_attention_heads"]
    base = float(language["rope_theta"])
    exponents = torch.arange(0, head, 2).float() / head
    scaling, limit = language["rope_scaling"], language["max_position_embeddings"]
    factors, gain = torch.ones(head // 2), 1.0
    if scaling and scaling["type"] == "dynamic" and length > limit:
        factor = scaling["factor"]
        base *= (factor * length / limit - (factor - 1)) ** (head / (head - 2))
    if scaling and scaling["type"] == "su":
        trained = language["original_max_position_embeddings"]
        factors = torch.tensor(scaling["long_factor" if length > trained else "short_factor"])
        gain = math.sqrt(1 + math.log(limit / trained) / math.log(trained))
    turns = torch.arange(length).float()[:, None] * (1 / (factors * base**exponents))
    turns = torch.cat([turns, turns], dim=-1)
    return turns.cos() * gain, turns.sin() * gain


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """Causal attention, head by head: q (t, heads, d), k and v (t, keys, d) to (t, heads * d)."""
    group = q.shape[1] // k.shape[1]
    hidden = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
    found = []
    for h in range(q.shape[1]):
        key, value = k[:, h // group], v[:, h // group]
        scores = turned(q[:, h], cos, sin) @ turned(key, cos, sin).T / math.sqrt(q.shape[2])
        found.append(scores.masked_fill(hidden, -math.inf).softmax(-1) @ value)
    return torch.cat(found, dim=1)


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[:, half:], x[:, :half]], dim=-1) * sin


def rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def silu(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + torch.exp(-x))


def _internlm2(w: Tensors, p: str, x: Any, cos: Any, sin: Any, c: dict[str, Any]) -> torch.Tensor:
    heads, keys = c["num_attention_heads"], c["num_key_value_heads"]
    group = heads // keys
    fused = (
        rms(x, w[p + "attention_norm.weight"], c["rms_norm_eps"]) @ w[p + "attention.wqkv.weight"].T
    )
    # For each key head: its query heads one after the other, then the key, then the value.
    fused = fused.reshape(len(x), keys, group + 2, -1)
    q = torch.cat([fused[:, h, :group] for h in range(keys)], dim=1)
    mixed = attention(q, fused[:, :, group], fused[:, :, group + 1], cos, sin)
    x = x + mixed @ w[p + "attention.wo.weight"].T
    y = rms(x, w[p + "ffn_norm.weight"], c["rms_norm_eps"])
    gate = silu(y @ w[p + "feed_forward.w1.weight"].T)
    up = y @ w[p + "feed_forward.w3.weight"].T
    return x + (gate * up) @ w[p + "feed_forward.w2.weight"].T


def _phi3(w: Tensors, p: str, x: Any, cos: Any, sin: Any, c: dict[str, Any]) -> torch.Tensor:
    heads, keys = c["num_attention_heads"], c["num_key_value_heads"]
    head = c["hidden_size"] // heads
    y = rms(x, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
    fused = y @ w[p + "self_attn.qkv_proj.weight"].T
    q, k, v = fused.split([heads * head, keys * head, keys * head], dim=-1)
    mixed = attention(*(t.reshape(len(x), -1, head) for t in (q, k, v)), cos, sin)
    x = x + mixed @ w[p + "self_attn.o_proj.weight"].T
    y = rms(x, w[p + "post_attention_layernorm.weight"], c["rms_norm_eps"])
    both = y @ w[p + "mlp.gate_up_proj.weight"].T
    half = both.shape[1] // 2
    return x + (silu(both[:, :half]) * both[:, half:]) @ w[p + "mlp.down_proj.weight"].T


def _qwen2(w: Tensors, p: str, x: Any, cos: Any, sin: Any, c: dict[str, Any]) -> torch.Tensor:
    head = c["hidden_size"] // c["num_attention_heads"]
    y = rms(x, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
    q, k, v = (
        (y @ w[f"{p}self_attn.{n}_proj.weight"].T + w[f"{p}self_attn.{n}_proj.bias"]).reshape(
            len(x), -1, head
        )
        for n in "qkv"
    )
    x = x + attention(q, k, v, cos, sin) @ w[p + "self_attn.o_proj.weight"].T
    y = rms(x, w[p + "post_attention_layernorm.weight"], c["rms_norm_eps"])
    gate = silu(y @ w[p + "mlp.gate_proj.weight"].T)
    return x + (gate * (y @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
