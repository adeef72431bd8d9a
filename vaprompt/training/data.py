"""Features that lie in memory once, and training windows as rows of indices into them: no loader, no copies.

Axes: N image embeddings of all videos, I their channels, A cached audio windows of all videos, S audio steps,
C their channels, W training windows, T image steps, B windows in a batch, K regions, F frames of a video.
"""

from __future__ import annotations

import copy
import mmap
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from vaprompt.allocation import keep_freed_memory
from vaprompt.errors import StoreError
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore
from vaprompt.training.coming import Coming
from vaprompt.training.keeping import Keeping
from vaprompt.training.kept import ROW_ARRAYS, Joined, Kind, joined
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.usable import require_one_state
from vaprompt.windows import WindowRecipe, Windows, cut_windows, grid_ends

CPU = torch.device("cpu")
SHARE_OF_DEVICE = 0.7
"""Of a device's free memory that features may take."""


class Halves(NamedTuple):
    """A batch's features as the store keeps them, on the device that computes."""

    image_TBI: Float[Tensor, "T B I"] | None
    audio_BSC: Float[Tensor, "B S C"] | None

    def widened(self) -> tuple[Float32[Tensor, "B T I"] | None, Float32[Tensor, "B S C"] | None]:
        """Return them in single precision. In memory time stands before the windows, as the network reads it."""
        image_BTI = audio_BSC = None
        if self.image_TBI is not None:
            image_BTI = self.image_TBI.float().transpose(0, 1)
        if self.audio_BSC is not None:
            half_SBC = self.audio_BSC.transpose(0, 1)
            audio_BSC = half_SBC.to(torch.float32, memory_format=torch.contiguous_format).transpose(0, 1)
        return image_BTI, audio_BSC


@dataclass
class Features:
    """All videos' embeddings, one behind the other, in the store's half precision."""

    image_NI: Float[Tensor, "N I"] | None
    """None where the recipe has no use for them, and so with the other."""
    audio_ASC: Float[Tensor, "A S C"] | None
    mapped: list[mmap.mmap] = field(default_factory=list)
    """The files that they are mapped from."""
    most: int | None = None
    """Bytes of them that may lie in this process's memory or on the device, about; None: all."""
    device: torch.device = CPU
    """Where batches are wanted."""
    image_coming: Coming | None = None
    """Brings those that are not there yet, for which batches wait; None where all are."""
    audio_coming: Coming | None = None
    _touched: int = 0

    @property
    def place(self) -> torch.device:
        """Where the embeddings are, and so the rows that are asked for."""
        return next((part.device for part in (self.image_NI, self.audio_ASC) if part is not None), self.device)

    @property
    def nbytes(self) -> int:
        """Bytes of the embeddings."""
        return sum(part.nbytes for part in (self.image_NI, self.audio_ASC) if part is not None)

    def gathered(self, image_BT: Int64[Tensor, "B T"], audio_B: Int64[Tensor, "B"]) -> Halves:
        """Return one batch of windows: one gather a modality, and a copy where they do not lie on the device."""
        image_TBI = audio_BSC = None
        if self.image_NI is not None:
            image_TB = image_BT.t()
            image_TBI = self._rows(self.image_NI, image_TB.flatten(), self.image_coming).view(*image_TB.shape, -1)
        if self.audio_ASC is not None:
            audio_BSC = self._rows(self.audio_ASC, audio_B, self.audio_coming)
        return Halves(image_TBI, audio_BSC)

    def batch(
        self, image_BT: Int64[Tensor, "B T"], audio_B: Int64[Tensor, "B"]
    ) -> tuple[Float32[Tensor, "B T I"] | None, Float32[Tensor, "B S C"] | None]:
        """Return one batch of windows in single precision, on the device."""
        return self.gathered(image_BT, audio_B).widened()

    def _rows(self, embedding: Tensor, row_B: Tensor, coming: Coming | None) -> Tensor:
        if coming is not None:
            coming.wait(row_B)
        apart = self.device.type == "cuda" and embedding.device.type == "cpu"
        gathered = embedding.new_empty((len(row_B), *embedding.shape[1:]), pin_memory=apart)
        torch.index_select(embedding, 0, row_B, out=gathered)
        if self.most is not None and self.mapped:
            self._let_go(gathered.nbytes)
        # Pinned memory is given to others only when the copy that reads it is done.
        return gathered.to(self.device, non_blocking=apart)

    def _let_go(self, read: int) -> None:
        """Give pages of the files back once there may be too many; they are read again when they are needed."""
        self._touched += read
        if self.most is not None and self._touched > self.most // 4:
            self._touched = 0
            for content in self.mapped:
                content.madvise(mmap.MADV_DONTNEED)

    def for_device(self, device: torch.device) -> Features:
        """Return them for computing on a device: there if they fit, else here."""
        if device.type == "cpu" or not self._fit(device):
            return replace(self, device=device)
        image_NI, audio_ASC = (None if part is None else part.to(device) for part in (self.image_NI, self.audio_ASC))
        return Features(image_NI, audio_ASC, device=device)

    def _fit(self, device: torch.device) -> bool:
        if self.most is not None and self.nbytes > self.most:
            return False
        return device.type != "cuda" or self.nbytes <= SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]


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

    def labels(self, row_B: Int64[Tensor, "B"]) -> Labels:
        """Return those of some windows; the rows lie where the labels do."""
        return Labels(self.value_W2[row_B], self.soft_WK[row_B], self.step_value_WT2[row_B], self.step_valid_WT[row_B])

    def to(self, place: torch.device, device: torch.device) -> LabelledWindows:
        """Return them with the rows of features at one place, and the labels on the device that computes."""
        rows = {name: getattr(self, name).to(place) for name in ("image_WT", "audio_W")}
        others = {name: value.to(device) for name, value in vars(self).items() if name not in rows}
        return LabelledWindows(**rows, **others)


class Labels(NamedTuple):
    """What a batch is trained towards; `LabelledWindows` says what each is."""

    value_B2: Float[Tensor, "B 2"]
    soft_BK: Float[Tensor, "B K"]
    step_value_BT2: Float[Tensor, "B T 2"]
    step_valid_BT: Bool[Tensor, "B T"]


@dataclass(frozen=True)
class ResidentSplit:
    """One split of a store in memory."""

    videos: list[str]
    features: Features
    windows: LabelledWindows

    def batch(
        self, row_B: Int64[Tensor, "B"]
    ) -> tuple[Float32[Tensor, "B T I"] | None, Float32[Tensor, "B S C"] | None]:
        """Return the features of windows, in single precision; the rows lie where the features do."""
        return self.gathered(row_B).widened()

    def gathered(self, row_B: Int64[Tensor, "B"]) -> Halves:
        """Return the features of windows as the store keeps them; the rows lie where the features do."""
        return self.features.gathered(self.windows.image_WT[row_B], self.windows.audio_W[row_B])


class Resident:
    """The labelled videos of a store in memory, whatever split they are of."""

    def __init__(
        self,
        store: FeatureStore,
        recipe: TrainRecipe,
        *,
        device: str = "cpu",
        most: int | None = None,
        wait: bool = True,
        progress: Progress = SILENT,
    ) -> None:
        """Read them, or map them from the cache.

        Args:
            store: where from.
            recipe: says which modalities are needed.
            device: which one computes on the features; where they fit, they lie there.
            most: bytes of them that may lie in memory, or on the device, about; more are read again when needed.
            wait: whether all are to be there when this returns. Else, on a processor, batches wait for what they are
                of, and raise what reading it ends with.
            progress: who is told how far it is.

        Raises:
            StoreError: the store lacks a stream that the recipe needs, or holds features that are damaged, not finite
                or of another state of a video's file than its labels.
            TargetError: there are more than `most`, and the cache has no room for them.
        """
        # Pieces of one size are read, and then batches of one size computed.
        keep_freed_memory()
        self._store, self._place = store, {}
        names = [name for name in store.videos() if store.summary("labels", name).get("counts", {}).get("valid", 1)]
        for name in names:
            require_one_state(store, name, recipe.model.modalities)
        wanted: tuple[Kind, ...] = ("labels", *recipe.model.modalities) if names else ()
        kinds = [kind for kind in ROW_ARRAYS if kind in wanted]  # in everybody's order
        self._joined: dict[Kind, Joined] = {}
        with (
            progress.task("reading the store", total=len(kinds) * len(names), unit="streams") as task,
            Keeping() as keeping,
        ):
            left, say = most, cache(progress.say)  # what is said of every stream is said once
            for kind in kinds:
                one = joined(store, kind, names, task, keeping, left, wait=wait or device != "cpu", say=say)
                self._joined[kind] = one
                if left is not None and one.embedding is not None and one.mapped is None:
                    left -= one.embedding.nbytes
        # What a first batch cannot do without is there by now: it does not wait behind what is large.
        for one in self._joined.values():
            if one.coming is not None:
                one.coming.start()
        self._place = {name: index for index, name in enumerate(names)}
        image, audio = (self._embedding(kind) for kind in ("image", "audio"))
        maps = [one.mapped for one in self._joined.values() if one.mapped is not None]
        features = Features(
            image, audio, maps, most, image_coming=self._coming("image"), audio_coming=self._coming("audio")
        )
        self.features = features.for_device(torch.device(device))

    def seen_as(self, store: FeatureStore) -> Resident:
        """Return the same features, in no more memory, with the splits of another view of their store."""
        other = copy.copy(self)
        other._store = store
        return other

    @property
    def dims(self) -> dict[str, int]:
        """Channels of each modality's embeddings."""
        there = {"image": self.features.image_NI, "audio": self.features.audio_ASC}
        return {kind: embedding.shape[-1] for kind, embedding in there.items() if embedding is not None}

    @property
    def silence_SC(self) -> Float32[Tensor, "S C"] | None:
        """The embedding of silence: of the first cached window, which ends before any sound. None without sound."""
        audio_ASC, coming = self.features.audio_ASC, self.features.audio_coming
        if audio_ASC is None or not len(audio_ASC):
            return None
        if coming is not None:
            coming.wait(torch.zeros(1, dtype=torch.int64))
        return audio_ASC[0].float()

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
        if not labelled:
            raise StoreError(
                self._store.location,
                fault=f"none of the {split} split's {len(videos)} videos has a frame with a valid label",
                remedy="look for the reason with: vaprompt data check DATA, and extract again",
            )
        cut = [self._windows(index, name, recipe) for index, name in enumerate(labelled)]
        joined = [torch.cat(parts) for parts in zip(*cut, strict=True)]
        if not joined or len(joined[0]) < 2:
            raise StoreError(
                self._store.location,
                fault=f"the {split} split's {len(videos)} videos hold {len(joined[0]) if joined else 0} windows of "
                f"{recipe.window.seconds:g} s with a valid label at their end, and 2 are needed",
                remedy="extract longer or more videos, or lower window.seconds or window.stride",
            )
        windows = LabelledWindows(*joined).to(self.features.place, self.features.device)
        return ResidentSplit(labelled, self.features, windows)

    def _coming(self, kind: Kind) -> Coming | None:
        return self._joined[kind].coming if kind in self._joined else None

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
        arrays = (
            windows.image_WT + image_row,
            windows.audio_W + audio_row,
            value_W2,
            recipe.targets(value_W2),
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
