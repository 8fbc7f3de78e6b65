from __future__ import annotations

import dataclasses
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from emoverse.emt.record import Record
from emoverse.errors import EmoVerseError
from emoverse.models import any_mllm, attention, processing
from emoverse.models.any_mllm import Mllm
from emoverse.tasks import ecpe, er, fer, msa
from emoverse.training.rows import Sample, row_of, rows
from emoverse.training.speed import language_of
from emoverse.training.step import Padded, batch_losses, check_rows, check_window, own_path
from emoverse.training.visual import Visual, tokenised, watch
from emoverse.training.visual_cache import open_cache

from . import families
from .families import FAMILIES

PLAIN_PROJECTOR = ("internvl", "idefics3")


@cache
def mllm(family: str) -> Mllm:
    network, processor = FAMILIES[family]()
    return any_mllm.prepare(family, network, processor)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Mllm:
    return mllm(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in (("wide", (50, 100)), ("tall", (90, 60)), ("square", (64, 64))):
        picture = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
        picture.save(tmp_path / f"{name}.png")
    return tmp_path


TURNS = [
    ecpe.Turn(1, "Ann", "Well.", "neutral"),
    ecpe.Turn(2, "Bob", "No!", "surprise"),
    ecpe.Turn(3, "Ann", "Yes!", "anger"),
]


def records() -> list[Record]:
    """Several tasks of one clip, one and two pictures, none, and a shared conversation."""
    wide, pair = ("wide.png",), ("tall.png", "square.png")
    talk = {"dialogue": "1"}
    return [
        Record(er.query("Go"), "Anger.", "er", id="er", images=wide),
        Record(msa.query("Go"), "Negative.", "msa", id="msa", images=wide),
        Record(fer.query(), "Eyes narrowing", "fer", id="fer", images=wide),
        Record(er.query("Stay"), "Joy.", "er", id="er2", images=pair),
        Record(msa.query("Stay"), "Positive.", "msa", id="msa2", images=pair),
        Record(er.query("Hm"), "Fear.", "er", id="er3"),
        Record(ecpe.query(TURNS, 2), "2_surprise,1;2_surprise,2", "ecpe", id="c1", meta=talk),
        Record(ecpe.query(TURNS, 3), "", "ecpe", id="c2", meta=talk),
    ]


def prepared(model: Mllm, root: Path, gigabytes: float = 0) -> tuple[list[Sample], Visual]:
    visual = watch(model, records(), root, open_cache(gigabytes, root / "cache"))
    return [tokenised(model, record, visual) for record in records()], visual


@pytest.mark.parametrize("kind", ["merged", "packed", "padded"])
def test_rows_have_the_losses_of_the_processors_own_path(
    model: Mllm, root: Path, kind: str
) -> None:
    samples, visual = prepared(model, root)
    found = rows(samples, 10_000, random.Random(0), kind)
    if kind == "merged":
        assert sum(len(row.tree.tokens) for row in found) < 0.9 * sum(
            len(sample.tokens) for sample in samples
        )
    with torch.no_grad():
        ours = batch_losses(model, found, visual)
        own = own_path(model, found, Padded(root, 8))[0]
    assert len(ours) == sum(len(sample.learnt) for sample in samples)
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=2e-4)
    assert float(own.std()) > 0.1


@pytest.mark.parametrize("name", ["grouped", "flex"])
def test_every_attention_has_the_same_losses(model: Mllm, root: Path, name: str) -> None:
    samples, visual = prepared(model, root)
    found = [row_of(samples[:5]), row_of(samples[5:], merged=False)]
    language = language_of(model)
    losses = []
    try:
        for each in ("sdpa", name):
            language.set_attn_implementation(attention.IMPLEMENTATIONS[each])
            with torch.no_grad():
                losses.append(batch_losses(model, found, visual))
                own = own_path(model, found, Padded(root, 8))[0]  # its masks fit too
            torch.testing.assert_close(losses[-1], own, atol=2e-4, rtol=2e-4)
    finally:
        language.set_attn_implementation("sdpa")
    torch.testing.assert_close(losses[0], losses[1], atol=2e-4, rtol=2e-4)


def test_the_picture_matters(model: Mllm, root: Path) -> None:
    samples, visual = prepared(model, root)
    zeros = dataclasses.replace(visual, features=lambda items: 0 * visual.features(items))
    row = row_of(samples[:3])
    with torch.no_grad():
        apart = batch_losses(model, [row], visual) - batch_losses(model, [row], zeros)
    assert float(apart.abs().max()) > 0.01


def test_tokens_are_those_of_the_processor(model: Mllm, root: Path) -> None:
    samples, _ = prepared(model, root)
    for sample in samples:
        record = sample.record
        shown = [Image.open(root / name).convert("RGB") for name in record.media]
        text = processing.chat(model, record.query, len(shown), record.response)
        given = model.processor(text=[text], **processing.media(model, [shown]))["input_ids"][0]
        mark = model.processor.image_token_id
        assert [mark if token < 0 else token for token in sample.tokens] == list(given)
        learnt = model.tokenizer.decode([sample.tokens[place] for place in sample.learnt])
        assert learnt.endswith("<|im_end|>")
        if record.task != "ecpe":
            assert learnt == f"{record.response}<|im_end|>"


@pytest.mark.parametrize(("family", "tokens"), [("internvl", 4), ("idefics3", 4)])
def test_the_frames_of_a_clip_are_one_tile_each(family: str, tokens: int) -> None:
    wide = Image.new("RGB", (120, 60))
    model = mllm(family)
    alone = processing.feature_count(model, processing.show(model, [wide]))
    assert alone > tokens  # a picture is cut into tiles
    frames = processing.show(model, [wide] * 3)
    assert [text.count(model.processor.image_token) for text in frames.texts] == [tokens] * 3


def test_kept_visual_tokens_give_the_same_losses_and_the_encoder_runs_once(
    model: Mllm, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    look = processing.look

    def counted(*args: object) -> torch.Tensor:
        looked.append(1)
        return look(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(processing, "look", counted)
    losses = []
    for gigabytes in (0, 1, 1):
        samples, visual = prepared(model, root, gigabytes)
        with torch.no_grad():
            losses.append(batch_losses(model, [row_of(samples)], visual))
    assert len(looked) == 4  # two media without the cache, two for it, none from it
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[1], losses[2])


def test_other_preparation_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = any_mllm.prepare("internvl", *FAMILIES["internvl"]())
    found = {any_mllm.fingerprint(model)}
    model.processor.image_seq_length = 5
    found.add(any_mllm.fingerprint(model))
    model.processor.image_processor.max_patches = 3
    found.add(any_mllm.fingerprint(model))
    clips = transformers.GotOcr2ImageProcessorPil(size={"height": 28, "width": 28})
    monkeypatch.setattr(model.processor, "video_processor", clips, raising=False)
    found.add(any_mllm.fingerprint(model))
    assert len(found) == 4
    again = any_mllm.prepare("internvl", *FAMILIES["internvl"]())
    assert any_mllm.fingerprint(again) in found


@pytest.mark.parametrize("family", PLAIN_PROJECTOR)
def test_a_projector_is_trained_from_kept_tokens_as_if_the_encoder_ran(
    family: str, root: Path
) -> None:
    gradients, values = [], []
    for gigabytes in (0, 1):
        network, processor = FAMILIES[family]()
        model = any_mllm.prepare(family, network, processor, before_projector=gigabytes > 0)
        projector = any_mllm.projector_of(model).requires_grad_(True)
        samples, visual = prepared(model, root, gigabytes)
        losses = batch_losses(model, [row_of(samples)], visual)
        losses.sum().backward()
        values.append(losses.detach())
        gradients.append([p.grad for p in projector.parameters()])
        assert all(g is not None and bool(g.abs().sum() > 0) for g in gradients[-1])
    torch.testing.assert_close(values[0], values[1], atol=1e-4, rtol=1e-4)
    for live, kept in zip(*gradients, strict=True):
        torch.testing.assert_close(live, kept, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(PLAIN_PROJECTOR)))
def test_a_projector_that_cannot_be_trained_from_kept_tokens_says_so(
    family: str, root: Path
) -> None:
    network, processor = FAMILIES[family]()
    model = any_mllm.prepare(family, network, processor, before_projector=True)
    with pytest.raises(EmoVerseError, match="set visual_cache_gb: 0, or projector_lr: 0"):
        prepared(model, root, 1)


def test_a_model_whose_attention_does_not_fit_rows_is_told_before_training(root: Path) -> None:
    network, processor = FAMILIES["internvl"]()
    model = any_mllm.prepare("internvl", network, processor)
    samples, visual = prepared(model, root)
    check_rows(model, samples, visual, Padded(root, 8))
    language = network.model.language_model
    plain = language.forward

    def windowed(**given: torch.Tensor) -> object:
        """As if the layers saw a window of their own and not the mask they are given."""
        mask = given["attention_mask"]
        if mask is not None and mask.ndim == 4:
            size = mask.shape[-1]
            full = torch.full((size, size), torch.finfo(mask.dtype).min)
            given["attention_mask"] = full.triu(1).expand(len(mask), 1, size, size)
        return plain(**given)

    language.forward = windowed
    with pytest.raises(EmoVerseError, match="set rows: padded"):
        check_rows(model, samples, visual, Padded(root, 8))


def test_layers_that_see_less_than_the_longest_sample_are_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = {"use_sliding_window": True, "sliding_window": 400, "max_window_layers": 0}
    for key, value in windows.items():
        monkeypatch.setitem(families._TEXT, key, value)
    model = any_mllm.prepare("internvl", *FAMILIES["internvl"]())
    monkeypatch.undo()
    samples, visual = prepared(model, root)
    long = Record(er.query("Well. " * 200), "Joy.", "er", id="long")
    lengths = [len(sample.tokens) for sample in (*samples, tokenised(model, long, visual))]
    assert max(lengths[:-1]) <= 400 < lengths[-1]
    check_window(model, lengths[:-1])
    with pytest.raises(EmoVerseError, match=r"set max_length: 400, or rows: padded"):
        check_window(model, lengths)
    check_window(mllm("internvl"), lengths)
    # And if its config did not tell:
    check_rows(model, samples, visual, Padded(root, 8))
    with pytest.raises(EmoVerseError, match="set rows: padded"):
        check_rows(model, [*samples, tokenised(model, long, visual)], visual, Padded(root, 8))


def test_a_linear_projector_takes_the_place_of_internvls(root: Path) -> None:
    network, processor = FAMILIES["internvl"]()
    model = any_mllm.prepare("internvl", network, processor, projector="linear")
    samples, visual = prepared(model, root)
    with torch.no_grad():
        ours = batch_losses(model, [row_of(samples)], visual)
        own = own_path(model, [row_of(samples)], Padded(root, 8))[0]
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=2e-4)
    with pytest.raises(EmoVerseError, match="projector: own"):
        any_mllm.prepare("qwen", *FAMILIES["qwen2_5_vl"](), projector="linear")


def test_media_that_are_lost_leave_their_records_to_text(model: Mllm, root: Path) -> None:
    (root / "wide.png").unlink()
    (root / "square.png").write_bytes(b"no picture")
    samples, visual = prepared(model, root)
    assert set(visual.lost) == {"wide.png", "tall.png", "square.png"}
    assert all(token >= 0 for sample in samples for token in sample.tokens)


def test_a_query_with_the_picture_mark_is_told(model: Mllm, root: Path) -> None:
    with pytest.raises(EmoVerseError, match="picture mark"):
        processing.chat(model, f"{model.processor.image_token} Well?", 0)


def test_a_folder_that_holds_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="not an image-text-to-text model"):
        any_mllm.load(str(tmp_path))
