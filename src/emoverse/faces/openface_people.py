"""Persons for OpenFace's rows, whose `face_id` is only the slot of a tracker.

OpenFace gives a freed slot to the next face it finds, so that after a cut one `face_id` is
another person, and one person has several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from emoverse.faces.face import overlap
from emoverse.faces.records import AUFrame

_LEAST_OVERLAP = 0.3
# Seconds: a row that none of our faces explains takes the person that its slot had this recently.
_MEMORY = 0.5
# Seconds a face may be gone and still be the same person, where there are only boxes.
_LONGEST_GAP = 1.5


def by_boxes(rows: Sequence[AUFrame]) -> list[AUFrame]:
    """Number persons by where faces lie, whatever their `face_id`.

    Args:
        rows: of one clip, any order; rows without a box keep their `face_id` as person.

    Returns:
        The rows in order of time; a face continues the person whose last box it overlaps most.
    """
    if any(row.box is None for row in rows):
        return sorted(rows, key=lambda row: (row.frame, row.person))
    known: list[AUFrame] = []
    found: list[AUFrame] = []
    for frame in _frames(rows):
        worth = sorted(
            (-overlap(row.box, last.box), person, i)
            for i, row in enumerate(frame)
            for person, last in enumerate(known)
            if row.box and last.box and row.timestamp - last.timestamp <= _LONGEST_GAP
        )
        taken = _greedy(worth)
        for i, row in enumerate(frame):
            person = taken.get(i, len(known))
            row = replace(row, person=person)
            known[person : person + 1] = [row]
            found.append(row)
    return found


def by_tracks(
    rows: Sequence[AUFrame], seen: Sequence[AUFrame], scale: float = 1.0
) -> list[AUFrame]:
    """Give OpenFace's rows the persons that our own tracker saw in the same clip.

    Args:
        rows: of OpenFace.
        seen: `FaceTrack.frames` of the clip.
        scale: pixels of OpenFace's picture per pixel of ours.

    Returns:
        The rows in order of time that belong to a person: by box overlap, by being alone in the
        frame, or by their slot's person up to half a second before. The others are left out.
    """
    ours: dict[int, list[AUFrame]] = defaultdict(list)
    for frame in seen:
        ours[frame.frame].append(frame)
    slots: dict[int, tuple[float, int]] = {}
    found: list[AUFrame] = []
    for frame_rows in _frames(rows):
        faces = ours.get(frame_rows[0].frame, [])
        if len(frame_rows) == len(faces) == 1:
            joined = {0: faces[0].person}
        else:
            worth = sorted(
                (-overlap(row.box, _scaled(face, scale)), face.person, i)
                for i, row in enumerate(frame_rows)
                for face in faces
                if row.box is not None and face.box is not None
            )
            joined = _greedy(worth)
        for i, row in enumerate(frame_rows):
            if i in joined:
                slots[row.person] = row.timestamp, joined[i]
            time, person = slots.get(row.person, (float("-inf"), -1))
            if row.timestamp - time <= _MEMORY:
                found.append(replace(row, person=person))
    return found


def _frames(rows: Sequence[AUFrame]) -> list[list[AUFrame]]:
    by_frame: dict[int, list[AUFrame]] = defaultdict(list)
    for row in rows:
        by_frame[row.frame].append(row)
    return [by_frame[number] for number in sorted(by_frame)]


def _greedy(worth: Sequence[tuple[float, int, int]]) -> dict[int, int]:
    """Row to person, best overlap first, each used once."""
    taken: dict[int, int] = {}
    for negative, person, i in worth:
        if -negative >= _LEAST_OVERLAP and i not in taken and person not in taken.values():
            taken[i] = person
    return taken


def _scaled(face: AUFrame, scale: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = face.box or (0.0, 0.0, 0.0, 0.0)
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale
