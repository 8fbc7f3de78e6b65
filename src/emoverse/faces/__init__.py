"""Faces: action units over time, persons, the peak frame and its caption."""

from __future__ import annotations

from emoverse.faces.captions import Caption, caption, describe
from emoverse.faces.records import AUFrame
from emoverse.faces.track import FaceTrack, analyse_faces

__all__ = ["AUFrame", "Caption", "FaceTrack", "analyse_faces", "caption", "describe"]
