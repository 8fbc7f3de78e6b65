from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emoverse.faces.captions import MOST_PHRASES, describe
from emoverse.inference.caption_grammar import caption_grammar
from emoverse.tasks import fer
from emoverse.tasks.action_units import OPENFACE_INTENSITIES

from ..models.tiny import tokenizer

END = -7
INTENSITIES = st.dictionaries(
    st.sampled_from(OPENFACE_INTENSITIES), st.floats(0, 5), min_size=1, max_size=8
)


def _tokens(text: str) -> list[int]:
    ids: list[int] = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return ids


ALLOWED = caption_grammar(_tokens, END)


@given(INTENSITIES, st.sampled_from(["paper", "merr"]))
def test_every_caption_of_the_builder_can_be_written(
    intensities: dict[str, float], style: str
) -> None:
    told = describe(intensities, style=style)  # type: ignore[arg-type]
    if not told.phrases:
        return
    tokens = [*_tokens(fer.answer(told.phrases)), END]
    for place, token in enumerate(tokens):
        assert token in ALLOWED(tokens[:place])


@given(st.randoms(use_true_random=False))
def test_whatever_is_written_is_a_caption_that_names_no_au_twice(random: object) -> None:
    written: list[int] = []
    while (token := random.choice(ALLOWED(written))) != END:  # type: ignore[attr-defined]
        written.append(token)
    phrases = tokenizer().decode(written).split("; ")
    codes = [fer.phrases()[phrase] for phrase in phrases]
    assert 1 <= len(codes) == len(set(codes)) <= MOST_PHRASES
    assert fer.parse("; ".join(phrases)) == tuple(codes)
