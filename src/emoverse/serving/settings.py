"""What a server is told when it starts."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_data_path

from emoverse.errors import EmoVerseError
from emoverse.models.trained import name_of

TOKEN_VARIABLE = "EMOVERSE_TOKEN"
KEY_VARIABLE = "EMOVERSE_ENDPOINT_KEY"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost.

    Attributes:
        upload: bytes of a request's body.
        clip_seconds: of a clip that is analysed at once; longer ones are for jobs.
        job_seconds: of a job's video.
        pixels: width times height of a picture.
        pending: requests under way at once; one more gets 429.
        jobs: jobs that wait or run; one more gets 429.
        job_bytes: of the uploads of jobs together; beyond it one more gets 429.
        request_seconds: from the end of the upload to the answer.
        body_seconds: to send a request's body.
        header_seconds: to send a request's headers.
        tokens: of words in one question to the model here, whose memory grows with their square.
        decode_seconds: of wall time, and of processor time a core, to decode one clip.
        decode_bytes: of address space of a decoding process.
    """

    upload: int = 200 << 20
    clip_seconds: float = 120.0
    job_seconds: float = 4 * 3600.0
    pixels: int = 4096 * 2304
    pending: int = 64
    jobs: int = 100
    job_bytes: int = 8 << 30
    request_seconds: float = 120.0
    body_seconds: float = 120.0
    header_seconds: float = 15.0
    tokens: int = 4096
    decode_seconds: float = 60.0
    decode_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `emoverse serve` can be told.

    Attributes:
        host, port: where to listen; port 0 takes a free one.
        token: what clients must show; None lets anyone on this machine in.
        model: `compact`, or the folder of a trained model; for the backend `local`.
        page: whether there is a web page, at /page.
        others: further models, `compact` or folders, that the page can compare with.
        asr_model: the Whisper model that recognises what is said in a clip, see
            `emoverse.models.whisper`; None recognises nothing.
        backend: `local` answers here, `openai` asks the model behind `endpoint`.
        endpoint: URL of an OpenAI-compatible server.
        backend_model: the model's name there.
        endpoint_key: bearer token for it.
        roots: folders whose clips may be named by path; none by default.
        folder: where jobs and their uploads are kept; private to the user.
        keep_days: days after which a job that has ended is forgotten; None keeps all.
        decoders: decoding processes.
        batch: questions answered together at most.
        window: seconds that a first request waits for company.
        shutdown_seconds: requests under way get this long to end.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    model: str = "compact"
    page: bool = False
    others: tuple[str, ...] = ()
    asr_model: str | None = None
    backend: str = "local"
    endpoint: str | None = None
    backend_model: str | None = None
    endpoint_key: str | None = field(default=None, repr=False)
    roots: tuple[Path, ...] = ()
    folder: Path = field(default_factory=lambda: user_data_path("emoverse") / "server")
    keep_days: float | None = None
    decoders: int = field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)))
    batch: int = 16
    window: float = 0.01
    shutdown_seconds: int = 30
    limits: Limits = field(default_factory=Limits)


def checked(settings: Settings) -> Settings:
    """The settings, their roots resolved.

    Raises:
        EmoVerseError: they contradict each other, a root is no folder, or the server would be
            open to other machines without a token.
    """
    if settings.backend not in ("local", "openai"):
        raise EmoVerseError(f"Backend {settings.backend!r} is unknown; use local or openai.")
    if settings.backend == "openai" and not (settings.endpoint and settings.backend_model):
        raise EmoVerseError("The backend openai needs --endpoint and --backend-model; give both.")
    if settings.backend == "local" and settings.endpoint:
        raise EmoVerseError("--endpoint is for --backend openai; add that or leave it out.")
    if settings.token is not None and not (
        settings.token.isascii() and settings.token.isprintable() and len(settings.token) >= 8
    ):
        raise EmoVerseError("The token must be 8 or more printable ASCII characters; choose one.")
    if settings.token is None and not is_loopback(settings.host):
        raise EmoVerseError(
            f"Host {settings.host} can be reached from other machines, so a token is needed; give "
            f"--token or set {TOKEN_VARIABLE}."
        )
    if settings.others and not settings.page:
        raise EmoVerseError("--also is for the page, which --no-page leaves out; drop one of them.")
    main = shown_model(settings.backend_model or settings.model)
    names = [main, *map(shown_model, settings.others)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EmoVerseError(
            f"Two models are called {twice[0]!r} on the page; rename a folder or name it once."
        )
    for root in settings.roots:
        if not root.is_dir():
            raise EmoVerseError(f"{root}: no such folder; name a folder of clips with --root.")
    roots = tuple(root.resolve() for root in settings.roots)
    values = {name: getattr(settings, name) for name in Settings.__slots__}
    return Settings(**values | {"roots": roots})


def shown_model(model: str) -> str:
    """What clients see of a model's name, not where it lies."""
    return name_of(model) or model


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
