"""Public corpora and plain folders, read into `Utterance` records."""

from __future__ import annotations

from emoverse.corpora.records import Dialogue, Problem, Utterance, dialogues

__all__ = ["Dialogue", "Problem", "Utterance", "dialogues"]
