from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoverse.corpora.records import Problem
from emoverse.errors import EmoVerseError
from emoverse.faces import openface
from emoverse.faces.peak import peak

MULTI = """frame, face_id, timestamp, confidence, success, AU06_r, AU12_r, AU12_c, AU28_c
1, 0, 0.000, 0.98, 1, 0.50, 1.25, 1.0, 0.0
1, 1, 0.000, 0.88, 1, 0.00, 4.00, 1.0, 1.0
2, 0, 0.040, 0.22, 0, 5.00, 5.50, 0.0, 0.0
"""


def write(folder: Path, text: str, name: str = "face.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_several_faces_with_spaces_in_the_header(tmp_path: Path) -> None:
    frames = openface.read(write(tmp_path, MULTI))
    assert [(f.frame, f.person, f.timestamp) for f in frames] == [
        (0, 0, 0),
        (0, 1, 0),
        (1, 0, 0.04),
    ]
    assert frames[0].intensities == {"AU06": 0.5, "AU12": 1.25}
    assert frames[1].presences == {"AU12": True, "AU28": True}
    assert [f.success for f in frames] == [True, True, False]
    assert frames[2].confidence == 0.22
    assert frames[2].intensities["AU12"] == 5.0  # OpenFace sometimes leaves its own scale
    assert peak(frames).person == 1


def test_no_frame_column_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    text = "AU06_r;AU12_r;AU12_c\r\n0,5;1,25;1,0\r\n0.0;2.0;0.0\r\n"
    frames = openface.read(write(tmp_path, text), fps=25)
    assert [(f.frame, f.timestamp, f.confidence) for f in frames] == [(0, 0, 1), (1, 0.04, 1)]
    assert frames[0].intensities == {"AU06": 0.5, "AU12": 1.25}


def test_landmarks_become_a_box(tmp_path: Path) -> None:
    text = "frame,timestamp,confidence,success,x_0,x_1,y_0,y_1,AU12_r\n1,0,1,1,10,30,5,25,2\n"
    (frame,) = openface.read(write(tmp_path, text))
    assert frame.box == (10, 5, 30, 25)
    assert frame.person == 0


def test_faces_of_one_image(tmp_path: Path) -> None:
    text = "face, confidence, AU12_r\n0, 0.9, 1\n1, 0.8, 2\n"
    frames = openface.read(write(tmp_path, text))
    assert [(f.frame, f.timestamp, f.person) for f in frames] == [(0, 0, 0), (0, 0, 1)]


def test_tabs_a_byte_order_mark_and_trailing_delimiters(tmp_path: Path) -> None:
    text = "\ufeffframe\tAU12_r\n1\t2.0\t\n\n2\t3.0\n"
    assert [f.intensities["AU12"] for f in openface.read(write(tmp_path, text))] == [2, 3]


def test_malformed_rows_are_reported_with_their_line_and_skipped(tmp_path: Path) -> None:
    text = MULTI + "3, 0, 0.08\n4, 0, 0.12, 0.9, 1, x, 0, 0, 0\n5, 0, 0.16, 0.9, 1, nan, 0, 0, 0\n"
    path = write(tmp_path, text)
    problems: list[Problem] = []
    assert len(openface.read(path, problems=problems)) == 3
    assert [problem.line for problem in problems] == [5, 6, 7]
    assert str(problems[0]).startswith(f"{path}:5: 3 cells where the header has 9")
    assert "AU06_r is 'x'" in str(problems[1])
    with pytest.warns(UserWarning) as told:
        openface.read(path)
    assert [str(warning.message) for warning in told] == [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no AU intensity"),
        ("a,b\n1,2\n", "no AU intensity"),
        ("frame, AU12_r\nx, y\n", "none of its 1 rows"),
    ],
)
def test_what_is_not_openface_output(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(EmoVerseError, match=said):
        openface.read(write(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match="no such file"):
        openface.read(tmp_path / "none.csv")


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 500)), min_size=1, max_size=20),
    delimiter=st.sampled_from([",", ", ", ";", "\t"]),
    face_id=st.booleans(),
)
def test_every_dialect_says_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int]],
    delimiter: str,
    face_id: bool,
) -> None:
    names = ["frame", *(["face_id"] if face_id else []), "timestamp", "confidence", "AU12_r"]
    lines = [delimiter.join(names)]
    for number, (person, value) in enumerate(rows, 1):
        cells = [number, *([person] if face_id else []), (number - 1) / 30, 0.9, value / 100]
        lines.append(delimiter.join(map(str, cells)))
    path = write(tmp_path_factory.mktemp("dialect"), "\n".join(lines))
    frames = openface.read(path)
    assert [f.intensities["AU12"] for f in frames] == [value / 100 for _, value in rows]
    assert [f.person for f in frames] == [person if face_id else 0 for person, _ in rows]
    assert [f.frame for f in frames] == list(range(len(rows)))


def test_real_dialects(shared: Path) -> None:
    for path in sorted((shared / "openface").glob("*.csv")):
        problems: list[Problem] = []
        frames = openface.read(path, problems=problems)
        assert frames and not problems, path
        assert all(len(frame.intensities) == 17 for frame in frames)
        peak(frames)
