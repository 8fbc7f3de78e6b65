"""EmoVerse: sentiment, emotion, expression, reason and cause of emotion, from video and text.

    import emoverse

    analysis = emoverse.analyze("clip.mp4", text="I did not expect that.")
    print(analysis.answers["er"].label)

Everything is imported on first use, so `import emoverse` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emoverse.errors import EmoVerseError as EmoVerseError
    from emoverse.evaluation.runner import evaluate as evaluate
    from emoverse.inference.analysis import Analysis as Analysis
    from emoverse.inference.engine import load_model as load_model
    from emoverse.training import train as train

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "EmoVerseError",
    "__version__",
    "analyze",
    "evaluate",
    "load_model",
    "train",
]

_HOMES = {
    "Analysis": "emoverse.inference.analysis",
    "EmoVerseError": "emoverse.errors",
    "evaluate": "emoverse.evaluation.runner",
    "load_model": "emoverse.inference.engine",
    "train": "emoverse.training",
}


def analyze(
    clip: str,
    text: str | None = None,
    *,
    model: str = "compact",
    tasks: Sequence[str] = ("msa", "er", "fer", "eri"),
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
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
