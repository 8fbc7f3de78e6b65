"""The 4B's configuration made small enough for real numbers on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emoverse.models.internvl2.configuration import model_config
from emoverse.models.internvl2.published import language_config, published_size


def small_config(layers: int, **vision: int) -> dict[str, Any]:
    """Transformers' configuration with so many layers of width 128 over a ViT of other sizes."""
    big = published_size("InternVL2-4B")
    sizes = replace(
        big.sizes, width=128, layers=layers, heads=4, key_heads=4, mlp=256, vocabulary=64, **vision
    )
    llm = language_config(big.architecture, sizes) | {"pad_token_id": 0}
    checkpoint = replace(big, sizes=sizes, config={**big.config, "llm_config": llm})
    return model_config(checkpoint, dtype="bfloat16", image_token=0, tied=False)
