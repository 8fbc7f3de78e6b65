"""The documentation's pictures: the web page, the curve of Eq 1, the example notebook's results.

    python scripts/pictures.py

Everything is made anew with the compact model from clips that EmoVerse draws itself. Needs the
`dev` extra, the weights (`emoverse pull compact`) and Chromium.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from emoverse.faces import drawn
from emoverse.serving.app import create_app
from emoverse.serving.server import Server, make_server
from emoverse.serving.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE = {"viewport": {"width": 1180, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}


def main() -> None:
    """Make them all."""
    _notebook(DOCS / "notebooks" / "one-clip.ipynb")
    with tempfile.TemporaryDirectory() as folder:
        _curve(Path(folder), DOCS / "images" / "au-curve.svg")
        server = _server(Path(folder))
        try:
            _pictures(f"http://127.0.0.1:{server.port}/")
        finally:
            server.handle_exit(15, None)


def _curve(folder: Path, path: Path) -> None:
    clip = drawn.clip(folder / "surprise.mp4", "surprise")
    command = ["faces", str(clip), "--emotion", "surprise", "--curve", str(path)]
    subprocess.run([sys.executable, "-m", "emoverse", *command], check=True)


def _server(folder: Path) -> Server:
    settings = Settings(port=0, page=True, folder=folder)
    server = make_server(create_app(settings), settings)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.2)
    return server


def _pictures(address: str) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("Chromium is needed; install it, and try again.")
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, options in (
            ("clip", WIDE),
            ("dark", WIDE | {"color_scheme": "dark"}),
            ("phone", PHONE),
        ):
            page = opened.new_context(**options).new_page()
            page.goto(address)
            page.get_by_role("button", name="Smile (drawn)").click()
            page.wait_for_selector("#clip .note:has-text('ready')")
            page.click("#read")
            page.wait_for_selector("#clip-links a", timeout=120_000)
            page.wait_for_selector("#clip svg.boxed.near")
            _keep(page, name, whole=name == "clip")
            if name != "clip":
                continue
            page.get_by_role("tab", name="Conversation").click()
            page.click("#find")
            page.wait_for_selector("#talk-links a", timeout=120_000)
            _keep(page, "conversation", whole=True)
        opened.close()


def _keep(page: Page, name: str, *, whole: bool) -> None:
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    path = DOCS / "images" / f"page-{name}.png"
    path.parent.mkdir(exist_ok=True)
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size // 1024} kB")


def _notebook(path: Path) -> None:
    book: Any = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(book, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in book.cells:
        cell.metadata = {}  # when it ran says nothing
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.output_type == "execute_result"]
            for one in cell.outputs:
                if "text/html" in one.data:  # the same in more words, with the clip's path
                    del one.data["text/plain"]
    book.metadata = {"kernelspec": book.metadata.kernelspec, "language_info": {"name": "python"}}
    nbformat.write(book, path)
    print(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
