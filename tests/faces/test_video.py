from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emoverse.errors import EmoVerseError
from emoverse.faces import video

from .clips import corners, quadrants, state_duration, write, write_audio


def test_probe_and_frames_agree(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", count=30, fps=30, size=(64, 48), audio=True)
    info = video.probe(clip)
    assert (info.width, info.height, info.frames, info.rotation) == (64, 48, 30, 0)
    assert info.fps == pytest.approx(30)
    assert info.duration == pytest.approx(1.0, abs=0.05)
    assert info.has_audio
    decoded = list(video.frames(clip))
    assert [frame.index for frame in decoded] == list(range(30))
    assert [frame.timestamp for frame in decoded] == pytest.approx([i / 30 for i in range(30)])
    assert decoded[0].image.shape == (48, 64, 3) and decoded[0].image.dtype == np.uint8


@pytest.mark.parametrize(
    ("rotation", "seen", "degrees"),
    [
        ((0, False, False), "rgbw", 0),
        ((90, False, False), "gwrb", 270),
        ((180, False, False), "wbgr", 180),
        ((270, False, False), "brwg", 90),
        ((0, True, False), "grwb", 0),
        ((0, False, True), "bwrg", 0),
        ((90, True, False), "wgbr", 270),
        ((90, False, True), "rbgw", 90),
    ],
)
def test_display_matrix_is_applied(
    tmp_path: Path, rotation: tuple[float, bool, bool], seen: str, degrees: int
) -> None:
    clip = write(tmp_path / "phone.mp4", [quadrants(64, 48)] * 4, rotation=rotation)
    info = video.probe(clip)
    frame = next(video.frames(clip))
    assert corners(frame.image) == seen
    assert info.rotation == degrees
    assert frame.image.shape[:2] == (info.height, info.width)
    assert (info.width, info.height) == ((48, 64) if rotation[0] in (90, 270) else (64, 48))


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 40, 90, 300, 1000, 1033, 1066, 2000]
    clip = write(tmp_path / "vfr.mkv", times=times)
    seen = [frame.timestamp for frame in video.frames(clip)]
    assert seen == pytest.approx([time / 1000 for time in times])
    sampled = [frame.timestamp for frame in video.frames(clip, max_fps=10)]
    assert sampled == pytest.approx([0, 0.3, 1, 2])


@pytest.mark.parametrize("max_fps", [1, 7, 10, 29, 200])
def test_sampling_never_exceeds_the_rate(tmp_path: Path, max_fps: float) -> None:
    clip = write(tmp_path / "clip.mp4", count=60, fps=30)
    times = [frame.timestamp for frame in video.frames(clip, max_fps=max_fps)]
    assert len(times) <= 2 * max_fps + 1
    assert times[0] == 0
    assert all(late > early for early, late in pairwise(times))
    assert len(times) == min(60, len(times)) and len(times) >= min(60, 2 * max_fps) - 1


def test_frames_are_shrunk_never_enlarged(tmp_path: Path) -> None:
    huge = write(tmp_path / "huge.mp4", count=2, size=(3840, 2160))
    assert [frame.image.shape for frame in video.frames(huge, max_side=640)] == [(360, 640, 3)] * 2
    tiny = write(tmp_path / "tiny.mp4", count=2, size=(16, 16))
    assert next(video.frames(tiny, max_side=640)).image.shape == (16, 16, 3)


def test_pixels_become_square(tmp_path: Path) -> None:
    clip = write(tmp_path / "anamorphic.mp4", size=(64, 48), aspect=Fraction(2, 1))
    info = video.probe(clip)
    assert (info.width, info.height) == (128, 48)
    assert next(video.frames(clip)).image.shape == (48, 128, 3)


@pytest.mark.parametrize("gop", [10, 1000])
def test_long_video_is_sampled_by_seeking(tmp_path: Path, gop: int) -> None:
    clip = write(tmp_path / "long.mp4", count=2000, fps=1, gop=gop)
    step = 30.0
    seen = list(video.frames(clip, max_fps=1 / step))
    assert len(seen) == pytest.approx(2000 / step, abs=1)
    assert all(late.timestamp > early.timestamp for early, late in pairwise(seen))
    for number, frame in enumerate(seen):
        assert abs(frame.timestamp - number * step) <= step / 2 + 1
        assert frame.index == round(frame.timestamp)
        # The picture is the one of that time: brightness tells the index.
        assert abs(int(frame.image.mean()) - (20 + frame.index % 200)) <= 4


def test_a_clip_without_stated_duration_is_measured(tmp_path: Path) -> None:
    clip = write(tmp_path / "raw.h264", count=50, fps=25)
    info = video.probe(clip)
    assert info.frames == 50
    assert info.duration == pytest.approx(2.0, abs=0.2)
    assert len(list(video.frames(clip))) == 50


@pytest.mark.parametrize("gop", [12, 1000])
def test_a_clip_that_states_too_short_a_duration_is_measured(tmp_path: Path, gop: int) -> None:
    clip = write(tmp_path / "clip.mp4", count=240, fps=10, gop=gop)
    assert video.probe(state_duration(clip, 1.0)).duration == pytest.approx(24, abs=0.2)
    assert video.probe(state_duration(clip, 23.5)).duration == pytest.approx(23.5)


def test_a_frame_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    small = write(tmp_path / "a.h264", count=10).read_bytes()
    clip = tmp_path / "grows.h264"
    clip.write_bytes(small + write(tmp_path / "b.h264", count=10, size=(320, 240)).read_bytes())
    assert len(list(video.frames(clip, max_pixels=320 * 240))) == 20
    with pytest.raises(EmoVerseError, match="a frame has 320 x 240 pixels, and at most 10000"):
        list(video.frames(clip, max_pixels=10_000))


def test_a_truncated_video_gives_what_is_left_and_says_so(tmp_path: Path) -> None:
    whole = _noise(tmp_path / "whole.mp4")
    data = whole.read_bytes()
    clip = tmp_path / "truncated.mp4"
    clip.write_bytes(data[: len(data) // 2])
    notes: list[str] = []
    seen = list(video.frames(clip, warnings=notes))
    assert 10 < len(seen) < 50
    assert any("ends after" in note for note in notes)


def test_damage_in_the_middle_is_skipped_and_counted(tmp_path: Path) -> None:
    whole = _noise(tmp_path / "whole.mp4")
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    clip = tmp_path / "damaged.mp4"
    clip.write_bytes(data)
    notes: list[str] = []
    seen = list(video.frames(clip, warnings=notes))
    assert len(seen) > 40
    assert any("damaged" in note for note in notes)


def test_a_sound_clip_gives_no_warnings(tmp_path: Path) -> None:
    notes: list[str] = []
    list(video.frames(_noise(tmp_path / "whole.mp4"), max_fps=3, warnings=notes))
    assert notes == []


def test_frames_may_be_abandoned(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", count=300)
    stream = video.frames(clip)
    assert next(stream).index == 0
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.mp4", b"", "empty"),
        ("words.mp4", b"hello " * 100, "not a video"),
        ("words.txt", b"hello there\n" * 100, "not a video"),
        ("words.json", b'{"a": 1}', "not a video"),
    ],
)
def test_what_is_no_video_is_said_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for function in (video.probe, video.frames):
        with pytest.raises(EmoVerseError, match=said) as error:
            function(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_missing_folder_and_sound_only(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no such file"):
        video.probe(tmp_path / "none.mp4")
    with pytest.raises(EmoVerseError, match="folder"):
        video.probe(tmp_path)
    with pytest.raises(EmoVerseError, match="no picture"):
        video.probe(write_audio(tmp_path / "song.m4a"))


def test_a_file_cut_before_its_index_is_damaged(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[:600])
    with pytest.raises(EmoVerseError, match="damaged"):
        video.probe(clip)


def test_no_decodable_frame(tmp_path: Path) -> None:
    clip = _noise(tmp_path / "whole.mp4")
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    clip.write_bytes(data)
    with pytest.raises(EmoVerseError, match="none of its frames"):
        video.probe(clip)
    with pytest.raises(EmoVerseError, match="none of its frames"):
        list(video.frames(clip))


@pytest.mark.parametrize("arguments", [{"max_fps": 0}, {"max_fps": -1}, {"max_side": 0}])
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, float]) -> None:
    clip = write(tmp_path / "clip.mp4", count=2)
    with pytest.raises(EmoVerseError, match="max_"):
        video.frames(clip, **arguments)  # type: ignore[arg-type]


def _noise(path: Path) -> Path:
    noise = np.random.default_rng(1).integers(0, 256, (60, 96, 128, 3), dtype=np.uint8)
    return write(path, list(noise), options={"movflags": "faststart"})


def test_a_part_of_a_clip_counts_from_its_start(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", count=90, fps=30, gop=12)
    whole = list(video.lazy_frames(clip))
    part = list(video.lazy_frames(clip, start=1.0, end=2.0, max_fps=10, threads=1))
    assert [frame.index for frame in part] == list(range(30))
    assert part[0].timestamp == pytest.approx(0, abs=0.002)
    assert part[-1].timestamp == pytest.approx(29 / 30, abs=0.002)
    assert [frame.index for frame in part if frame.due] == list(range(0, 30, 3))
    assert np.array_equal(part[0].image(), whole[30].image())
    assert np.array_equal(part[-1].image(), whole[59].image())


def test_a_part_that_is_not_there_is_told(tmp_path: Path) -> None:
    clip = write(tmp_path / "clip.mp4", count=30)
    with pytest.raises(EmoVerseError, match=r"between 5\.00 s and 6\.00 s"):
        list(video.lazy_frames(clip, start=5, end=6))
    with pytest.raises(EmoVerseError, match="nothing between 2 and 1 seconds"):
        video.lazy_frames(clip, start=2, end=1)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (6.0, 8.0, [0.0]),
        (25.0, 40.0, [0.0, 5.0]),
        (30.0, 40.0, [0.0]),
        (59.8, 62.0, [0.2]),
        (45.0, None, [0.0, 15.0]),
    ],
)
def test_a_picture_that_is_held_is_seen_in_every_part(
    tmp_path: Path, start: float, end: float | None, expected: list[float]
) -> None:
    slides = [np.full((48, 64, 3), grey, np.uint8) for grey in (40, 100, 160)]
    clip = write(tmp_path / "slides.mkv", slides, times=[0, 30_000, 60_000])
    notes: list[str] = []
    found = list(video.frames(clip, start=start, end=end, max_fps=10, warnings=notes))
    assert [frame.timestamp for frame in found] == pytest.approx(expected)
    assert [frame.index for frame in found] == list(range(len(expected)))
    on_screen = [40 + 60 * ((start + time) // 30) for time in expected]
    assert [frame.image.mean() for frame in found] == pytest.approx(on_screen, abs=3)
    assert notes == []


def test_a_picture_is_not_held_over_damage_or_beyond_the_end(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mp4", count=30)
    for start in (1.02, 3.0):
        with pytest.raises(EmoVerseError, match="no frame can be decoded between"):
            list(video.frames(clip, start=start, end=5.0))
