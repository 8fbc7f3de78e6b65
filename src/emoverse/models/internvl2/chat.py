"""The chat formats InternVL2 was trained with, as strings for EmoVerse and as Jinja for others.

They are the `conversation.py` formats of OpenGVLab's files (separator style MPT): the end mark of a
turn is followed by the next turn at once, without a line break.
"""

from __future__ import annotations

import json

from emoverse.errors import EmoVerseError
from emoverse.models.prompt import ChatFormat
from emoverse.tasks import SYSTEM_PROMPT

# role -> opening; then the end mark.
_CHATML = (
    {
        "system": "<|im_start|>system\n",
        "user": "<|im_start|>user\n",
        "assistant": "<|im_start|>assistant\n",
    },
    "<|im_end|>",
)
_PHI3 = (
    {"system": "<|system|>\n", "user": "<|user|>\n", "assistant": "<|assistant|>\n"},
    "<|end|>",
)
TEMPLATES = {"phi3-chat": _PHI3, "internlm2-chat": _CHATML, "Hermes-2": _CHATML}
"""By the `template` that a published `config.json` names."""

_JINJA = """\
{{%- set openings = {openings} -%}}
{{%- set end = {end} -%}}
{{{{- {first} }}}}
{{%- if not messages or messages[0]['role'] != 'system' -%}}
{{{{- openings['system'] + {system} + end }}}}
{{%- endif -%}}
{{%- for message in messages -%}}
{{{{- openings[message['role']] }}}}
{{%- if message['content'] is string -%}}
{{{{- message['content'] }}}}
{{%- else -%}}
{{%- for part in message['content'] -%}}
{{%- if part['type'] == 'image' -%}}
{{{{- '<IMG_CONTEXT>\\n' }}}}
{{%- elif part['type'] == 'video' -%}}
{{{{- '<video>\\n' }}}}
{{%- else -%}}
{{{{- part['text'] }}}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- endif -%}}
{{{{- end }}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{- openings['assistant'] }}}}
{{%- endif -%}}
"""


def chat_format(template: str, first: str = "") -> ChatFormat:
    """The strings EmoVerse puts around a query.

    Args:
        template: key of `TEMPLATES`.
        first: the mark that starts every sequence (`<s>` for InternLM2), if any.

    Raises:
        EmoVerseError: the format is unknown.
    """
    openings, end = _parts(template)
    return ChatFormat(
        before_media=f"{first}{openings['system']}{SYSTEM_PROMPT}{end}{openings['user']}",
        before_answer=f"{end}{openings['assistant']}",
        end=end,
    )


def chat_template(template: str, first: str = "") -> str:
    """The same format as a Jinja chat template, with EmoVerse's system prompt as the default.

    Pictures become `<IMG_CONTEXT>` and videos `<video>`, the places that transformers'
    `InternVLProcessor` fills.

    Raises:
        EmoVerseError: the format is unknown.
    """
    openings, end = _parts(template)
    return _JINJA.format(
        openings=json.dumps(openings),
        end=json.dumps(end),
        first=json.dumps(first),
        system=json.dumps(SYSTEM_PROMPT),
    )


def end_mark(template: str) -> str:
    """The token that ends an answer.

    Raises:
        EmoVerseError: the format is unknown.
    """
    return _parts(template)[1]


def _parts(template: str) -> tuple[dict[str, str], str]:
    if template not in TEMPLATES:
        raise EmoVerseError(
            f"config.json: the chat format {template!r} is unknown; InternVL2 has "
            f"{', '.join(TEMPLATES)}."
        )
    return TEMPLATES[template]
