"""The example notebook runs from top to bottom and shows what it promises; so do cards."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emoverse.inference.analysis import Analysis

from .inference.test_report import EVIL, _clip, _talk

NOTEBOOK = "docs/notebooks/one-clip.ipynb"


def test_a_clip_shows_itself_as_a_card() -> None:
    card = _clip()._repr_html_()
    for wanted in ("Positive", "joy", "80%", "Grinning", "Because the friends came.", "image/jpeg"):
        assert wanted in card, wanted
    assert "not of what a person feels" in card
    # It is a part of somebody else's page: no style may reach out of it, and nothing is fetched.
    assert "<html" not in card and "<script" not in card and "<body" not in card
    assert not re.search(r'(?:src|href)="(?!#|data:)', card)
    outermost = list(_outermost(card[card.index("<style>") + 7 : card.index("</style>")]))
    assert len(outermost) >= 4
    assert all(name.endswith(".emoverse-card") for name in outermost)


def _outermost(style: str) -> Iterator[str]:
    """The selectors that stand in no other rule; those in `@media` count."""
    depth, media, start = 0, False, 0
    for place, letter in enumerate(style):
        if letter == "{":
            name = " ".join(style[start:place].split())
            if depth == 0 and name.startswith("@media"):
                media = True
            elif depth == int(media):
                yield name
            depth += 1
        if letter == "}":
            depth -= 1
            media = media and depth > 0
        if letter in "{}":
            start = place + 1


def test_a_conversation_shows_its_graph_and_two_cards_share_no_id() -> None:
    one = _talk()
    two = replace(one, model="other")
    card = one._repr_html_()
    assert "A caused B&#39;s joy: utterance 1 → 2" in card
    ids = [set(re.findall(r'id="([^"]+)"', part._repr_html_())) for part in (one, two)]
    assert len(ids[0]) == 3 and not ids[0] & ids[1]


def test_a_card_escapes_what_it_shows() -> None:
    card = Analysis(clip=EVIL.replace("/", ""), model=EVIL, warnings=(EVIL,))._repr_html_()
    assert "<script" not in card and "&lt;script&gt;" in card


def test_importing_emoverse_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.process_time(); import emoverse; "
        "assert time.process_time() - start < 0.5; "
        "heavy = {'torch', 'transformers', 'numpy', 'av', 'gradio'} & set(sys.modules); "
        "assert not heavy, heavy; assert set(emoverse.__all__) <= set(dir(emoverse))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    import emoverse

    for name in emoverse.__all__:
        assert getattr(emoverse, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        emoverse.nothing_like_it  # noqa: B018


def test_the_stored_notebook_is_small_and_names_no_folder(root: Path) -> None:
    text = (root / NOTEBOOK).read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text)


@pytest.mark.slow
@pytest.mark.usefixtures("compact_weights")
def test_the_notebook_runs(root: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    jupyter = pytest.importorskip("jupyter_client", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.read(root / NOTEBOOK, as_version=4)
    nbformat.validate(book)
    # Not by TCP: its ports are chosen long before they are taken.
    kernels = jupyter.AsyncKernelManager(
        kernel_name="python3", transport="ipc", ip=str(tmp_path / "kernel")
    )
    client.NotebookClient(
        book,
        km=kernels,
        timeout=600,
        startup_timeout=600,
        iopub_timeout=600,
        resources={"metadata": {"path": tmp_path}},
    ).execute()
    shown = [
        output["data"]
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    cards = [data["text/html"] for data in shown if "text/html" in data]
    assert len(cards) == 2
    peak = re.search(r"Peak frame at (\d\.\d+)", cards[0])
    assert peak and 0.8 < float(peak[1]) < 2.4 and "Reason" in cards[0]
    assert "The conversation and what caused each emotion" in cards[1]
    label, shares = eval(next(d["text/plain"] for d in shown if "text/html" not in d))
    assert label == max(shares, key=shares.get) and abs(sum(shares.values()) - 1) < 0.05
