"""What a run reads of one stored video: the streams of its modalities, and no other.

Axes: N images, I image channels, A cached windows of sound, S audio steps, C audio channels, F frames, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float64, Int64

from vaprompt.store import FeatureStore, StoredLabels
from vaprompt.training.data import labelled_windows
from vaprompt.training.usable import require_finite, require_one_state
from vaprompt.windows import WindowRecipe, Windows, cut_windows


@dataclass(frozen=True)
class Timing:
    """When there is something to see and to hear in a video."""

    labels: StoredLabels
    """Its frames, and what was annotated."""
    image_frame_N: Int64[np.ndarray, "N"]
    """Frames with an image, 1-based; all frames where pictures are left out."""
    image_time_N: Float64[np.ndarray, "N"]
    audio_end_A: Float64[np.ndarray, "A"]
    """When cached windows of sound end; one at 0 where sound is left out."""

    def labelled(self, recipe: WindowRecipe) -> Windows:
        """Return the windows that are whole and end at a frame with a valid label."""
        labels = self.labels
        return labelled_windows(labels.time_F, self.image_time_N, self.audio_end_A, labels.valid_F, recipe)

    def windows(self, end_W: Float64[np.ndarray, "W"], recipe: WindowRecipe) -> Windows:
        """Return the windows that end at the given times, in seconds."""
        return cut_windows(
            end_W,
            time_F=self.labels.time_F,
            image_time_N=self.image_time_N,
            audio_end_A=self.audio_end_A,
            seconds=recipe.seconds,
            frames=recipe.frames,
        )


@dataclass(frozen=True)
class Inputs(Timing):
    """One video's features, and their times."""

    image_NI: Float16[np.ndarray, "N I"] | None
    """None where pictures are left out."""
    audio_ASC: Float16[np.ndarray, "A S C"] | None
    """None where sound is left out."""

    @property
    def arrays(self) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """The arguments of `Run.predict`."""
        return self.image_NI, self.image_time_N, self.audio_ASC, self.audio_end_A, self.labels.time_F


def read_timing(store: FeatureStore, video: str, modalities: Sequence[str]) -> Timing:
    """Return when there is something in a stored video, for a network of these modalities.

    Raises:
        StoreError: the video is not in the store, or damaged, or its streams do not belong together.
    """
    require_one_state(store, video, modalities)
    labels = store.labels(video)
    frame_N, time_N, end_A = _without(labels)
    if "image" in modalities:
        stored_N, time_N = store.image_times(video)
        frame_N = stored_N.astype(np.int64)
    if "audio" in modalities:
        end_A = store.audio_ends(video)
    return Timing(labels, frame_N, time_N, end_A)


def read_inputs(store: FeatureStore, video: str, modalities: Sequence[str]) -> Inputs:
    """Return a stored video's features for a network of these modalities.

    Raises:
        StoreError: the video is not in the store, or damaged, or has features that are not finite, or its streams do
            not belong together.
    """
    require_one_state(store, video, modalities)
    labels = store.labels(video)
    frame_N, time_N, end_A = _without(labels)
    image_NI = audio_ASC = None
    if "image" in modalities:
        image = store.image(video)
        require_finite(store, "image", video, image.embedding_ND)
        image_NI, frame_N, time_N = image.embedding_ND, image.frame_N.astype(np.int64), image.time_N
    if "audio" in modalities:
        audio = store.audio(video)
        require_finite(store, "audio", video, audio.embedding_WSD)
        audio_ASC, end_A = audio.embedding_WSD, audio.end_W
    return Inputs(labels, frame_N, time_N, end_A, image_NI, audio_ASC)


def _without(labels: StoredLabels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames and times of images, and ends of sound, as if there were every image and no sound."""
    return np.arange(1, len(labels.time_F) + 1, dtype=np.int64), labels.time_F, np.zeros(1)
