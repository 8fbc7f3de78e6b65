"""Clips that the page holds for a while, so that a text can be changed without another upload."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile

from emoverse.faces import drawn
from emoverse.models import weights
from emoverse.serving.media import private_folder, shown_name, stored
from emoverse.serving.problems import Refused
from emoverse.serving.sandbox import Piece
from emoverse.serving.settings import Settings

router = APIRouter(prefix="/page", include_in_schema=False)
KEPT_SECONDS = 900.0
_MOST_CLIPS = 64
_MOST_UPLOADS = 8  # of the largest size, held at once
DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Example:
    """A clip to try.

    Attributes:
        name: in addresses.
        title: on its button.
        text: a sentence to go with it, made up.
    """

    name: str
    title: str
    text: str


_DRAWN = (
    Example("smile", "Smile (drawn)", "I got the job! I can start on Monday!"),
    Example("surprise", "Surprise (drawn)", "Wait, you did all of this for me?"),
    Example("frown", "Frown (drawn)", "You broke it, and you did not even tell me."),
)
_DEMO = Example(
    DEMO,
    "Woman, 20 s (Pexels)",
    "I was not expecting that, give me a moment to think about it.",
)


@dataclass(slots=True, eq=False)
class Held:
    """A clip that the page may ask about.

    Attributes:
        name: what the client calls it.
        title: what the page calls it.
        used: when it was asked for last, by the loop's clock.
        piece: what was seen in it, once it was watched.
        ours: an example, which stays.
    """

    path: Path
    name: str
    title: str
    used: float = 0.0
    piece: Piece | None = None
    ours: bool = False


class Clips:
    """The page's clips: the examples, and uploads until nobody asked for them for a while."""

    def __init__(self, settings: Settings) -> None:
        """Take over the server's folder for clips of the page, and empty it."""
        self._most = _MOST_UPLOADS * settings.limits.upload
        self._examples = settings.folder / "examples"
        self.folder = private_folder(settings.folder / "page")
        self.empty()  # of what a killed server left
        self._held: dict[str, Held] = {}

    def add(self, path: Path, name: str) -> str:
        """Hold an upload that lies in `folder`.

        Returns:
            What it is asked for by; nobody can guess it.
        """
        loop = asyncio.get_running_loop()
        key = secrets.token_hex(16)
        self._held[key] = Held(path, name, name, loop.time())
        self._sweep()
        loop.call_later(KEPT_SECONDS + 1, self._sweep)
        return key

    def get(self, key: str) -> Held:
        """An upload.

        Raises:
            Refused: it is unknown, or was deleted by now.
        """
        if key not in self._held:
            raise Refused(404, "no_such_clip", "The server no longer has this clip; add it again.")
        loop = asyncio.get_running_loop()
        self._held[key].used = loop.time()
        loop.call_later(KEPT_SECONDS + 1, self._sweep)
        return self._held[key]

    async def example(self, name: str) -> Held:
        """An example; a drawn one is drawn when it is first asked for.

        Raises:
            Refused: there is none of that name.
        """
        titles = {example.name: example.title for example in examples()}
        if name not in titles:
            raise Refused(404, "no_such_clip", "There is no such example; choose another.")
        if name in self._held:
            return self._held[name]
        path = weights.cache_dir() / weights.DEMO_CLIP.file
        if name != DEMO:
            path = self._examples / f"{name}.mp4"
            if not path.is_file():
                await asyncio.to_thread(drawn.clip, path, name)
        return self._held.setdefault(name, Held(path, f"{name}.mp4", titles[name], ours=True))

    def empty(self) -> None:
        """Delete every upload."""
        for left in self.folder.iterdir():
            left.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Delete what nobody asked for of late, and the oldest when there is too much."""
        now = asyncio.get_running_loop().time()
        uploads = sorted(
            ((key, held) for key, held in self._held.items() if not held.ours),
            key=lambda item: item[1].used,
        )
        size = sum(held.path.stat().st_size for _, held in uploads)
        count = len(uploads)
        for key, held in uploads:
            if now - held.used < KEPT_SECONDS and count <= _MOST_CLIPS and size <= self._most:
                return
            size -= held.path.stat().st_size
            count -= 1
            held.path.unlink()
            del self._held[key]


def examples() -> tuple[Example, ...]:
    """The drawn ones, and the demo clip where it was fetched."""
    demo = weights.cache_dir() / weights.DEMO_CLIP.file
    return (*_DRAWN, _DEMO) if demo.is_file() else _DRAWN


@router.post("/clips")
async def add_clip(request: Request) -> dict[str, Any]:
    """Take a clip in; what comes back names it in the page's questions."""
    service = request.app.state.service
    clips: Clips = service.clips
    with service.places.taken():
        async with request.form(max_files=1, max_fields=1) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise Refused(422, "bad_request", "The form has no file named `file`.")
            name = shown_name(upload.filename)
            path = await stored(upload, clips.folder)
    return {"id": clips.add(path, name), "name": name}


@router.get("/examples/{name}")
async def example_clip(request: Request, name: str) -> FileResponse:
    """An example, for the page's player."""
    clips: Clips = request.app.state.service.clips
    held = await clips.example(name)
    return FileResponse(held.path, media_type="video/mp4")
