"""Features that lie in memory once, and training windows as rows of indices into them: no loader, no copies.

Axes: N image embeddings of all videos, I their channels, A cached audio windows of all videos, S audio steps,
C their channels, W training windows, T image steps, B windows in a batch, K regions, F frames of a video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vaprompt.errors import StoreError
from vaprompt.regions import RegionRecipe, soft_labels
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe
from vaprompt.windows import WindowRecipe, Windows, cut_windows, grid_ends


@dataclass(frozen=True)
class Features:
    """All videos' embeddings, one behind the other, in the store's half precision."""

    image_NI: Float[Tensor, "N I"]
    audio_ASC: Float[Tensor, "A S C"]

    def batch(
        self, image_BT: Int64[Tensor, "B T"], audio_B: Int64[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B T I"], Float[Tensor, "B S C"]]:
        """Return one batch of windows in single precision: one gather a modality, on the features' device.

        In memory time stands before the windows, as the network reads it.
        """
        image_TBI = self.image_NI.index_select(0, image_BT.t().flatten()).view(*image_BT.t().shape, -1).float()
        audio_BSC = self.audio_ASC.index_select(0, audio_B)
        audio_SBC = audio_BSC.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return image_TBI.transpose(0, 1), audio_SBC.transpose(0, 1)


@dataclass(frozen=True)
class LabelledWindows:
    """Windows whose last frame has a valid label."""

    image_WT: Int64[Tensor, "W T"]
    audio_W: Int64[Tensor, "W"]
    value_W2: Float[Tensor, "W 2"]
    """Label of the frame on screen at the window's end."""
    soft_WK: Float[Tensor, "W K"]
    """Soft region labels of the same frame."""
    step_value_WT2: Float[Tensor, "W T 2"]
    """Label of each image step's frame, for `sequence` output."""
    step_valid_WT: Bool[Tensor, "W T"]
    video_W: Int64[Tensor, "W"]
    """Which of `ResidentSplit.videos` the window is of."""

    def __len__(self) -> int:
        """Return W."""
        return len(self.audio_W)


@dataclass(frozen=True)
class ResidentSplit:
    """One split of a store in memory."""

    videos: list[str]
    features: Features
    windows: LabelledWindows

    def batch(self, row_B: Int64[Tensor, "B"]) -> tuple[Float[Tensor, "B T I"], Float[Tensor, "B S C"]]:
        """Return the features of training windows, in single precision."""
        return self.features.batch(self.windows.image_WT[row_B], self.windows.audio_W[row_B])


def load_split(store: FeatureStore, split: str, recipe: TrainRecipe, *, device: str = "cpu") -> ResidentSplit:
    """Read a split's features into memory and cut its windows.

    Windows are kept where they begin at or after the first frame, hold an image, and end at a frame with a
    valid label (released code).

    Raises:
        StoreError: the split has no videos, no such windows, or features that are not finite.
    """
    videos = store.videos(split)
    if not videos:
        raise StoreError(
            store.location,
            fault=f"holds no video of the {split} split",
            remedy="extract a data set that has one, or see 'vaprompt store info' for what it holds",
        )
    images, sounds, cut = [], [], []
    image_row = audio_row = 0
    for index, video in enumerate(videos):
        image, audio, labels = store.image(video), store.audio(video), store.labels(video)
        for stream, embedding in (("image", image.embedding_ND), ("audio", audio.embedding_WSD)):
            _require_finite(store, stream, video, embedding)
        windows = labelled_windows(labels.time_F, image.time_N, audio.end_W, labels.valid_F, recipe.window)
        cut.append(
            _to_tensors(
                windows, labels.value_F2, labels.valid_F, image.frame_N, index, image_row, audio_row, recipe.regions
            )
        )
        images.append(torch.from_numpy(image.embedding_ND))
        sounds.append(torch.from_numpy(audio.embedding_WSD))
        image_row += len(image.time_N)
        audio_row += len(audio.end_W)
    joined = LabelledWindows(*(torch.cat(parts).to(device) for parts in zip(*cut, strict=True)))
    if len(joined) < 2:
        raise StoreError(
            store.location,
            fault=f"the {split} split's {len(videos)} videos hold {len(joined)} windows of {recipe.window.seconds:g} s "
            "with a valid label at their end, and 2 are needed",
            remedy="extract longer or more videos, or lower window.seconds or window.stride",
        )
    features = Features(torch.cat(images).to(device), torch.cat(sounds).to(device))
    return ResidentSplit(videos, features, joined)


def labelled_windows(
    time_F: Float[np.ndarray, "F"],
    image_time_N: Float[np.ndarray, "N"],
    audio_end_A: Float[np.ndarray, "A"],
    valid_F: Bool[np.ndarray, "F"],
    recipe: WindowRecipe,
) -> Windows:
    """Return one video's windows that are whole and end at a frame with a valid label."""
    end_W = grid_ends(float(time_F[-1]), seconds=recipe.seconds, stride=recipe.stride, padded=False)
    windows = cut_windows(
        end_W,
        time_F=time_F,
        image_time_N=image_time_N,
        audio_end_A=audio_end_A,
        seconds=recipe.seconds,
        frames=recipe.frames,
    )
    return windows.keep(windows.whole_W & valid_F[windows.target_W])


def _to_tensors(
    windows: Windows,
    value_F2: np.ndarray,
    valid_F: np.ndarray,
    frame_N: np.ndarray,
    video: int,
    image_row: int,
    audio_row: int,
    regions: RegionRecipe,
) -> tuple[Tensor, ...]:
    """Return the fields of LabelledWindows for one video, its rows moved to where its features will lie."""
    value_W2 = value_F2[windows.target_W]
    step_WT = frame_N[windows.image_WT].astype(np.int64) - 1
    soft_WK = soft_labels(value_W2, regions.centres_K2(), regions.sigma).astype(np.float32)
    arrays = (
        windows.image_WT + image_row,
        windows.audio_W + audio_row,
        value_W2,
        soft_WK,
        value_F2[step_WT],
        valid_F[step_WT],
        np.full(len(windows.end_W), video, np.int64),
    )
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def _require_finite(store: FeatureStore, stream: str, video: str, embedding: np.ndarray) -> None:
    finite_N = np.isfinite(embedding.reshape(len(embedding), -1)).all(axis=1)
    if not finite_N.all():
        raise StoreError(
            store.location,
            fault=f"{stream}/{video} holds values that are not finite, first in row {int(np.argmin(finite_N)) + 1}",
            remedy="delete that video's folder in the store and extract again",
        )
