"""What other programs read from a converted folder."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from emoverse.models.internvl2.processor import open_processor

from . import published
from .conftest import Converted

# vLLM's class for InternVLForConditionalGeneration maps these prefixes and no others.
_VLLM = ("lm_head.", "model.language_model.", "model.vision_tower.", "model.multi_modal_projector.")


def test_the_settings_vllm_reads(converted: Converted) -> None:
    config = json.loads((converted.target / "config.json").read_text())
    assert config["architectures"] == ["InternVLForConditionalGeneration"]
    # It builds the language model from the text configuration's own architecture.
    assert config["text_config"]["architectures"] == [
        {
            "phi3": "Phi3ForCausalLM",
            "internlm2": "LlamaForCausalLM",
            "qwen2": "Qwen2ForCausalLM",
        }[converted.kind]
    ]
    assert config["vision_config"]["image_size"] == [published.IMAGE, published.IMAGE]
    assert config["downsample_ratio"] == 0.5
    assert config["vision_feature_layer"] == -1
    index = json.loads((converted.target / "model.safetensors.index.json").read_text())
    assert all(name.startswith(_VLLM) for name in index["weight_map"])
    # It asks for placeholders of one token each.
    for mark in ("<IMG_CONTEXT>", "<video>", "<img>", "</img>"):
        assert len(converted.tokenizer.encode(mark, add_special_tokens=False)) == 1


def test_a_picture_and_a_question_through_the_processor(converted: Converted) -> None:
    processor = open_processor(str(converted.target))
    noise = np.random.default_rng(0).integers(0, 256, (60, 170, 3), np.uint8)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(
        text=text, images=[Image.fromarray(noise)], return_tensors="pt", add_special_tokens=False
    )
    tiles = len(inputs["pixel_values"])
    assert tiles == 4  # three tiles and a thumbnail
    per_tile = (published.IMAGE // published.PATCH // 2) ** 2
    assert int((inputs["input_ids"] == converted.image_token).sum()) == tiles * per_tile
    said = converted.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert said.shape[1] <= inputs["input_ids"].shape[1] + 3


def test_a_processor_saved_again_opens_again(converted: Converted, tmp_path: object) -> None:
    folder = str(tmp_path)
    processor = open_processor(str(converted.target))
    processor.save_pretrained(folder)
    again = open_processor(folder)
    assert again.image_seq_length == processor.image_seq_length
    assert again.image_processor.max_patches == 12
    assert again.tokenizer.chat_template == processor.tokenizer.chat_template


def test_a_saved_model_is_the_same_model(converted: Converted, tmp_path: object) -> None:
    folder = str(tmp_path)
    converted.model.save_pretrained(folder)
    again = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    found, wanted = again.state_dict(), converted.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
