"""What a feature store holds of one video.

Axes: N encoded frames, D channels, W audio windows, S audio steps of a window, F annotated frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float16, Float32, Float64, Int32


@dataclass(frozen=True)
class ImageFeatures:
    """Embeddings of a video's frames or face crops."""

    embedding_ND: Float16[np.ndarray, "N D"]
    """The image encoder's output for each encoded frame."""
    frame_N: Int32[np.ndarray, "N"]
    """Number of the frame, from 1, ascending; gaps where no face crop exists or the recipe skips frames."""
    time_N: Float64[np.ndarray, "N"]
    """Seconds from the video's first frame, from the container's time stamps."""


@dataclass(frozen=True)
class AudioFeatures:
    """Embeddings of windows of a video's sound."""

    embedding_WSD: Float16[np.ndarray, "W S D"]
    """The audio encoder's output for each window, as steps over time."""
    end_W: Float64[np.ndarray, "W"]
    """Where each window ends, in seconds from the first frame, on the recipe's fixed grid; the first end is <= 0."""


@dataclass(frozen=True)
class StoredLabels:
    """A video's annotation beside the true times of its frames; row i (from 1) belongs to frame i."""

    value_F2: Float32[np.ndarray, "F 2"]
    """Valence and arousal in [-1, 1]; -5 throughout where the video has no annotation."""
    valid_F: Bool[np.ndarray, "F"]
    """False where the annotators marked the frame as invalid, and throughout where there is no annotation."""
    time_F: Float64[np.ndarray, "F"]
    """Seconds from the first frame."""
