"""EmoVerse-compact: our face ViT, a linear projector and SmolLM2-135M-Instruct with LoRA.

The LoRA, the projector and the ViT ship with the package; the language model's own weights are
fetched once by `emoverse pull compact`. Here it is made of transformers' and peft's classes, to be
trained; `emoverse.models.lean` is the same for answering.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from transformers import (
    AutoModel,
    AutoTokenizer,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
)
from transformers.utils import logging as chatter

from emoverse.files import write_bytes
from emoverse.models import attention, face_vit, precision, weights
from emoverse.models.emoverse import EmoVerse, LinearProjector
from emoverse.models.lean import existing, vit_tensors
from emoverse.models.prompt import IMAGE_TOKENS
from emoverse.models.trained import SHIPPED as SHIPPED

IMAGE_SEQUENCE = 9
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def assemble(dtype: torch.dtype | None = None) -> EmoVerse:
    """The compact model before training: SmolLM2 and a new ViT under InternVL's classes.

    Args:
        dtype: of the language model, what the machine is fast in by default; ViT and projector run
            in float32, they are small.

    Returns:
        An EmoVerse whose ViT and projector are new (seeded) and whose language model has no LoRA.

    Raises:
        EmoVerseError: SmolLM2 is not in the cache and cannot be fetched.
    """
    source = weights.smollm2_dir()
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": list(IMAGE_TOKENS)})
    language = AutoModel.from_pretrained(
        source, dtype=dtype or precision.fast(), attn_implementation=attention.NAME
    )
    _add_rows(language, len(IMAGE_TOKENS))
    config = InternVLConfig(
        vision_config=face_vit.config(),
        text_config=language.config,
        image_token_id=len(tokenizer) - 1,
        image_seq_length=IMAGE_SEQUENCE,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):  # the shell alone: every part is put in below
        network = InternVLForConditionalGeneration(config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network.model.vision_tower = face_vit.vision_tower()
        network.model.multi_modal_projector = LinearProjector(
            4 * face_vit.config().hidden_size, language.config.hidden_size
        )
    network.model.language_model = language
    language.set_attn_implementation(attention.NAME)  # InternVL's config has put its own back
    network.lm_head.weight = language.get_input_embeddings().weight
    network.requires_grad_(False).train(False)
    return EmoVerse("compact", network, tokenizer, IMAGE_SEQUENCE)


def load(folder: Path = SHIPPED, dtype: torch.dtype | None = None) -> EmoVerse:
    """The trained compact model, its LoRA merged in float32 and then rounded to `dtype`.

    Args:
        folder: holds `face_vit.safetensors`, `projector.safetensors` and peft's adapter files;
            the shipped weights by default, or what `emoverse train` wrote.
        dtype: precision to answer in; what the machine is fast in by default.

    Raises:
        EmoVerseError: a file is missing, or SmolLM2 cannot be fetched.
    """
    model = assemble(torch.float32)
    load_vit(model, folder / "face_vit.safetensors")
    load_projector(model, folder)
    existing(folder / "adapter_model.safetensors")
    language = model.network.model.language_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft and transformers talk to each other
        merged = PeftModel.from_pretrained(language, folder).merge_and_unload()
    # transformers computes rotary angles in float32 from this buffer; `to` must not round it.
    frequencies = merged.rotary_emb.inv_freq.clone()
    model.network.model.language_model = merged.to(dtype or precision.fast())
    merged.rotary_emb.inv_freq = frequencies
    model.network.lm_head.weight = merged.get_input_embeddings().weight
    model.network.requires_grad_(False).train(False)
    return model


def load_projector(model: EmoVerse, folder: Path) -> None:
    """Put the projector of a model folder into `model`.

    Raises:
        EmoVerseError: the folder has none.
    """
    projector = model.network.model.multi_modal_projector
    projector.load_state_dict(load_file(existing(folder / "projector.safetensors")))


def load_vit(model: EmoVerse, path: Path) -> None:
    """Put trained ViT weights (bfloat16 on disk, float32 in use) into `model`.

    Raises:
        EmoVerseError: the file is missing, unreadable, or of a ViT of another shape.
    """
    tower = model.network.model.vision_tower
    tower.load_state_dict(vit_tensors(path, tower))


def save(model: EmoVerse, folder: Path) -> None:
    """Write LoRA and projector as bfloat16 safetensors; the base weights stay where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    language = model.network.model.language_model
    state = get_peft_model_state_dict(language, save_embedding_layers=False)
    config = language.peft_config["default"]
    config.base_model_name_or_path = BASE  # not the cache folder of whoever trained it
    config.save_pretrained(str(folder))
    _save(state, folder / "adapter_model.safetensors")
    _save(model.network.model.multi_modal_projector.state_dict(), folder / "projector.safetensors")


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    ready = {
        name: value.detach().to(torch.bfloat16).contiguous() for name, value in tensors.items()
    }
    write_bytes(path, serialize(ready))


def _add_rows(language: PreTrainedModel, count: int) -> None:
    """Embedding rows for the image marks: the mean of all rows, so that nothing need be stored."""
    old = language.get_input_embeddings().weight
    assert isinstance(old, torch.Tensor)
    mean = old.detach().float().mean(dim=0, keepdim=True).to(old.dtype)
    rows = torch.cat([old.detach(), mean.expand(count, -1)])
    language.set_input_embeddings(torch.nn.Embedding(len(rows), rows.shape[1], _weight=rows))
    language.config.vocab_size = len(rows)
