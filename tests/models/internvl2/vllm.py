"""What vLLM's class for `InternVLForConditionalGeneration` reads, as plain facts.

Taken from vLLM's registry, `interns1.py`, `interns1_vit.py`, `llama.py` and `phi3.py` as of 2026;
vLLM itself is gigabytes large and wants a GPU, so it is not imported.
"""

from __future__ import annotations

from typing import Any

ARCHITECTURE = "InternVLForConditionalGeneration"
LANGUAGE = {
    "phi3": "Phi3ForCausalLM",
    "internlm2": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
}

SETTINGS = {
    "": {"downsample_ratio", "projector_hidden_act", "text_config", "vision_config"},
    "vision_config": {
        "attention_bias",
        "hidden_act",
        "hidden_size",
        "image_size",
        "intermediate_size",
        "layer_norm_eps",
        "layer_scale_init_value",
        "norm_type",
        "num_attention_heads",
        "num_channels",
        "num_hidden_layers",
        "patch_size",
        "use_absolute_position_embeddings",
        "use_mask_token",
        "use_mean_pooling",
        "use_qk_norm",
    },
    "text_config": {
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "rope_parameters",
        "tie_word_embeddings",
        "vocab_size",
    },
}
"""Attributes that are read without a default, by the part of `config.json` they belong to."""

_PREFIXES = {
    "lm_head.": "language_model.lm_head.",
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}


def renamed(name: str) -> str:
    """A weight's name after vLLM's mapper."""
    for old, new in _PREFIXES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def weights(config: dict[str, Any], kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes that vLLM's modules take, before it stacks q, k, v, gate and up itself."""
    return _vision(config["vision_config"]) | _projector(config) | _language(config, kind)


def _vision(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, mlp = c["hidden_size"], c["intermediate_size"]
    (height, across), (down, right) = c["image_size"], c["patch_size"]
    patches = (height // down) * (across // right)
    top = "vision_tower.embeddings."
    found: dict[str, tuple[int, ...]] = {
        f"{top}cls_token": (1, 1, width),
        f"{top}position_embeddings": (1, patches + 1, width),
        f"{top}patch_embeddings.projection.weight": (width, 3, down, right),
        f"{top}patch_embeddings.projection.bias": (width,),
    }
    for n in range(c["num_hidden_layers"]):
        layer = f"vision_tower.encoder.layer.{n}."
        for name in ("q_proj", "k_proj", "v_proj", "projection_layer"):
            found[f"{layer}attention.{name}.weight"] = (width, width)
            found[f"{layer}attention.{name}.bias"] = (width,)
        for name in ("layernorm_before", "layernorm_after"):
            found[f"{layer}{name}.weight"] = found[f"{layer}{name}.bias"] = (width,)
        found |= {
            f"{layer}mlp.fc1.weight": (mlp, width),
            f"{layer}mlp.fc1.bias": (mlp,),
            f"{layer}mlp.fc2.weight": (width, mlp),
            f"{layer}mlp.fc2.bias": (width,),
            f"{layer}lambda_1": (width,),
            f"{layer}lambda_2": (width,),
        }
    return found


def _projector(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    folded = c["vision_config"]["hidden_size"] * int(1 / c["downsample_ratio"]) ** 2
    width = c["text_config"]["hidden_size"]
    return {
        "multi_modal_projector.layer_norm.weight": (folded,),
        "multi_modal_projector.layer_norm.bias": (folded,),
        "multi_modal_projector.linear_1.weight": (width, folded),
        "multi_modal_projector.linear_1.bias": (width,),
        "multi_modal_projector.linear_2.weight": (width, width),
        "multi_modal_projector.linear_2.bias": (width,),
    }


def _language(config: dict[str, Any], kind: str) -> dict[str, tuple[int, ...]]:
    c = config["text_config"]
    width, mlp, words = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    keys = width // c["num_attention_heads"] * c["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {
        "language_model.model.embed_tokens.weight": (words, width),
        "language_model.model.norm.weight": (width,),
        "language_model.lm_head.weight": (words, width),
    }
    for n in range(c["num_hidden_layers"]):
        layer = f"language_model.model.layers.{n}."
        rows = {"q_proj": width, "k_proj": keys, "v_proj": keys}
        if kind == "phi3":
            found[f"{layer}self_attn.qkv_proj.weight"] = (width + 2 * keys, width)
            found[f"{layer}mlp.gate_up_proj.weight"] = (2 * mlp, width)
        else:
            found |= {f"{layer}self_attn.{k}.weight": (v, width) for k, v in rows.items()}
            found |= {f"{layer}mlp.{k}_proj.weight": (mlp, width) for k in ("gate", "up")}
        if kind == "qwen2":
            found |= {f"{layer}self_attn.{k}.bias": (v,) for k, v in rows.items()}
        found |= {
            f"{layer}self_attn.o_proj.weight": (width, width),
            f"{layer}mlp.down_proj.weight": (width, mlp),
            f"{layer}input_layernorm.weight": (width,),
            f"{layer}post_attention_layernorm.weight": (width,),
        }
    return found
