"""`emoverse pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from emoverse.commands.options import Json
from emoverse.terminal import write_json


def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="compact; demo (the demo clip alone); whisper-base or whisper-large-v3 (speech)."
        ),
    ],
    json_file: Json = None,
) -> None:
    """Fetch weights into the cache folder, by pinned hash; an interrupted fetch is resumed.

    Prints where they are. EMOVERSE_CACHE names another cache folder.
    """
    from emoverse.models import weights

    path = weights.pull(name)
    if json_file:
        write_json(json_file, {"name": name, "path": str(path)})
    if json_file != "-":
        print(path)
