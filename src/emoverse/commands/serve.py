"""`emoverse serve`."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from emoverse.commands.options import Model
from emoverse.errors import EmoVerseError
from emoverse.terminal import waiting


class Backend(str, Enum):
    """Who answers: a model in this process, or one behind an OpenAI-compatible endpoint."""

    local = "local"
    openai = "openai"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="EMOVERSE_TOKEN",
            show_envvar=True,
            help="What clients must show; needed unless the host is this machine.",
        ),
    ] = None,
    model: Model = "compact",
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Clips in this folder may be named by path; repeatable."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where jobs are kept.", show_default=False)
    ] = None,
    backend: Annotated[Backend, typer.Option(help="Who answers.")] = Backend.local,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="With openai: http://localhost:8001/v1.")
    ] = None,
    backend_model: Annotated[
        str | None, typer.Option(metavar="M", help="With openai: the model's name there.")
    ] = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Largest request.")] = 200,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest clip outside of jobs.")] = 120,
    max_pending: Annotated[int, typer.Option(min=1, help="Requests under way; then 429.")] = 64,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Decoding processes; one a core by default.")
    ] = None,
) -> None:
    """Answer over HTTP: clips, conversations, long videos, and OpenAI's chat protocol."""
    try:
        from emoverse.serving.app import create_app
        from emoverse.serving.server import make_server
        from emoverse.serving.settings import KEY_VARIABLE, Limits, Settings, checked
    except ModuleNotFoundError as error:
        raise EmoVerseError(
            f"The server needs {error.name}; install it with `pip install 'emoverse[serve]'`."
        ) from None
    from emoverse.inference.engine import load_model
    from emoverse.models.weights import face_landmarker

    standard = Settings()
    settings = Settings(
        host=host,
        port=port,
        token=token or None,
        model=model,
        backend=backend.value,
        endpoint=endpoint,
        backend_model=backend_model,
        endpoint_key=os.environ.get(KEY_VARIABLE) or None,
        roots=tuple(root or ()),
        folder=folder or standard.folder,
        decoders=decoders or standard.decoders,
        limits=Limits(upload=max_upload_mb << 20, clip_seconds=max_seconds, pending=max_pending),
    )
    app = create_app(checked(settings))
    if backend == Backend.local:  # loaded here, so that a failure is told in one sentence
        with waiting(f"Loading {model}"):
            engine = load_model(model)
        app = create_app(settings, load=lambda _: engine)
    face_landmarker()
    server = make_server(app, settings)
    server.run()
    if not server.started:
        raise typer.Exit(1)
