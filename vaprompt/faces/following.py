"""One face while it is being seen: where its crop lies now, from what was seen so far alone.

Whole videos are looked at before and after each moment (`tracking.py`); a camera's picture is to be cut at once.

Axes: K faces in a picture; 4 is centre x, centre y, the side's logarithm, angle, in widths of the picture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vaprompt.faces.crop import placements
from vaprompt.faces.detector import Faces, overlap
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.faces.tracking import Track

TOLERANCE = 1e-6
"""Seconds within which two times count as the same."""


class Follower:
    """Stays with one person for as long as the face is there, then takes the largest."""

    def __init__(self, recipe: FaceRecipe) -> None:
        """Begin without anybody."""
        self._recipe = recipe
        self._track = Track()
        self._looked = -np.inf

    def due(self, time: float) -> bool:
        """Say whether the detector is to look at the picture of this time, in seconds."""
        return time >= self._looked + self._recipe.interval - TOLERANCE

    def look(self, time: float, faces: Faces) -> None:
        """Take in the faces seen at a time; boxes and landmarks in widths of the picture."""
        self._looked = time
        if self._gone(time):
            self._track = Track()
        face = self._same(time, faces) if self._track.time else self._largest(faces)
        if face is None:
            return
        self._track.add(0, 0, time, faces, face)
        old = sum(time - then > self._reach() for then in self._track.time[:-2])  # two tell how it moves
        for kept in (self._track.look, self._track.frame, self._track.time):
            del kept[:old]
        del self._track.box_4[:old], self._track.landmark_P2[:old]

    def placement(self, time: float) -> Float64[np.ndarray, "4"] | None:
        """Return where the crop lies; None where there is no face.

        It is the mean of what was seen in the last moments, by the Gaussian that steadies whole videos.
        """
        if not self._track.time or self._gone(time):
            return None
        time_D = np.array(self._track.time)
        near_D = time_D[-1] - time_D <= self._reach()
        placement_D4 = placements(np.stack(self._track.landmark_P2))[near_D]
        placement_D4[:, 3] = np.unwrap(placement_D4[:, 3])
        if self._recipe.smoothing <= 0:
            near_D, placement_D4 = near_D.nonzero()[0][-1:], placement_D4[-1:]
        weight_D = np.exp(-0.5 * ((time_D[-1] - time_D[near_D]) / self._recipe.smoothing) ** 2)
        steady_4: Float64[np.ndarray, "4"] = weight_D @ placement_D4 / weight_D.sum()
        return steady_4

    def _reach(self) -> float:
        return 3 * self._recipe.smoothing

    def _gone(self, time: float) -> bool:
        """Say whether the face has been missed for longer than detectors blink."""
        return bool(self._track.time) and time - self._track.time[-1] > max(self._recipe.bridge, self._recipe.interval)

    def _same(self, time: float, faces: Faces) -> int | None:
        """Return which face is that of the person who is followed."""
        kept_K = faces.score_K >= self._recipe.keep
        if not kept_K.any():
            return None
        overlap_K = overlap(self._track.expected(time), faces.box_K4).max(axis=0) * kept_K
        return int(overlap_K.argmax()) if overlap_K.max() >= self._recipe.overlap else None

    def _largest(self, faces: Faces) -> int | None:
        sure_K = faces.score_K >= self._recipe.start
        if not sure_K.any():
            return None
        area_K = np.prod(faces.box_K4[:, 2:] - faces.box_K4[:, :2], axis=1)
        return int(np.where(sure_K, area_K, -1).argmax())
