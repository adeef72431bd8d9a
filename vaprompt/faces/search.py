"""Everybody's face over a whole video, in one pass that keeps numbers only: memory does not grow with pictures.

Axes: F frames, K faces in a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vaprompt.faces.detector import Detector, Faces
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.faces.tracking import Person, Tracker
from vaprompt.media.video import read_frames
from vaprompt.progress import Task

TOLERANCE = 1e-3
"""Seconds; time stamps in whole milliseconds must not put off a look by a frame."""


@dataclass(frozen=True)
class FoundFaces:
    """What a video shows of faces."""

    time_F: Float64[np.ndarray, "F"]
    """Every frame's time, in seconds from the first."""
    people: list[Person]
    """The most prominent first: whose face is large, and there for long."""


def find_faces(media: Path, detector: Detector, recipe: FaceRecipe, task: Task | None = None) -> FoundFaces:
    """Look through a video for faces and follow them.

    Args:
        media: the video.
        detector: finds the faces in one picture.
        recipe: when it looks, and what counts as the same face.
        task: told the seconds of video that are done.

    Raises:
        MediaError: the video cannot be decoded.
    """
    tracker = Tracker(recipe)
    times: list[float] = []
    next_look = 0.0

    def wanted(frame: int, time: float) -> bool:
        return time >= next_look - TOLERANCE

    for frame in read_frames(media, wanted=wanted, max_side=recipe.side):
        if frame.rgb_HWC is not None:
            width = frame.rgb_HWC.shape[1]
            faces = detector(frame.rgb_HWC, min(recipe.keep, recipe.start))
            relative = Faces(faces.score_K, faces.box_K4 / width, faces.landmark_KP2 / width)
            tracker.look(frame.frame - 1, frame.time, relative)
            next_look = frame.time + recipe.interval
        if task is not None:
            task.advance(frame.time - (times[-1] if times else 0.0))
        times.append(frame.time)
    time_F = np.array(times, dtype=np.float64)
    return FoundFaces(time_F, tracker.people(time_F))
