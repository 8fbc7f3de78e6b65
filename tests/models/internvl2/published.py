"""Small random checkpoints in the exact layout OpenGVLab publishes, names and shapes typed out.

Written from the published files' documentation, not from `emoverse.models.internvl2.layout`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

VIT, VIT_LAYERS, VIT_HEADS, VIT_MLP, IMAGE, PATCH = 32, 2, 4, 48, 56, 14
WIDTH, LAYERS, HEADS, KEY_HEADS, MLP = 48, 2, 6, 2, 64
HEAD = WIDTH // HEADS
IMAGE_MARKS = (
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
)
TEXTS = [
    "You are an sentiment and emotion analysis expert.",
    "The person says: 'I can't believe it!' <emotion> Please determine which emotion label",
    "anger, sadness, surprise, disgust, joy, neutral or fear.  Two  spaces,\nand a line.",
    "Detail the facial expressions used in the image. Eyes narrowing; Slightly puzzled",
    "5_surprise,2;5_surprise,5 — 你好，世界 ½ naïve",
]


def checkpoint(folder: Path, kind: str, *, seed: int = 0, shards: int = 2) -> dict[str, Any]:
    """Write a checkpoint of backbone `phi3`, `internlm2` or `qwen2`; gives its tensors back."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"phi3": phi3_words, "internlm2": internlm2_words, "qwen2": qwen2_words}[kind](
        folder
    )
    config = configuration(kind, vocabulary)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = weights(kind, vocabulary, seed)
    names = list(tensors)
    cuts = [names[n * len(names) // shards : (n + 1) * len(names) // shards] for n in range(shards)]
    weight_map = {}
    for number, cut in enumerate(cuts, 1):
        file = f"model-{number:05}-of-{shards:05}.safetensors"
        save_file({name: tensors[name] for name in cut}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(cut, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8"
    )
    return {"tensors": tensors, "config": config}


def configuration(kind: str, vocabulary: int) -> dict[str, Any]:
    language: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }
    language |= {
        "phi3": {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "_name_or_path": "microsoft/Phi-3-mini-128k-instruct",
            "attention_dropout": 0.0,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 128,
            "sliding_window": 262144,
            "rope_scaling": {
                "type": "su",
                "short_factor": [1.05, 1.1, 1.2, 1.4],
                "long_factor": [1.1, 1.5, 3.0, 9.0],
            },
            "bos_token_id": 1,
            "eos_token_id": 32000,
            "pad_token_id": 32000,
        },
        "internlm2": {
            "architectures": ["InternLM2ForCausalLM"],
            "model_type": "internlm2",
            "_name_or_path": "internlm/internlm2_5-7b-chat",
            "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
            "bias": False,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000,
            "max_position_embeddings": 128,
            "rope_scaling": {"factor": 2.0, "type": "dynamic"},
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        },
        "qwen2": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "_name_or_path": "Qwen/Qwen2-0.5B-Instruct",
            "attention_dropout": 0.0,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "max_position_embeddings": 32768,
            "max_window_layers": 24,
            "sliding_window": 32768,
            "use_sliding_window": False,
            "rope_scaling": None,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
        },
    }[kind]
    if kind == "phi3":
        language |= {"eos_token_id": 2, "pad_token_id": 2}  # the small vocabulary ends earlier
    if kind == "qwen2":
        language |= {"bos_token_id": 0, "eos_token_id": 0}
    return {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": IMAGE,
        "llm_config": language,
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "model_type": "internvl_chat",
        "ps_version": "v2",
        "select_layer": -1,
        "template": {"phi3": "phi3-chat", "internlm2": "internlm2-chat", "qwen2": "Hermes-2"}[kind],
        "torch_dtype": "bfloat16",
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "attention_dropout": 0.0,
            "drop_path_rate": 0.1,
            "dropout": 0.0,
            "hidden_act": "gelu",
            "hidden_size": VIT,
            "image_size": IMAGE,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "intermediate_size": VIT_MLP,
            "layer_norm_eps": 1e-6,
            "model_type": "intern_vit_6b",
            "norm_type": "layer_norm",
            "num_attention_heads": VIT_HEADS,
            "num_channels": 3,
            "num_hidden_layers": VIT_LAYERS,
            "patch_size": PATCH,
            "qk_normalization": False,
            "qkv_bias": True,
            "use_flash_attn": True,
        },
    }


def weights(kind: str, vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    """Random float32 weights, large enough that every one of them shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, VIT),
        "vision_model.embeddings.position_embedding": (1, (IMAGE // PATCH) ** 2 + 1, VIT),
        "vision_model.embeddings.patch_embedding.weight": (VIT, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": (VIT,),
    }
    for n in range(VIT_LAYERS):
        layer = f"vision_model.encoder.layers.{n}."
        shapes |= {
            layer + "ls1": (VIT,),
            layer + "ls2": (VIT,),
            layer + "attn.qkv.weight": (3 * VIT, VIT),
            layer + "attn.qkv.bias": (3 * VIT,),
            layer + "attn.proj.weight": (VIT, VIT),
            layer + "attn.proj.bias": (VIT,),
            layer + "mlp.fc1.weight": (VIT_MLP, VIT),
            layer + "mlp.fc1.bias": (VIT_MLP,),
            layer + "mlp.fc2.weight": (VIT, VIT_MLP),
            layer + "mlp.fc2.bias": (VIT,),
            layer + "norm1.weight": (VIT,),
            layer + "norm1.bias": (VIT,),
            layer + "norm2.weight": (VIT,),
            layer + "norm2.bias": (VIT,),
        }
    shapes |= {
        "mlp1.0.weight": (4 * VIT,),
        "mlp1.0.bias": (4 * VIT,),
        "mlp1.1.weight": (WIDTH, 4 * VIT),
        "mlp1.1.bias": (WIDTH,),
        "mlp1.3.weight": (WIDTH, WIDTH),
        "mlp1.3.bias": (WIDTH,),
    }
    fused = (HEADS + 2 * KEY_HEADS) * HEAD
    keys = KEY_HEADS * HEAD
    language = {
        "phi3": {
            "self_attn.qkv_proj.weight": (fused, WIDTH),
            "self_attn.o_proj.weight": (WIDTH, WIDTH),
            "mlp.gate_up_proj.weight": (2 * MLP, WIDTH),
            "mlp.down_proj.weight": (WIDTH, MLP),
            "input_layernorm.weight": (WIDTH,),
            "post_attention_layernorm.weight": (WIDTH,),
        },
        "internlm2": {
            "attention.wqkv.weight": (fused, WIDTH),
            "attention.wo.weight": (WIDTH, WIDTH),
            "feed_forward.w1.weight": (MLP, WIDTH),
            "feed_forward.w2.weight": (WIDTH, MLP),
            "feed_forward.w3.weight": (MLP, WIDTH),
            "attention_norm.weight": (WIDTH,),
            "ffn_norm.weight": (WIDTH,),
        },
        "qwen2": {
            "self_attn.q_proj.weight": (WIDTH, WIDTH),
            "self_attn.q_proj.bias": (WIDTH,),
            "self_attn.k_proj.weight": (keys, WIDTH),
            "self_attn.k_proj.bias": (keys,),
            "self_attn.v_proj.weight": (keys, WIDTH),
            "self_attn.v_proj.bias": (keys,),
            "self_attn.o_proj.weight": (WIDTH, WIDTH),
            "mlp.gate_proj.weight": (MLP, WIDTH),
            "mlp.up_proj.weight": (MLP, WIDTH),
            "mlp.down_proj.weight": (WIDTH, MLP),
            "input_layernorm.weight": (WIDTH,),
            "post_attention_layernorm.weight": (WIDTH,),
        },
    }[kind]
    for n in range(LAYERS):
        shapes |= {f"language_model.model.layers.{n}.{name}": s for name, s in language.items()}
    embeddings = "tok_embeddings" if kind == "internlm2" else "embed_tokens"
    output = "output" if kind == "internlm2" else "lm_head"
    shapes |= {
        f"language_model.model.{embeddings}.weight": (vocabulary, WIDTH),
        "language_model.model.norm.weight": (WIDTH,),
        f"language_model.{output}.weight": (vocabulary, WIDTH),
    }

    def filled(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        noise = torch.randn(shape, generator=generator)
        if "norm" in name or name == "mlp1.0.weight" or ".ls" in name:
            return 1 + 0.3 * noise
        return noise * (0.5 if len(shape) == 1 else 1.2 / shape[-1] ** 0.5)

    return {name: filled(name, shape) for name, shape in shapes.items()}


def phi3_words(folder: Path) -> int:
    """Llama's kind of SentencePiece model with Phi-3's and InternVL's added tokens."""
    pieces = _train(folder, prefix=True)
    phi3 = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    decoder = {str(n): _token(text) for n, text in enumerate(("<unk>", "<s>", "</s>"))}
    decoder["2"] |= {"rstrip": True, "special": False}
    for number, text in enumerate((*phi3, *IMAGE_MARKS), pieces):
        decoder[str(number)] = _token(text) | {"rstrip": text in phi3[1:]}
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": decoder,
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": 8192,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return pieces + len(phi3) + len(IMAGE_MARKS)


def internlm2_words(folder: Path) -> int:
    """InternLM2's: chat marks take the place of the last unused pieces, image marks come after."""
    pieces = _train(folder, prefix=False, unused=8)
    chat = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>")
    chat += ("<|im_end|>", "<|im_start|>")
    decoder = {str(n): _token(text) for n, text in enumerate(("<unk>", "<s>", "</s>"))}
    for number, text in enumerate((*chat, *IMAGE_MARKS), pieces - len(chat)):
        decoder[str(number)] = _token(text)
    config = {
        "added_tokens_decoder": decoder,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>", *IMAGE_MARKS],
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": 8192,
        "pad_token": "</s>",
        "tokenizer_class": "InternLM2Tokenizer",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return pieces + len(IMAGE_MARKS)


def qwen2_words(folder: Path) -> int:
    """Byte-level BPE as vocab.json and merges.txt."""
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(TEXTS * 4, vocab_size=320, min_frequency=2)
    bpe.save_model(str(folder))
    base = bpe.get_vocab_size()
    added = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *IMAGE_MARKS)
    decoder = {str(number): _token(text) for number, text in enumerate(added, base)}
    config = {
        "added_tokens_decoder": decoder,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "model_max_length": 8192,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return base + len(added)


def _token(text: str) -> dict[str, Any]:
    return {
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }


def _train(folder: Path, *, prefix: bool, unused: int = 0) -> int:
    import sentencepiece

    pieces = 420
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 4),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=pieces,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=0.995,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    path = folder / "tokenizer.model"
    for number in range(unused):  # InternLM2's spare pieces, appended as protocol-buffer messages
        text = f"[UNUSED_TOKEN_{number}]".encode()
        piece = bytes([0x0A, len(text)]) + text + b"\x15" + struct.pack("<f", -1e4 - number)
        path.write_bytes(path.read_bytes() + bytes([0x0A, len(piece)]) + piece)
    processor = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    return int(processor.get_piece_size())
