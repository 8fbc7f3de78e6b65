"""Clips as a processor's own video input. Video processors need torchvision, so these do too."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.models import any_mllm, processing
from emoverse.models.any_mllm import Mllm
from emoverse.models.sights import sights
from emoverse.tasks import er, eri, msa
from emoverse.training.rows import Sample, row_of, rows
from emoverse.training.step import Padded, batch_losses, check_rows, own_path
from emoverse.training.visual import Visual, tokenised, watch
from emoverse.training.visual_cache import open_cache

from ..faces import clips
from .families import _CHAT, _TEXT, FAMILIES, _built, _processor, _tokens

needs_torchvision = pytest.mark.skipif(
    not transformers.utils.is_torchvision_available(), reason="torchvision is not installed"
)


def _smolvlm() -> tuple[Any, Any]:
    pytest.importorskip("num2words", reason="num2words is not installed")
    tokens = _tokens("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    size = {"longest_edge": 32}
    processor = _processor(
        "SmolVLMProcessor",
        transformers.SmolVLMImageProcessorPil(size={"longest_edge": 64}, max_image_size=size),
        tokens,
        transformers.SmolVLMVideoProcessor(size=size, max_image_size=size, num_frames=8, fps=1),
        image_seq_len=4,
        chat_template=_CHAT.replace("IMAGE", "<image>"),
    )
    config = transformers.SmolVLMConfig(
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
    return _built("SmolVLMForConditionalGeneration", config), processor


def _qwen(kind: str, patch: int) -> Any:
    pixels = (2 * patch) ** 2
    size = {"shortest_edge": 2 * pixels, "longest_edge": 32 * pixels}
    return getattr(transformers, kind)(patch_size=patch, size=size)


_VIDEOS = {
    "internvl": (
        "<video>",
        lambda: transformers.InternVLVideoProcessor(size={"height": 56, "width": 56}),
    ),
    "llava_onevision": (
        "<video>",
        lambda: transformers.LlavaOnevisionVideoProcessor(size={"height": 28, "width": 28}),
    ),
    "qwen2_5_vl": (
        "<|vision_start|><|video_pad|><|vision_end|>",
        lambda: _qwen("Qwen2VLVideoProcessor", 8),
    ),
    "qwen3_vl": (
        "<|vision_start|><|video_pad|><|vision_end|>",
        lambda: _qwen("Qwen3VLVideoProcessor", 8),
    ),
}


@cache
def _model(family: str) -> Mllm:
    if family == "smolvlm":
        return any_mllm.prepare(family, *_smolvlm())
    network, processor = FAMILIES[family]()
    mark, make = _VIDEOS[family]
    processor.video_processor = make()
    text = "{% else %}{{ c['text'] }}"
    video = "{% elif c['type'] == 'video' %}" + mark + "\n" + text
    processor.chat_template = processor.chat_template.replace(text, video)
    return any_mllm.prepare(family, network, processor)


@pytest.fixture(params=[*_VIDEOS, "smolvlm"])
def model(request: pytest.FixtureRequest) -> Mllm:
    return _model(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size, count in (("long", (48, 64), 40), ("odd", (64, 48), 3)):
        noise = [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(count)]
        clips.write(tmp_path / f"{name}.mp4", noise, fps=10)
    still = Image.fromarray(rng.integers(0, 255, (50, 60, 3), np.uint8))
    still.save(tmp_path / "still.png")
    return tmp_path


def _records() -> list[Record]:
    long, odd = ("long.mp4",), ("odd.mp4",)
    return [
        Record(er.query("Go"), "Anger.", "er", id="er", videos=long),
        Record(msa.query("Go"), "Negative.", "msa", id="msa", videos=long),
        Record(eri.query(), "She shouts.", "eri", id="eri", videos=odd),
        Record(er.query("Hm"), "Fear.", "er", id="er2", images=("still.png",)),
        Record(er.query("Oh"), "Joy.", "er", id="er3"),
    ]


def _prepared(
    model: Mllm, root: Path, records: list[Record], gigabytes: float = 0
) -> tuple[list[Sample], Visual]:
    cache = open_cache(gigabytes, root / "cache")
    visual = watch(model, records, root, cache, 4, native=True)
    return [tokenised(model, record, visual) for record in records], visual


@needs_torchvision
@pytest.mark.parametrize("kind", ["merged", "packed"])
def test_rows_have_the_losses_of_the_processors_own_path(
    model: Mllm, root: Path, kind: str
) -> None:
    samples, visual = _prepared(model, root, _records())
    assert not visual.lost
    assert sum(any(token < 0 for token in sample.tokens) for sample in samples) == 4
    found = rows(samples, 10_000, random.Random(0), kind)
    with torch.no_grad():
        ours = batch_losses(model, found, visual)
        own = own_path(model, found, Padded(root, 4, native=True))[0]
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=2e-4)
    assert float(own.std()) > 0.1
    check_rows(model, samples, visual, Padded(root, 4, native=True))


@needs_torchvision
def test_tokens_are_those_of_the_processor_given_the_video(model: Mllm, root: Path) -> None:
    samples, _ = _prepared(model, root, _records())
    record = samples[0].record
    (clip,) = sights(root, record.media, 4, native=True)
    assert isinstance(clip, processing.Clip)
    text = processing.chat(model, record.query, 0, record.response, clips=1)
    given = model.processor(
        text=[text],
        videos=[np.stack([np.asarray(frame) for frame in clip.frames])],
        do_sample_frames=False,
        video_metadata=[
            transformers.video_utils.VideoMetadata(
                total_num_frames=4000,
                fps=1000,
                duration=4.0,
                frames_indices=[round(1000 * time) for time in clip.times],
            )
        ],
        return_tensors="pt",
    )["input_ids"][0].tolist()
    marks = processing.mark_ids(model)
    assert [token < 0 for token in samples[0].tokens] == [token in marks for token in given]
    assert [t for t in samples[0].tokens if t >= 0] == [t for t in given if t not in marks]


@needs_torchvision
def test_kept_clips_give_the_same_losses(model: Mllm, root: Path) -> None:
    losses = []
    for gigabytes in (0, 1, 1):
        samples, visual = _prepared(model, root, _records(), gigabytes)
        with torch.no_grad():
            losses.append(batch_losses(model, [row_of(samples)], visual))
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[1], losses[2])
    assert len(list((root / "cache").rglob("*.safetensors"))) == 3


@needs_torchvision
def test_the_order_of_a_clips_frames_matters(model: Mllm, root: Path) -> None:
    record = _records()[0]
    (clip,) = sights(root, record.media, 4, native=True)
    assert isinstance(clip, processing.Clip)
    turned = processing.Clip(clip.frames[::-1], clip.times, clip.duration)
    with torch.no_grad():
        (ahead, _), (back, _) = (
            processing.own_losses(model, [(record.query, record.response, [one])])[0]
            for one in (clip, turned)
        )
    assert float((ahead - back).abs().max()) > 0.01


@needs_torchvision
def test_stills_and_clips_of_one_record_go_together_or_are_refused(model: Mllm, root: Path) -> None:
    both = Record(er.query("Go"), "Joy.", "er", images=("still.png",), videos=("long.mp4",))
    if model.name == "smolvlm":  # its processor writes both to one input
        with pytest.raises(EmoVerseError, match="set videos: frames"):
            _prepared(model, root, [both], 1)
        return
    samples, visual = _prepared(model, root, [both])
    with torch.no_grad():
        ours = batch_losses(model, [row_of(samples)], visual)
        own = own_path(model, [row_of(samples)], Padded(root, 4, native=True))[0]
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=2e-4)


def test_a_processor_without_videos_is_told(root: Path) -> None:
    for family in ("idefics3", "internvl"):  # one that knows none, one that lacks torchvision
        bare = any_mllm.prepare(family, *FAMILIES[family]())
        with pytest.raises(EmoVerseError, match="set videos: frames"):
            _prepared(bare, root, _records())
