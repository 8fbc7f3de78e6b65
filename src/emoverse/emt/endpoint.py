"""Questions to any server with OpenAI's `/v1/chat/completions`: vLLM, transformers serve, others.

Answers are kept on disk by what was asked, so that a run that was stopped never pays twice.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from emoverse.errors import EmoVerseError
from emoverse.files import write_text

# Worth asking again: time-outs, too early, too many, and what servers and gateways answer while
# they start, restart or are full. 529 is "overloaded" at some hosts.
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# Every further question would meet the same answer.
_HOPELESS = {401, 402, 403, 404, 405}
_LONGEST_BACK_OFF = 60.0
_LONGEST_ORDERED_WAIT = 600.0
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"RIFF", "image/webp"),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model behind a URL, and how to treat it.

    Attributes:
        url: up to and including `/v1`, e.g. `http://localhost:8000/v1`; `/v1` is added to a URL
            without a path.
        model: the model's name there.
        key: sent as bearer token; never shown.
        concurrency: questions under way at once.
        timeout: seconds for one attempt.
        retries: further attempts after the first.
        back_off: seconds before the first retry; doubled at each further one, with jitter.
        max_tokens: the longest answer.
        prices: US dollars for a million tokens in and out; None when unknown or not billed.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    concurrency: int = 8
    timeout: float = 300.0
    retries: int = 5
    back_off: float = 1.0
    max_tokens: int = 320
    prices: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One user turn and how to sample its answer.

    Attributes:
        text: the prompt.
        images: pictures before the text, each the bytes of a JPEG, PNG or WebP file.
        system: the system prompt; none by default.
    """

    text: str
    images: tuple[bytes, ...] = ()
    max_tokens: int = 320
    temperature: float = 0.0
    seed: int = 0
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said.

    Attributes:
        text: the answer without surrounding blanks, and without a leading `<think>` block.
        finish: the server's reason to stop: `stop`, `length`, `content_filter`...
        refusal: the server itself marked the answer as a refusal.
        tokens_in, tokens_out: as the server counted them; None when it does not count.
        attempts: how often it was asked; 0 when the answer came from disk.
    """

    text: str
    finish: str
    refusal: bool
    tokens_in: int | None
    tokens_out: int | None
    attempts: int = 0


class EndpointError(Exception):
    """No answer to one question.

    Attributes:
        hopeless: no other question would get one either.
        unreachable: nothing took the connection at the last attempt.
    """

    def __init__(self, message: str, *, hopeless: bool = False, unreachable: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless
        self.unreachable = unreachable


def connect(endpoint: Endpoint) -> httpx2.AsyncClient:
    """An open connection pool to the endpoint; close it, or use it in `async with`.

    Raises:
        EmoVerseError: the URL is not an http(s) one, or the key cannot be sent.
    """
    parts = urlsplit(endpoint.url.strip())
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise EmoVerseError(
            f"Endpoint {endpoint.url!r} is not a URL; write it like http://localhost:8000/v1."
        )
    if endpoint.key and not (endpoint.key.isascii() and endpoint.key.isprintable()):
        raise EmoVerseError("The endpoint's key has characters that HTTP cannot send; check it.")
    base = endpoint.url.strip().rstrip("/").removesuffix("/chat/completions")
    try:
        return httpx2.AsyncClient(
            base_url=base if parts.path.strip("/") else f"{base}/v1",
            headers={"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
            timeout=None,  # `_attempt` bounds the whole attempt; httpx bounds single reads only
            limits=httpx2.Limits(max_connections=endpoint.concurrency),
        )
    except httpx2.InvalidURL as error:
        raise EmoVerseError(f"Endpoint {endpoint.url!r} is not a URL ({error}); mend it.") from None


async def ask(
    client: httpx2.AsyncClient,
    endpoint: Endpoint,
    question: Question,
    cache: Path | None,
    *,
    known: bool = True,
) -> Reply:
    """Answer a question from the cache, else from the endpoint.

    Args:
        client: what `connect` gave.
        endpoint: where to ask.
        question: what to ask.
        cache: folder of kept answers; made when missing. None keeps nothing.
        known: the endpoint has answered before, so that it is waited for when it cannot be
            reached; one that never has is tried twice, for its URL may be wrong.

    Returns:
        The reply; with a cache it is on disk before it is returned.

    Raises:
        EndpointError: no answer after all retries, or the endpoint refuses to be asked.
    """
    kept = None if cache is None else cache_file(cache, endpoint.model, question)
    if kept is not None and (reply := _kept(kept)) is not None:
        return reply
    body = _body(endpoint.model, question)
    for attempt in range(endpoint.retries + 1):
        problem, wait, unreachable = await _attempt(client, body, endpoint.timeout)
        if isinstance(problem, Reply):
            if kept is not None:
                row = {"model": endpoint.model} | asdict(problem)
                del row["attempts"]
                write_text(kept, json.dumps(row, ensure_ascii=False) + "\n")
            return Reply(**{**asdict(problem), "attempts": attempt + 1})
        if attempt == endpoint.retries or (unreachable and attempt and not known):
            break
        await asyncio.sleep(_pause(endpoint.back_off, attempt, wait))
    raise EndpointError(f"{problem} ({attempt + 1} attempts)", unreachable=unreachable)


def cache_file(cache: Path, model: str, question: Question) -> Path:
    """Where the answer to a question is kept: by hash of model, prompt, pictures and settings.

    The URL is no part of it: the same model elsewhere is the same model.
    """
    asked = asdict(question) | {
        "model": model,
        "images": [hashlib.sha256(image).hexdigest() for image in question.images],
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return cache / digest[:2] / f"{digest}.json"


def _body(model: str, question: Question) -> dict[str, Any]:
    content: Any = question.text
    if question.images:
        content = [
            {"type": "image_url", "image_url": {"url": _data_url(image)}}
            for image in question.images
        ]
        content.append({"type": "text", "text": question.text})
    system = [{"role": "system", "content": question.system}] if question.system else []
    return {
        "model": model,
        "messages": [*system, {"role": "user", "content": content}],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "seed": question.seed,
    }


def _data_url(image: bytes) -> str:
    kind = next((kind for magic, kind in _MAGIC if image.startswith(magic)), None)
    if kind is None:
        raise EndpointError("a picture is not a JPEG, PNG or WebP file")
    return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"


async def _attempt(
    client: httpx2.AsyncClient, body: dict[str, Any], timeout: float
) -> tuple[Reply | str, float | None, bool]:
    """The reply, or why there is none yet.

    Beside it the seconds that the server asks to wait, and whether nothing took the connection.
    """
    try:
        response = await asyncio.wait_for(client.post("chat/completions", json=body), timeout)
    except asyncio.TimeoutError:
        return f"no answer in {timeout:g} s", None, False
    except httpx2.TransportError as error:
        why = f"no connection to {client.base_url} ({error or type(error).__name__})"
        return why, None, isinstance(error, httpx2.ConnectError)
    except httpx2.RequestError as error:  # e.g. a body that is not packed as its header says
        return f"an unreadable answer from {client.base_url} ({error})", None, False
    if response.status_code in _PASSING:
        return f"HTTP {response.status_code}{_told(response)}", _ordered_wait(response), False
    if response.status_code != 200:
        raise EndpointError(
            f"HTTP {response.status_code} from {response.url}{_told(response)}",
            hopeless=response.status_code in _HOPELESS,
        )
    try:
        return _reply(response.json()), None, False
    except (ValueError, LookupError, TypeError):  # a proxy's page, a cut or foreign answer
        return f"not a chat completion: {response.text[:80]!r}", None, False


def _reply(answer: Any) -> Reply:
    choice = answer["choices"][0]
    message = choice["message"]
    content, refusal = message.get("content"), message.get("refusal")
    if content is not None and not isinstance(content, str):
        raise TypeError("content is not text")
    usage = answer.get("usage") or {}
    finish = str(choice.get("finish_reason") or "stop")
    text = re.sub(r"\A\s*<think>.*?</think>", "", content or "", flags=re.DOTALL)
    return Reply(
        text=(text or refusal or "").strip(),
        finish=finish,
        refusal=bool(refusal) or finish == "content_filter",
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _told(response: httpx2.Response) -> str:
    """What the server says about its own error, on one short line."""
    try:
        told = response.json()
        told = told.get("error", told)
        told = told.get("message", told) if isinstance(told, dict) else told
    except (ValueError, AttributeError):
        told = response.text
    words = " ".join(str(told).split())
    return f": {words[:200]}" if words else ""


def _ordered_wait(response: httpx2.Response) -> float | None:
    """Seconds in the Retry-After header (RFC 9110, 10.2.3): a number or a date."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        return min(max(0.0, float(value)), _LONGEST_ORDERED_WAIT)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    left = (when - datetime.now(timezone.utc)).total_seconds()
    return min(max(0.0, left), _LONGEST_ORDERED_WAIT)


def _pause(back_off: float, attempt: int, ordered: float | None) -> float:
    # Jitter keeps many waiting questions from coming back all at once.
    own = min(_LONGEST_BACK_OFF, back_off * 2.0**attempt) * random.uniform(0.5, 1.0)
    return own if ordered is None else max(own, ordered)


def _kept(path: Path) -> Reply | None:
    """The kept reply; None when there is none or the file was damaged."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        del row["model"]
        return Reply(**row)
    except (OSError, ValueError, KeyError, TypeError):
        return None
