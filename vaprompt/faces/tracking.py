"""Who is who over time: detections become people, each with stretches of time in which the face is there.

A face is the same person as the one whose box it overlaps most, where that one was seen last or where it should be
by now. Nothing is known of what people look like: after a cut, another face in the same place is taken for the
same person, and one that comes back elsewhere is taken for another.

Axes: K faces in a picture, D detections of one person, S stretches, F frames, P landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int64

from vaprompt.faces.crop import placements
from vaprompt.faces.detector import Faces, overlap
from vaprompt.faces.recipe import FaceRecipe

COAST = 0.5
"""Seconds for which a face is expected to move on as it did."""


@dataclass(frozen=True)
class Person:
    """One face over a video."""

    time_D: Float64[np.ndarray, "D"]
    """When it was looked at, in seconds, ascending."""
    placement_D4: Float64[np.ndarray, "D 4"]
    """Where its crop lies at these times, steadied; see `vaprompt.faces.crop`."""
    first_S: Int64[np.ndarray, "S"]
    """Index (from 0) of the first frame of each stretch in which the face is there."""
    last_S: Int64[np.ndarray, "S"]
    """Index of each stretch's last frame, which still belongs to it."""
    prominence: float
    """Area of the face, in squared widths of the picture, summed over the frames in which it is there."""

    def visible(self, frames: int) -> Bool[np.ndarray, "F"]:
        """Return for each of a video's `frames` frames whether the face is there."""
        visible_F = np.zeros(frames, dtype=np.bool_)
        for first, last in zip(self.first_S, self.last_S, strict=True):
            visible_F[first : last + 1] = True
        return visible_F

    def placement(self, time: float) -> Float64[np.ndarray, "4"]:
        """Return where the crop lies at a time, in seconds, between detections on a straight line."""
        return np.array([np.interp(time, self.time_D, self.placement_D4[:, part]) for part in range(4)])


@dataclass
class Track:
    """What the detector saw of one face so far."""

    look: list[int] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    box_4: list[Float64[np.ndarray, "4"]] = field(default_factory=list)
    landmark_P2: list[Float64[np.ndarray, "P 2"]] = field(default_factory=list)

    def add(self, look: int, index: int, time: float, faces: Faces, face: int) -> None:
        """Take in one of the faces that were seen at a look."""
        self.look.append(look)
        self.frame.append(index)
        self.time.append(time)
        self.box_4.append(faces.box_K4[face])
        self.landmark_P2.append(faces.landmark_KP2[face])

    def expected(self, time: float) -> Float64[np.ndarray, "2 4"]:
        """Return the box that was seen last, and the same moved on as it moved before."""
        last_4 = self.box_4[-1]
        ahead = time - self.time[-1]
        if len(self.time) < 2 or ahead > COAST or self.time[-1] - self.time[-2] > COAST:
            return np.stack((last_4, last_4))
        velocity_4 = (last_4 - self.box_4[-2]) / (self.time[-1] - self.time[-2])
        return np.stack((last_4, last_4 + np.tile((velocity_4[:2] + velocity_4[2:]) / 2, 2) * ahead))


class Tracker:
    """Collects detections in the order of time; `people` closes the account."""

    def __init__(self, recipe: FaceRecipe) -> None:
        """Begin without anybody."""
        self._recipe = recipe
        self._tracks: list[Track] = []
        self._alive: list[Track] = []
        self._looks = 0

    def look(self, index: int, time: float, faces: Faces) -> None:
        """Take in the faces seen at a frame.

        Args:
            index: the frame's index, from 0.
            time: its time in seconds.
            faces: boxes and landmarks in widths of the picture.
        """
        self._alive = [track for track in self._alive if time - track.time[-1] <= self._recipe.patience]
        free = set(range(len(faces.score_K)))
        for track, face in self._pairs(time, faces):
            free.discard(face)
            track.add(self._looks, index, time, faces, face)
        for face in sorted(free):
            if faces.score_K[face] >= self._recipe.start:
                track = Track()
                self._tracks.append(track)
                self._alive.append(track)
                track.add(self._looks, index, time, faces, face)
        self._looks += 1

    def people(self, time_F: Float64[np.ndarray, "F"]) -> list[Person]:
        """Return everybody who was seen for long enough, the most prominent first.

        Args:
            time_F: times of all of the video's frames, in seconds.
        """
        # In a video of less time than a track must have, a face that is there throughout is no mistake.
        shortest = min(self._recipe.shortest, float(time_F[-1]) / 2)
        people = [self._person(track, time_F) for track in self._tracks]
        seen = [person for person in people if _seconds(person, time_F) >= shortest]
        return sorted(seen, key=lambda person: -person.prominence)

    def _pairs(self, time: float, faces: Faces) -> list[tuple[Track, int]]:
        """Return which track goes on with which face: greedily, the largest overlaps first."""
        if not self._alive or not len(faces.score_K):
            return []
        expected = np.concatenate([track.expected(time) for track in self._alive])
        overlap_TK = overlap(expected, faces.box_K4).reshape(len(self._alive), 2, -1).max(axis=1)
        pairs: list[tuple[Track, int]] = []
        taken: set[int] = set()
        gone: set[int] = set()
        for flat in np.argsort(-overlap_TK, axis=None, kind="stable"):
            track, face = divmod(int(flat), overlap_TK.shape[1])
            if overlap_TK[track, face] < self._recipe.overlap:
                break
            if track not in gone and face not in taken:
                pairs.append((self._alive[track], face))
                gone.add(track)
                taken.add(face)
        return pairs

    def _person(self, track: Track, time_F: Float64[np.ndarray, "F"]) -> Person:
        time_D, frame_D = np.array(track.time), np.array(track.frame, dtype=np.int64)
        # A miss ends a stretch only where it lasts: detectors flicker, and a blink of theirs is not one of the face.
        broken = (np.diff(track.look) > 1) & (np.diff(time_D) > self._recipe.bridge)
        begin_S = np.concatenate(([0], np.flatnonzero(broken) + 1))
        end_S = np.concatenate((np.flatnonzero(broken), [len(time_D) - 1]))
        last_S = frame_D[end_S]
        if track.look[-1] == self._looks - 1:  # nobody looked after that, so nothing says that it left
            last_S[-1] = len(time_F) - 1
        placement_D4 = placements(np.stack(track.landmark_P2))
        for begin, end in zip(begin_S, end_S + 1, strict=True):
            placement_D4[begin:end, 3] = np.unwrap(placement_D4[begin:end, 3])
            placement_D4[begin:end] = _steadied(time_D[begin:end], placement_D4[begin:end], self._recipe.smoothing)
        person = Person(time_D, placement_D4, frame_D[begin_S], last_S, 0.0)
        area_F = np.exp(2 * np.interp(time_F, time_D, placement_D4[:, 2]))
        prominence = float(area_F[person.visible(len(time_F))].sum())
        return Person(time_D, placement_D4, person.first_S, person.last_S, prominence)


def _seconds(person: Person, time_F: Float64[np.ndarray, "F"]) -> float:
    return float(np.sum(time_F[person.last_S] - time_F[person.first_S]))


def _steadied(
    time_D: Float64[np.ndarray, "D"], placement_D4: Float64[np.ndarray, "D 4"], deviation: float
) -> Float64[np.ndarray, "D 4"]:
    """Return the placements averaged with their neighbours, by a Gaussian in time; it ends at the stretch's ends."""
    if deviation <= 0:
        return placement_D4
    low_D = np.searchsorted(time_D, time_D - 3 * deviation)
    high_D = np.searchsorted(time_D, time_D + 3 * deviation, side="right")
    steady_D4 = np.empty_like(placement_D4)
    for index, (low, high) in enumerate(zip(low_D, high_D, strict=True)):
        # As far to the one side as to the other: at an end, the average would otherwise lag behind a moving face.
        reach = min(index - low, high - 1 - index)
        near = slice(index - reach, index + reach + 1)
        weight_D = np.exp(-0.5 * ((time_D[near] - time_D[index]) / deviation) ** 2)
        steady_D4[index] = weight_D @ placement_D4[near] / weight_D.sum()
    return steady_D4
