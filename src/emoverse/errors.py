"""The one error a user ever needs to read."""

from __future__ import annotations


class EmoVerseError(Exception):
    """A mistake in the input or the surroundings, told in one sentence with its mend.

    The command line prints the sentence and exits with 1; nothing else in the package is meant
    to be caught by callers.
    """
