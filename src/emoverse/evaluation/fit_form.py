"""Fit what joins a model's word on causes with a conversation's form (`inference.cause_form`).

The regression on the form is cheap to fit and reads no word, so it may see every annotated
conversation; how much each witness counts is fitted where neither has seen the conversation: on the
model's left-out records, with the regression's out-of-fold log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from emoverse.emt.record import Record
from emoverse.evaluation.gold import gold_label
from emoverse.evaluation.weighing import FOLDS, fold, lot
from emoverse.inference.cause_form import CauseForm, features, log_odds, logit
from emoverse.tasks import ecpe

_FEWEST = 50  # conversations
_STRENGTH = 0.1  # inverse of the ridge penalty: most features are rare
_KEPT = 0.005  # weights below say nothing


@dataclass(frozen=True, slots=True)
class Form:
    """A regression on the form of conversations, fitted whole and fold by fold.

    Attributes:
        weights: feature to log-odds, of the fit on all conversations.
        folds: the same of the fits that leave one fold of the conversations out each.
    """

    weights: dict[str, float]
    folds: tuple[dict[str, float], ...]

    def unseen(self, record: Record) -> dict[str, float]:
        """The weights of a fit that has not seen the record's conversation."""
        return self.folds[fold(record)]


def fit_form(records: Sequence[Record]) -> Form | None:
    """Fit the regression.

    Args:
        records: ECPE records; those of other tasks are passed over.

    Returns:
        None where they are of fewer than 50 conversations.
    """
    rows: list[dict[str, float]] = []
    hits: list[bool] = []
    places: list[int] = []
    talks = set()
    for record in records:
        if record.task != "ecpe":
            continue
        turns, target = ecpe.parse_query(record.query)
        right = {pair.cause_index for pair in gold_label(record)}
        talks.add(lot(record))
        named = features(turns, target)
        rows += [dict.fromkeys(names, 1.0) for names in named.values()]
        hits += [index in right for index in named]
        places += [fold(record)] * len(named)
    owners, truth = np.array(places), np.array(hits)
    if len(talks) < _FEWEST:
        return None
    vectorizer = DictVectorizer()
    matrix = vectorizer.fit_transform(rows)
    names = list(vectorizer.get_feature_names_out())

    def fitted(kept: NDArray[np.bool_]) -> dict[str, float]:
        # No intercept: every candidate has one feature of each cross, so they hold it already.
        found = LogisticRegression(C=_STRENGTH, max_iter=1000, fit_intercept=False)
        found.fit(matrix[kept], truth[kept])
        return {
            name: round(float(weight), 3)
            for name, weight in zip(names, found.coef_[0], strict=True)
            if abs(weight) >= _KEPT
        }

    whole = fitted(np.ones(len(truth), dtype=bool))
    return Form(whole, tuple(fitted(owners != number) for number in range(FOLDS)))


def join(
    form: Form, records: Sequence[Record], marginals: Sequence[Mapping[int, float]]
) -> CauseForm:
    """How much the model's word and the form count, by maximum likelihood.

    Args:
        form: what `fit_form` found.
        records: ECPE records that the model has not seen.
        marginals: of the model for each of them, by `Turn.index` of the cause.
    """
    rows, hits = [], []
    for record, own in zip(records, marginals, strict=True):
        right = {pair.cause_index for pair in gold_label(record)}
        odds = log_odds(form.unseen(record), *ecpe.parse_query(record.query))
        rows += [[logit(marginal), odds[index]] for index, marginal in own.items()]
        hits += [index in right for index in own]
    found = LogisticRegression(C=1e3).fit(np.array(rows), np.array(hits))
    words, shape = (round(float(weight), 4) for weight in found.coef_[0])
    return CauseForm(form.weights, words, shape, round(float(found.intercept_[0]), 4))
