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
from emoverse.serving.settings import Limits

from ..faces.clips import write
from .browsing import REASON, Scripted, chromium
from .running import TOKEN, Running, make_settings, running, wait_for
from .test_hearing import WORDS, Hears

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
pytest.importorskip("gradio", reason="needs the `serve` extra")

SECONDS = 180_000
api.expect.set_options(timeout=SECONDS)
TALK = {
    "turns": [
        {"speaker": "Ann", "text": "I have news.", "emotion": "neutral"},
        {"speaker": "Bob <b>", "text": "Oh, tell me!"},
    ]
}
LINKS = "#clip-links a, #talk-links a"
ENDS = f"{LINKS}, [role=alert]"
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
    settings = make_settings(
        folder, token=None, page=True, others=("models/glum",), asr_model="base"
    )
    with running(settings, lambda model: engines[Path(model).name], lambda _: Hears([])) as server:
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
        for part in ("#read", "#said textarea", "#clip .record", ".emoverse.top"):
            self.page.wait_for_selector(part)

    def add(self, clip: Path) -> None:
        self.page.set_input_files("#clip input[type=file]", clip)
        self.page.wait_for_selector("#clip .note:has-text('ready to be read')")

    def read(self, text: str = "I got the job!") -> None:
        self.page.fill("#said textarea", text)
        self.press("#read")
        self.done()

    def press(self, button: str) -> None:
        """Click until it is heard: Gradio drops a click while the end of a run is on its way."""

        def joined() -> int:
            return sum("/queue/join" in url for url in self.asked)

        def heard() -> bool:
            self.page.click(button)
            for _ in range(20):
                if joined() > before:
                    return True
                self.page.wait_for_timeout(50)
            return False

        # What an earlier run has left stays until the first news of this one.
        self.page.locator(ENDS).evaluate_all(
            "(ends) => ends.forEach((end) => end.classList.add('stale'))"
        )
        before = joined()
        wait_for(heard)

    def done(self) -> None:
        """Wait for the end of what was last pressed."""
        with contextlib.suppress(api.TimeoutError):
            self.page.wait_for_selector(f":is({ENDS}):not(.stale):visible")
        # All parts of the last news are shown with the next picture.
        self.page.evaluate(
            "new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))"
        )
        told = self.page.locator(".status:visible").all_inner_texts(), self.complaints
        assert self.page.locator(f":is({LINKS}):not(.stale):visible").count(), told

    def find(self) -> None:
        self.press("#find")
        self.done()

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
        here.press("#read")
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
    assert re.fullmatch(r"Peak at [12]\.\d+ s", peak.inner_text())
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
    assert peak.inner_text().replace("Peak", "Peak frame") in page.inner_text(".faces figcaption")


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
    here.read("I found the job!")
    assert any("I found the job!" in query for query in engines["compact"].asked)
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
    here.find()
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
    here.press("#find")
    page.wait_for_selector(".status.failed:has-text(\"emotion 'zest' is unknown\")")
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(TALK), "utf-8")
    page.set_input_files("#turns-file", file)
    page.wait_for_selector("#turns .row:nth-child(2) .says")
    assert page.get_by_label("Speaker of utterance 2").input_value() == "Bob <b>"
    assert page.get_by_label("Emotion of utterance 1").input_value() == "neutral"
    assert json.loads(page.input_value("#turns-json")) == TALK
    here.find()
    assert page.locator("figure.causes .word").all_text_contents() == ["joy"]


def test_odd_names_stay_in_their_pills_and_lines(visit: Callable[..., Visit]) -> None:
    here = visit(viewport={"width": 390, "height": 844})
    page = here.page
    here.talk()
    page.click("#turns summary")
    names = ["W" * 100, "m" * 100, "漢" * 100, "\u202eevil", "שלום", "Anna-Maria"]
    turns = [{"speaker": name, "text": "Oh!", "emotion": "joy"} for name in names]
    page.fill("#turns-json", json.dumps(turns))
    here.find()
    free = page.locator("figure.causes .node").evaluate_all(
        """(nodes) => nodes.map((node) => node.querySelector("rect").width.baseVal.value
             - node.querySelector("text").getComputedTextLength())"""
    )
    assert len(free) == len(names) and min(free) > 4, free
    figure = "(figure) => figure.scrollWidth - figure.clientWidth"
    assert page.locator("figure.causes").evaluate(figure) <= 0
    assert here.overflow() <= 0
    # The sentence about each runs from left to right, whatever its name does.
    ways = page.locator("figure.causes li").evaluate_all(
        """(lines) => lines.map((line) => {
             const words = [...line.childNodes].find((node) => node.data?.includes(" caused "));
             const range = document.createRange(), start = words.data.indexOf("caused");
             const left = (place) => {
               range.setStart(words, place);
               range.setEnd(words, place + 1);
               return range.getBoundingClientRect().left;
             };
             return left(start + 5) - left(start);
           })"""
    )
    assert len(ways) >= len(names) and min(ways) > 0, ways


def test_every_row_counts_and_one_without_words_is_told(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    here.talk()
    page.get_by_label("Words of utterance 3").fill(" ")
    page.get_by_role("button", name="Add an utterance").click()
    here.press("#find")
    page.wait_for_selector(
        ".status.failed:has-text('Row 3 has no words; write them or remove it.')"
    )
    page.get_by_label("Remove utterance 3").click()
    here.find()  # the last row awaits words, and is none yet
    assert page.locator(".talk .no").all_inner_texts() == ["1", "2", "3", "4", "5"]
    page.get_by_role("button", name="Empty the table").click()
    here.press("#find")
    page.wait_for_selector(".status.failed:has-text('There is no utterance yet')")
    page.click("#turns summary")
    page.fill("#turns-json", json.dumps([{"text": "", "clip": "a.mp4"}, {"text": "Hm."}]))
    here.press("#find")
    page.wait_for_selector(".status.failed:has-text('takes no paths')")


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
        here.find()


def test_a_phone_shows_it_without_scrolling_sideways(
    visit: Callable[..., Visit], smile: Path
) -> None:
    here = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    here.add(smile)
    here.read("A" * 300)
    assert here.overflow() <= 0
    here.talk()
    here.page.get_by_label("Speaker of utterance 1").fill("A" * 90)
    here.find()
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
    page.wait_for_function("document.querySelector('#clip video').currentTime > 1")
    page.click("#clip .record")
    page.wait_for_selector("#clip .note:has-text('recording.webm is ready')")
    here.read("Testing, one, two.")
    assert "No face was found in recording.webm." in page.inner_text("#result")


def test_a_recording_ends_when_another_clip_is_chosen(
    visit: Callable[..., Visit], smile: Path
) -> None:
    here = visit(permissions=["camera", "microphone"])
    page = here.page
    page.evaluate(
        """() => {
          const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
          window.streams = [];
          devices.getUserMedia = async (wanted) => {
            const stream = await ask(wanted);
            window.streams.push(stream);
            return stream;
          };
        }"""
    )
    live = "streams.flatMap((one) => one.getTracks()).filter((one) => one.readyState === 'live')"

    def released() -> bool:
        return page.evaluate(f"{live}.length") == 0

    def record() -> None:
        page.click("#clip .record")
        page.wait_for_selector("#clip .record:has-text('Stop recording')")
        assert not released()

    # A double click opens the camera once, and the second click does not end the recording.
    page.evaluate(
        "() => { for (const _ of '12') document.querySelector('#clip .record').click(); }"
    )
    page.wait_for_selector("#clip .record:has-text('Stop recording')")
    assert page.evaluate("streams.length") == 1
    here.add(smile)
    wait_for(released)
    for _ in range(2):  # the same example again, after something else was shown
        record()
        page.get_by_role("button", name="Smile (drawn)").click()
        page.wait_for_selector("#clip .note:has-text('The example is ready')")
        wait_for(released)
        assert page.inner_text("#clip .record") == "Record"
    page.wait_for_timeout(500)
    assert page.inner_text("#clip .name") == "Smile (drawn)"
    # Chosen while the browser still asks whether it may.
    page.evaluate("document.querySelector('#clip .record').click()")
    page.set_input_files("#clip input[type=file]", smile)
    page.wait_for_selector("#clip .note:has-text('is ready to be read')")
    wait_for(lambda: page.evaluate("streams.length") == 4 and released())
    assert page.inner_text("#clip .record") == "Record"


def test_another_clip_ends_the_reading_and_is_not_shown_with_its_answers(
    visit: Callable[..., Visit], served: Running, smile: Path, engines: dict[str, Scripted]
) -> None:
    here = visit()
    page = here.page
    pending = served.service.metrics.pending._value.get
    here.add(smile)
    here.read()
    assert page.inner_text("#result .about") == "Read from my <i>smile.mp4"
    ways = {
        "Surprise (drawn)": lambda: page.get_by_role("button", name="Surprise (drawn)").click(),
        "my <i>smile.mp4": lambda: here.add(smile),
        "": lambda: page.click("#clip .remove"),
    }
    for name, change in ways.items():
        engines["compact"].free.clear()
        try:
            here.press("#read")
            page.wait_for_selector("#result .reason.busy:has-text('whole')")
            change()
            wait_for(lambda: pending() == 0)
        finally:
            engines["compact"].free.set()
        page.wait_for_timeout(1000)
        api.expect(page.locator("#clip .name")).to_have_text(name)
        api.expect(page.locator("#result .status:visible")).to_have_text("Add a clip, and read it.")
        assert not page.locator("#result .answer:visible, .faces:visible").count()
        assert not page.locator("#clip-links a:visible").count()
        assert not page.locator("#clip svg.boxed").is_visible()
        if name:
            here.read()
            assert page.inner_text("#result .about") == f"Read from {name}"
            page.wait_for_selector("#clip svg.boxed.near")
    # What was on its way when the clip was changed is hidden, and something else shown instead.
    for kind, key, shown in (
        ("clip", "x", False),
        ("clip", "", True),
        ("unlessClip", "x", True),
        ("unlessClip", "", False),
    ):
        page.evaluate(
            """([kind, key]) => {
              const late = document.createElement("p");
              late.id = "late-" + kind + key;
              late.dataset[kind] = key;
              late.textContent = "late";
              document.querySelector("#result").append(late);
            }""",
            [kind, key],
        )
        assert page.locator(f"#late-{kind}{key}").is_visible() == shown, (kind, key)


def test_what_is_said_is_written_down(
    visit: Callable[..., Visit], smile: Path, tmp_path: Path
) -> None:
    here = visit()
    page = here.page
    here.press("#hear")
    page.wait_for_selector("#result [role=alert]:has-text('There is no clip yet')")
    assert page.locator("#result .status:visible").count() == 1
    here.add(write(tmp_path / "loud.mp4", audio=True))
    here.press("#hear")
    page.wait_for_selector("#result .status:has-text('Check the words')")
    api.expect(page.locator("#said textarea")).to_have_value(WORDS)
    here.press("#read")
    here.done()
    # Where nothing is heard, what was written by hand stays.
    here.add(smile)
    page.fill("#said textarea", "By hand.")
    here.press("#hear")
    page.wait_for_selector("#result .status:has-text('Nothing is said')")
    assert page.input_value("#said textarea") == "By hand."


def test_the_page_tells_what_it_does_not_take(
    visit: Callable[..., Visit], tmp_path: Path, smile: Path
) -> None:
    here = visit()
    page = here.page
    here.press("#read")
    page.wait_for_selector("#result [role=alert]:has-text('There is no clip yet')")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    here.add(broken)
    here.press("#read")
    page.wait_for_selector("#result [role=alert]:has-text('broken.mp4')")
    here.add(smile)
    page.click("#clip .remove")
    assert page.locator("#clip .stage.empty").is_visible()
    here.press("#read")
    page.wait_for_selector("#result [role=alert]:has-text('There is no clip yet')")


def _reply(answer: tuple[int, str] | None) -> Callable[[Any], None]:
    if answer is None:
        return lambda route: route.abort()
    return lambda route: route.fulfill(status=answer[0], body=answer[1])


def test_a_clip_that_is_not_sent_is_told_in_words(
    browser: Any, served: Running, smile: Path
) -> None:
    here = Visit(browser, served.url)
    page = here.page
    gateway = "<html>Bad Gateway</html>"
    own = json.dumps({"error": {"message": "The server is full; try again."}})
    for answer, wanted in (
        (None, "The server cannot be reached; check the connection, and add the clip again."),
        ((502, gateway), "The server gave no answer that can be read (502); try again later."),
        ((413, gateway), "It is larger than is taken here; cut or shrink it."),
        ((200, gateway), "The server gave no answer that can be read (200); try again later."),
        ((429, own), "The server is full; try again."),
    ):
        page.route("**/page/clips", _reply(answer))
        page.set_input_files("#clip input[type=file]", smile)
        told = page.locator("#clip .note.failed")
        api.expect(told).to_have_text(f"my <i>smile.mp4 was not sent. {wanted}")
        page.unroute("**/page/clips")
    here.add(smile)
    here.context.close()


def test_stop_and_closing_the_page_end_the_work(
    browser: Any, served: Running, engines: dict[str, Scripted], smile: Path
) -> None:
    pending = served.service.metrics.pending._value.get
    engine = engines["compact"]
    for close in (False, True):
        here = Visit(browser, served.url)
        here.add(smile)
        engine.free.clear()
        held = engine.written + len(REASON.split()) // 2
        try:
            here.press("#read")
            here.page.wait_for_selector("#result .reason.busy")
            wait_for(lambda held=held: engine.written == held)  # it waits to be freed
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


def test_a_lost_connection_is_found_again(browser: Any, served: Running, smile: Path) -> None:
    here = Visit(browser, served.url)
    page = here.page
    here.add(smile)
    here.context.set_offline(True)
    page.click("#read")
    page.wait_for_selector("text=Connection to the server was lost")
    with page.expect_response(lambda answer: answer.url.endswith("/app_id")) as asked:
        here.context.set_offline(False)
    assert asked.value.status == 200
    page.wait_for_selector("text=Connection to the server was lost", state="detached")
    page.wait_for_selector("#read")
    here.add(smile)
    here.read()
    assert REASON in page.inner_text("#result")
    here.context.close()


def test_a_server_with_a_token_asks_the_browser_for_it(
    landmarker: Path, browser: Any, tmp_path: Path, smile: Path
) -> None:
    with running(make_settings(tmp_path, page=True), lambda _: Scripted(pause=0)) as server:
        assert httpx2.get(server.url + "/page/", timeout=120).status_code == 401
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

    limits = Limits(request_seconds=600, decode_seconds=300)
    with running(make_settings(tmp_path, limits, token=None, page=True), load) as server:
        here = Visit(browser, server.url)
        page = here.page
        titles = ["Smile (drawn)"]
        if (weights.cache_dir() / weights.DEMO_CLIP.file).is_file():
            titles.append("Woman, 20 s (Pexels)")
        for title in titles:
            page.get_by_role("button", name=title).click()
            api.expect(page.locator("#clip .name")).to_have_text(title)
            here.press("#read")
            here.done()
            shares = page.locator("#result .closed").nth(1).locator(".num").all_inner_texts()
            assert abs(sum(int(share[:-1]) for share in shares) - 100) <= 4
            assert len(page.inner_text("#result .reason").split()) > 5
        here.talk()
        here.find()
        assert page.locator(".talk .tag").count() == 6
        assert here.complaints == []
        here.context.close()
