"""What `infer.py` is held to: plain transformers, one `generate` call a question.

Its free text is greedy too, expressions within the engine's grammar. For causes the engine applies
a rule to the probabilities of all allowed answers; `decided` applies the same rule to those that
transformers gives each answer, without prefix trees. It is not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from emoverse.emt.record import Record
from emoverse.faces import FaceTrack
from emoverse.faces.crop import crop
from emoverse.inference.caption_grammar import caption_grammar
from emoverse.inference.engine import Engine
from emoverse.inference.questions import pose
from emoverse.inference.reader import Seen
from emoverse.models import face_vit
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prompt import answer_tokens, prompt_tokens

MOST = {"msa": 8, "er": 8, "fer": 48, "ecpe": 48, "eri": 128}
SEEN = ("msa", "er", "fer")  # conversations and reasons are asked about in words alone


@torch.inference_mode()
def answers(
    model: EmoVerse, track: FaceTrack, queries: Mapping[str, str]
) -> tuple[dict[str, str], int]:
    """Answer by task.

    Args:
        model: of transformers' classes.
        track: shows a face.
        queries: by task.

    Returns:
        The answers, and how many tokens were written.
    """
    assert track.peak_image is not None and track.peak_landmarks is not None
    pixels = face_vit.pixel_values(np.stack([crop(track.peak_image, track.peak_landmarks)]))
    context = model.network.config.image_token_id
    end = answer_tokens(model.tokenizer, "")[0]
    phrases = caption_grammar(lambda text: answer_tokens(model.tokenizer, text)[:-1], end)
    texts, count = {}, 0
    for task, query in queries.items():
        images = [[context] * model.image_tokens] if task in SEEN else []
        prompt = torch.tensor([prompt_tokens(model.tokenizer, query, images)])
        more: dict[str, Any] = {"pixel_values": pixels} if images else {}
        if task == "fer":
            start = prompt.shape[1]
            more["prefix_allowed_tokens_fn"] = lambda _, ids, start=start: list(
                phrases(ids[start:].tolist())
            )
        written = model.network.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            **more,
            max_new_tokens=MOST[task],
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
        )[0, prompt.shape[1] :]
        texts[task] = str(model.tokenizer.decode(written, skip_special_tokens=True)).strip()
        count += len(written)
    return texts, count


@torch.inference_mode()
def decided(engine: Engine, model: EmoVerse, query: str) -> str:
    """The causes that the engine's rule names by transformers' probabilities."""
    posed = pose(engine.reader, Record(query, "", "ecpe", id="1"), Seen())
    asked = posed.question
    network: Any = model.network
    prompt = torch.tensor([asked.prompt])
    read = network(input_ids=prompt, use_cache=True, logits_to_keep=1)
    count = len(asked.answers)
    longest = max(len(answer) for answer in asked.answers)
    # Answers are padded behind their ends, which no token of theirs sees.
    tokens = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in asked.answers])
    cache = read.past_key_values
    cache.batch_repeat_interleave(count)
    following = network(input_ids=tokens, past_key_values=cache).logits
    logits = torch.cat([read.logits.expand(count, -1, -1), following[:, :-1]], dim=1).float()
    logs = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0].double()
    sums = [float(row[list(scored)].sum()) for row, scored in zip(logs, asked.scored, strict=True)]
    return posed.settle(np.array(sums), engine.calibration).text
