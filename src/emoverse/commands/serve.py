"""`emoverse serve`."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoverse.commands import loading
from emoverse.commands.options import Model
from emoverse.errors import EmoVerseError

if TYPE_CHECKING:
    from emoverse.inference.engine import Engine
    from emoverse.inference.speech import Recogniser


class Backend(str, Enum):
    """Who answers: a model in this process, or one behind an OpenAI-compatible endpoint."""

    local = "local"
    openai = "openai"


def address(host: str, port: int) -> str:
    """The page's URL, whose host stands in brackets when it is of IPv6."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


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
    page: Annotated[bool, typer.Option(help="Serve the web page at /page, beside the API.")] = True,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="M", help="A model that the page can compare with; repeatable."),
    ] = None,
    asr_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Recognise what is said: base, large-v3, or a faster-whisper folder.",
            show_default="no",
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Clips in this folder may be named by path; repeatable."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where jobs are kept.", show_default="the user's data"),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option(min=0, help="Forget ended jobs after so many days.", show_default="never"),
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
        int | None,
        typer.Option(min=1, help="Decoding processes; by default one a core, at most 8."),
    ] = None,
) -> None:
    """Answer over HTTP: a web page, and an API for clips, conversations, long videos and chats."""
    try:
        from emoverse.serving.app import create_app
        from emoverse.serving.server import make_server
        from emoverse.serving.settings import KEY_VARIABLE, Limits, Settings

        if page:
            from emoverse.serving import page as _  # noqa: F401
    except ModuleNotFoundError as error:
        raise EmoVerseError(
            f"The server needs {error.name}; install it with `pip install 'emoverse[serve]'`."
        ) from None
    from emoverse.models.weights import face_landmarker

    standard = Settings()
    settings = Settings(
        host=host,
        port=port,
        token=token or None,
        model=model,
        page=page,
        others=tuple(also or ()),
        asr_model=asr_model,
        backend=backend.value,
        endpoint=endpoint,
        backend_model=backend_model,
        endpoint_key=os.environ.get(KEY_VARIABLE) or None,
        roots=tuple(root or ()),
        folder=folder or standard.folder,
        keep_days=keep_days,
        decoders=decoders or standard.decoders,
        limits=Limits(upload=max_upload_mb << 20, clip_seconds=max_seconds, pending=max_pending),
    )
    engines: dict[str, Engine] = {}
    recognisers: dict[str, Recogniser] = {}
    app = create_app(settings, load=engines.__getitem__, listen=recognisers.__getitem__)
    server = make_server(app, settings)
    with server.claimed():
        # Loaded here, so that a failure is told in one sentence.
        for name in [*([model] if backend == Backend.local else []), *settings.others]:
            engines[name] = loading.engine(name)
        if asr_model:
            recognisers[asr_model] = loading.recogniser(asr_model)
        face_landmarker()
        if page and port:
            print(f"The page will be at {address(host, port)}", file=sys.stderr)
        server.run()
    if not server.started:
        raise typer.Exit(1)
