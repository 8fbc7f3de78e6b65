"""Fit the AU regressor: `python -m emoverse.faces.fit_au_regressor PAIRS OUT [CLIP...]`.

PAIRS holds clips with OpenFace 2's CSVs beside them, OUT is the coefficient file to write. What
is printed is the table of docs/action-units.md: every clip estimated by a regressor that never
saw it, beside the raw proxies. Clips that are named, such as those with a covered face, are also
left out of a second row of means.

The model is a ridge regression on what OpenFace says beyond a share of the raw proxy: so few
people teach it little, and where they teach nothing the proxy stays. Every clip has a level of
its own while it is fitted (a random intercept), so that the slopes are learnt from how a face
changes more than from how people differ; the levels are then left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emoverse.errors import EmoVerseError
from emoverse.faces import au_regressor, openface_pairs
from emoverse.faces.au_regressor import Regressor
from emoverse.faces.openface_pairs import Pairs
from emoverse.faces.records import AUS

# The share of the raw proxy that an AU starts from, the price of departing from it, and the price
# of a clip's own level.
GAIN = 0.25
PENALTY = 1.0
LEVEL = 0.1
# An AU that OpenFace moves less than this within a clip (standard deviation) is noise there.
MOVED = 0.25
# Frames (standard deviation) over which both sums are smoothed for a second look at their peaks.
SMOOTHED = 4.0
# Added to standard deviations, so that what hardly ever moves is not blown up.
_LEAST_SPREAD = 1e-3


def fit(clips: Sequence[Pairs]) -> Regressor:
    """Fit on clips, every clip counting the same."""
    share = np.concatenate([np.full(len(one.frames), 1 / len(one.frames)) for one in clips])
    share /= share.sum()
    inputs = np.vstack([one.inputs for one in clips])
    wanted = np.vstack([one.target - GAIN * one.proxies for one in clips])
    middle, level = share @ inputs, share @ wanted
    spread = np.sqrt(share @ (inputs - middle) ** 2) + _LEAST_SPREAD
    own = np.repeat(np.eye(len(clips)), [len(one.frames) for one in clips], axis=0)
    # One price for all columns: a cheaper one stands larger.
    columns = np.hstack([(inputs - middle) / spread, own * np.sqrt(PENALTY / LEVEL)])
    scaled = columns * np.sqrt(share)[:, None]
    goal = (wanted - level) * np.sqrt(share)[:, None]
    square = scaled.T @ scaled + PENALTY * np.eye(scaled.shape[1])
    found = np.linalg.solve(square, scaled.T @ goal)
    slopes = found[: inputs.shape[1]] / spread[:, None]
    return Regressor(slopes.T, np.full(len(AUS), GAIN), level - middle @ slopes)


def left_out(clips: Sequence[Pairs]) -> list[NDArray[np.float64]]:
    """Every clip's intensities (n, 17), estimated by a regressor fitted on the other clips."""
    return [fit(_others(clips, one)).predict(one.inputs, one.proxies) for one in clips]


def correlations(
    clips: Sequence[Pairs], estimates: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Pearson r per clip and AU (clips, 17); NaN where OpenFace hardly moved the AU."""
    return np.array(
        [
            [
                _pearson(one.target[:, j], estimate[:, j])
                if one.target[:, j].std() >= MOVED
                else np.nan
                for j in range(len(AUS))
            ]
            for one, estimate in zip(clips, estimates, strict=True)
        ]
    )


def smoothed(
    values: NDArray[np.float64], frames: NDArray[np.int64], width: float = SMOOTHED
) -> NDArray[np.float64]:
    """Values (n,) at frames (n,) averaged with a Gaussian of `width` frames, gaps left out."""
    near = np.exp(-0.5 * ((frames[:, None] - frames) / width) ** 2)
    averaged: NDArray[np.float64] = near @ values / near.sum(axis=1)
    return averaged


def main(arguments: Sequence[str]) -> None:
    """Fit, write the coefficients, print the table."""
    if len(arguments) < 2:
        raise EmoVerseError("Usage: python -m emoverse.faces.fit_au_regressor PAIRS OUT [CLIP...]")
    clips = openface_pairs.read(arguments[0])
    print(table(clips, arguments[2:]))
    au_regressor.write(Path(arguments[1]), fit(clips))


def table(clips: Sequence[Pairs], apart: Sequence[str] = ()) -> str:
    """The figures of docs/action-units.md, as Markdown: per AU, then per clip.

    Args:
        clips: all of them.
        apart: names of clips that a second row of means does without.

    Raises:
        EmoVerseError: a name is no clip's, or none would be left.
    """
    names = [one.name for one in clips]
    if unknown := [name for name in apart if name not in names]:
        raise EmoVerseError(f"There is no clip {unknown[0]!r}; name some of {', '.join(names)}.")
    if set(apart) >= set(names):
        raise EmoVerseError("All clips are named; leave some in.")
    return f"{_by_au(clips, apart)}\n\n{_by_clip(clips)}"


def _by_au(clips: Sequence[Pairs], apart: Sequence[str]) -> str:
    raw, fitted = [one.proxies for one in clips], left_out(clips)
    rs = [correlations(clips, estimates) for estimates in (raw, fitted)]
    errors = [_errors(clips, estimates) for estimates in (raw, fitted)]
    lines = [_row("AU", "clips", "r, proxies", "r, regressor", "MAE, proxies", "MAE, regressor")]
    lines.append(_row(*["---"] * 6))
    for j, code in enumerate(AUS):
        figures = [_mean(r[:, j]) for r in rs] + [_mean(error[:, j]) for error in errors]
        known = int(np.isfinite(rs[0][:, j]).sum())
        lines.append(_row(code, known, *(f"{figure:.2f}" for figure in figures)))
    chosen = [one.name not in apart for one in clips]
    for name, rows in (("mean", [True] * len(clips)), (f"without {', '.join(apart)}", chosen)):
        if name == "mean" or apart:
            means = [_mean([_mean(r[rows][:, j]) for j in range(len(AUS))]) for r in rs]
            means += [float(error[rows].mean()) for error in errors]
            lines.append(_row(name, sum(rows), *(f"{mean:.2f}" for mean in means)))
    return "\n".join(lines)


def _by_clip(clips: Sequence[Pairs]) -> str:
    kinds = ("mean r", "r of S_f", "peak off by", "the same, smoothed", "OpenFace's S_f there")
    heads = [f"{kind}, {way}" for kind in kinds for way in ("proxies", "regressor")]
    lines = [_row("clip", "faces", *heads), _row(*["---"] * (2 + len(heads)))]
    for one, fitted, r_raw, r_fitted in zip(
        clips,
        estimates := left_out(clips),
        correlations(clips, [clip.proxies for clip in clips]),
        correlations(clips, estimates),
        strict=True,
    ):
        truth = one.target.sum(axis=1)
        sums = [one.proxies.sum(axis=1), fitted.sum(axis=1)]
        peaks = [int(total.argmax()) for total in sums]
        away = [one.frames[at] - one.frames[truth.argmax()] for at in peaks]
        calm, *calmed = (smoothed(total, one.frames) for total in (truth, *sums))
        away += [one.frames[total.argmax()] - one.frames[calm.argmax()] for total in calmed]
        cells = [f"{_mean(r):.2f}" for r in (r_raw, r_fitted)]
        cells += [f"{_pearson(truth, total):.2f}" for total in sums]
        cells += [f"{frames:+d}" for frames in away]
        cells += [f"{truth[at] / truth.max():.0%}" for at in peaks]
        lines.append(_row(one.name, len(one.frames), *cells))
    return "\n".join(lines)


def _errors(
    clips: Sequence[Pairs], estimates: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Mean absolute error per clip and AU (clips, 17)."""
    pairs = zip(clips, estimates, strict=True)
    return np.array([abs(estimate - one.target).mean(axis=0) for one, estimate in pairs])


def _others(clips: Sequence[Pairs], one: Pairs) -> list[Pairs]:
    return [clip for clip in clips if clip is not one]


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """0 when one of them never changes: it tells nothing then."""
    if first.std() < 1e-9 or second.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EmoVerseError as error:
        sys.exit(str(error))
