"""The web page, end to end in a real browser; the engine's answers are known beforehand."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from emoverse.faces import drawn
from emoverse.inference.engine import Engine, load_model
from emoverse.models import weights

from .browsing import REASON, Scripted, chromium
from .running import TOKEN, Running, make_settings, running, wait_for

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytest.importorskip("gradio", reason="needs the `serve` extra")

SECONDS = 30_000
TALK = {
    "turns": [
        {"speaker": "Ann", "text": "I have news.", "emotion": "neutral"},
        {"speaker": "Bob <b>", "text": "Oh, tell me!"},
    ]
}
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        pytest.skip("needs Chromium; `apt install chromium` or Google Chrome")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--mute-audio", *FAKE_CAMERA]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def engines() -> dict[str, Scripted]:
    return {"compact": Scripted(), "glum": Scripted("sadness")}


@pytest.fixture(scope="module")
def served(
    landmarker: Path, engines: dict[str, Scripted], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    settings = make_settings(folder, token=None, page=True, others=("models/glum",))
    with running(settings, lambda model: engines[Path(model).name]) as server:
        yield server


@pytest.fixture(scope="module")
def smile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn.clip(tmp_path_factory.mktemp("clips") / "my <i>smile.mp4")


class Visit:
    """A page of its own, and what went wrong on it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.set_default_timeout(SECONDS)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda told: told.type == "error" and self.complaints.append(told.text),
        )
        self.page.goto(url)
        self.page.wait_for_selector("#read")

    def add(self, clip: Path) -> None:
        self.page.set_input_files("#clip input[type=file]", clip)
        self.page.wait_for_selector("#clip .note:has-text('ready to be read')")

    def read(self, text: str = "I got the job!") -> None:
        self.page.fill("#said textarea", text)
        self.page.click("#read")
        self.done()

    def done(self) -> None:
        with contextlib.suppress(api.TimeoutError):
            self.page.wait_for_selector("#clip-links a, #result [role=alert]")
        told = self.page.inner_text("#result .status"), self.complaints
        assert self.page.locator("#clip-links a").count(), told

    def talk(self) -> None:
        self.page.get_by_role("tab", name="Conversation").click()
        self.page.wait_for_selector("#turns .says")

    def download(self, link: str) -> Path:
        with self.page.expect_download() as found:
            self.page.click(link)
        return Path(found.value.path())

    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture
def visit(browser: Any, served: Running) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def go(**options: Any) -> Visit:
        made.append(Visit(browser, served.url, **options))
        return made[-1]

    yield go
    for one in made:
        one.context.close()
        assert one.complaints == []


def test_a_clip_is_added_read_and_explained(
    visit: Callable[..., Visit], smile: Path, engines: dict[str, Scripted]
) -> None:
    here = visit()
    page = here.page
    here.add(smile)
    assert page.inner_text("#clip .name") == "my <i>smile.mp4"
    page.fill("#said textarea", "I got the job <b>today</b>!")
    engines["compact"].free.clear()
    try:
        page.click("#read")
        # The answers are there, and the reason is half written: it comes as it is written.
        page.wait_for_selector("#result .reason.busy:has-text('whole')")
        written = page.inner_text("#result .reason.busy")
        assert REASON.startswith(written) and 0 < len(written) < len(REASON)
        assert "Writing the reason" in page.inner_text("#result .status")
        assert page.locator("#result .answer").all_inner_texts() == ["Positive", "Joy"]
    finally:
        engines["compact"].free.set()
    here.done()
    result = page.inner_text("#result")
    for wanted in ("Positive", "90%", "Joy", "80%", "Lip corners pulled", REASON, "Done."):
        assert wanted in result, wanted
    # The player stands at the peak, with the face boxed.
    peak = page.locator("#clip .peak")
    assert re.fullmatch(r"Peak at 1\.\d+ s", peak.inner_text())
    assert page.locator("#clip svg.boxed.near").is_visible()
    x, y, width, height = (
        float(page.locator("#clip rect.over").get_attribute(name))  # type: ignore[arg-type]
        for name in ("x", "y", "width", "height")
    )
    assert 140 < x < 200 and 90 < y < 150 and 120 < width < 180 and 150 < height < 220
    # It goes when the clip plays on, and the button brings it back.
    page.evaluate("document.querySelector('#clip video').currentTime = 0.2")
    page.wait_for_selector("#clip svg.boxed:not(.near)", state="attached")
    peak.click()
    page.wait_for_selector("#clip svg.boxed.near")
    assert page.locator(".faces .plot path").count() == 1
    assert "Peak frame at 1." in page.inner_text(".faces figcaption")


def test_what_is_downloaded_opens(
    visit: Callable[..., Visit], smile: Path, browser: Any, tmp_path: Path
) -> None:
    here = visit()
    here.add(smile)
    here.read()
    found = json.loads(here.download("text=Download JSON").read_text("utf-8"))
    assert found["clip"] == "my <i>smile.mp4" and found["text"] == "I got the job!"
    assert found["answers"]["er"]["label"] == "joy" and found["peak"]["person"] == 0
    report = tmp_path / "report.html"
    report.write_bytes(here.download("text=Download the report").read_bytes())
    tab = here.context.new_page()
    tab.goto(report.as_uri())
    assert tab.inner_text("h1") == "my <i>smile.mp4"
    assert REASON in tab.inner_text("main")


def test_another_text_needs_no_second_look_at_the_clip(
    visit: Callable[..., Visit], smile: Path, served: Running, engines: dict[str, Scripted]
) -> None:
    here = visit()
    here.add(smile)
    here.read("I lost the job!")
    decoded = served.service.metrics.decodes.labels("done")._value.get()
    engines["compact"].asked.clear()
    here.page.fill("#said textarea", "I found the job!")

    # A click is dropped while the page hears the end of the reading before, so it is repeated.
    def asked() -> bool:
        here.page.click("#read")
        here.page.wait_for_timeout(1000)
        return any("I found the job!" in query for query in engines["compact"].asked)

    wait_for(asked, 120)
    here.page.wait_for_selector("#result .status:has-text('Done.')")
    here.done()
    assert served.service.metrics.decodes.labels("done")._value.get() == decoded
    assert "“" not in here.page.inner_text("#result .status")


def test_two_models_are_compared_side_by_side(visit: Callable[..., Visit], smile: Path) -> None:
    here = visit()
    page = here.page
    here.add(smile)
    page.get_by_label("Compare with").first.click()
    page.get_by_role("option", name="glum").click()
    here.read()
    titles = page.locator("#result h2")
    assert titles.all_inner_texts() == ["compact", "glum"]
    left, right = (titles.nth(n).bounding_box() for n in (0, 1))
    assert left["y"] == right["y"] and left["x"] + 200 < right["x"]
    assert page.locator("#result .answer").all_inner_texts() == [
        "Positive", "Joy", "Negative", "Sadness",
    ]  # fmt: skip
    rows = json.loads(here.download("text=Download JSON").read_text("utf-8"))
    assert [row["model"] for row in rows] == ["compact", "glum"]


def test_a_conversation_shows_who_caused_what(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    here.talk()
    page.get_by_label("Words of utterance 1").fill("I have to tell you <i>something</i>.")
    page.get_by_label("Emotion of utterance 2").select_option("fear")
    page.get_by_label("Remove utterance 6").click()
    page.get_by_role("button", name="Add an utterance").click()
    page.get_by_label("Speaker of utterance 6").fill("Cleo")
    page.get_by_label("Words of utterance 6").fill("Let us celebrate.")
    page.click("#find")
    page.wait_for_selector("#talk-links a")
    graph = page.locator("figure.causes svg")
    told = graph.get_attribute("aria-label")
    assert "Ana caused Ben's joy: utterance 1 → 2, 3 → 4" in told
    assert "Ana caused their own joy: utterance 1 itself" in told
    assert "Ana caused Cleo's joy: utterance 5 → 6" in told
    assert page.locator("figure.causes .node text").all_text_contents() == ["Ana", "Ben", "Cleo"]
    talk = page.inner_text(".talk")
    assert "I have to tell you <i>something</i>." in talk and "fear" in talk
    found = json.loads(here.download("#talk-links >> text=Download JSON").read_text("utf-8"))
    assert [turn["emotion"] for turn in found["turns"]][:3] == ["joy", "fear", "joy"]


def test_a_conversation_is_json_as_well(visit: Callable[..., Visit], tmp_path: Path) -> None:
    here = visit()
    page = here.page
    here.talk()
    page.click("#turns summary")
    page.fill("#turns-json", '{"turns": [')
    assert "not a conversation in JSON" in page.inner_text("#turns .note")
    page.fill("#turns-json", '{"turns": [{"speaker": "Ann"}]}')
    assert "text field" in page.inner_text("#turns .note")
    page.fill("#turns-json", '[{"text": "Hm.", "emotion": "zest"}]')
    page.click("#find")
    page.wait_for_selector(".status.failed:has-text(\"emotion 'zest' is unknown\")")
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(TALK), "utf-8")
    page.set_input_files("#turns-file", file)
    page.wait_for_selector("#turns .row:nth-child(2) .says")
    assert page.get_by_label("Speaker of utterance 2").input_value() == "Bob <b>"
    assert page.get_by_label("Emotion of utterance 1").input_value() == "neutral"
    assert json.loads(page.input_value("#turns-json")) == TALK
    page.click("#find")
    page.wait_for_selector("#talk-links a")
    assert page.locator("figure.causes .word").all_text_contents() == ["joy"]


def test_nothing_is_asked_of_other_hosts(
    visit: Callable[..., Visit], served: Running, smile: Path
) -> None:
    here = visit()
    here.add(smile)
    here.read()
    here.talk()
    assert len(here.asked) > 20
    hosts = {re.sub(r"^(?:blob:)?(\w+://[^/]+)/.*", r"\1", url) for url in here.asked}
    assert {host for host in hosts if not host.startswith("data:")} == {served.url}
    policy = served.client.get("/page/").headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_light_and_dark_and_every_part_has_a_name(
    visit: Callable[..., Visit], smile: Path, scheme: str
) -> None:
    here = visit(color_scheme=scheme, reduced_motion="reduce")
    page = here.page
    light = [
        sum(int(n) for n in re.findall(r"\d+", page.evaluate(script))[:3])
        for script in (
            "getComputedStyle(document.querySelector('gradio-app')).backgroundColor",
            "getComputedStyle(document.querySelector('.emoverse.top')).color",
            "getComputedStyle(document.querySelector('#said textarea')).backgroundColor",
        )
    ]
    assert [value > 380 for value in light] == (
        [True, False, True] if scheme == "light" else [False, True, False]
    )
    here.add(smile)
    here.read()
    for _ in range(2):
        found = axe.Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
        here.talk()
        page.click("#find")
        page.wait_for_selector("#talk-links a")


def test_a_phone_shows_it_without_scrolling_sideways(
    visit: Callable[..., Visit], smile: Path
) -> None:
    here = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    here.add(smile)
    here.read("A" * 300)
    assert here.overflow() <= 0
    here.talk()
    here.page.get_by_label("Speaker of utterance 1").fill("A" * 90)
    here.page.click("#find")
    here.page.wait_for_selector("#talk-links a")
    assert here.overflow() <= 0
    box = here.page.locator("#turns .row:not(.labels) .says").first.bounding_box()
    assert box["width"] > 250


def test_keys_alone_do_everything(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page

    def go(wanted: str, key: str = "Tab") -> None:
        for _ in range(60):
            page.keyboard.press(key)
            if page.evaluate(f"document.activeElement.matches({json.dumps(wanted)})"):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                shown = page.evaluate(
                    "getComputedStyle(document.activeElement.nextElementSibling ||"
                    " document.activeElement).outlineStyle"
                )
                assert "none" not in (outline, shown) or "solid" in (outline, shown), wanted
                return
        raise AssertionError(f"{wanted} is not reached by {key}")

    go("#clip input[type=file]")
    go("#clip .record")
    go("#said textarea")
    go("#read")
    go(".examples button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#clip .note:has-text('ready')")
    go("#said textarea", "Shift+Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("I am so glad!")
    go("#read")
    page.keyboard.press("Space")
    here.done()
    assert "Joy" in page.inner_text("#result")
    page.evaluate("document.querySelector('#clip video').currentTime = 0.1")
    go("#clip .peak", "Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#clip svg.boxed.near")
    go("#clip-links a")
    with page.expect_download():
        page.keyboard.press("Enter")
    go("[role=tab]", "Shift+Tab")
    go("[role=tab]:not([aria-selected=true])", "Shift+Tab" if _last_tab(page) else "Tab")
    page.keyboard.press("Enter")
    go("#turns .says")
    go("#find")
    page.keyboard.press("Enter")
    page.wait_for_selector("#talk-links a")


def _last_tab(page: Any) -> bool:
    return bool(page.evaluate("document.activeElement.matches('[aria-selected=false]') === false"))


def test_a_recording_is_a_clip_like_any_other(visit: Callable[..., Visit]) -> None:
    here = visit(permissions=["camera", "microphone"])
    page = here.page
    page.click("#clip .record")
    page.wait_for_selector("#clip .record:has-text('Stop recording')")
    page.wait_for_timeout(1500)
    page.click("#clip .record")
    page.wait_for_selector("#clip .note:has-text('recording.webm is ready')")
    here.read("Testing, one, two.")
    assert "No face was found in recording.webm." in page.inner_text("#result")


def test_the_page_tells_what_it_does_not_take(
    visit: Callable[..., Visit], tmp_path: Path, smile: Path
) -> None:
    here = visit()
    page = here.page
    page.click("#read")
    page.wait_for_selector("#result [role=alert]:has-text('There is no clip yet')")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    here.add(broken)
    page.click("#read")
    page.wait_for_selector("#result [role=alert]:has-text('broken.mp4')")
    here.add(smile)
    page.click("#clip .remove")
    assert page.locator("#clip .stage.empty").is_visible()
    page.click("#read")
    page.wait_for_selector("#result [role=alert]:has-text('There is no clip yet')")


def test_stop_and_closing_the_page_end_the_work(
    browser: Any, served: Running, engines: dict[str, Scripted], smile: Path
) -> None:
    pending = served.service.metrics.pending._value.get
    engine = engines["compact"]
    for close in (False, True):
        here = Visit(browser, served.url)
        here.add(smile)
        engine.free.clear()
        try:
            here.page.click("#read")
            here.page.wait_for_selector("#result .reason.busy")
            assert pending() == 1
            if close:
                here.context.close()
            else:
                here.page.click("#stop-clip")
                here.page.wait_for_selector("#result .status:has-text('Stopped.')")
            wait_for(lambda: pending() == 0)
            written = engine.written
        finally:
            engine.free.set()
        # A word, after which it is told to end.
        wait_for(lambda written=written: engine.written > written)
        if not close:
            here.read()
            here.context.close()


def test_a_server_with_a_token_asks_the_browser_for_it(
    landmarker: Path, browser: Any, tmp_path: Path, smile: Path
) -> None:
    with running(make_settings(tmp_path, page=True), lambda _: Scripted(pause=0)) as server:
        assert httpx2.get(server.url + "/page/").status_code == 401
        known = {"http_credentials": {"username": "me", "password": TOKEN}}
        here = Visit(browser, server.url, **known)
        here.add(smile)
        here.read()
        assert "Joy" in here.page.inner_text("#result")
        assert here.page.get_by_label("Compare with").count() == 0
        here.context.close()


@pytest.mark.slow
@pytest.mark.usefixtures("compact_weights")
def test_the_shipped_model_reads_the_examples(browser: Any, tmp_path: Path) -> None:
    engine: list[Engine] = []

    def load(model: str) -> Engine:
        engine.append(load_model(model))
        return engine[-1]

    with running(make_settings(tmp_path, token=None, page=True), load) as server:
        here = Visit(browser, server.url)
        page = here.page
        titles = ["Smile (drawn)"]
        if (weights.cache_dir() / weights.DEMO_CLIP.file).is_file():
            titles.append("Woman, 20 s (Pexels)")
        for title in titles:
            page.get_by_role("button", name=title).click()
            page.wait_for_selector("#clip .note:has-text('ready')")
            page.click("#read")
            page.wait_for_selector("#result .reason.busy")
            here.done()
            shares = page.locator("#result .closed").nth(1).locator(".num").all_inner_texts()
            assert abs(sum(int(share[:-1]) for share in shares) - 100) <= 4
            assert len(page.inner_text("#result .reason").split()) > 5
        here.talk()
        page.click("#find")
        page.wait_for_selector("#talk-links a")
        assert page.locator(".talk .tag").count() == 6
        assert here.complaints == []
        here.context.close()
