"""What a model writes again and again, so that `generation` can guess what comes next.

The reasons and captions of one model are much alike, and reasons quote what was said. `emoverse
phrases` has the model write some, and counts which token follows which run of tokens;
`phrases.json` in its folder keeps what came often, a table of some hundred rows. Where that is
unsure, the words of the prompt are looked up ("prompt lookup decoding", Saxena 2023).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from emoverse.errors import EmoVerseError
from emoverse.files import read_json, write_text

FILE = "phrases.json"
TASKS = ("fer", "eri")  # whose answers are free text
ORDER = 4  # tokens that are looked back at
TIMES = 5  # answers that a run is in at least: what one clip says is kept nowhere
SHARE = 0.1  # least share of a run's occurrences that go on with the same token
_SURE = 0.6  # share from which the prompt is not looked up
_QUOTED = 0.75  # how likely two tokens of the prompt go on as they do there
_SURER = 0.1  # by how much a longer run's share must differ to be kept beside a shorter one
_BEGIN = -1  # stands before an answer's first token

_Row = tuple[tuple[int, ...], Annotated[int, Field(ge=0)], float]


@dataclass(frozen=True, slots=True)
class Phrases:
    """Guesses for one task.

    Attributes:
        following: by a run of up to four tokens the token that most often follows, and how often
            it does, 0 to 1. The run (-1,) stands for the beginning of an answer.
    """

    following: Mapping[tuple[int, ...], tuple[int, float]] = field(default_factory=dict)

    def after(self, written: Sequence[int], prompt: Sequence[int] = ()) -> tuple[int, float] | None:
        """The likeliest next token of an answer, and how likely it is; None when unknown.

        Args:
            written: the answer so far.
            prompt: what it answers, as far as it may be quoted.
        """
        usual = _longest(self.following, (_BEGIN, *written)[-ORDER:])
        if usual and usual[1] >= _SURE:
            return usual
        return _quotation(written, prompt) or usual


NONE = Phrases()


def gather(answers: Iterable[Sequence[int]]) -> Phrases:
    """Count what answers have in common.

    Args:
        answers: tokens, end mark included.
    """
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for answer in answers:
        text = (_BEGIN, *answer)
        once = {
            (text[max(end - size, 0) : end], text[end])
            for end in range(1, len(text))
            for size in range(1, ORDER + 1)
        }
        for run, token in once:
            counts[run][token] += 1
    found: dict[tuple[int, ...], tuple[int, float]] = {}
    for run in sorted(counts, key=lambda run: (len(run), run)):
        token, times = counts[run].most_common(1)[0]
        share = round(times / counts[run].total(), 2)
        shorter = _longest(found, run[1:])
        known = shorter and shorter[0] == token and abs(shorter[1] - share) < _SURER
        if times >= TIMES and share >= SHARE and not known:
            found[run] = token, share
    return Phrases(found)


def _longest(
    following: Mapping[tuple[int, ...], tuple[int, float]], run: tuple[int, ...]
) -> tuple[int, float] | None:
    """What follows the longest end of a run that is known."""
    for start in range(len(run)):
        if found := following.get(run[start:]):
            return found
    return None


def _quotation(written: Sequence[int], prompt: Sequence[int]) -> tuple[int, float] | None:
    """What follows the last two tokens where they are last in the prompt."""
    if len(written) < 2:
        return None
    first, second = written[-2:]
    for place in reversed(range(2, len(prompt))):
        token = prompt[place]
        if prompt[place - 1] == second and prompt[place - 2] == first and token >= 0:  # no picture
            return token, _QUOTED
    return None


def load(folder: Path, vocabulary: int) -> dict[str, Phrases]:
    """Read a model folder's phrases by task; none where there is no file.

    Args:
        folder: of the model.
        vocabulary: how many words it knows.

    Raises:
        EmoVerseError: the file is malformed, or of a model of more words.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        rows = TypeAdapter(dict[str, list[_Row]]).validate_python(read_json(path))
    except ValidationError as error:
        raise EmoVerseError(
            f"{path}: {error.errors()[0]['msg']}; make it again with `emoverse phrases`."
        ) from None
    largest = max((token for some in rows.values() for _, token, _ in some), default=0)
    if largest >= vocabulary:
        raise EmoVerseError(
            f"{path}: names token {largest}, and the model knows {vocabulary}; make it again with "
            "`emoverse phrases`."
        )
    return {
        task: Phrases({run: (token, share) for run, token, share in some})
        for task, some in rows.items()
    }


def save(phrases: Mapping[str, Phrases], folder: Path) -> Path:
    """Write them into a model's folder."""
    rows = {
        task: [[[*run], token, share] for run, (token, share) in some.following.items()]
        for task, some in phrases.items()
    }
    return write_text(folder / FILE, json.dumps(rows) + "\n")
