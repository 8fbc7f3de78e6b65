from __future__ import annotations

from collections import Counter
from pathlib import Path

from emoverse.faces import analyse_faces, openface
from emoverse.faces.openface_people import by_boxes, by_tracks
from emoverse.faces.records import AUFrame, Box


def row(number: int, slot: int, x: float | None = None) -> AUFrame:
    box: Box | None = None if x is None else (x, 0, x + 100, 100)
    return AUFrame(number, number / 10, slot, 1.0, {"AU12": 1.0}, box)


def test_swapped_slots_do_not_swap_people() -> None:
    rows = [row(i, (i // 5) % 2, 0) for i in range(20)]
    rows += [row(i, 1 - (i // 5) % 2, 400) for i in range(20)]
    people = {(r.box and r.box[0]): set() for r in rows}
    for found in by_boxes(rows):
        people[found.box and found.box[0]].add(found.person)
    assert sorted(map(sorted, people.values())) == [[0], [1]]


def test_a_slot_given_to_a_face_elsewhere_is_another_person() -> None:
    assert [r.person for r in by_boxes([row(0, 0, 0), row(1, 0, 500)])] == [0, 1]


def test_without_boxes_the_slots_stay() -> None:
    assert [r.person for r in by_boxes([row(1, 3), row(0, 1)])] == [1, 3]


def test_our_tracks_tell_who_is_in_a_slot() -> None:
    rows = [row(i, 0) for i in range(10)]
    seen = [row(i, 7 if i < 4 else 2, 0) for i in range(0, 10, 2)]
    assert [r.person for r in by_tracks(rows, seen)] == [7, 7, 7, 7, 2, 2, 2, 2, 2, 2]


def test_a_row_that_nothing_explains_is_left_out() -> None:
    assert by_tracks([row(0, 0, 0)], [row(0, 1, 400), row(0, 2, 800)]) == []


def test_two_real_people_behind_swapping_slots(shared: Path, landmarker: Path) -> None:
    """The clip cuts between two men; OpenFace's slots know nothing of that."""
    rows = openface.read(shared / "openface" / "multi_face_clip3.csv")
    seen = analyse_faces(
        shared / "video" / "two_people_clip3.mp4", model=landmarker, refine=False, max_fps=8
    )
    assert seen.people == 2
    shots = ((0, 6, 0), (10, 23, 1), (27, 53, 0), (58, 146, 1), (151, 187, 0), (192, 232, 1))
    for found in (seen.frames, by_tracks(rows, seen.frames)):
        for start, end, person in shots:
            there = Counter(r.person for r in found if start <= r.frame <= end and r.success)
            # Where OpenFace lost a face there is no row that it trusts.
            assert there[person] >= 0.9 * there.total(), (start, there)
