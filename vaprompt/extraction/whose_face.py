"""Which of the people found in a video an annotation is about."""

from __future__ import annotations

from collections.abc import Sequence

from vaprompt.datasets.base import Dataset, Video
from vaprompt.errors import DatasetError
from vaprompt.faces.tracking import Person


def whose_face(video: Video, dataset: Dataset, people: Sequence[Person]) -> Person:
    """Return the person that a video's annotation names.

    `X_left` and `X_right` are the two most prominent people in one file, by where they are on average; `X` beside
    `X_right` is the left one. Any other name means the most prominent person.

    Args:
        video: the annotated person in a video.
        dataset: all of them, as two may share a file.
        people: who was found in the file, the most prominent first.

    Raises:
        DatasetError: nobody was found, or one where two are annotated.
    """
    if not people:
        raise DatasetError(video.media, fault="shows no face", remedy="exclude the video, or set faces = 'frames'")
    side = _side(video, [other.name for other in dataset.videos if other.media == video.media])
    if side is None:
        return people[0]
    if len(people) < 2:
        fault = f"shows one face, and {video.name} is annotated as one of two people"
        raise DatasetError(video.media, fault=fault, remedy="exclude the video, or give face crops")
    left, right = sorted(people[:2], key=lambda person: float(person.placement_D4[:, 0].mean()))
    return left if side == "left" else right


def _side(video: Video, sharing: Sequence[str]) -> str | None:
    for side, other in (("left", "right"), ("right", "left")):
        if video.name.endswith(f"_{side}"):
            # A file of its own, named alike, holds that person alone.
            return None if video.media is not None and video.media.stem == video.name else side
        if any(name == f"{video.name}_{other}" for name in sharing):
            return side
    return None
