"""Reasons for ERI: a vision model describes person and scene, a language model infers the reason.

The paper used InternVL2-8B and LLaMA-3.1-8B; any OpenAI-compatible endpoint will do
(docs/reasons.md).
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

import httpx2
from PIL import Image

from emoverse.emt.endpoint import Endpoint, EndpointError, Question, Reply, ask, connect
from emoverse.emt.quality_gate import Rejection, check_description, check_reason, whole_sentences
from emoverse.emt.usage import SKIPPED, Usage, figures
from emoverse.errors import EmoVerseError
from emoverse.faces import video
from emoverse.files import read_text, sha256_of, write_text
from emoverse.tasks import eri
from emoverse.tasks.action_units import codes_in

PROMPTS = Path(__file__).with_name("prompts")
FRAMES = 8  # InternVL2's eight segments of a video
SIDE = 448
TRIES = 2
# A second try must be able to differ from the first, which is deterministic.
_SECOND_TEMPERATURE = 0.7
# So many clips failed one after the other: the endpoint is down, not the clips bad.
_GIVE_UP_AFTER = 10


@dataclass(frozen=True, slots=True)
class Clip:
    """What is known of one clip.

    Attributes:
        id: unique; the key of its reason.
        frames: pictures in order, each the bytes of a JPEG or PNG or the path of one.
        video: a clip to sample frames from when `frames` is empty, as late as possible. With
            neither, the description is left out and the reason rests on the rest.
        start, end: seconds, the part of `video` that is meant; None is its end.
        transcript: what is said, may be empty.
        caption: AU phrases of the peak frame, told to the model.
        aus: codes of all AUs that the peak frame shows, which a reason must not contradict; None
            when only the caption is known.
        label: emotion or sentiment; None when it has none.
    """

    id: str
    frames: tuple[bytes | Path | str, ...] = ()
    transcript: str = ""
    caption: tuple[str, ...] = ()
    aus: tuple[str, ...] | None = None
    label: str | None = None
    video: Path | str | None = None
    start: float = 0.0
    end: float | None = None


def describe_clips(
    clips: Iterable[Clip],
    endpoint: Endpoint | None,
    *,
    out: Path,
    reasoner: Endpoint | None = None,
    prompts: Path = PROMPTS,
    tries: int = TRIES,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Ask for a description and a reason of every clip; nothing is asked twice.

    Every answer is kept in `out/answers` at once: after a stop, however hard, the same call goes
    on where it was and ends with the same `reasons.jsonl` (id, reason, description) and
    `rejected.jsonl` (every answer the gate turned down, and every clip without an answer).

    Args:
        clips: read as they are needed, so a generator keeps memory flat.
        endpoint: the model that sees; None: nothing is asked, and the report says so.
        out: folder for answers, reasons and rejections.
        reasoner: the model that infers the reason; the same as `endpoint` when None.
        prompts: folder with `describe.txt` and `reason.txt`.
        tries: how often a clip may be asked anew when the gate turns an answer down.
        progress: told (clips done, clips in all); all is 0 when `clips` has no length.

    Returns:
        Reasons by clip id, in the clips' order, and the report: `clips`, `accepted`, `rejected`
        (clips per check), `failed`, `failure` (why the first of them did, else None), `unasked`
        (None when unknown), `skipped` or `stopped` (a sentence, else None), `models` (per model:
        answers, tokens_in, tokens_out, uncounted, cost), `cost` (US dollars, None without prices),
        `prompts` (their SHA-256), and `run`: asked, cached, tokens_in, tokens_out and cost of this
        call alone.

    Raises:
        EmoVerseError: an endpoint's URL or a prompt file is unusable. A failing clip never
            raises, it is counted; after ten in a row, or when the endpoint turns everybody
            away or cannot be reached from the beginning, the rest is left unasked.
    """
    total = len(clips) if isinstance(clips, Sized) else None
    if endpoint is None:
        return {}, _report(_Run(tries=tries), total) | {"skipped": SKIPPED}
    if tries < 1:
        raise EmoVerseError(f"tries must be 1 or more, not {tries}.")
    run = _Run(
        templates=templates(prompts),
        cache=out / "answers",
        tries=tries,
    )
    asyncio.run(_all(iter(clips), endpoint, reasoner or endpoint, run, progress, total or 0))
    rows = [run.rows[place] for place in sorted(run.rows)]
    _write(out / "reasons.jsonl", (row for row in rows if "reason" in row))
    turned_down = (row for place in sorted(run.turned_down) for row in run.turned_down[place])
    _write(out / "rejected.jsonl", turned_down)
    reasons = {row["id"]: row["reason"] for row in rows if "reason" in row}
    used = {name: sha256_of(prompts / f"{name}.txt") for name in run.templates}
    return reasons, _report(run, total) | {"prompts": used}


def sampled_frames(
    clip: Path | str,
    count: int = FRAMES,
    side: int = SIDE,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> tuple[bytes, ...]:
    """At most `count` JPEGs evenly spread over a clip, the longer side at most `side` pixels.

    Args:
        clip: a video or a still image.
        count: of pictures.
        side: of a picture, in pixels.
        start: seconds; what lies before is left out.
        end: seconds in the same clock; None reads to the clip's end.

    Raises:
        EmoVerseError: the clip is missing or cannot be read, or there is nothing in that part.
    """
    whole = video.probe(clip).duration
    length = min(whole, whole if end is None else end) - start
    rate = count / length if length > 0 else None
    pictures = []
    found = video.frames(clip, max_fps=rate, max_side=side, start=start, end=end)
    for frame in islice(found, count):
        buffer = io.BytesIO()
        Image.fromarray(frame.image).save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    return tuple(pictures)


@dataclass(slots=True)
class _Run:
    """What one call of `describe_clips` has seen so far."""

    templates: dict[str, Template] = field(default_factory=dict)
    cache: Path = Path()
    tries: int = TRIES
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    turned_down: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    answering: set[Endpoint] = field(default_factory=set)
    failed_in_a_row: int = 0
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class _Model:
    """An endpoint, its connections and its free places."""

    endpoint: Endpoint
    client: httpx2.AsyncClient
    places: asyncio.Semaphore


async def _all(
    clips: Iterator[Clip],
    describer: Endpoint,
    reasoner: Endpoint,
    run: _Run,
    progress: Callable[[int, int], None] | None,
    total: int,
) -> None:
    async with AsyncExitStack() as stack:
        models = []
        for endpoint in dict.fromkeys((describer, reasoner)):
            client = await stack.enter_async_context(connect(endpoint))
            models.append(_Model(endpoint, client, asyncio.Semaphore(endpoint.concurrency)))
            run.usage[endpoint.model] = Usage(endpoint.prices)
        numbered = enumerate(clips)
        turn = asyncio.Lock()

        async def work() -> None:
            while run.stopped is None:
                try:
                    async with turn:  # making the next clip may take a while
                        place, clip = await asyncio.to_thread(next, numbered, (-1, None))
                except (EmoVerseError, OSError) as error:
                    run.stopped = f"The clips could not be read on: {error}"
                    return
                if clip is None:
                    return
                await _one(place, clip, models[0], models[-1], run)
                if progress:
                    progress(len(run.rows), total)

        workers = sum(model.endpoint.concurrency for model in models)
        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


async def _one(place: int, clip: Clip, describer: _Model, reasoner: _Model, run: _Run) -> None:
    """Both questions of one clip; its row tells how it went."""
    step = "describe"
    row: dict[str, Any] = {"id": clip.id}
    try:
        if clip.id in run.seen:
            raise EndpointError("its id occurs twice; only the first is used")
        run.seen.add(clip.id)
        description = None
        images = await asyncio.to_thread(_pictures, clip)
        if images:
            text = run.templates["describe"].substitute(count=len(images))
            description, rejection = await _accepted(
                place, clip, step, describer, Question(text, images), run
            )
        if not images or description:
            step = "reason"
            question = Question(_reason_prompt(run.templates[step], clip, description))
            reason, rejection = await _accepted(place, clip, step, reasoner, question, run)
            if reason:
                row |= {"reason": reason, "description": description}
        if rejection and "reason" not in row:
            row["rejected"] = rejection.check
        run.failed_in_a_row = 0
    except (EndpointError, EmoVerseError, OSError) as error:
        row["failed"] = str(error)
        told = {"id": clip.id, "step": step, "check": "failed", "detail": str(error)}
        run.turned_down.setdefault(place, []).append(told)
        run.failed_in_a_row += isinstance(error, EndpointError)
        asked = (describer if step == "describe" else reasoner).endpoint
        if isinstance(error, EndpointError) and error.hopeless:
            run.stopped = f"The endpoint turns every question away: {error}"
        elif isinstance(error, EndpointError) and error.unreachable and asked not in run.answering:
            run.stopped = f"The endpoint cannot be reached: {error}"
        elif run.failed_in_a_row >= _GIVE_UP_AFTER:
            run.stopped = f"{_GIVE_UP_AFTER} clips in a row failed, the last with: {error}"
    run.rows[place] = row


async def _accepted(
    place: int, clip: Clip, step: str, model: _Model, question: Question, run: _Run
) -> tuple[str | None, Rejection | None]:
    """The first answer that the gate lets through, else None and why the last was turned down."""
    rejection = None
    question = replace(question, max_tokens=model.endpoint.max_tokens)
    for attempt in range(run.tries):
        if attempt:
            question = replace(question, temperature=_SECOND_TEMPERATURE, seed=attempt)
        async with model.places:
            known = model.endpoint in run.answering
            reply = await ask(model.client, model.endpoint, question, run.cache, known=known)
        if reply.attempts:
            run.answering.add(model.endpoint)
        run.usage[model.endpoint.model].add(reply)
        text, rejection = _checked(step, clip, reply)
        if rejection is None:
            return text, None
        told = {
            "id": clip.id,
            "step": step,
            "check": rejection.check,
            "detail": rejection.detail,
            "label": clip.label,
            "model": model.endpoint.model,
            "text": reply.text,
        }
        run.turned_down.setdefault(place, []).append(told)
    return None, rejection


def _checked(step: str, clip: Clip, reply: Reply) -> tuple[str, Rejection | None]:
    text = eri.answer(reply.text)
    if step == "reason":
        return text, check_reason(
            text,
            label=clip.label,
            aus=codes_in("; ".join(clip.caption)) if clip.aus is None else clip.aus,
            finish=reply.finish,
            refusal=reply.refusal,
        )
    # A description is only a clue: when it was cut, its whole sentences serve as well.
    text = (whole_sentences(text) or text) if reply.finish == "length" else text
    return text, check_description(text, finish=reply.finish, refusal=reply.refusal)


def _reason_prompt(template: Template, clip: Clip, description: str | None) -> str:
    clues = [
        ("What the person says", f'"{clip.transcript}"' if clip.transcript else None),
        ("Facial expression at its peak", "; ".join(clip.caption) or None),
        ("Person and scene", description),
    ]
    known = [f"- {name}: {' '.join(clue.split())}" for name, clue in clues if clue]
    return template.substitute(
        label=clip.label or "unknown, infer it from the clues",
        clues="\n".join(known) or "- nothing more",
    )


def _pictures(clip: Clip) -> tuple[bytes, ...]:
    if not clip.frames and clip.video is not None:
        return sampled_frames(clip.video, start=clip.start, end=clip.end)
    return tuple(
        frame if isinstance(frame, bytes) else Path(frame).read_bytes() for frame in clip.frames
    )


def templates(folder: Path) -> dict[str, Template]:
    """The prompts of both steps, `describe` and `reason`.

    Raises:
        EmoVerseError: a file is missing, or has a field that cannot be filled in.
    """
    return {name: _template(folder, name) for name in ("describe", "reason")}


def _template(folder: Path, name: str) -> Template:
    file = folder / f"{name}.txt"
    template = Template(read_text(file).strip())
    fields = {"describe": ("count",), "reason": ("label", "clues")}[name]
    try:
        template.substitute(dict.fromkeys(fields, ""))
    except (KeyError, ValueError):
        known = ", ".join(f"${word}" for word in fields)
        raise EmoVerseError(
            f"{file}: only {known} can be filled in; write $$ for a dollar sign."
        ) from None
    return template


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _report(run: _Run, total: int | None) -> dict[str, Any]:
    rows = run.rows.values()
    in_order = (run.rows[place] for place in sorted(run.rows))
    return {
        "clips": len(rows) if total is None else total,
        "accepted": sum("reason" in row for row in rows),
        "rejected": dict(sorted(Counter(r["rejected"] for r in rows if "rejected" in r).items())),
        "failed": sum("failed" in row for row in rows),
        "failure": next((row["failed"] for row in in_order if "failed" in row), None),
        "unasked": _unasked(run, total),
        "skipped": None,
        "stopped": run.stopped,
        **figures(run.usage),
    }


def _unasked(run: _Run, total: int | None) -> int | None:
    if total is not None:
        return total - len(run.rows)
    return None if run.stopped else 0
