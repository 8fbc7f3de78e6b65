"""The `emoverse` command: every command of `emoverse.commands`, and how they end.

Tables go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 bad use.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from emoverse import __version__
from emoverse.commands.analyze import analyze
from emoverse.commands.annotate import app as annotate
from emoverse.commands.build import build
from emoverse.commands.calibrate import calibrate
from emoverse.commands.compare import compare
from emoverse.commands.convert import convert
from emoverse.commands.evaluate import evaluate, score
from emoverse.commands.export import export
from emoverse.commands.faces import faces
from emoverse.commands.merge import merge
from emoverse.commands.phrases import phrases
from emoverse.commands.pull import pull
from emoverse.commands.reproduce import reproduce
from emoverse.commands.serve import serve
from emoverse.commands.stats import check, stats
from emoverse.commands.train import train
from emoverse.errors import EmoVerseError, Stopped
from emoverse.terminal import complain

# Help in plain text: the coloured boxes would double the time that `--help` takes.
app = typer.Typer(
    name="emoverse",
    help="Sentiment, emotion, facial expression, reason and cause of emotion, from video and text.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(pull)
app.command()(analyze)
app.command()(faces)
app.command()(build)
app.command()(check)
app.command()(stats)
app.command()(export)
app.add_typer(annotate, name="annotate")
app.command()(train)
app.command()(calibrate)
app.command()(phrases)
app.command()(merge)
app.command()(convert)
app.command("eval")(evaluate)
app.command()(score)
app.command()(serve)
app.command()(compare)
app.command()(reproduce)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if version:
        print(f"emoverse {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with 0 (done), 1 (failed) or 2 (bad use).

    Args:
        arguments: without the program's name; `sys.argv` when None.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="emoverse")
    except EmoVerseError as error:
        complain(str(error))
        sys.exit(1)
    except Stopped as stopped:
        complain(str(stopped))
        sys.exit(stopped.code)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            complain(f"{error.strerror}; free some space on the disk and give the command again.")
            sys.exit(1)
        if error.filename is None:  # no file that the user could look at: a fault of ours
            raise
        complain(f"{error.filename}: {error.strerror}; check the path and its permissions.")
        sys.exit(1)
