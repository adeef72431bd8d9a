"""What every data set looks like to the rest of the program: named videos with a split, media, crops and labels.

Axes: F frames of a video, counted from 1 where a variable is called `frame`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Modality = Literal["image", "audio"]
MODALITIES: tuple[Modality, ...] = ("image", "audio")


@dataclass(frozen=True)
class Labels:
    """One video's annotation: row i (1-based) belongs to frame i."""

    value_F2: Float32[np.ndarray, "F 2"]
    """Valence and arousal in [-1, 1]; what the file says also where invalid (-5)."""
    valid_F: Bool[np.ndarray, "F"]
    """False where the annotators marked the frame as invalid."""


@runtime_checkable
class Annotation(Protocol):
    """What stands in the files about one video, read and found in order, before the frames' times are known."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def invalid(self) -> int:
        """Number of rows that are marked as not valid."""
        ...

    @property
    def per_frame(self) -> bool:
        """Whether row i belongs to frame i, so that rows and frames must be as many."""
        ...

    def fitted(self, time_F: Float64[np.ndarray, "F"]) -> tuple[Labels, list[str]]:
        """Return the labels of the frames at these times (the first frames, where there are fewer), and remarks.

        Raises:
            AnnotationError: annotation and video cannot belong together.
        """
        ...


@runtime_checkable
class Annotations(Protocol):
    """Where a data set's labels come from, when they are not one file a video with one row a frame."""

    def read(self, video: str) -> Annotation:
        """Return one video's annotation.

        Raises:
            AnnotationError: its rows break the format; the error names file and line.
        """
        ...

    def digest(self, video: str) -> str:
        """Return the SHA-256 of one video's rows, which those of other videos in the same file do not change."""
        ...

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides how the rows become labels, for the store."""
        ...


@dataclass(frozen=True)
class Video:
    """One annotated person in one video."""

    name: str
    """The annotation's name without suffix, such as `10-60-1280x720_right`; unique in the data set."""
    split: Split
    media: Path | None
    """The file with picture, sound or both; shared by `X_left` and `X_right`. None where only crops exist."""
    crops: Path | None
    """Folder of this person's face crops, `00001.jpg` is frame 1. None where there are none."""
    annotation: Path | None
    """The file that holds this video's labels; None where it has none (Aff-Wild2's test split)."""


@dataclass(frozen=True)
class Problem:
    """Something in a data set that does not fit together."""

    kind: str
    """A few words that are the same for all problems of the kind, such as `no media`."""
    video: str
    """Empty where it is about no single video."""
    detail: str
    file: Path | None = None


@dataclass(frozen=True)
class Rates:
    """Rows a second where no video tells the times of its frames: of sound alone, and of face crops alone."""

    usual: float | None = None
    """Of the videos that have none of their own; None: unknown."""
    own: Mapping[str, float] = field(default_factory=dict)
    """By the video's name."""

    def of(self, video: str) -> float | None:
        """Return a video's rate; None where it is not known."""
        return self.own.get(video, self.usual)

    @property
    def described(self) -> dict[str, Any]:
        """What a store says of them, single videos' in short; nothing where none is known."""
        found: dict[str, Any] = {} if self.usual is None else {"rate": self.usual}
        if self.own:
            text = json.dumps(self.own, sort_keys=True)
            found["rates"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return found


NO_RATES = Rates()


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
    annotations: Annotations | None = None
    """How labels are read; None: each video's file has one row a frame, as in Aff-Wild2."""
    label_range: tuple[float, float] | None = None
    """The scale of the labels in the files, mapped to [-1, 1]; None: it is [-1, 1]."""
    excluded: tuple[str, ...] = ()
    """Names that its description leaves out."""
    modalities: tuple[Modality, ...] = MODALITIES
    """What is taken of it: pictures, sound, or both."""
    rates: Rates = NO_RATES
    """How many rows a second there are where no video tells it."""

    @property
    def streams(self) -> tuple[Literal["image", "audio", "labels"], ...]:
        """What a store of it holds, in everybody's order."""
        return (*(modality for modality in MODALITIES if modality in self.modalities), "labels")

    @property
    def needs_crops(self) -> bool:
        """Whether pictures are read from face crops."""
        return "image" in self.modalities and self.faces == "crops"

    def needs_media(self, video: str) -> bool:
        """Whether a video must have a media file; face crops at a known rate can do without."""
        return not (self.needs_crops and "audio" not in self.modalities and self.rates.of(video) is not None)
