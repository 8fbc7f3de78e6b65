"""A published InternVL2 configuration in transformers' terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_json
from emoverse.models.internvl2.layout import Published
from emoverse.models.internvl2.preprocess import MEAN, SEGMENTS, STD

_KEPT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "attention_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
_NEEDED = ("rms_norm_eps", "max_position_embeddings", "rope_theta")


def model_config(
    published: Published, *, dtype: str, image_token: int, tied: bool
) -> dict[str, Any]:
    """`config.json` for transformers' `InternVLForConditionalGeneration`.

    Args:
        published: the checkpoint.
        dtype: of the weights, as torch names it.
        image_token: id of `<IMG_CONTEXT>`.
        tied: whether the output layer is the word embeddings.

    Raises:
        EmoVerseError: a key that fixes the arithmetic is missing or unknown.
    """
    vision, sizes = published.config["vision_config"], published.sizes
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "dtype": dtype,
        "image_token_id": image_token,
        "image_seq_length": sizes.visual_tokens,
        "downsample_ratio": 1 / sizes.fold,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": tied,
        "vision_config": {
            "model_type": "internvl_vision",
            "architectures": ["InternVLVisionModel"],
            "hidden_size": sizes.vit_width,
            "num_hidden_layers": sizes.vit_layers,
            "num_attention_heads": sizes.vit_heads,
            "intermediate_size": sizes.vit_mlp,
            "image_size": [sizes.image, sizes.image],
            "patch_size": [sizes.patch, sizes.patch],
            "num_channels": 3,
            "hidden_act": "gelu",
            "norm_type": "layer_norm",
            "layer_norm_eps": _value(published, vision, "vision_config", "layer_norm_eps"),
            "attention_bias": True,
            "use_qk_norm": False,
            "use_absolute_position_embeddings": True,
            "use_mask_token": False,
            "use_mean_pooling": True,
            "layer_scale_init_value": 0.1,
        },
        "text_config": _text(published, tied),
    }


def image_settings(published: Published) -> dict[str, Any]:
    """`preprocessor_config.json`: dynamic tiles and a thumbnail, ImageNet statistics."""
    config, side = published.config, published.sizes.image
    return {
        "processor_class": "InternVLProcessor",
        "image_processor_type": "GotOcr2ImageProcessor",
        "crop_to_patches": bool(config.get("dynamic_image_size", True)),
        "min_patches": config.get("min_dynamic_patch", 1),
        "max_patches": config.get("max_dynamic_patch", 12),
        **_picture(side),
    }


def video_settings(published: Published) -> dict[str, Any]:
    """`video_preprocessor_config.json`: eight frames from the middles of equal segments."""
    return {
        "processor_class": "InternVLProcessor",
        "video_processor_type": "InternVLVideoProcessor",
        "do_sample_frames": True,
        "num_frames": SEGMENTS,
        "initial_shift": True,
        **_picture(published.sizes.image),
    }


def rotary_keys(rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings under the names of transformers 5 and of 4, which vLLM may run on.

    Transformers 4 does not know `rope_parameters`: without a `rope_theta` beside it, it would take
    its default base and compute something else without a word.

    Args:
        rope: `rope_parameters` of a text configuration.
    """
    keys: dict[str, Any] = {"rope_parameters": rope, "rope_theta": rope["rope_theta"]}
    if rope["rope_type"] == "longrope":  # Phi-3's class takes these three and no others
        factors = {key: rope[key] for key in ("short_factor", "long_factor")}
        keys["rope_scaling"] = {"type": "longrope", **factors}
    elif rope["rope_type"] != "default":
        keys["rope_scaling"] = {"rope_type": rope["rope_type"], "factor": rope["factor"]}
    return keys


def keep_rotary_keys(folder: Path) -> None:
    """Put both names of the rotary settings into a folder that transformers 5 saved.

    Folders of other models are left as they are.
    """
    path = folder / "config.json"
    config = read_json(path)
    text = config.get("text_config")
    if config.get("model_type") == "internvl" and text and text.get("rope_parameters"):
        write_json(path, {**config, "text_config": text | rotary_keys(text["rope_parameters"])})


def _picture(side: int) -> dict[str, Any]:
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def _text(published: Published, tied: bool) -> dict[str, Any]:
    llm, backbone, sizes = published.config["llm_config"], published.backbone, published.sizes
    for key in _NEEDED:
        _value(published, llm, "llm_config", key)
    text = {key: llm[key] for key in _KEPT if llm.get(key) is not None}
    text |= {
        "model_type": backbone.model_type,
        "architectures": [backbone.architecture],
        "num_key_value_heads": sizes.key_heads,
        "tie_word_embeddings": tied,
        "use_cache": True,
        **rotary_keys(_rope(published, llm)),
    }
    if llm.get("bias"):
        raise EmoVerseError(
            f"{published.folder / 'config.json'}: llm_config.bias is true, but no published "
            "InternVL2 has biases in its language model's projections; this is another model."
        )
    return text


def _rope(published: Published, llm: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings: plain, InternLM2's `dynamic`, or Phi-3's `su` (today's `longrope`)."""
    theta = {"rope_theta": float(llm["rope_theta"])}
    scaling = llm.get("rope_scaling")
    if not scaling:
        return {"rope_type": "default", **theta}
    kind = scaling.get("rope_type") or scaling.get("type")
    place = f"{published.folder / 'config.json'}: llm_config.rope_scaling"
    if kind in ("dynamic", "linear"):
        if "factor" not in scaling:
            raise EmoVerseError(f"{place} has no `factor`; download the file again.")
        return {"rope_type": kind, **theta, "factor": float(scaling["factor"])}
    if kind in ("su", "longrope"):
        original = llm.get("original_max_position_embeddings")
        if original is None or not {"long_factor", "short_factor"} <= set(scaling):
            raise EmoVerseError(
                f"{place} needs `long_factor`, `short_factor` and "
                "`original_max_position_embeddings` beside it; download the file again."
            )
        return {
            "rope_type": "longrope",
            **theta,
            "long_factor": list(scaling["long_factor"]),
            "short_factor": list(scaling["short_factor"]),
            "original_max_position_embeddings": original,
        }
    raise EmoVerseError(f"{place} is of the unknown kind {kind!r}; this is another model.")


def _value(published: Published, part: dict[str, Any], name: str, key: str) -> Any:
    if part.get(key) is None:
        raise EmoVerseError(
            f"{published.folder / 'config.json'}: {name} has no {key!r}; download the file again."
        )
    return part[key]
