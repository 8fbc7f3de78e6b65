from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoverse.errors import EmoVerseError
from emoverse.faces import au_regressor, fit_au_regressor
from emoverse.faces.au_regressor import FEATURES, Regressor
from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.openface_pairs import Pairs
from emoverse.faces.readers import reader
from emoverse.faces.records import AUS


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(BLENDSHAPES), st.floats(0, 1)), st.integers(0, 9))
def test_any_face_stays_on_openfaces_scale(shapes: dict[str, float], seed: int) -> None:
    landmarks = np.random.default_rng(seed).normal(size=(478, 3)) * 100
    for points in (landmarks, np.zeros((478, 3))):
        found = au_regressor.intensities(shapes, points)
        assert tuple(found) == AUS
        assert all(0 <= value <= 5 for value in found.values())


@pytest.mark.parametrize(
    ("shape", "code"),
    [("mouthSmile", "AU12"), ("eyeBlink", "AU45"), ("browOuterUp", "AU02"), ("eyeWide", "AU05")],
)
def test_a_shape_raises_its_au(shape: str, code: str) -> None:
    points = np.random.default_rng(0).normal(size=(478, 3))
    inputs, proxies = au_regressor.features({}, points)
    both = {f"{shape}Left": 0.8, f"{shape}Right": 0.8}
    more, raised = au_regressor.features(both, points)
    model, j = au_regressor.shipped(), AUS.index(code)
    step = (more - inputs) @ model.weights[j] + model.gain[j] * (raised - proxies)[j]
    assert step > 0.05


def test_coefficients_of_other_features_are_refused() -> None:
    with pytest.raises(EmoVerseError, match="other face features"):
        au_regressor.parse({"aus": list(AUS), "features": ["nose"]})


def test_coefficients_survive_their_file(tmp_path: Path) -> None:
    shipped = au_regressor.shipped()
    au_regressor.write(tmp_path / "out.json", shipped)
    again = au_regressor.parse(json.loads((tmp_path / "out.json").read_text()))
    np.testing.assert_allclose(again.weights, shipped.weights, atol=1e-4)


def test_unknown_sources_are_refused() -> None:
    with pytest.raises(EmoVerseError, match="'eyes'"):
        reader("eyes")


def clip(name: str, truth: Regressor, count: int = 400) -> Pairs:
    random = np.random.default_rng(sum(map(ord, name)))
    inputs = random.normal(size=(count, len(FEATURES)))
    proxies = np.zeros((count, len(AUS)))
    target = truth.predict(inputs, proxies)
    return Pairs(name, np.arange(count), inputs, proxies, target)


@pytest.fixture
def clips() -> list[Pairs]:
    weights = np.zeros((len(AUS), len(FEATURES)))
    weights[np.arange(len(AUS)), np.arange(len(AUS))] = 1.0
    truth = Regressor(weights, np.zeros(len(AUS)), np.full(len(AUS), 2.5))
    return [clip(name, truth) for name in ("a", "b", "c", "d")]


def test_what_depends_on_the_face_is_learnt_for_clips_never_seen(clips: list[Pairs]) -> None:
    rs = fit_au_regressor.correlations(clips, fit_au_regressor.left_out(clips))
    assert rs.shape == (4, len(AUS))
    assert rs.min() > 0.9


def test_left_out_clips_teach_nothing(clips: list[Pairs]) -> None:
    before = fit_au_regressor.left_out(clips)[0]
    spoilt = Pairs("a", clips[0].frames, clips[0].inputs, clips[0].proxies, clips[0].target * 0)
    np.testing.assert_array_equal(fit_au_regressor.left_out([spoilt, *clips[1:]])[0], before)


def test_an_au_that_openface_never_moves_has_no_correlation(clips: list[Pairs]) -> None:
    clips[0].target[:, 3] = 1.0
    rs = fit_au_regressor.correlations(clips, [one.target for one in clips])
    assert np.isnan(rs[0, 3]) and rs[1, 3] == pytest.approx(1)


def test_slopes_are_learnt_from_how_a_face_changes_more_than_from_how_people_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has the higher first feature is rated lower; within everyone it is the other way."""
    people = []
    for number, middle in enumerate((-2.0, 0.0, 2.0)):
        random = np.random.default_rng(number)
        inputs = random.normal(size=(300, len(FEATURES)))
        target = np.tile(2.5 + 0.5 * inputs[:, :1] - middle, (1, len(AUS)))
        inputs[:, 0] += middle
        proxies = np.zeros_like(target)
        people.append(Pairs(str(number), np.arange(300), inputs, proxies, target))
    slopes = {}
    for price in (1e9, fit_au_regressor.LEVEL, 1e-6):
        monkeypatch.setattr(fit_au_regressor, "LEVEL", price)
        slopes[price] = fit_au_regressor.fit(people).weights[0, 0]
    without, ours, free = slopes.values()
    assert without < -0.2 < ours < free and free > 0.05


def test_clips_are_left_out_of_a_second_mean(clips: list[Pairs]) -> None:
    clips[0].target[:] = clips[0].target[::-1].copy()  # its features tell nothing
    means = [line for line in fit_au_regressor.table(clips, ["a"]).split("\n") if "0." in line]
    (every,) = [line for line in means if line.startswith("| mean | 4 |")]
    (rest,) = [line for line in means if line.startswith("| without a | 3 |")]
    assert float(every.split(" | ")[3]) < 0.8 < 0.9 < float(rest.split(" | ")[3])
    with pytest.raises(EmoVerseError, match="no clip 'e'"):
        fit_au_regressor.table(clips, ["e"])
    with pytest.raises(EmoVerseError, match="leave some in"):
        fit_au_regressor.table(clips, ["a", "b", "c", "d"])


def test_the_table_has_every_au_and_clip(clips: list[Pairs]) -> None:
    lines = fit_au_regressor.table(clips).split("\n")
    assert [line.split(" | ")[0].strip("| ") for line in lines if line][2:19] == list(AUS)
    assert sum(line.startswith(("| a ", "| b ", "| c ", "| d ")) for line in lines) == 4


def test_smoothing_passes_over_single_frames_and_gaps() -> None:
    values = np.zeros(60)
    values[10], values[30:41] = 5.0, 3.0
    frames = np.arange(60)
    calm = fit_au_regressor.smoothed(values, frames)
    assert values.argmax() == 10 and abs(int(calm.argmax()) - 35) <= 1
    # Frames far apart do not blend.
    far = fit_au_regressor.smoothed(np.array([1.0, 4.0]), np.array([0, 1000]))
    np.testing.assert_allclose(far, [1.0, 4.0])
