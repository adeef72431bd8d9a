"""A folder of face crops in place of a video: whose face is seen when, and the pictures of it.

Axes: F frames, S stretches, N crops, M pictures that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from vaprompt.extraction.pictures import Picture
from vaprompt.media.crops import last_crop, list_crops, read_images


@dataclass(frozen=True)
class GivenCrops:
    """One person's numbered crops; a frame without one is a frame without the face."""

    frame_N: Int32[np.ndarray, "N"]
    """1-based, ascending."""
    paths: list[Path]

    @classmethod
    def listed(cls, folder: Path) -> GivenCrops:
        """Return the crops in a folder, unread.

        Raises:
            MediaError: there is none, or they cannot be listed, or a video has not so many frames.
        """
        last_crop(folder)
        return cls(*list_crops(folder))

    @property
    def frames(self) -> int:
        """How many frames they are of, as far as is known: there is nothing to tell of any behind the last crop."""
        return int(self.frame_N[-1])

    @property
    def first_S(self) -> Int64[np.ndarray, "S"]:
        """Index (from 0) of the first frame of each stretch without a gap."""
        return self.frame_N[np.diff(self.frame_N, prepend=-1) > 1].astype(np.int64) - 1

    @property
    def last_S(self) -> Int64[np.ndarray, "S"]:
        """Index of each stretch's last frame, which still belongs to it."""
        behind = np.iinfo(np.int32).max
        return self.frame_N[np.diff(self.frame_N, append=behind) > 1].astype(np.int64) - 1

    def visible(self, frames: int) -> Bool[np.ndarray, "F"]:
        """Return for each of so many frames whether there is a crop of it."""
        visible_F = np.zeros(frames, dtype=np.bool_)
        visible_F[self.frame_N - 1] = True
        return visible_F

    def pictures(self, index_M: Int64[np.ndarray, "M"], time_F: Float64[np.ndarray, "F"]) -> Iterator[Picture]:
        """Yield the crops of the frames with these indices (from 0), in their order; others are not read.

        Raises:
            MediaError: one of them cannot be read.
        """
        row_M = np.searchsorted(self.frame_N, index_M + 1).tolist()
        for row, rgb_HWC in zip(row_M, read_images(self.paths[row] for row in row_M), strict=True):
            frame = int(self.frame_N[row])
            yield Picture(frame, float(time_F[frame - 1]), rgb_HWC)
