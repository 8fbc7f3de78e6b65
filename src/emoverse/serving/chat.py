"""`/v1/chat/completions`: EmoVerse for programs that speak OpenAI's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoverse.inference.interview import Watched
from emoverse.serving.backends import Backend, Said, Sampling
from emoverse.serving.media import from_data_url
from emoverse.serving.problems import Refused, TooLong, body
from emoverse.serving.sandbox import Sandbox
from emoverse.serving.schemas import (
    MOST_CHAT,
    ChatMessage,
    ChatRequest,
    Choice,
    Completion,
    Found,
    ImagePart,
    TextPart,
    Usage,
    VideoPart,
)

_MOST_MEDIA = 16
# Of an answer; clients may ask for more, and models here and elsewhere end sooner.
_MOST_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request, read.

    Attributes:
        system: the client's own, None without one.
        query: the user's words.
        media: data URLs.
    """

    system: str | None
    query: str
    media: tuple[str, ...]


def read(request: ChatRequest, model: str) -> Asked:
    """What a chat request asks.

    Raises:
        Refused: another model is meant, or it is not one question with its media.
    """
    if request.model != model:
        raise no_model(model)
    spoken = [message for message in request.messages if message.role in ("user", "assistant")]
    if len(spoken) != 1 or spoken[0].role != "user":
        raise Refused(
            422, "bad_request", "Send one user message: each question is answered on its own."
        )
    for message in request.messages:
        parts = _parts(message.content)
        if message.role != "user" and not all(isinstance(part, TextPart) for part in parts):
            raise Refused(
                422,
                "bad_request",
                f"A {message.role} message holds words alone; put pictures and videos into the "
                "user message.",
            )
    system = "\n".join(
        part.text
        for message in request.messages
        if message.role in ("system", "developer")
        for part in _parts(message.content)
        if isinstance(part, TextPart)
    )
    parts = _parts(spoken[0].content)
    query = "\n".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
    urls += [part.video_url.url for part in parts if isinstance(part, VideoPart)]
    if not query:
        raise Refused(422, "bad_request", "The user message holds no text; ask something.")
    if max(len(query), len(system)) > MOST_CHAT:
        raise TooLong(f"A message has over {MOST_CHAT} characters; cut it.")
    if len(urls) > _MOST_MEDIA:
        raise Refused(422, "bad_request", f"At most {_MOST_MEDIA} pictures or videos; send fewer.")
    return Asked(system or None, query, tuple(urls))


def no_model(model: str) -> Refused:
    """Why a model that a client names cannot be asked; `model` can."""
    return Refused(404, "model_not_found", f"This server's model is {model!r}; name that one.")


def sampling(request: ChatRequest) -> Sampling:
    """How a chat request wants its answer written."""
    most = request.max_completion_tokens or request.max_tokens
    return Sampling(
        min(most, _MOST_TOKENS) if most else None,
        request.temperature or 0.0,
        request.seed or 0,
    )


async def watch(asked: Asked, sandbox: Sandbox, folder: Path) -> tuple[Watched | None, list[str]]:
    """Decode a chat's media: what is shown to the model, and warnings.

    Several pictures are the frames of one clip: the one where a face moves most is its peak.
    """
    seen: list[Watched] = []
    for number, url in enumerate(asked.media, 1):
        with from_data_url(url, folder) as path:
            seen.append((await sandbox.watch(path, f"medium {number}")).watched)
    if not seen:
        return None, []
    best = max(seen, key=lambda w: sum(w.track.peak.intensities.values()) if w.track.peak else -1.0)
    frames = tuple(frame for watched in seen for frame in watched.frames)
    warnings = [warning for watched in seen for warning in watched.track.warnings]
    return replace(best, frames=frames[:_MOST_MEDIA]), warnings


def completion(asked_model: str, said: Said, warnings: list[str]) -> Completion:
    """A whole answer."""
    return Completion(
        id=_id(),
        created=int(time.time()),
        model=asked_model,
        choices=[Choice(message=ChatMessage(content=said.text), finish_reason=said.finish)],
        usage=_usage(said),
        emoverse=_found(said, warnings),
    )


async def stream(
    backend: Backend,
    asked: Asked,
    shown: Watched | None,
    request: ChatRequest,
    warnings: list[str],
    seconds: float,
) -> AsyncIterator[bytes]:
    """The answer as server-sent events, word by word where the model writes words.

    A reason that reaches the model's length limit ends in mid-sentence here; the whole answer
    of a request without `stream` is cut back to its last full sentence.
    """
    told: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def hear(text: str) -> None:
        loop.call_soon_threadsafe(told.put_nowait, text)

    common = {
        "id": _id(),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.model,
    }
    answer = backend.chat(asked.system, asked.query, shown, sampling(request), hear)
    work = asyncio.ensure_future(asyncio.wait_for(answer, seconds))
    work.add_done_callback(lambda _: told.put_nowait(None))
    sent = ""
    try:
        yield _chunk(common, {"role": "assistant", "content": ""})
        while (text := await told.get()) is not None:
            # A token may end within a letter; it is sent when the letter is whole.
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
            if text.startswith(sent) and len(text) > len(sent):
                yield _chunk(common, {"content": text[len(sent) :]})
                sent = text
        try:
            said = await work
        except Refused as error:
            yield _event(body(error.code, str(error)))
            return
        except asyncio.TimeoutError:
            yield _event(body("timeout", f"No answer in {seconds:g} seconds; ask for less."))
            return
        if said.text.startswith(sent) and len(said.text) > len(sent):
            yield _chunk(common, {"content": said.text[len(sent) :]})
        extra = {"emoverse": _found(said, warnings).model_dump()}
        yield _chunk(common, {}, said.finish, extra)
        if request.stream_options and request.stream_options.include_usage:
            yield _event(common | {"choices": [], "usage": _usage(said).model_dump()})
        yield b"data: [DONE]\n\n"
    finally:
        work.cancel()  # the client may be gone
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work


def _parts(content: str | list[Any]) -> list[Any]:
    return [TextPart(type="text", text=content)] if isinstance(content, str) else content


def _usage(said: Said) -> Usage:
    return Usage(
        prompt_tokens=said.tokens_in,
        completion_tokens=said.tokens_out,
        total_tokens=said.tokens_in + said.tokens_out,
    )


def _found(said: Said, warnings: list[str]) -> Found:
    return Found(
        task=said.task, label=said.label, probabilities=said.probabilities, warnings=warnings
    )


def _id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def _chunk(
    common: dict[str, Any],
    delta: dict[str, str],
    finish: str | None = None,
    extra: dict[str, Any] | None = None,
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(common | {"choices": [choice]} | (extra or {}))


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
