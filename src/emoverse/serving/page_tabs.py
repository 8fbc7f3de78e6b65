"""The page's two tabs: a clip, and a conversation."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr
from fastapi import FastAPI

from emoverse.inference.analysis import Analysis
from emoverse.serving import page_clips, page_rows, page_views
from emoverse.serving.page_clips import Clips, Held
from emoverse.serving.page_reading import hear_clip, read_clip, read_dialogue, sentence
from emoverse.serving.problems import Refused
from emoverse.serving.schemas import MOST_TEXT, MOST_TURNS
from emoverse.serving.settings import Settings
from emoverse.tasks.labels import EMOTIONS

TALK = [
    {"speaker": "Ana", "text": "I have to tell you something."},
    {"speaker": "Ben", "text": "You look so serious. What is it?"},
    {"speaker": "Ana", "text": "I got the job in Lisbon! I start in May!"},
    {"speaker": "Ben", "text": "That is wonderful! You wanted it so much!"},
    {"speaker": "Ana", "text": "But it means that I will not be here for your wedding."},
    {"speaker": "Ben", "text": "Oh no. You promised that you would come."},
]
Updates = dict[Any, Any]
ADD = "Add a clip, and read it."


def clip_tab(app: FastAPI, settings: Settings, main: str, others: list[str]) -> None:
    """Put a clip's parts on the page that is being made: player, text, answers, curves.

    Args:
        app: holds the service once the server has started.
        settings: the server's.
        main: the model that answers, by its name in `Service.models`.
        others: models that it can be compared with.
    """
    limits = settings.limits
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            clip = gr.HTML(
                None,
                html_template=page_views.text(
                    "clip.html", most_bytes=limits.upload, most_seconds=limits.clip_seconds
                ),
                js_on_load=page_views.source("clip.js"),
                mark=None,
                apply_default_css=False,
                elem_id="clip",
            )
            said = gr.Textbox(
                label="What is said in it",
                placeholder="Write it down, or leave it empty: then the face alone is read.",
                lines=2,
                max_lines=8,
                max_length=MOST_TEXT,
                elem_id="said",
            )
            hear = None
            if settings.asr_model:
                hear = gr.Button("Write down what is said", elem_id="hear", size="sm")
            other = _other(others)
            with gr.Row():
                go = gr.Button("Read the clip", variant="primary", elem_id="read", scale=3)
                stop = gr.Button("Stop", elem_id="stop-clip", scale=1, min_width=90)
            with gr.Column(elem_classes="examples"):
                gr.HTML(page_views.text("examples.html"), apply_default_css=False)
                with gr.Row():
                    for example in page_clips.examples():
                        value = json.dumps({"example": example.name, "title": example.title})
                        text = json.dumps(example.text)
                        gr.Button(example.title, size="sm").click(
                            None,
                            None,
                            [clip, said],
                            # Its own key: what comes late of an earlier choice is not of this one.
                            js=f"() => [{{...{value}, key: String(Date.now())}}, {text}]",
                        )
        with gr.Column(scale=7, min_width=320, elem_id="result"):
            status = _html(page_views.status(ADD))
            about = _html()
            with gr.Row():
                columns: list[tuple[gr.Column, gr.HTML, gr.HTML]] = []
                for _ in [main, *others[:1]]:
                    with gr.Column(min_width=260, visible=not columns) as column:
                        columns.append((column, _html(), _html()))
            warned, links = _html(), _html(elem_id="clip-links")
    seen = _html()
    found_parts = [about, warned, links, seen, *(part for _, *parts in columns for part in parts)]

    async def read(
        value: Any, text: str | None, second: str | None = None
    ) -> AsyncIterator[Updates]:
        models = [main, second] if second else [main]
        key = _key(value)
        shown: Updates = dict.fromkeys(found_parts, "")
        yield (
            shown
            | _opened([column for column, *_ in columns], len(models))
            | {clip: gr.HTML(mark=None), status: _status(key, "Waiting …", busy=True)}
        )
        try:
            held = await _held(app.state.service.clips, value)
            marked = False
            async with aclosing(read_clip(app.state.service, held, text or "", models)) as steps:
                async for step in steps:
                    # Said each time, for Gradio must hear something; the rest when it is new.
                    doing: Updates = {status: _status(key, step.doing, busy=not step.done)}
                    update: Updates = {}
                    if step.analyses and not marked:
                        first, marked = step.analyses[main], True
                        update[about] = page_views.about(held.title)
                        update[warned] = page_views.warnings(first)
                        update[seen] = page_views.faces(first)
                        doing[clip] = gr.HTML(mark=page_views.mark(first, key))
                    for model, (_, found, why) in zip(models, columns, strict=False):
                        if model in step.analyses:
                            title = model if len(models) > 1 else None
                            update[found] = page_views.answers(step.analyses[model], title)
                            update[why] = page_views.reason(step, model)
                    if step.done:
                        update[links] = page_views.downloads(step.analyses)
                    fresh = {part: new for part, new in update.items() if shown.get(part) != new}
                    shown |= fresh
                    kept = {part: page_views.of_clip(key, new) for part, new in fresh.items()}
                    yield doing | kept
        except Exception as error:
            yield {status: _status(key, sentence(error), failed=True)}

    async def listen(value: Any) -> AsyncIterator[Updates]:
        key = _key(value)
        yield {status: _status(key, "Waiting …", busy=True)}
        try:
            held = await _held(app.state.service.clips, value)
            async with aclosing(hear_clip(app.state.service, held)) as steps:
                async for step in steps:
                    doing: Updates = {status: _status(key, step.doing, busy=not step.done)}
                    yield doing | ({said: step.text} if step.text else {})
        except Exception as error:
            yield {status: _status(key, sentence(error), failed=True)}

    outputs = [clip, status, *found_parts, *(column for column, *_ in columns)]
    runs = [_run(go, stop, read, [clip, said, *other], outputs, status)]
    if hear:
        runs.append(_run(hear, stop, listen, [clip], [said, status], status))
    # The player holds another clip, or none: what runs ends, and what was found is of no use.
    empty = [page_views.status(ADD), *("" for _ in found_parts)]
    clip.clear(None, None, [status, *found_parts], js=f"() => {json.dumps(empty)}", cancels=runs)


def talk_tab(app: FastAPI, main: str, others: list[str]) -> None:
    """Put a conversation's parts on the page that is being made; see `clip_tab`."""
    turns = gr.HTML(
        {"turns": TALK},
        html_template=page_views.text("turns.html", most=MOST_TURNS, emotions=EMOTIONS),
        js_on_load=page_views.source("turns.js"),
        apply_default_css=False,
        elem_id="turns",
    )
    other = _other(others)
    with gr.Row():
        go = gr.Button("Find the causes", variant="primary", elem_id="find", scale=3)
        stop = gr.Button("Stop", elem_id="stop-talk", scale=1, min_width=90)
    status = _html(page_views.status("Edit the conversation, and have its causes found."))
    with gr.Row():
        columns: list[tuple[gr.Column, gr.HTML]] = []
        for _ in [main, *others[:1]]:
            with gr.Column(min_width=300, visible=not columns) as column:
                columns.append((column, _html()))
    links = _html(elem_id="talk-links")

    async def read(value: Any, second: str | None = None) -> AsyncIterator[Updates]:
        models = [main, second] if second else [main]
        empty: Updates = {part: "" for part in (links, *(part for _, part in columns))}
        yield (
            empty
            | _opened([column for column, _ in columns], len(models))
            | {status: page_views.status("Waiting …", busy=True)}
        )
        found: dict[str, Analysis] = {}
        try:
            asked = page_rows.dialogue(value)
            for model, (_, part) in zip(models, columns, strict=False):
                async with aclosing(read_dialogue(app.state.service, asked, model)) as steps:
                    async for step in steps:
                        yield {status: page_views.status(step.doing, busy=not step.done)}
                        found |= step.analyses
                title = model if len(models) > 1 else None
                yield {part: page_views.conversation(found[model], title)}
            yield {links: page_views.downloads(found)}
        except Exception as error:
            yield {status: page_views.status(sentence(error), failed=True)}

    outputs = [status, links, *(part for each in columns for part in each)]
    _run(go, stop, read, [turns, *other], outputs, status)


def _html(value: str = "", **options: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, js_on_load=None, **options)


def _other(others: list[str]) -> list[gr.Dropdown]:
    """What a second model is chosen with, where the server has one."""
    if not others:
        return []
    choices = [("no other model", ""), *((model, model) for model in others)]
    return [gr.Dropdown(choices, value="", label="Compare with", filterable=False)]


def _opened(columns: list[gr.Column], count: int) -> Updates:
    return {column: gr.Column(visible=n < count) for n, column in enumerate(columns)}


def _run(
    go: gr.Button,
    stop: gr.Button,
    read: Callable[..., AsyncIterator[Updates]],
    inputs: list[Any],
    outputs: list[Any],
    status: gr.HTML,
) -> Any:
    """Have one button read and the other one stop it; the event is for others that stop it."""
    event = go.click(
        read,
        inputs,
        outputs,
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    # Told when the work has ended: its last words may still be on their way.
    ended = stop.click(None, None, None, cancels=[event])
    ended.then(
        lambda: page_views.status("Stopped."),
        None,
        [status],
        show_progress="hidden",
        api_visibility="private",
    )
    return event


def _key(value: Any) -> str:
    """What names the player's clip on the page, "" for none; as in `clip.js`."""
    key = value.get("key") if isinstance(value, dict) else None
    return key if isinstance(key, str) else ""


def _status(key: str, doing: str, **kind: bool) -> str:
    """How far the work on one clip is, which is nobody's business once there is another clip."""
    status = page_views.status(doing, **kind)
    return page_views.of_clip(key, status, instead=page_views.status(ADD))


async def _held(clips: Clips, value: Any) -> Held:
    """The clip that the player shows.

    Raises:
        Refused: there is none, or it is gone.
    """
    if isinstance(value, dict) and isinstance(value.get("id"), str):
        return clips.get(value["id"])
    if isinstance(value, dict) and isinstance(value.get("example"), str):
        return await clips.example(value["example"])
    raise Refused(422, "no_clip", "There is no clip yet; drop one, choose a file or record.")
