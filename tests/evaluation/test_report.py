from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from emoverse.emt.record import Record, dump_records
from emoverse.evaluation.browser import ERRORS, PICTURES, errors, thumbnail
from emoverse.evaluation.predictions import Answer
from emoverse.evaluation.reliability import reliability
from emoverse.evaluation.report import SPEAKERS
from emoverse.evaluation.runner import evaluate
from emoverse.evaluation.scored import Scored, prepare
from emoverse.tasks import ecpe

from .made import FakeEngine, Prediction, ecpe_records, er_records, msa_records, talk


class SureEngine(FakeEngine):
    """Gives its probabilities too: 0.6 for what it answers, a tenth for joy."""

    def answer(self, records: Sequence[Record], media_root: Path | None) -> Iterator[Prediction]:
        for prediction in super().answer(records, media_root):
            said = prediction.text.strip(".").lower()
            yield replace(prediction, probabilities={"joy": 0.1} | {said: 0.6})


def _page(folder: Path, records: Sequence[Record], wrong: dict[str, str], **told: Any) -> str:
    data = dump_records(folder / "emt.jsonl", records)
    evaluate("m", data, out=folder / "run", engine=SureEngine(wrong), **told)
    return (folder / "run/report.html").read_text(encoding="utf-8")


def _picture(path: Path, colour: tuple[int, int, int] = (90, 110, 130)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (640, 360), colour).save(path)


def _scored(task: str, records: Sequence[Record], answers: Sequence[Answer]) -> Scored:
    return prepare(task, records, answers, "paper")


def test_the_page_tells_figures_ranges_floors_and_origin_and_needs_nothing_else(tmp_path: Path):
    records = er_records(20)
    page = _page(tmp_path, records, {"u0": "Fear.", "u3": "Hm."})
    for wanted in (
        "Weighted F1", "95% bootstrap over records, 2000 resamples, seed 0", "always joy",
        "20 scored of 20 answered", "protocol “paper”", "1 unparseable", "model sha256", "feed",
        "data sha256", "Reliability", "expected calibration error", "Confusion",
    ):  # fmt: skip
        assert wanted in page, wanted
    assert page.startswith("<!DOCTYPE html>")
    assert "http://" not in page and "https://" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert "@media print" in page and "width=device-width" in page


def test_errors_carry_small_pictures_a_bounded_number_of_them(tmp_path: Path):
    count = PICTURES + 5
    records = [replace(r, videos=(), images=(f"p/{r.id}.png",)) for r in er_records(count)]
    for record in records:
        _picture(tmp_path / record.images[0])
    (tmp_path / records[1].images[0]).write_bytes(b"no picture")
    page = _page(tmp_path, records, {r.id: "Fear." for r in records}, media_root=tmp_path)
    assert page.count("<img") == PICTURES - 1  # the broken one has none
    assert f"pictures for {PICTURES}" in page
    assert len(page) < 400_000


def test_a_thumbnail_is_a_small_jpeg_of_the_middle(tmp_path: Path):
    import base64

    import av
    import numpy as np

    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(30):  # dark, and bright for the middle second
            image = np.full((240, 320, 3), 220 if 10 <= number < 20 else 20, np.uint8)
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        sink.mux(stream.encode())
    uri = thumbnail(clip)
    assert uri.startswith("data:image/jpeg;base64,") and len(uri) < 8000
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert image.size == (160, 120)
        assert np.asarray(image.convert("L")).mean() > 180


def test_the_ecpe_browser_says_what_is_wrong_with_the_causes():
    turns, _ = talk(1)
    target = next(turn for turn in turns if turn.index == 3)
    emotion = target.emotion if target.emotion != "neutral" else "joy"
    turns[2] = replace(target, emotion=emotion)
    gold = [ecpe.Pair(3, emotion, 2), ecpe.Pair(3, emotion, 3)]
    record = Record(ecpe.query(turns, 3), ecpe.answer(gold), "ecpe", id="a")
    faults = {
        f"3_{emotion},3": "causes missing",
        f"3_{emotion},1,2,3": "causes too many",
        f"3_{emotion},1": "other causes",
        "none": "no cause named",
        "who knows": "unparseable",
    }
    for said, fault in faults.items():
        answer = Answer(text=said, probabilities={"1": 0.2, "3": 0.9})
        rows, wrong = errors(_scored("ecpe", [record], [answer]), None)
        assert wrong == 1 and rows[0]["fault"] == fault, said
        assert rows[0]["kind"] == emotion and rows[0]["speaker"] == target.speaker
        assert len(rows[0]["before"]) == 2 and rows[0]["picture"] is None
    right = _scored("ecpe", [record], [Answer(text=f"3_{emotion},3;3_{emotion},2")])
    assert errors(right, None) == ([], 0)


def test_reasons_are_listed_by_overlap_worst_first():
    golds = ("She smiles, so she is happy.", "He frowns at the letter.")
    records = [
        Record("What is the emotional state of the person in the video?", gold, "eri", id=str(at))
        for at, gold in enumerate(golds)
    ]
    answers = [Answer(text=golds[0]), Answer(text="The weather is fine.")]
    rows, count = errors(_scored("eri", records, answers), None)
    assert [row["id"] for row in rows] == ["1", "0"] and count == 2


def test_reliability_by_hand():
    records = er_records(4)  # joy, neutral, anger, sadness
    shares = ({"joy": 0.95}, {"neutral": 0.95}, {"joy": 0.55, "anger": 0.45}, {"sadness": 0.55})
    answers = [
        Answer(text=text, probabilities=share)
        for text, share in zip(("Joy.", "Neutral.", "Joy.", "Sadness."), shares, strict=True)
    ]
    chart = reliability(_scored("er", records, answers))
    assert chart is not None and chart.n == 4
    assert [(one.low, one.n, one.true) for one in chart.bins] == [(50, 2, 50), (90, 2, 100)]
    assert chart.ece == pytest.approx((2 * 5 + 2 * 5) / 4)  # |50 - 55| and |100 - 95|
    unsure = [Answer(text="Joy.") for _ in records]
    assert reliability(_scored("er", records, unsure)) is None


def test_reliability_of_causes_counts_candidates():
    record = next(r for r in ecpe_records([0]) if len(r.label) == 1)
    cause = str(record.label[0][2])
    answer = Answer(text=record.response, probabilities={cause: 1.0, "99": 0.0})
    chart = reliability(_scored("ecpe", [record], [answer]))
    assert chart is not None and (chart.n, chart.ece) == (2, 0.0) and "causes" in chart.of


def test_speakers_have_bars_with_ranges_and_the_rare_are_put_together(tmp_path: Path):
    names = [f"S{number}" for number in range(SPEAKERS + 3)]
    records = [
        replace(record, meta={"speaker": names[place % len(names)] if place < 90 else "Once"})
        for place, record in enumerate(er_records(91))
    ]
    page = _page(tmp_path, records, {"u0": "Fear."})
    assert "Accuracy by speaker" in page and ">S0</span>" in page
    assert f">{len(names) + 1 - SPEAKERS} others</span>" in page and ">Once</span>" not in page
    assert page.count('class="whisker"') == SPEAKERS + 1
    assert "by speaker" not in _page(tmp_path / "none", er_records(5), {})


def test_sentiment_has_a_confusion_with_the_zeros_in_a_row(tmp_path: Path):
    page = _page(tmp_path, msa_records(10), {"u0": "Positive."})
    row = page[page.index('<th scope="row">zero</th>') :]
    assert re.search(r"<td[^>]*>2<small>100%", row)
    assert re.search(r'data-gold="negative" data-fault="positive"[^>]*>1<small>', page)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: the page is not opened")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
def test_the_page_works_in_a_browser_on_a_desk_a_phone_and_paper(tmp_path: Path, browser: Any):
    records = [
        replace(record, meta={"speaker": "AB"[place % 2]}, videos=(), images=("p.png",))
        for place, record in enumerate(er_records(40))
    ]
    _picture(tmp_path / "p.png")
    wrong = {r.id: "Fear." for r in records[:15]} | {r.id: "Disgust." for r in records[15:23]}
    _page(tmp_path, [*records, *ecpe_records([1, 2])], wrong, media_root=tmp_path)
    address = (tmp_path / "run/report.html").as_uri()
    for width, scheme in ((1200, "light"), (390, "dark")):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        troubles: list[str] = []
        page.on("console", lambda message, into=troubles: into.append(message.text))
        page.on("pageerror", lambda error, into=troubles: into.append(str(error)))
        page.on("requestfailed", lambda request, into=troubles: into.append(request.url))
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        rows = page.locator("#errors-er tbody tr:visible")
        assert rows.count() == 23
        bar = page.locator('[data-for="errors-er"]')
        bar.locator('[data-key="fault"]').select_option("disgust")
        assert rows.count() == 8 and "8 of 23" in bar.inner_text()
        bar.locator('[data-key="speaker"]').select_option("A")
        assert rows.count() == 4
        bar.get_by_role("button", name="Clear").press("Enter")  # by the keyboard
        assert rows.count() == 23
        bar.locator("input").fill("sentence 3")
        assert rows.count() == 1
        cell = page.locator('#er .cell[data-gold="joy"][data-fault="fear"] button')
        cell.focus()
        page.keyboard.press("Enter")
        assert rows.count() == 4
        assert page.evaluate("document.activeElement.dataset.key") == "gold"
        assert page.locator("#errors-er img").first.evaluate("image => image.naturalWidth") == 160
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(17, 22, 28)") == (scheme == "dark")
        assert troubles == []
        if scheme == "dark":
            page.emulate_media(media="print")
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert paper == "rgb(255, 255, 255)" and not bar.is_visible()
            assert page.pdf()[:5] == b"%PDF-"
            page.emulate_media(media="screen")
            bar.get_by_role("button", name="Clear").click()
            assert rows.count() == 23
            page.emulate_media(media="print")
            assert rows.count() == 20  # a run's mistakes would fill dozens of sheets
            assert page.locator("#er .on-paper").is_visible()
        context.close()


def test_the_browser_lists_no_more_than_it_says():
    records = er_records(ERRORS + 10)
    rows, wrong = errors(_scored("er", records, [Answer(text="Fear.")] * len(records)), None)
    assert (len(rows), wrong) == (ERRORS, ERRORS + 10)


def test_captions_and_targets_without_a_cause_make_a_page_too(tmp_path: Path):
    caption = "Grinning; Frowns furrowed"
    records = [
        Record("Detail the facial expressions used in the image.", caption, "fer", id=f"f{number}",
               label=["AU12", "AU04"])
        for number in range(3)
    ]  # fmt: skip
    causeless = [
        replace(record, response="", label=[], id=f"c{number}")
        for number, record in enumerate(ecpe_records([1])[:2])
    ]
    page = _page(tmp_path, [*records, *causeless], {"f1": "Nothing to see."})
    assert "no action unit" in page and "AU12, AU04" in page
    assert "Detail the facial expressions" not in page
    assert page.index(">f1<") < page.index(">f0<")  # least overlap first
    assert "0 scored of 2 answered" in page
