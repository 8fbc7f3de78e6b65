"""A hook of mkdocs: a notebook's links to pages, which mkdocs leaves as they are."""

from __future__ import annotations

import re
from typing import Any


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Lead a notebook's links to `x.md` to the page that is made of it."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'(href="[^":]+)\.md(?=["#])', r"\1.html", html)
