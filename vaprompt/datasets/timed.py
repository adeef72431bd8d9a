"""Labels that are given at times, or for some frames only, brought to every frame of the video.

Between two rows the labels are interpolated linearly in time. Nothing is ever extrapolated: a frame before the first
row, behind the last, or beside a row that is not valid has no valid label.

Axes: R rows of the annotation, F frames of the video; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from vaprompt.datasets.annotation import INVALID
from vaprompt.datasets.base import Labels
from vaprompt.errors import AnnotationError

SAME = 1e-3
"""Seconds by which a row and a frame may differ and still be of the same time: files round to milliseconds."""
FEW_FRAMES, FEW_SHARE = 10, 0.01
"""Rows may end behind the video by the greater of these, as rows and frames of Aff-Wild2 may differ."""

FAR = 1e9
"""Seconds from which on nobody wants to read every digit."""


@dataclass(frozen=True)
class TimedAnnotation:
    """One video's rows; see `vaprompt.datasets.base.Annotation`."""

    path: Path
    position_R: Float64[np.ndarray, "R"]
    """Seconds from the first frame, or numbers of frames from 1; strictly ascending."""
    value_R2: Float64[np.ndarray, "R 2"]
    """Valence and arousal in [-1, 1]; anything where a row is not valid."""
    valid_R: Bool[np.ndarray, "R"]
    by_frame: bool
    """Whether positions are numbers of frames."""
    longest_gap: float | None = None
    """Rows that are further apart than so many seconds are not interpolated."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.position_R)

    @property
    def invalid(self) -> int:
        """Number of rows that are not valid."""
        return int(np.sum(~self.valid_R))

    @property
    def per_frame(self) -> bool:
        """Rows need not be as many as frames."""
        return False

    def fitted(self, time_F: Float64[np.ndarray, "F"]) -> tuple[Labels, list[str]]:
        """Return a label for every frame, and a remark where some lie outside the rows.

        Raises:
            AnnotationError: the rows go on when the video has ended, by more than 10 frames and more than 1 %.
        """
        time_R, kept = self._times(time_F)
        labels = interpolated(time_R, self.value_R2[:kept], self.valid_R[:kept], time_F, longest_gap=self.longest_gap)
        if self.by_frame:
            # Frames may share a time stamp; a frame's own row is its label all the same.
            own_R = self.position_R[:kept].astype(np.int64) - 1
            value_R2, valid_R = self.value_R2[:kept], self.valid_R[:kept]
            labels.value_F2[own_R] = np.where(valid_R[:, None], value_R2, INVALID)
            labels.valid_F[own_R] = valid_R
        outside = int(np.sum((time_F < time_R[0] - SAME) | (time_F > time_R[-1] + SAME))) if kept else len(time_F)
        notes = []
        if kept < self.rows:
            notes.append(f"{self.rows - kept} rows behind the last of {len(time_F)} frames are not used")
        if outside:
            span = f"labelled from {time_R[0]:.2f} to {time_R[-1]:.2f} s" if kept else "no row is of a frame"
            notes.append(f"{span}: {outside} of {len(time_F)} frames lie outside and are not valid")
        return labels, notes

    def require_within(self, frames: int, end: float) -> None:
        """Refuse rows that go on far behind the last of so many frames, at `end` seconds.

        Raises:
            AnnotationError: they do.
        """
        last = float(self.position_R[-1])
        remedy = "check that these are the labels of this video, and that the video is complete"
        if self.by_frame:
            if last - frames > max(FEW_FRAMES, FEW_SHARE * frames):
                fault = f"has rows up to frame {last:.15g}, but the video has {frames} frames"
                raise AnnotationError(self.path, fault=fault, remedy=remedy)
            return
        period = end / (frames - 1) if frames > 1 else 0.0
        if last - end > max(FEW_FRAMES * period, FEW_SHARE * end, SAME):
            shown = f"{last:.2f}" if last < FAR else f"{last:g}"
            fault = f"has rows up to {shown} s, but the video's last frame is at {end:.2f} s"
            raise AnnotationError(self.path, fault=fault, remedy=f"{remedy}; times are in seconds")

    def _times(self, time_F: Float64[np.ndarray, "F"]) -> tuple[Float64[np.ndarray, "R"], int]:
        """Return the rows' times and how many rows are used; refuse rows that go on far behind the last frame."""
        frames = len(time_F)
        self.require_within(frames, float(time_F[-1]))
        if not self.by_frame:
            return self.position_R, self.rows
        kept = int(np.searchsorted(self.position_R, frames, side="right"))
        return time_F[self.position_R[:kept].astype(np.int64) - 1], kept


def interpolated(
    time_R: Float64[np.ndarray, "R"],
    value_R2: Float64[np.ndarray, "R 2"],
    valid_R: Bool[np.ndarray, "R"],
    time_F: Float64[np.ndarray, "F"],
    *,
    longest_gap: float | None = None,
) -> Labels:
    """Return the labels at the frames' times: a row's own at its time, else between the rows before and after.

    A frame is valid where both these rows are (or the one, at its time), and they are not further apart than
    `longest_gap` seconds. Values that are not valid are -5.

    Args:
        time_R: the rows' times, ascending; there may be none.
        value_R2: their values.
        valid_R: whether they are valid.
        time_F: the frames' times, ascending.
        longest_gap: None: any gap is bridged.
    """
    if len(time_R) == 0:
        return Labels(np.full((len(time_F), 2), INVALID, np.float32), np.zeros(len(time_F), np.bool_))
    most = len(time_R) - 1
    before_F = np.searchsorted(time_R, time_F, side="right") - 1
    after_F = before_F + 1
    inside_F = (before_F >= 0) & (after_F <= most)
    before_F, after_F = np.clip(before_F, 0, most), np.clip(after_F, 0, most)
    # A row within a millisecond stands for the frame itself, also at the ends and beside rows that are not valid.
    to_before_F, to_after_F = np.abs(time_F - time_R[before_F]), np.abs(time_F - time_R[after_F])
    nearest_F = np.where(to_before_F <= to_after_F, before_F, after_F)
    same_F = np.minimum(to_before_F, to_after_F) <= SAME
    before_F, after_F = np.where(same_F, nearest_F, before_F), np.where(same_F, nearest_F, after_F)
    gap_F = time_R[after_F] - time_R[before_F]
    share_F = np.where(same_F | (gap_F <= 0), 0.0, (time_F - time_R[before_F]) / np.where(gap_F > 0, gap_F, 1.0))
    valid_F = (inside_F | same_F) & valid_R[before_F] & valid_R[after_F]
    if longest_gap is not None:
        valid_F &= gap_F <= longest_gap + SAME
    share_F1 = np.clip(share_F, 0.0, 1.0)[:, None]
    value_F2 = (1 - share_F1) * value_R2[before_F] + share_F1 * value_R2[after_F]
    return Labels(np.where(valid_F[:, None], value_F2, INVALID).astype(np.float32), valid_F)
