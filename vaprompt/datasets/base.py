"""What every data set looks like to the rest of the program: named videos with a split, media, crops and labels.

Axes: F frames of a video, counted from 1 where a variable is called `frame`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Labels:
    """One video's annotation: row i (1-based) belongs to frame i."""

    value_F2: Float32[np.ndarray, "F 2"]
    """Valence and arousal in [-1, 1]; what the file says also where invalid (-5)."""
    valid_F: Bool[np.ndarray, "F"]
    """False where the annotators marked the frame as invalid."""


@dataclass(frozen=True)
class Video:
    """One annotated person in one video."""

    name: str
    """The annotation's name without suffix, such as `10-60-1280x720_right`; unique in the data set."""
    split: Split
    media: Path | None
    """The file with picture and sound; shared by `X_left` and `X_right`. None where only crops exist."""
    crops: Path | None
    """Folder of this person's face crops, `00001.jpg` is frame 1. None where there are none."""
    annotation: Path | None
    """Annotation file; None for the test split."""


@dataclass(frozen=True)
class Problem:
    """Something in a data set that does not fit together."""

    kind: str
    video: str
    detail: str


@dataclass(frozen=True)
class Dataset:
    """A data set: its videos and how its faces are to be read."""

    name: str
    layout: str
    root: Path
    faces: Literal["crops", "frames", "detect"]
    """The image stream reads `crops`: face crops; `frames`: whole video frames; `detect`: faces found in frames."""
    videos: tuple[Video, ...]
    problems: tuple[Problem, ...] = field(default=())
