from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emoverse.errors import EmoVerseError
from emoverse.faces import FaceTrack
from emoverse.faces.video import VideoInfo
from emoverse.inference.analysis import Analysis
from emoverse.inference.interview import Interview, Prediction, Question, Watched, clip_interview
from emoverse.inference.together import batched, together

from .film_made import Model

INFO = VideoInfo(Path("a.mp4"), 320, 240, 25.0, 3.0, 75, 0, True)


def _talk(text: str | None, *tasks: str) -> Interview:
    return clip_interview(
        Watched("a.mp4", FaceTrack(INFO), (b"a picture",)), text, tasks or ("msa", "er"), "m"
    )


def test_everyone_gets_their_own_answers() -> None:
    model = Model()
    found = together(
        model, [_talk("Hooray!"), _talk(None), _talk("Alas.", "er", "eri"), _talk("Hm.", "msa")]
    )
    one, refused, three, four = found
    assert isinstance(one, Analysis) and one.answers["er"].label == "joy"
    assert isinstance(refused, EmoVerseError) and "no face" in str(refused)
    assert isinstance(three, Analysis) and three.answers["er"].label == "sadness"
    assert three.answers["eri"].text == "They say so."
    assert isinstance(four, Analysis) and list(four.answers) == ["msa"]


def test_what_can_be_asked_at_once_is() -> None:
    calls: list[int] = []
    model = Model()

    def ask(questions: Sequence[Question]) -> list[Prediction]:
        calls.append(len(questions))
        return model(questions)

    together(ask, [_talk("a", "msa", "er", "eri"), _talk("b", "msa", "er", "eri")])
    assert calls == [4, 2]  # reasons rest on the other answers
    assert together(ask, []) == [] and len(calls) == 2


def test_batches_keep_order_and_all() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_the_turns_before_stand_in_front_of_the_question_of_emotion_alone() -> None:
    model = Model()
    talk = clip_interview(
        Watched("a.mp4", FaceTrack(INFO), (b"a picture",)),
        "Hooray!",
        ("msa", "er", "eri"),
        "m",
        speaker="Ann",
        context=[("Bob", "Alas.")],
    )
    together(model, [talk])
    (query,) = model.queries("er")
    assert query.startswith("The conversation so far:\nBob: Alas.\nNow Ann speaks.\n")
    assert not any("Bob" in query for task in ("msa", "eri") for query in model.queries(task))
