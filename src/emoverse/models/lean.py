"""The compact model for answering: its weights read straight from their files, by torch alone.

`compact` builds the same model of transformers' and peft's classes, for training. Importing those
takes seconds, and answering needs little of them: a tokenizer, three layers of a ViT, thirty of a
Llama, and a LoRA to be added up. `tests/models/test_lean.py` holds both to the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from torch.nn import functional

from emoverse.errors import EmoVerseError
from emoverse.files import read_json
from emoverse.models import precision, weights
from emoverse.models.face_tower import IMAGE_TOKENS_EACH, VISUAL_WIDTH, FaceTower
from emoverse.models.key_runs import runs_of
from emoverse.models.llama import FusedLlama, FusedSteps, Shape
from emoverse.models.prefix_tree import PrefixTree, side_by_side
from emoverse.models.prompt import IMAGE_TOKENS
from emoverse.models.trained import LANGUAGE, SHIPPED, name_of

# What a LoRA may have beside two matrices a layer; none of it is added up here.
_MORE_THAN_LORA = ("use_dora", "use_rslora", "lora_bias", "rank_pattern", "alpha_pattern")


class Words:
    """A tokenizer file, with as much of transformers' interface as prompts and answers need."""

    def __init__(self, path: Path) -> None:
        """Read a `tokenizer.json` and add the image marks."""
        self._tokenizer = Tokenizer.from_file(str(path))
        marks = [AddedToken(mark, normalized=False, special=True) for mark in IMAGE_TOKENS]
        self._tokenizer.add_special_tokens(marks)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """The ids of a text, under `input_ids`."""
        # Half of a surrogate pair, as broken JSON has it, is no text: the tokenizer refuses it.
        text = text.encode("utf-8", "replace").decode("utf-8")
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": encoded.ids}

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)


class _Layer(NamedTuple):
    keys: torch.Tensor
    values: torch.Tensor


@dataclass(slots=True, eq=False)
class Past:
    """Keys and values of what was run: per layer (rows, kv heads, length, d) each."""

    layers: list[_Layer] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Lean:
    """A compact model that answers; see `emoverse.models.language.Language`.

    Attributes:
        name: how reports call it.
        tokenizer: knows the image marks.
        llama: the language model, as prompts and allowed answers are weighed with it.
        writing: the same, as text is written with it, which may still be in the making: in
            float32 where `load` packs that, as the words of a sentence hang on smaller differences
            than labels do.
        tower: the face ViT.
        projector: Eq 4.
        image_tokens: visual tokens per picture.
    """

    name: str
    tokenizer: Words
    llama: FusedLlama
    writing: Future[FusedLlama]
    tower: FaceTower
    projector: torch.nn.Linear
    image_tokens: int = IMAGE_TOKENS_EACH

    @property
    def writer(self) -> Lean:
        """The same model, all in what text is written with."""
        written = self.writing.result()
        return self if written is self.llama else replace(self, llama=written)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of all words, from hidden states (…, width)."""
        return self.llama.head(hidden)

    def visual_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, side, side) to (n, image_tokens, 4 x ViT width)."""
        tokens: torch.Tensor = self.tower(pixels)
        return tokens

    def project(self, tokens: torch.Tensor) -> torch.Tensor:
        """Eq 4: (n, image_tokens, in) visual tokens to (n * image_tokens, width) features."""
        projected: torch.Tensor = self.projector(tokens)
        return projected.flatten(0, 1)

    def new_cache(self) -> Past:
        """See `Language`."""
        return Past()

    def hidden_states(
        self,
        trees: Sequence[PrefixTree],
        features: torch.Tensor | None = None,
        cache: Past | None = None,
    ) -> torch.Tensor:
        """See `Language`; features are (m, width)."""
        # Products in bfloat16 are compiled for each new number of tokens, those in float32 are not.
        # That takes as long as ten tokens of padding, but only once.
        multiple = 16 if self.llama.dtype == torch.bfloat16 else 1
        arrays = side_by_side(trees, multiple)
        tokens, positions, visible = map(torch.from_numpy, arrays)
        embedded = functional.embedding(tokens.clamp(min=0), self.llama.embedding)
        embedded = embedded.to(self.llama.dtype)
        seen = tokens < 0
        if features is not None and bool(seen.any()):
            embedded[seen] = features[-1 - tokens[seen]].to(embedded.dtype)
        steps = FusedSteps(self.llama)
        states = steps.run(embedded, positions, visible, runs_of(arrays[2]))
        if cache is not None:
            keys, values = steps.past
            cache.layers = [_Layer(*pair) for pair in zip(keys, values, strict=True)]
        return states


def load(folder: Path = SHIPPED, dtype: torch.dtype | None = None, *, exact: bool = False) -> Lean:
    """The trained compact model, its LoRA merged in float32 and then rounded to `dtype`.

    Args:
        folder: as `compact.load` takes it, or what `emoverse merge` made of that.
        dtype: precision to answer in. By default what the machine is fast in, with the language
            model's weights packed (`precision.packs`): bfloat16, and float32 with float16 weights
            for writing; or the latter for all.
        exact: the latter for all on every machine, so that answers hang neither on what is
            answered beside them nor on the machine.

    Raises:
        EmoVerseError: a file is missing or does not fit, or SmolLM2 cannot be fetched.
    """
    merged = (folder / LANGUAGE).is_dir()
    base = folder / LANGUAGE if merged else weights.smollm2_dir()
    shape = Shape.of(read_json(base / "config.json"))
    assert shape is not None, "the pinned language model is a Llama"
    tower = FaceTower()
    tower.load_state_dict(vit_tensors(folder / "face_vit.safetensors", tower))
    projection = load_file(existing(folder / "projector.safetensors"))
    tensors = {
        name.removeprefix("model."): tensor
        for name, tensor in load_file(existing(base / "model.safetensors")).items()
    }
    if not merged:
        add_lora(tensors, folder)
    fast = torch.float32 if exact else precision.fast()
    packed = dtype is None and precision.packs(fast)
    twice = dtype is None and fast != torch.float32 and precision.packs(torch.float32)
    dtype = dtype or fast
    rows = tensors["embed_tokens.weight"].float()
    if not merged:  # the image marks' rows are the mean of all, as in `compact`
        rows = torch.cat([rows, rows.mean(dim=0, keepdim=True).expand(len(IMAGE_TOKENS), -1)])
    words = rows.to(dtype)
    tensors["embed_tokens.weight"] = words
    with torch.device("meta"):  # the shell alone
        projector = torch.nn.Linear(VISUAL_WIDTH, words.shape[1])
    named = {name.removeprefix("linear."): value.float() for name, value in projection.items()}
    projector.load_state_dict(named, assign=True)
    projector.requires_grad_(False)
    llama = FusedLlama.lay_out(shape, tensors, words, dtype, packed)
    writing: Future[FusedLlama]
    if twice:  # takes most of a second, which nothing but text need wait for
        pool = ThreadPoolExecutor(1)
        writing = pool.submit(FusedLlama.lay_out, shape, tensors, words, torch.float32, True)
        pool.shutdown(wait=False)
    else:
        writing = Future()
        writing.set_result(llama)
    known = Words(base / "tokenizer.json")
    return Lean(name_of(folder), known, llama, writing, tower, projector)


def add_lora(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Add the LoRA of a model folder to the weights it was trained on; these become float32.

    Args:
        tensors: the language model's, by name within it; changed in place.
        folder: holds peft's adapter files.

    Raises:
        EmoVerseError: a file is missing, or the adapter is more than a LoRA.
    """
    adapter = load_file(existing(folder / "adapter_model.safetensors"))
    config = read_json(existing(folder / "adapter_config.json"))
    more = [name for name in _MORE_THAN_LORA if config.get(name)]
    if config.get("peft_type") != "LORA" or more:
        raise EmoVerseError(
            f"{folder}: its adapter is no plain LoRA ({(more or ['peft_type'])[0]}); train it again"
            " with `emoverse train`."
        )
    first, second = ".lora_A.weight", ".lora_B.weight"
    for name, down in adapter.items():
        if name.endswith(first):
            stem = name.removesuffix(first)
            added = adapter[stem + second].float() @ down.float()
            place = stem.removeprefix("base_model.model.") + ".weight"
            scale = config["lora_alpha"] / config["r"]
            tensors[place] = tensors[place].float().add_(added * scale)


def vit_tensors(path: Path, tower: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Trained ViT weights, bfloat16 on disk, for `tower`.

    Raises:
        EmoVerseError: the file is missing, unreadable, or of a ViT of another shape.
    """
    prefix = "vit."
    try:
        tensors = load_file(existing(path))
    except SafetensorError as error:
        raise EmoVerseError(
            f"{path}: not a readable safetensors file ({error}); train or fetch it again."
        ) from None
    vit = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    wanted, given = _shapes(tower.state_dict()), _shapes(vit)
    if wanted != given:
        name = min(n for n in wanted | given if wanted.get(n) != given.get(n))
        raise EmoVerseError(
            f"{path}: holds a face ViT of another shape ({name} is {_told(given.get(name))}, this "
            f"version of EmoVerse needs {_told(wanted.get(name))}); train the ViT again with this "
            "version, or use the version that wrote the folder."
        )
    return vit


def existing(path: Path) -> Path:
    """The path of a file of a model folder.

    Raises:
        EmoVerseError: there is none.
    """
    if not path.is_file():
        raise EmoVerseError(
            f"{path}: the model folder lacks this file; give a folder `emoverse train` wrote."
        )
    return path


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _told(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"
