"""A random EmoVerse of a few thousand parameters: every rule of the real one, in milliseconds."""

from __future__ import annotations

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from emoverse.faces.crop import SIZE
from emoverse.models import attention
from emoverse.models.emoverse import IMAGE_TOKENS, EmoVerse, LinearProjector
from emoverse.models.llama import FusedLlama, Shape
from emoverse.tasks import SYSTEM_PROMPT, ecpe, er, eri, fer, msa

# Crops in 4 x 4 patches, folded into 2 x 2 visual tokens.
IMAGE_SEQUENCE = 4


def tiny_model(dtype: torch.dtype = torch.float32, *, seed: int = 0) -> EmoVerse:
    """Two layers, four heads on two key heads, width 32; the same weights for the same seed."""
    tokens = tokenizer()
    vision = InternVLVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=(SIZE, SIZE),
        patch_size=(SIZE // 4, SIZE // 4),
        norm_type="layer_norm",
    )
    text = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,  # large, so that what is attended to matters
        tie_word_embeddings=True,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokens.convert_tokens_to_ids(IMAGE_TOKENS[2]),
        image_seq_length=IMAGE_SEQUENCE,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = InternVLForConditionalGeneration(config)
        network.model.multi_modal_projector = LinearProjector(64, 32)
    language = network.model.language_model
    language.set_attn_implementation(attention.NAME)
    network.lm_head.weight = language.get_input_embeddings().weight
    language.to(dtype)
    network.eval().requires_grad_(False)
    return EmoVerse("tiny", network, tokens, IMAGE_SEQUENCE)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt from the tasks' own wording."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    wording = [SYSTEM_PROMPT, fer.query(), eri.query(), msa.query("a"), er.query("b")]
    turns = [ecpe.Turn(1, "Ann", "Well.", "joy"), ecpe.Turn(2, "Bob", "No.", "surprise")]
    bpe.train_from_iterator(
        [*wording, ecpe.query(turns, 2), *msa.choices(), *er.choices()],
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=bpe)
    marks = ["<|im_start|>", "<|im_end|>", *IMAGE_TOKENS]
    wrapped.add_special_tokens({"additional_special_tokens": marks})
    return wrapped


def features(model: EmoVerse, pictures: int, *, seed: int = 0) -> torch.Tensor:
    """Random projected visual tokens of so many pictures."""
    rng = torch.Generator().manual_seed(seed)
    width = model.network.lm_head.weight.shape[1]
    return torch.randn(pictures * model.image_tokens, width, generator=rng)


def picture_ids(model: EmoVerse, picture: int) -> list[int]:
    """The negative ids of one picture's features."""
    return [-1 - (picture * model.image_tokens + k) for k in range(model.image_tokens)]


def alone(
    model: EmoVerse, sequence: list[int], features: torch.Tensor | None = None
) -> torch.Tensor:
    """Hidden states (len, width) of one sequence by transformers' own attention and causal mask."""
    language = model.network.model.language_model
    language.set_attn_implementation("sdpa")
    try:
        with torch.no_grad():
            embeddings = model.embed(torch.tensor([sequence]), features)
            states: torch.Tensor = language(inputs_embeds=embeddings).last_hidden_state[0]
    finally:
        language.set_attn_implementation(attention.NAME)
    return states


def laid_out(model: EmoVerse, *, packed: bool = False) -> FusedLlama:
    """Its language model as the compact one answers with it."""
    language = model.network.model.language_model
    shape = Shape.of(language.config.to_dict())
    assert shape is not None
    words = model.network.lm_head.weight
    return FusedLlama.lay_out(shape, language.state_dict(), words, model.dtype, packed)
