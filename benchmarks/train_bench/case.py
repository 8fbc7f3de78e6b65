"""What `benchmarks/train.py` trains: a model with random weights and drawn data."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from emoverse.emt.record import Record
from emoverse.files import write_json
from emoverse.models import face_vit
from emoverse.models.internvl2.chat import chat_template
from emoverse.models.internvl2.configuration import image_settings, model_config, video_settings
from emoverse.models.internvl2.published import published_size
from emoverse.models.internvl2.tokenizer import Words, write_tokenizer
from emoverse.tasks import SYSTEM_PROMPT, ecpe, er, eri, fer, labels, msa

_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes and how it is trained.

    Attributes:
        text, vision: arguments of transformers' configurations; none for a published size.
        published: name of a published InternVL2 whose shapes are taken instead.
        side: of the pictures, in pixels; each becomes one tile.
        frames: pictures of a clip.
        tokens: visual tokens of a picture.
        targets: layers with LoRA.
        rank: of it.
        row_tokens, batch_tokens: EmoVerse's.
        answers: of an optimiser step, for all.
        batch: samples that the others run side by side.
    """

    side: int
    frames: int
    tokens: int
    row_tokens: int
    batch_tokens: int
    answers: int
    batch: int
    rank: int = 8
    targets: tuple[str, ...] = _LINEAR
    text: dict[str, Any] | None = None
    vision: dict[str, Any] | None = None
    published: str = ""


def _vit(config: transformers.InternVLVisionConfig) -> dict[str, Any]:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return {name: getattr(config, name) for name in names}


_SMALL = {"side": 96, "frames": 1, "tokens": 9, "row_tokens": 320, "batch_tokens": 1920}
SHAPES = {
    "tiny": Shape(
        **_SMALL,
        answers=8,
        batch=4,
        text={
            "vocab_size": 4096,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        vision=_vit(face_vit.config()),
    ),
    # SmolLM2-135M and the face ViT's sizes.
    "compact": Shape(
        **_SMALL,
        answers=16,
        batch=4,
        rank=16,
        text={
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
        },
        vision=_vit(face_vit.config()),
    ),
    "4b": Shape(
        side=448,
        frames=8,
        tokens=256,
        row_tokens=3072,
        batch_tokens=6144,
        answers=8,
        batch=2,
        targets=("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
        published="InternVL2-4B",
    ),
}


def drawn(root: Path, dialogues: int, frames: int, side: int, data: str) -> list[Record]:
    """Dialogues with the proportions of the paper's Table I, in words that mean nothing.

    Args:
        root: pictures are written there.
        dialogues: how many; each has 5 to 15 turns of 3 to 18 words.
        frames: pictures of a turn's clip.
        side: of a picture.
        data: `clips` shows each turn's pictures; `talk` has words alone, with the turns before in
            the ER query, as MELD is trained on where its clips are missing.
    """
    dice = random.Random(0)
    words = _words(dice, 1200)
    found: list[Record] = []
    for number in range(dialogues):
        said = [
            (
                dice.choice(("Ann", "Bob", "Cleo")),
                " ".join(dice.choices(words, k=dice.randint(3, 18))),
            )
            for _ in range(dice.randint(5, 15))
        ]
        felt = [dice.choice((*labels.EMOTIONS, "neutral", "neutral")) for _ in said]
        talk = {"dialogue": f"d{number}"}
        for place, ((speaker, text), emotion) in enumerate(zip(said, felt, strict=True)):
            name = f"d{number}u{place}"
            shown = _pictures(root, name, frames, side) if data == "clips" else ()
            before = said[:place] if data == "talk" else ()
            about = {"images": shown, "meta": talk | {"sample": name}}
            query = er.query(text, speaker=speaker, context=before)
            found.append(Record(query, er.answer(emotion), "er", id=f"{name}/er", **about))
            polarity = dice.choice(("positive", "negative"))
            found.append(
                Record(msa.query(text), msa.answer(polarity), "msa", id=f"{name}/msa", **about)
            )
            if dice.random() < 0.6 and shown:
                caption = fer.answer(dice.sample(sorted(fer.phrases()), 3))
                found.append(Record(fer.query(), caption, "fer", id=f"{name}/fer", **about))
            if dice.random() < 0.19:
                why = " ".join(dice.choices(words, k=45))
                found.append(Record(eri.query(text), why, "eri", id=f"{name}/eri", **about))
        turns = [
            ecpe.Turn(place, speaker, text, emotion)
            for place, ((speaker, text), emotion) in enumerate(zip(said, felt, strict=True), 1)
        ]
        # Of a whole conversation's targets the paper's Table I has about one in four turns.
        for turn in turns:
            if turn.emotion != "neutral" and dice.random() < 0.45:
                causes = [ecpe.Pair(turn.index, turn.emotion, max(1, turn.index - 1))]
                found.append(
                    Record(
                        ecpe.query(turns, turn.index),
                        ecpe.answer(causes),
                        "ecpe",
                        id=f"d{number}/ecpe{turn.index}",
                        meta=talk | {"sample": f"d{number}"},
                    )
                )
    return found


def _words(dice: random.Random, count: int) -> list[str]:
    parts = [a + b for a in "bcdfghklmnprstvw" for b in "aeiou"]
    return ["".join(dice.choices(parts, k=dice.choice((1, 1, 2, 2, 2, 3)))) for _ in range(count)]


def _pictures(root: Path, name: str, frames: int, side: int) -> tuple[str, ...]:
    rng = np.random.default_rng(list(name.encode()))
    names = []
    for frame in range(frames):
        rough = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        path = root / f"{name}_{frame}.jpg"
        rough.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
        names.append(path.name)
    return tuple(names)


def make_model(folder: Path, shape: Shape, records: list[Record]) -> int:
    """Write random weights, tokenizer and processor as an InternVL folder.

    Returns:
        Weights of the language model's layers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    published = published_size(shape.published or "InternVL2-4B")
    words = _tokenizer(records, folder)
    image = words.fast.token_to_id("<IMG_CONTEXT>")
    if shape.published:
        settings = model_config(published, dtype="bfloat16", image_token=image, tied=False)
        config = transformers.InternVLConfig(**settings)
    else:
        config = transformers.InternVLConfig(
            vision_config=transformers.InternVLVisionConfig(
                **(shape.vision or {}),
                image_size=(shape.side, shape.side),
                patch_size=(face_vit.PATCH, face_vit.PATCH),
                attention_bias=True,
                norm_type="layer_norm",
            ),
            text_config=transformers.LlamaConfig(
                **(shape.text or {}), max_position_embeddings=8192, tie_word_embeddings=True
            ),
            image_token_id=image,
            image_seq_length=shape.tokens,
            tie_word_embeddings=True,
        )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        plain = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            network = transformers.InternVLForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(plain)
    network.save_pretrained(folder)
    one_tile = {"crop_to_patches": True, "min_patches": 1, "max_patches": 1}
    size = {"size": {"height": shape.side, "width": shape.side}}
    write_json(folder / "preprocessor_config.json", image_settings(published) | one_tile | size)
    write_json(folder / "video_preprocessor_config.json", video_settings(published) | size)
    write_json(
        folder / "processor_config.json",
        {"processor_class": "InternVLProcessor", "image_seq_length": shape.tokens},
    )
    layers = network.model.language_model.layers
    return sum(
        part.weight.numel() for part in layers.modules() if isinstance(part, torch.nn.Linear)
    )


def _tokenizer(records: list[Record], folder: Path) -> Words:
    """Byte-level BPE learnt from the drawn data, with ChatML's and the pictures' marks."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    wording = [SYSTEM_PROMPT, *(f"{record.query}\n{record.response}" for record in records)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        wording,
        trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False),
    )
    marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
    bpe.add_special_tokens([AddedToken(mark, special=True) for mark in (*marks, "<video>")])
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    words = Words(bpe, named, "", 8192)
    write_tokenizer(words, folder, chat_template("Hermes-2"))
    return words
