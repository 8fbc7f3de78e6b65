from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from emoverse.models.internvl2.convert import convert

from . import published

KINDS = ("phi3", "internlm2", "qwen2")


@dataclass(frozen=True)
class Converted:
    """A small checkpoint, as published and as converted and loaded by plain transformers."""

    kind: str
    source: Path
    target: Path
    checkpoint: dict[str, Any]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def image_token(self) -> int:
        return int(self.model.config.image_token_id)


@pytest.fixture(scope="package", params=KINDS)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    pytest.importorskip("sentencepiece", reason="makes the small tokenizers")
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    source, target = folder / "published", folder / "converted"
    checkpoint = published.checkpoint(source, kind)
    convert(source, target, shard_bytes=60_000)
    model = AutoModelForImageTextToText.from_pretrained(target, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(target)
    return Converted(kind, source, target, checkpoint, model, tokenizer)
