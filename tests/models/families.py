"""Tiny random models of public families with their own processors, built without a download."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from .tiny import tokenizer

# The image processors that need no torchvision say so on every import.
transformers.utils.logging.set_verbosity_error()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "initializer_range": 0.3,  # large, so that what is attended to matters
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE\n"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokens(*marks: str, **named: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(tokenizer().backend_tokenizer.to_str())
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, extra_special_tokens=named, pad_token="<|im_end|>"
    )
    made.add_special_tokens({"additional_special_tokens": [*marks]})
    return made


def _processor(kind: str, *parts: object, **settings: object) -> ProcessorMixin:
    """The family's processor without its video part, whose class needs torchvision."""
    family = getattr(transformers, kind)
    of_pictures = type(kind, (family,), {"check_argument_for_proper_class": lambda *_: None})
    made: ProcessorMixin = of_pictures(*parts, **settings)
    return made


def _built(kind: str, config: transformers.PretrainedConfig) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: PreTrainedModel = getattr(transformers, kind)(config)
    with torch.no_grad():  # random ViTs of this size give nearly the same for every picture
        for name, parameter in network.named_parameters():
            if ("vis" in name or "proj" in name or "connector" in name) and parameter.ndim > 1:
                parameter.mul_(4)
    return network.eval().requires_grad_(False)


def internvl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """InternVL over Qwen2, pictures cut into up to two tiles and a thumbnail."""
    tokens = _tokens(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    processor = _processor(
        "InternVLProcessor",
        transformers.GotOcr2ImageProcessorPil(
            size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=2
        ),
        tokens,
        None,
        image_seq_length=4,
        chat_template=_CHAT.replace("IMAGE", "<IMG_CONTEXT>"),
    )
    config = transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=(56, 56),
            patch_size=(14, 14),
        ),
        text_config=transformers.Qwen2Config(vocab_size=len(tokens), **_TEXT),
        image_token_id=processor.image_token_id,
        image_seq_length=4,
    )
    return _built("InternVLForConditionalGeneration", config), processor


def idefics3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Idefics3 (the architecture of SmolVLM) over Llama, pictures split in tiles."""
    tokens = _tokens()
    processor = _processor(
        "Idefics3Processor",
        transformers.Idefics3ImageProcessorPil(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
        ),
        tokens,
        image_seq_len=4,
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    config = transformers.Idefics3Config(
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 32,
            "patch_size": 8,
        },
        text_config=transformers.LlamaConfig(vocab_size=len(tokens), **_TEXT),
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=None,
    )
    return _built("Idefics3ForConditionalGeneration", config), processor


def llava_onevision() -> tuple[PreTrainedModel, ProcessorMixin]:
    """LLaVA-OneVision over Qwen2: pictures in a grid of any shape, with line breaks."""
    tokens = _tokens("<image>", "<video>")
    pinpoints = [[28, 28], [28, 56], [56, 28], [56, 56]]
    processor = _processor(
        "LlavaOnevisionProcessor",
        transformers.LlavaOnevisionImageProcessorPil(
            size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
        ),
        tokens,
        None,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=28,
            patch_size=7,
            vision_use_head=False,
        ),
        text_config=transformers.Qwen2Config(vocab_size=len(tokens), **_TEXT),
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        video_token_id=tokens.convert_tokens_to_ids("<video>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=pinpoints,
    )
    return _built("LlavaOnevisionForConditionalGeneration", config), processor


def _qwen_processor(kind: str, patch: int) -> ProcessorMixin:
    tokens = _tokens("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    pictures = transformers.Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": (2 * patch) ** 2, "longest_edge": (8 * patch) ** 2}
    )
    template = _CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return _processor(kind, pictures, tokens, None, chat_template=template)


def _qwen_ids(tokens: PreTrainedTokenizerFast) -> dict[str, int]:
    return {
        "image_token_id": tokens.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokens.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokens.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokens.convert_tokens_to_ids("<|vision_end|>"),
    }


def qwen2_5_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen2.5-VL: three position ids a token, the projector inside the vision tower."""
    processor = _qwen_processor("Qwen2_5_VLProcessor", 8)
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 32,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 32,
        },
        text_config=_TEXT
        | {
            "vocab_size": len(processor.tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [1, 1, 2],
            },
        },
        **_qwen_ids(processor.tokenizer),
    )
    return _built("Qwen2_5_VLForConditionalGeneration", config), processor


def qwen3_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Qwen3-VL: besides, features of inner ViT layers join the first text layers (DeepStack)."""
    processor = _qwen_processor("Qwen3VLProcessor", 8)
    config = transformers.Qwen3VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 32,
            "patch_size": 8,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config=_TEXT
        | {
            "head_dim": 8,
            "vocab_size": len(processor.tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
            },
        },
        **_qwen_ids(processor.tokenizer),
    )
    return _built("Qwen3VLForConditionalGeneration", config), processor


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "internvl": internvl,
    "idefics3": idefics3,
    "llava_onevision": llava_onevision,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
}
