"""A reason that agrees with the emotion: words that it must not use.

Asked one after the other, a small model may call a face joyful and then explain its disappointment.
The reason is written last, so what the same model has just held unlikely is kept out of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from emoverse.tasks import emotion_wheel, labels

_UNLIKELY = 0.1
_MEANINGS = {**{w: (label,) for w, label in labels.EMOTION_WORDS.items()}, **emotion_wheel.WORDS}


def unlikely_words(probabilities: Mapping[str, float], text: str | None) -> tuple[str, ...]:
    """Emotion words for what an ER answer holds unlikely.

    Args:
        probabilities: emotion to probability; emotions that are not there are not judged.
        text: what was said; a reason may quote its words.

    Returns:
        Lower-case words whose every emotion has a probability below 0.1, in alphabetical order.
    """
    unlikely = {name for name, chance in probabilities.items() if chance < _UNLIKELY}
    said = set(re.findall(r"\w+", (text or "").lower()))
    return tuple(
        word
        for word, emotions in sorted(_MEANINGS.items())
        if unlikely.issuperset(emotions) and word not in said
    )
