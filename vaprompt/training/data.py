"""Features that lie in memory once, and training windows as rows of indices into them: no loader, no copies.

Axes: N image embeddings of all videos, I their channels, A cached audio windows of all videos, S audio steps,
C their channels, W training windows, T image steps, B windows in a batch, K regions, F frames of a video.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from vaprompt.errors import StoreError
from vaprompt.progress import SILENT, Progress
from vaprompt.regions import soft_labels
from vaprompt.store import FeatureStore
from vaprompt.training.kept import Joined, Kind, joined
from vaprompt.training.recipe import TrainRecipe
from vaprompt.windows import WindowRecipe, Windows, cut_windows, grid_ends


@dataclass
class Features:
    """All videos' embeddings, one behind the other, in the store's half precision."""

    image_NI: Float[Tensor, "N I"] | None
    """None where the recipe has no use for them, and so with the other."""
    audio_ASC: Float[Tensor, "A S C"] | None
    mapped: list[mmap.mmap] = field(default_factory=list)
    """The files that they are mapped from."""
    most: int | None = None
    """Bytes of those files that may lie in this process's memory, about; None: all."""
    _touched: int = 0

    def batch(
        self, image_BT: Int64[Tensor, "B T"], audio_B: Int64[Tensor, "B"]
    ) -> tuple[Float32[Tensor, "B T I"] | None, Float32[Tensor, "B S C"] | None]:
        """Return one batch of windows in single precision: one gather a modality, on the features' device.

        In memory time stands before the windows, as the network reads it.
        """
        image_BTI = audio_BSC = None
        if self.image_NI is not None:
            image_TB = image_BT.t()
            image_TBI = self.image_NI.index_select(0, image_TB.flatten()).view(*image_TB.shape, -1).float()
            image_BTI = image_TBI.transpose(0, 1)
        if self.audio_ASC is not None:
            half_SBC = self.audio_ASC.index_select(0, audio_B).transpose(0, 1)
            audio_BSC = half_SBC.to(torch.float32, memory_format=torch.contiguous_format).transpose(0, 1)
        if self.most is not None:
            self._let_go(sum(part.nbytes for part in (image_BTI, audio_BSC) if part is not None))
        return image_BTI, audio_BSC

    def _let_go(self, read: int) -> None:
        """Give pages of the files back once there may be too many; they are read again when they are needed."""
        self._touched += read
        if self.most is not None and self._touched > self.most // 2:
            self._touched = 0
            for content in self.mapped:
                content.madvise(mmap.MADV_DONTNEED)

    def to(self, device: str) -> Features:
        """Return them on a device."""
        if device == "cpu":
            return self
        image_NI, audio_ASC = (None if part is None else part.to(device) for part in (self.image_NI, self.audio_ASC))
        return Features(image_NI, audio_ASC)


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

    def batch(
        self, row_B: Int64[Tensor, "B"]
    ) -> tuple[Float32[Tensor, "B T I"] | None, Float32[Tensor, "B S C"] | None]:
        """Return the features of training windows, in single precision."""
        return self.features.batch(self.windows.image_WT[row_B], self.windows.audio_W[row_B])


class Resident:
    """The labelled videos of a store in memory, whatever split they are of."""

    def __init__(
        self,
        store: FeatureStore,
        recipe: TrainRecipe,
        *,
        device: str = "cpu",
        most: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """Read them, or map them from the cache.

        Args:
            store: where from.
            recipe: says which modalities are needed.
            device: where the features are to lie.
            most: bytes of them that may lie in memory at a time, about; more are read again when they are needed.
            progress: who is told how far it is.

        Raises:
            StoreError: the store lacks a stream that the recipe needs, or holds features that are damaged or not
                finite.
        """
        self._store, self._device, self._place = store, device, {}
        names = [name for name in store.videos() if store.summary("labels", name).get("counts", {}).get("valid", 1)]
        kinds: list[Kind] = ["labels", *recipe.model.modalities]
        if not names:
            kinds = []
        self._joined: dict[Kind, Joined] = {}
        with progress.task("reading the store", total=len(kinds) * len(names), unit="videos") as task:
            for kind in kinds:
                self._joined[kind] = joined(store, kind, names, task)
        self._place = {name: index for index, name in enumerate(names)}
        image, audio = (self._embedding(kind) for kind in ("image", "audio"))
        maps = [one.mapped for one in self._joined.values() if one.mapped is not None]
        self.features = Features(image, audio, maps, most).to(device)

    @property
    def dims(self) -> dict[str, int]:
        """Channels of each modality's embeddings."""
        there = {"image": self.features.image_NI, "audio": self.features.audio_ASC}
        return {kind: embedding.shape[-1] for kind, embedding in there.items() if embedding is not None}

    def split(self, split: str, recipe: TrainRecipe) -> ResidentSplit:
        """Return a split's features and the windows that a recipe cuts.

        Windows are kept where they begin at or after the first frame, hold an image, and end at a frame with a
        valid label (released code).

        Raises:
            StoreError: the split has no videos, or no such windows.
        """
        videos = self._store.videos(split)
        if not videos:
            raise StoreError(
                self._store.location,
                fault=f"holds no video of the {split} split",
                remedy="extract a data set that has one, or see 'vaprompt store info' for what it holds",
            )
        labelled = [name for name in videos if name in self._place]
        cut = [self._windows(index, name, recipe) for index, name in enumerate(labelled)]
        joined = [torch.cat(parts).to(self._device) for parts in zip(*cut, strict=True)]
        if not joined or len(joined[0]) < 2:
            raise StoreError(
                self._store.location,
                fault=f"the {split} split's {len(videos)} videos hold {len(joined[0]) if joined else 0} windows of "
                f"{recipe.window.seconds:g} s with a valid label at their end, and 2 are needed",
                remedy="extract longer or more videos, or lower window.seconds or window.stride",
            )
        return ResidentSplit(labelled, self.features, LabelledWindows(*joined))

    def _embedding(self, kind: Kind) -> Tensor | None:
        return self._joined[kind].embedding if kind in self._joined else None

    def _windows(self, index: int, name: str, recipe: TrainRecipe) -> tuple[Tensor, ...]:
        """Return the fields of LabelledWindows for one video."""
        place = self._place[name]
        labels = self._joined["labels"].of(place)
        value_F2, valid_F, time_F = labels["value"], labels["valid"], labels["time"]
        frame_N, image_time_N, image_row = np.arange(1, len(time_F) + 1), time_F, 0
        audio_end_A, audio_row = np.zeros(1), 0
        if "image" in self._joined:
            image = self._joined["image"]
            seen = image.of(place)
            frame_N, image_time_N, image_row = seen["frame"], seen["time"], int(image.begin_V[place])
        if "audio" in self._joined:
            audio = self._joined["audio"]
            audio_end_A, audio_row = audio.of(place)["end"], int(audio.begin_V[place])
        windows = labelled_windows(time_F, image_time_N, audio_end_A, valid_F, recipe.window)
        value_W2 = value_F2[windows.target_W]
        step_WT = frame_N[windows.image_WT].astype(np.int64) - 1
        regions = recipe.regions
        arrays = (
            windows.image_WT + image_row,
            windows.audio_W + audio_row,
            value_W2,
            soft_labels(value_W2, regions.centres_K2(), regions.sigma).astype(np.float32),
            value_F2[step_WT],
            valid_F[step_WT],
            np.full(len(windows.end_W), index, np.int64),
        )
        return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


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
