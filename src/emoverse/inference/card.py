"""An analysis as a small card: what a notebook shows of it."""

from __future__ import annotations

import hashlib
import json

from emoverse.inference.analysis import Analysis
from emoverse.inference.report import environment, view


def card(analysis: Analysis) -> str:
    """HTML for the middle of another page; it brings its own style and needs nothing else.

    A clip shows its peak frame with the face boxed, the likeliest labels, the caption and the
    reason; a conversation shows who caused which emotion, and its turns. Light and dark follow the
    notebook's theme.
    """
    # Two cards on one page must not share the ids that their links lead to.
    name = hashlib.sha256(json.dumps(analysis.to_json()).encode()).hexdigest()[:8]
    template = environment().get_template("card.html.j2")
    return template.render(view=view(analysis, f"card-{name}"))
