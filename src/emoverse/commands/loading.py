"""Loads what answers and what listens, with a word to the terminal, for it takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emoverse.terminal import waiting

if TYPE_CHECKING:
    from emoverse.inference.engine import Engine
    from emoverse.inference.speech import Recogniser


def engine(model: str) -> Engine:
    """See `emoverse.inference.engine.load_model`."""
    from emoverse.inference.engine import load_model

    with waiting(f"Loading {model}"):
        return load_model(model)


def recogniser(model: str) -> Recogniser:
    """See `emoverse.inference.speech.load_recogniser`."""
    from emoverse.inference.speech import load_recogniser

    with waiting(f"Loading Whisper {model}"):
        return load_recogniser(model)
