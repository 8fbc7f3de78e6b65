"""EmoVerse: sentiment, emotion, expression, reason and cause of emotion, from video and text.

    import emoverse

    model = emoverse.load_model("compact")
    analysis = model.analyze("clip.mp4", text="I did not expect that.")
    print(analysis.answers["er"].label)

An analysis shows itself as a card where it ends a notebook's cell.

Everything is imported on first use, so `import emoverse` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from emoverse.emt.build import build as build_emt
    from emoverse.errors import EmoVerseError as EmoVerseError
    from emoverse.evaluation.runner import evaluate as evaluate
    from emoverse.inference.analysis import Analysis as Analysis
    from emoverse.inference.analysis import Answer as Answer
    from emoverse.inference.analysis import AUCurve as AUCurve
    from emoverse.inference.analysis import Peak as Peak
    from emoverse.inference.engine import Engine as Engine
    from emoverse.inference.engine import load_model as load_model
    from emoverse.inference.speech import transcribe as transcribe
    from emoverse.training import train as train

__version__ = "0.1.0"
__all__ = [
    "AUCurve",
    "Analysis",
    "Answer",
    "EmoVerseError",
    "Engine",
    "Peak",
    "__version__",
    "analyze",
    "build_emt",
    "evaluate",
    "load_model",
    "train",
    "transcribe",
]

# Where each name is imported from, and what it is called there.
_HOMES = {
    "AUCurve": ("emoverse.inference.analysis", "AUCurve"),
    "Analysis": ("emoverse.inference.analysis", "Analysis"),
    "Answer": ("emoverse.inference.analysis", "Answer"),
    "EmoVerseError": ("emoverse.errors", "EmoVerseError"),
    "Engine": ("emoverse.inference.engine", "Engine"),
    "Peak": ("emoverse.inference.analysis", "Peak"),
    "build_emt": ("emoverse.emt.build", "build"),
    "evaluate": ("emoverse.evaluation.runner", "evaluate"),
    "load_model": ("emoverse.inference.engine", "load_model"),
    "train": ("emoverse.training", "train"),
    "transcribe": ("emoverse.inference.speech", "transcribe"),
}


def analyze(
    clip: Path | str,
    text: str | None = None,
    *,
    model: str = "compact",
    tasks: Sequence[str] | str = ("msa", "er", "fer", "eri"),
) -> Analysis:
    """Read one clip; for several, load the model once with `load_model` and call its `analyze`.

    Args:
        clip: path of a video or a still image.
        text: what is said in it, None when that is not known.
        model: `compact` or the folder of a trained or converted model.
        tasks: which questions to ask.

    Returns:
        The answers by task, the peak frame, AU curves, and warnings in plain sentences.

    Raises:
        EmoVerseError: the clip cannot be read, or the model cannot be loaded or fetched.
    """
    from emoverse.inference.engine import load_model

    return load_model(model).analyze(clip, text=text, tasks=tasks)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'emoverse' has no attribute {name!r}")
    module, known_as = _HOMES[name]
    return getattr(import_module(module), known_as)


def __dir__() -> list[str]:
    return sorted(__all__)
