"""Sizes of the four published checkpoints, for plans made before anything is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.models.internvl2.layout import Published, Sizes

_VIT = (1024, 24, 16, 4096, 448, 14, 2)
SIZES = {
    "InternVL2-1B": ("Qwen2ForCausalLM", Sizes(*_VIT, 896, 24, 14, 2, 4864, 151655)),
    "InternVL2-2B": ("InternLM2ForCausalLM", Sizes(*_VIT, 2048, 24, 16, 8, 8192, 92553)),
    "InternVL2-4B": ("Phi3ForCausalLM", Sizes(*_VIT, 3072, 32, 32, 32, 8192, 32020)),
    "InternVL2-8B": ("InternLM2ForCausalLM", Sizes(*_VIT, 4096, 32, 32, 8, 14336, 92553)),
}
"""By the name OpenGVLab gives it: the language model's architecture and all sizes."""


def published_size(name: str) -> Published:
    """What a published checkpoint's `config.json` says, as far as sizes go.

    Args:
        name: a path or hub id whose last part holds one of `SIZES`.

    Raises:
        EmoVerseError: it does not.
    """
    last = Path(name).name.lower()
    found = next((key for key in SIZES if key.lower() in last), None)
    if found is None:
        raise EmoVerseError(
            f"{name}: there is no config.json, and the name is none of {', '.join(SIZES)}; convert "
            "the model first, or keep its published name in the folder's."
        )
    architecture, s = SIZES[found]
    config = {
        "vision_config": {"layer_norm_eps": 1e-6},
        "llm_config": language_config(architecture, s),
    }
    return Published(Path(name), config, architecture, s)


def language_config(architecture: str, sizes: Sizes) -> dict[str, Any]:
    """`llm_config` of a published `config.json`, as far as sizes go."""
    return {
        "architectures": [architecture],
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
    }
