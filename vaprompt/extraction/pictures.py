"""The pictures of one video that are to be encoded, in the order of frames: whole ones, crops on disk, or faces found.

Axes: N pictures, F frames of the video, H rows, C colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt8

from vaprompt.errors import MediaError
from vaprompt.extraction.grid import frames_at_rate
from vaprompt.faces.crop import cut
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.faces.tracking import Person
from vaprompt.media.crops import list_crops, read_images
from vaprompt.media.video import read_frames


@dataclass(frozen=True)
class Picture:
    """One picture to encode."""

    frame: int
    """1-based."""
    time: float
    """Seconds from the first frame."""
    rgb_HWC: UInt8[np.ndarray, "H W 3"]


@runtime_checkable
class Seen(Protocol):
    """Somebody of whom it is known in which frames the face is there."""

    def visible(self, frames: int) -> Bool[np.ndarray, "F"]:
        """Return it for each of a video's `frames` frames."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size that follow each other."""

    frame_N: Int32[np.ndarray, "N"]
    time_N: Float64[np.ndarray, "N"]
    rgb_NHWC: UInt8[np.ndarray, "N H W 3"]


def together(pictures: Iterator[Picture], *, most: int, most_bytes: int) -> Iterator[Pictures]:
    """Yield the pictures in stretches of one size, of at most so many pictures and, but for a single one, bytes."""
    some: list[Picture] = []
    for picture in pictures:
        full = len(some) >= most or (len(some) + 1) * picture.rgb_HWC.nbytes > most_bytes
        if some and (full or picture.rgb_HWC.shape != some[0].rgb_HWC.shape):
            yield _stacked(some)
            some = []
        some.append(picture)
    if some:
        yield _stacked(some)


def _stacked(some: list[Picture]) -> Pictures:
    return Pictures(
        np.array([picture.frame for picture in some], dtype=np.int32),
        np.array([picture.time for picture in some], dtype=np.float64),
        np.stack([picture.rgb_HWC for picture in some]),
    )


def given_pictures(
    media: Path, rate: str | float, crops: Path | None, time_F: Float64[np.ndarray, "F"] | None
) -> Iterator[Picture]:
    """Yield the pictures to encode where no faces are looked for: crops in a folder, or whole frames.

    Raises:
        MediaError: a picture cannot be decoded, or there is not one.
    """
    if crops is not None and time_F is not None:
        return crop_pictures(crops, media, rate, time_F)
    return frame_pictures(media, rate, time_F)


def frame_pictures(media: Path, rate: str | float, time_F: Float64[np.ndarray, "F"] | None) -> Iterator[Picture]:
    """Yield whole frames: all of them, or so many a second (the times of all frames are then needed)."""
    wanted: Callable[[int, float], bool] | None = None
    if not isinstance(rate, str) and time_F is not None:
        chosen = frozenset((frames_at_rate(time_F, rate) + 1).tolist())
        wanted = lambda frame, time: frame in chosen  # noqa: E731
    for frame in read_frames(media, wanted=wanted):
        if frame.rgb_HWC is not None:
            yield Picture(frame.frame, frame.time, frame.rgb_HWC)


def crop_pictures(crops: Path, media: Path, rate: str | float, time_F: Float64[np.ndarray, "F"]) -> Iterator[Picture]:
    """Yield the numbered crops in a folder: all of them, or so many a second.

    Raises:
        MediaError: a crop cannot be read, there is none, or they belong to a longer video.
    """
    frame_N, paths = list_crops(crops)
    known = int(np.searchsorted(frame_N, len(time_F), side="right"))
    if known == 0:
        raise MediaError(
            crops,
            fault=f"holds no face crop of the {len(time_F)} frames",
            remedy="unpack the crops, or exclude the video",
        )
    surplus = int(frame_N[-1]) - len(time_F)
    # The same tolerance as between annotation and video (conventions.md): a few frames at the end may differ.
    if surplus > max(10, len(time_F) // 100):
        raise MediaError(
            crops,
            fault=f"has crops up to frame {frame_N[-1]}, but {media.name} has {len(time_F)} frames",
            remedy="check that crops and video belong together",
        )
    time_N = time_F[frame_N[:known] - 1]
    chosen = range(known) if isinstance(rate, str) else frames_at_rate(time_N, rate).tolist()
    for index, rgb_HWC in zip(chosen, read_images(paths[index] for index in chosen), strict=True):
        yield Picture(int(frame_N[index]), float(time_N[index]), rgb_HWC)


def chosen_pictures(
    media: Path,
    index_N: Int64[np.ndarray, "N"],
    person_N: Int64[np.ndarray, "N"],
    people: Sequence[Person | None],
    recipe: FaceRecipe,
) -> Iterator[Picture]:
    """Yield just the pictures asked for, decoding the video once for everybody in it.

    Args:
        media: the video.
        index_N: index (from 0) of each picture's frame, ascending.
        person_N: whose face it shows, as an index into `people`.
        people: the people found in the video; None stands for the whole frame.
        recipe: how faces are cut out.

    Raises:
        MediaError: the video cannot be decoded.
    """
    position = 0

    def wanted(frame: int, time: float) -> bool:
        return position < len(index_N) and bool(index_N[position] == frame - 1)

    for frame in read_frames(media, wanted=wanted):
        if frame.rgb_HWC is None:
            continue
        while wanted(frame.frame, frame.time):
            person = people[person_N[position]]
            rgb_HWC = frame.rgb_HWC
            if person is not None:
                rgb_HWC = cut(rgb_HWC, person.placement(frame.time), recipe.size, recipe.scale)
            yield Picture(frame.frame, frame.time, rgb_HWC)
            position += 1
        if position == len(index_N):
            return


def face_pictures(
    media: Path, rate: str | float, time_F: Float64[np.ndarray, "F"], person: Person, recipe: FaceRecipe
) -> Iterator[Picture]:
    """Yield one person's face from all frames in which it is there, or from so many a second.

    Raises:
        MediaError: the video cannot be decoded.
    """
    index_N = visible_frames(time_F, rate, person)
    yield from chosen_pictures(media, index_N, np.zeros(len(index_N), dtype=np.int64), [person], recipe)


def visible_frames(time_F: Float64[np.ndarray, "F"], rate: str | float, person: Seen | None) -> Int64[np.ndarray, "N"]:
    """Return the indices (from 0) of the frames to encode: a person's, or whole ones (None), at a recipe's rate."""
    index_N = np.arange(len(time_F)) if person is None else np.flatnonzero(person.visible(len(time_F)))
    return index_N if isinstance(rate, str) else index_N[frames_at_rate(time_F[index_N], rate)]
