"""How a command ends before its end: an error that a user reads, or a wish that was granted."""

from __future__ import annotations

import signal


class EmoVerseError(Exception):
    """A mistake in the input or the surroundings, told in one sentence with its mend.

    The command line prints the sentence and exits with 1; nothing else in the package is meant
    to be caught by callers.
    """


class Stopped(Exception):
    """The run was asked to stop, and has saved.

    Attributes:
        code: exit code by custom, 128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int, where: str) -> None:
        """Tell of the signal and the step that was saved."""
        super().__init__(
            f"Stopped by {signal.Signals(number).name}; saved {where}. Go on with "
            "`train --resume`; `reproduce` goes on by itself when it is given again."
        )
        self.code = 128 + number
