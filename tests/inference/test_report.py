from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from emoverse.errors import EmoVerseError
from emoverse.inference.analysis import Analysis, Answer, AUCurve, Peak
from emoverse.inference.plots import activity_plot, clock, sparkline, ticks
from emoverse.inference.report import print_analysis, write_html

EVIL = "<script>alert('x')</script>[bold]\"><img src=x onerror=y>"


def _jpeg(width: int = 64, height: int = 48) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (90, 110, 130)).save(sink, "JPEG")
    return sink.getvalue()


def _curve(person: int, count: int = 40) -> AUCurve:
    times = tuple(index / 10 for index in range(count))
    smile = tuple(2 + math.sin(index / 5) for index in range(count))
    brow = tuple(0.5 for _ in times)
    total = tuple(a + b for a, b in zip(smile, brow, strict=True))
    return AUCurve(person, times, total, {"AU12": smile, "AU04": brow})


def _clip() -> Analysis:
    return Analysis(
        clip="some/where/clip.mp4",
        model="compact",
        text="Thank you all!",
        duration=4.0,
        width=640,
        height=480,
        fps=25.0,
        people=2,
        answers={
            "msa": Answer("msa", "q", "Positive.", "positive", {"positive": 0.9, "negative": 0.1}),
            "er": Answer("er", "q", "Joy.", "joy", {"joy": 0.8, "neutral": 0.2}),
            "fer": Answer("fer", "q", "Grinning; Frowns furrowed", ("AU12", "AU04")),
            "eri": Answer("eri", "q", "Because the friends came.", "Because the friends came."),
        },
        peak=Peak(8, 0.8, 0, 3.5, (10, 8, 40, 44), {"AU12": 3.0, "AU04": 0.5}, _jpeg()),
        curves=(_curve(0), _curve(1)),
        warnings=("Two people are seen.",),
        seconds={"decode": 0.5, "faces": 1.25},
    )


def _talk() -> Analysis:
    turns = (("A", "neutral", "One."), ("B", "joy", "Two."), ("A", "anger", "Three."))
    return Analysis(
        clip=None,
        model="compact",
        turns=tuple(
            {"index": index, "speaker": who, "emotion": emotion, "text": text}
            for index, (who, emotion, text) in enumerate(turns, 1)
        ),
        pairs=((2, "joy", 1), (2, "joy", 2), (3, "anger", 1)),
    )


def _page(tmp_path, *analyses: Analysis) -> str:
    return write_html(analyses, tmp_path / "deep" / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_everything_and_needs_nothing_else(tmp_path):
    page = _page(tmp_path, _clip())
    for wanted in (
        "clip.mp4", "Positive", "Joy", "90%", "Grinning", "AU12", "Lip Corner Puller",
        "Because the friends came.", "Thank you all!", "Two people are seen.", "peak 0.8 s",
        "data:image/jpeg;base64,", "not of what a person feels", "proxies", "1.8 s in all",
    ):  # fmt: skip
        assert wanted in page, wanted
    assert 'x="10" y="8" width="30" height="36"' in " ".join(page.split())
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_text_from_outside_is_escaped_everywhere(tmp_path):
    clip = _clip()
    evil = replace(
        clip,
        clip=EVIL.replace("/", ""),
        model=EVIL,
        text=EVIL,
        warnings=(EVIL,),
        seconds={EVIL: 1.0},
        answers={
            "msa": Answer("msa", EVIL, EVIL, None, {EVIL: 1.0}),
            "fer": Answer("fer", EVIL, EVIL, (EVIL,)),
            "eri": Answer("eri", EVIL, EVIL, EVIL),
            EVIL: Answer(EVIL, EVIL, EVIL, EVIL),
        },
        turns=({"index": 1, "speaker": EVIL, "emotion": EVIL, "text": EVIL},),
        pairs=((1, EVIL, 1),),
    )
    page = _page(tmp_path, evil, _talk())
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;") >= 6
    sink = io.StringIO()
    print_analysis(Console(file=sink, width=200), evil)
    assert "[bold]" in sink.getvalue()


def test_a_clip_without_a_face_and_an_unreadable_answer_still_make_a_page(tmp_path):
    bare = replace(
        _clip(),
        peak=None,
        curves=(),
        people=0,
        answers={"er": Answer("er", "q", "Who knows?", None)},
        warnings=("No face was found in clip.mp4.",),
    )
    page = _page(tmp_path, bare)
    assert "there is no peak frame" in page and "names no allowed label" in page
    assert "data:image" not in page and "Facial activity over time" not in page


def test_a_conversation_shows_its_turns_and_causes(tmp_path):
    page = _page(tmp_path, _talk())
    assert page.count('class="arrow ') == 2  # a self-cause is told in words
    assert "utterance 1 causes joy in utterance 2" in page and ">itself</a>" in page
    assert 'href="#a1-u1"' in page and 'id="a1-u1"' in page


def test_a_speakers_name_stands_apart_from_the_words_around_it(tmp_path):
    turns = tuple(dict(turn, speaker="\u202eAnn") for turn in _talk().turns)
    page = _page(tmp_path, replace(_talk(), turns=turns))
    assert "<li><bdi>Ann</bdi> caused their own joy: utterance 1 → 2, 2 itself</li>" in page
    assert "<b><bdi>\u202eAnn</bdi></b>" in page and "<bdi>Two.</bdi>" in page


def test_an_odd_pair_does_not_break_the_page(tmp_path):
    page = _page(tmp_path, replace(_talk(), pairs=((9, "joy", 1), (1, "joy", 3))))
    assert page.count('class="arrow ') == 1 and "joy up" in page


def test_several_analyses_get_an_index_and_none_is_an_error(tmp_path):
    page = _page(tmp_path, _clip(), _talk())
    assert 'href="#a1"' in page and 'href="#a2"' in page and "2 analyses" in page
    with pytest.raises(EmoVerseError):
        write_html([], tmp_path / "none.html")


def test_a_box_outside_the_picture_is_clipped(tmp_path):
    clip = _clip()
    assert clip.peak is not None
    page = _page(tmp_path, replace(clip, peak=replace(clip.peak, box=(-20, -5, 90, 300))))
    assert re.search(r'x="0.0" y="0.0" width="64.0"\s+height="48.0"', page)


def test_the_terminal_shows_answers_peak_and_turns():
    sink = io.StringIO()
    console = Console(file=sink, width=120)
    print_analysis(console, _clip())
    print_analysis(console, _talk())
    printed = sink.getvalue()
    for wanted in ("clip.mp4", "Positive", "joy 80%", "AU12 Lip Corner Puller", "! Two people"):
        assert wanted in printed, wanted
    assert "1, 2" in printed and "Conversation" in printed
    assert printed.count("Probabilities") == 1  # a conversation has no answers of its own


def test_page_and_terminal_round_alike(tmp_path):
    clip = _clip()
    assert clip.peak is not None
    peak = replace(clip.peak, intensities={"AU12": 1.9531, "AU04": 0.5466})
    er = replace(clip.answers["er"], probabilities={"joy": 0.9454, "sadness": 0.0546})
    clip = replace(clip, peak=peak, answers={"er": er})
    sink = io.StringIO()
    print_analysis(Console(file=sink, width=120), clip)
    page = re.findall(r'class="num">([^<]*)<', _page(tmp_path, clip))
    printed = re.findall(r"[\d.]+%?", sink.getvalue())
    for wanted in ("2.0", "0.5", "95%", "5%"):
        assert wanted in page and wanted in printed, wanted


def test_a_long_curve_is_thinned_without_losing_its_peak_and_gaps_break_it():
    times = tuple(index / 10 for index in range(100_000))
    scores = tuple(9.0 if index == 77_777 else 1.0 for index in range(100_000))
    curve = AUCurve(0, times, scores, {"AU12": scores})
    plot = activity_plot(replace(_clip(), curves=(curve,), duration=10_000.0))
    assert plot is not None and plot.series[0].top == 9.0 and len(plot.series[0].path) < 10_000
    assert plot.x_ticks[-1].text.count(":") == 2
    assert sparkline(curve, "AU12") and sparkline(curve, "AU99") == ""
    gap = AUCurve(0, (0.0, 0.1, 0.2, 5.0, 5.1), (1.0,) * 5, {})
    broken = activity_plot(replace(_clip(), curves=(gap,)))
    assert broken is not None and broken.series[0].path.count("M") == 2


def test_no_line_from_a_single_frame_and_round_ticks():
    assert activity_plot(replace(_clip(), curves=(_curve(0, 1),))) is None
    assert ticks(0, 19.7, 6) == [0, 5, 10, 15, 20]
    assert ticks(0, 0.9, 4) == [0, 0.25, 0.5, 0.75, 1.0]
    assert clock(2.5) == "2.5 s" and clock(125) == "2:05" and clock(3725) == "1:02:05"
