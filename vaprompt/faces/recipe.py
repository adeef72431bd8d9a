"""How faces are looked for, followed and cut out."""

from __future__ import annotations

from pydantic import Field

from vaprompt.recipes import Recipe


class FaceRecipe(Recipe):
    """From whole frames to face crops. All times are seconds, so that the video's rate changes nothing."""

    interval: float = Field(0.2, gt=0, le=5)
    """Time between two looks of the detector; between them a face is followed."""
    side: int = Field(320, ge=64, le=4096)
    """The picture's longer side while faces are looked for; smaller pictures are not enlarged."""
    start: float = Field(0.5, gt=0, lt=1)
    """Score from which on a face begins a track."""
    keep: float = Field(0.3, gt=0, lt=1)
    """Score from which on a face continues a track that has begun; lower, so that a turned head is not lost."""
    overlap: float = Field(0.2, gt=0, lt=1)
    """Intersection over union of the box that is expected and the box that is found, at least, for the same person."""
    bridge: float = Field(0.7, ge=0, le=10)
    """A face that the detector misses for no longer than this is taken to be there."""
    patience: float = Field(5.0, ge=0, le=600)
    """A face that comes back to its place within this time is the same person; it counts as gone in between."""
    shortest: float = Field(0.5, ge=0)
    """Tracks of less time than this are taken for mistakes of the detector."""
    smoothing: float = Field(0.15, ge=0, le=5)
    """Standard deviation of the Gaussian in time that steadies the crop; 0: none."""
    size: int = Field(112, ge=16, le=1024)
    """Pixels of a crop's side. Aff-Wild2's are 112, and heads trained on those expect as much detail."""
    scale: float = Field(1.0, gt=0, le=4)
    """Side of what is cut out, as a multiple of what Aff-Wild2's aligned crops show; more leaves a wider margin."""
