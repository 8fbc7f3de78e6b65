"""QLoRA: the frozen weights of the language model in 4 or 8 bits, by bitsandbytes.

A LoRA is trained beside them in bfloat16 (Dettmers et al. 2023). Visual encoder, projector and
output layer stay as they are. Merged models are full ones: the LoRA is added to the weights as they
were before they were quantized.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

from emoverse.errors import EmoVerseError

BITS = {"nf4": 4.127, "int8": 8.01}
"""Of a weight, its block's (doubly quantized) scale included."""


def loading(source: str, kind: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantize while loading.

    Args:
        source: folder or hub id of an image-text-to-text model.
        kind: `nf4` or `int8`.
        dtype: in which products are computed.
        device: where the model will be.

    Raises:
        EmoVerseError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise EmoVerseError(
            f"quantize: {kind} needs bitsandbytes; pip install 'emoverse[qlora]', or set "
            "quantize: null."
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast
    kept = _outside(source)
    settings: dict[str, Any] = {"load_in_8bit": True}
    if kind == "nf4":
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    config = BitsAndBytesConfig(llm_int8_skip_modules=kept, **settings)  # type: ignore[no-untyped-call]
    return {"quantization_config": config, "device_map": {"": device}}


def settle(network: Any, language: torch.nn.Module, kind: str) -> None:
    """Make a quantized model ready to be trained.

    Args:
        network: as loaded.
        language: its language model, which peft looks at alone.
        kind: `nf4` or `int8`.
    """
    language.is_loaded_in_4bit = kind == "nf4"  # type: ignore[assignment]
    language.is_loaded_in_8bit = kind == "int8"  # type: ignore[assignment]
    for module in network.modules():
        # On CPUs bitsandbytes repacks weights for answering, which then have no gradients.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _outside(source: str) -> list[str]:
    """Names of all parts beside the language model."""
    with torch.device("meta"):
        network: Any = AutoModelForImageTextToText.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.from_pretrained(source)
        )
    embeddings = network.get_input_embeddings()
    return ["lm_head"] + [
        f"model.{name}"
        for name, part in network.model.named_children()
        if not any(module is embeddings for module in part.modules())
    ]
