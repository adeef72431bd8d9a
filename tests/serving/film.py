"""Drawn people as a camera takes them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vaprompt.faces.detector import CenterFace
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.media.video import read_frames, scaled

SIZE = (640, 480)


def pictures(video: Path, every: int) -> Iterator[np.ndarray]:
    """Yield every so manieth picture of a video, whole, as one of 640x480."""
    for frame in read_frames(video, wanted=lambda number, time: number % every == 0):
        if frame.rgb_HWC is not None:
            yield np.asarray(ImageOps.pad(Image.fromarray(frame.rgb_HWC), SIZE))


def seen_best(videos: Iterable[Path], every: int = 40) -> Path:
    """Return the video in which the detector finds a face most often: it knows real faces, and drawn ones by chance."""
    detector, recipe = CenterFace(), FaceRecipe()

    def share(video: Path) -> float:
        looks = [detector(scaled(shown, recipe.side), recipe.start) for shown in pictures(video, every)]
        return float(np.mean([len(faces.score_K) > 0 for faces in looks]))

    return max(videos, key=share)
