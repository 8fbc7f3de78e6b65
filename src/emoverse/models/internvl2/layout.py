"""What the published InternVL2 checkpoints hold, and where each tensor goes.

The one table of names, shapes and backbones: conversion, verification and the memory plan all read
it. Names and shapes are those of OpenGVLab's files (InternVL2-1B, -2B, -4B and -8B); the targets
are transformers' `InternVLForConditionalGeneration`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emoverse.errors import EmoVerseError
from emoverse.files import read_json

Split = Literal["whole", "thirds", "groups"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A language model that InternVL2 was published with.

    Attributes:
        model_type: of transformers' text class.
        architecture: transformers' causal class, which servers look up.
        lora_targets: its linear layers, as a recipe's `lora.targets` names them.
        used_in: the published sizes.
    """

    model_type: str
    architecture: str
    lora_targets: tuple[str, ...]
    used_in: tuple[str, ...]


_SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BACKBONES = {
    "Phi3ForCausalLM": Backbone(
        "phi3",
        "Phi3ForCausalLM",
        ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
        ("4B",),
    ),
    "InternLM2ForCausalLM": Backbone("llama", "LlamaForCausalLM", _SEVEN, ("2B", "8B")),
    "Qwen2ForCausalLM": Backbone("qwen2", "Qwen2ForCausalLM", _SEVEN, ("1B",)),
}
"""By the architecture that a published `llm_config` names."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that fix every tensor's shape.

    Attributes:
        vit_width, vit_layers, vit_heads, vit_mlp: of the vision tower.
        image, patch: pixels a side.
        fold: patches a side that pixel shuffle folds into one visual token.
        width, layers, heads, key_heads, mlp, vocabulary: of the language model.
    """

    vit_width: int
    vit_layers: int
    vit_heads: int
    vit_mlp: int
    image: int
    patch: int
    fold: int
    width: int
    layers: int
    heads: int
    key_heads: int
    mlp: int
    vocabulary: int

    @property
    def head(self) -> int:
        """Width of one attention head of the language model."""
        return self.width // self.heads

    @property
    def visual_tokens(self) -> int:
        """Visual tokens of one tile: 256 for 448 pixels."""
        return (self.image // self.patch // self.fold) ** 2


@dataclass(frozen=True, slots=True)
class Published:
    """A published checkpoint's `config.json`, checked.

    Attributes:
        folder: where it lies.
        config: the file's content.
        architecture: key of `BACKBONES`.
        sizes: of both models.
    """

    folder: Path
    config: dict[str, Any]
    architecture: str
    sizes: Sizes

    @property
    def backbone(self) -> Backbone:
        """The language model's entry."""
        return BACKBONES[self.architecture]


@dataclass(frozen=True, slots=True)
class Entry:
    """One published tensor.

    Attributes:
        source: its published name.
        shape: its published shape.
        targets: its name or names in transformers' class.
        split: `whole` (renamed), `thirds` (q, k and v rows one after the other, equally many) or
            `groups` (InternLM2: for each key head its query heads, the key, the value).
    """

    source: str
    shape: tuple[int, ...]
    targets: tuple[str, ...]
    split: Split = "whole"


def read_published(folder: Path | str) -> Published:
    """Read and check a published checkpoint's `config.json`.

    Raises:
        EmoVerseError: the file is missing, is not InternVL2's, or describes a model whose
            arithmetic differs from the published 1B, 2B, 4B and 8B.
    """
    path = Path(folder) / "config.json"
    config = read_json(path)
    if not isinstance(config, dict) or not {"vision_config", "llm_config"} <= set(config):
        raise EmoVerseError(
            f"{path}: not a published InternVL2 configuration (it needs `vision_config` and "
            "`llm_config`); give the folder as it was downloaded from OpenGVLab."
        )
    vision, language = config["vision_config"], config["llm_config"]
    architecture = (language.get("architectures") or ["none"])[0]
    if architecture not in BACKBONES:
        raise EmoVerseError(
            f"{path}: llm_config names the language model {architecture!r}; InternVL2-1B, -2B, -4B "
            f"and -8B have {', '.join(BACKBONES)}."
        )
    for place, key, value, wanted in (
        ("", "ps_version", config.get("ps_version"), "v2"),
        ("", "select_layer", config.get("select_layer"), -1),
        ("", "downsample_ratio", config.get("downsample_ratio"), 0.5),
        ("vision_config.", "norm_type", vision.get("norm_type", "layer_norm"), "layer_norm"),
        ("vision_config.", "qk_normalization", vision.get("qk_normalization"), False),
        ("vision_config.", "qkv_bias", vision.get("qkv_bias"), True),
        ("vision_config.", "hidden_act", vision.get("hidden_act"), "gelu"),
        ("llm_config.", "hidden_act", language.get("hidden_act"), "silu"),
    ):
        if value != wanted:
            raise EmoVerseError(
                f"{path}: {place}{key} is {value!r}, but every InternVL2 from 1B to 8B has "
                f"{wanted!r}; this checkpoint is another model."
            )

    def number(part: dict[str, Any], name: str, key: str) -> int:
        value = part.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise EmoVerseError(f"{path}: {name}.{key} is {value!r}; it must be a whole number.")
        return value

    heads = number(language, "llm_config", "num_attention_heads")
    sizes = Sizes(
        vit_width=number(vision, "vision_config", "hidden_size"),
        vit_layers=number(vision, "vision_config", "num_hidden_layers"),
        vit_heads=number(vision, "vision_config", "num_attention_heads"),
        vit_mlp=number(vision, "vision_config", "intermediate_size"),
        image=number(vision, "vision_config", "image_size"),
        patch=number(vision, "vision_config", "patch_size"),
        fold=2,
        width=number(language, "llm_config", "hidden_size"),
        layers=number(language, "llm_config", "num_hidden_layers"),
        heads=heads,
        key_heads=heads
        if language.get("num_key_value_heads") is None
        else number(language, "llm_config", "num_key_value_heads"),
        mlp=number(language, "llm_config", "intermediate_size"),
        vocabulary=number(language, "llm_config", "vocab_size"),
    )
    if (config.get("force_image_size") or sizes.image) != sizes.image:
        raise EmoVerseError(
            f"{path}: force_image_size {config['force_image_size']} differs from the vision "
            f"tower's {sizes.image}, so its position embeddings would have to be resized; only "
            "checkpoints where both agree are converted."
        )
    if sizes.width % sizes.heads or sizes.heads % sizes.key_heads:
        raise EmoVerseError(
            f"{path}: {sizes.heads} attention heads do not divide width {sizes.width}, or "
            f"{sizes.key_heads} key heads do not divide them; mend llm_config."
        )
    return Published(Path(folder), config, architecture, sizes)


def entries(architecture: str, sizes: Sizes, *, output: bool = True) -> list[Entry]:
    """Every tensor of a published checkpoint.

    Args:
        architecture: key of `BACKBONES`.
        sizes: of both models.
        output: whether the checkpoint has an output layer of its own; without one it is tied to
            the word embeddings.
    """
    found = [*_vision(sizes), *_projector(sizes), *_LANGUAGE[architecture](sizes)]
    return found if output else [entry for entry in found if "lm_head.weight" not in entry.targets]


def output_layer(architecture: str) -> str:
    """Published name of the output layer's weights."""
    return {
        "InternLM2ForCausalLM": "language_model.output.weight",
    }.get(architecture, "language_model.lm_head.weight")


def _vision(s: Sizes) -> Iterator[Entry]:
    width, mlp = s.vit_width, s.vit_mlp
    positions = (s.image // s.patch) ** 2 + 1
    source, target = "vision_model.embeddings", "model.vision_tower.embeddings"
    patch = f"{target}.patch_embeddings.projection"
    yield Entry(f"{source}.class_embedding", (1, 1, width), (f"{target}.cls_token",))
    yield Entry(
        f"{source}.position_embedding", (1, positions, width), (f"{target}.position_embeddings",)
    )
    yield Entry(
        f"{source}.patch_embedding.weight", (width, 3, s.patch, s.patch), (f"{patch}.weight",)
    )
    yield Entry(f"{source}.patch_embedding.bias", (width,), (f"{patch}.bias",))
    for layer in range(s.vit_layers):
        old = f"vision_model.encoder.layers.{layer}"
        new = f"model.vision_tower.encoder.layer.{layer}"
        parts = tuple(f"{new}.attention.{part}_proj" for part in "qkv")
        for kind, inner in (("weight", (width,)), ("bias", ())):
            targets = tuple(f"{part}.{kind}" for part in parts)
            yield Entry(f"{old}.attn.qkv.{kind}", (3 * width, *inner), targets, "thirds")
        for scale in "12":
            yield Entry(f"{old}.ls{scale}", (width,), (f"{new}.lambda_{scale}",))
        for name, renamed, rows, columns in (
            ("attn.proj", "attention.projection_layer", width, width),
            ("mlp.fc1", "mlp.fc1", mlp, width),
            ("mlp.fc2", "mlp.fc2", width, mlp),
            ("norm1", "layernorm_before", width, 0),
            ("norm2", "layernorm_after", width, 0),
        ):
            shape = (rows, columns) if columns else (rows,)
            yield Entry(f"{old}.{name}.weight", shape, (f"{new}.{renamed}.weight",))
            yield Entry(f"{old}.{name}.bias", (rows,), (f"{new}.{renamed}.bias",))


def _projector(s: Sizes) -> Iterator[Entry]:
    folded = s.vit_width * s.fold**2
    for name, renamed, shape in (
        ("mlp1.0", "layer_norm", (folded,)),
        ("mlp1.1", "linear_1", (s.width, folded)),
        ("mlp1.3", "linear_2", (s.width, s.width)),
    ):
        target = f"model.multi_modal_projector.{renamed}"
        yield Entry(f"{name}.weight", shape, (f"{target}.weight",))
        yield Entry(f"{name}.bias", shape[:1], (f"{target}.bias",))


def _internlm2(s: Sizes) -> Iterator[Entry]:
    words = (s.vocabulary, s.width)
    embeddings = ("model.language_model.embed_tokens.weight",)
    yield Entry("language_model.model.tok_embeddings.weight", words, embeddings)
    for layer in range(s.layers):
        old, new = f"language_model.model.layers.{layer}", f"model.language_model.layers.{layer}"
        yield Entry(
            f"{old}.attention.wqkv.weight",
            ((s.heads + 2 * s.key_heads) * s.head, s.width),
            tuple(f"{new}.self_attn.{part}_proj.weight" for part in "qkv"),
            "groups",
        )
        for name, renamed, shape in (
            ("attention.wo", "self_attn.o_proj", (s.width, s.width)),
            ("feed_forward.w1", "mlp.gate_proj", (s.mlp, s.width)),
            ("feed_forward.w3", "mlp.up_proj", (s.mlp, s.width)),
            ("feed_forward.w2", "mlp.down_proj", (s.width, s.mlp)),
            ("attention_norm", "input_layernorm", (s.width,)),
            ("ffn_norm", "post_attention_layernorm", (s.width,)),
        ):
            yield Entry(f"{old}.{name}.weight", shape, (f"{new}.{renamed}.weight",))
    norm = ("model.language_model.norm.weight",)
    yield Entry("language_model.model.norm.weight", (s.width,), norm)
    yield Entry("language_model.output.weight", words, ("lm_head.weight",))


def _phi3(s: Sizes) -> Iterator[Entry]:
    for name, shape in (
        ("self_attn.qkv_proj.weight", ((s.heads + 2 * s.key_heads) * s.head, s.width)),
        ("self_attn.o_proj.weight", (s.width, s.width)),
        ("mlp.gate_up_proj.weight", (2 * s.mlp, s.width)),
        ("mlp.down_proj.weight", (s.width, s.mlp)),
    ):
        yield from _each_layer(s, name, shape)
    yield from _around_layers(s)


def _qwen2(s: Sizes) -> Iterator[Entry]:
    keys = s.key_heads * s.head
    for name, shape in (
        ("self_attn.q_proj.weight", (s.width, s.width)),
        ("self_attn.q_proj.bias", (s.width,)),
        ("self_attn.k_proj.weight", (keys, s.width)),
        ("self_attn.k_proj.bias", (keys,)),
        ("self_attn.v_proj.weight", (keys, s.width)),
        ("self_attn.v_proj.bias", (keys,)),
        ("self_attn.o_proj.weight", (s.width, s.width)),
        ("mlp.gate_proj.weight", (s.mlp, s.width)),
        ("mlp.up_proj.weight", (s.mlp, s.width)),
        ("mlp.down_proj.weight", (s.width, s.mlp)),
    ):
        yield from _each_layer(s, name, shape)
    yield from _around_layers(s)


def _each_layer(s: Sizes, name: str, shape: tuple[int, ...]) -> Iterator[Entry]:
    for layer in range(s.layers):
        yield Entry(
            f"language_model.model.layers.{layer}.{name}",
            shape,
            (f"model.language_model.layers.{layer}.{name}",),
        )


def _around_layers(s: Sizes) -> Iterator[Entry]:
    """What Phi-3 and Qwen2 share: norms, embeddings and the output layer."""
    for norm in ("input_layernorm.weight", "post_attention_layernorm.weight"):
        yield from _each_layer(s, norm, (s.width,))
    for source, shape in (
        ("model.embed_tokens.weight", (s.vocabulary, s.width)),
        ("model.norm.weight", (s.width,)),
        ("lm_head.weight", (s.vocabulary, s.width)),
    ):
        target = source.replace("model.", "model.language_model.", 1)
        yield Entry(f"language_model.{source}", shape, (target,))


_LANGUAGE = {
    "InternLM2ForCausalLM": _internlm2,
    "Phi3ForCausalLM": _phi3,
    "Qwen2ForCausalLM": _qwen2,
}
