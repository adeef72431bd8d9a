"""The CSV of a prediction: a row for each frame.

Axes: F frames of a video; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vaprompt.files import published


def write_rows(
    target: Path,
    time_F: Float64[np.ndarray, "F"],
    value_F2: Float32[np.ndarray, "F 2"],
    face_F: Bool[np.ndarray, "F"] | None,
    scale: tuple[float, float],
) -> None:
    """Write frame, time, valence, arousal and, where faces count, whether there is one.

    Args:
        target: the CSV.
        time_F: seconds from the first frame.
        value_F2: in [-1, 1].
        face_F: whether the face is there; None: there is no such column.
        scale: what -1 and 1 are in the file.

    Raises:
        TargetError: it cannot be written.
    """
    low, high = scale
    shown_F2 = low + (value_F2.astype(np.float64) + 1) / 2 * (high - low)
    with published(target) as aside, aside.open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("frame", "time", "valence", "arousal", *(() if face_F is None else ("face",))))
        for index, (time, (valence, arousal)) in enumerate(zip(time_F, shown_F2, strict=True)):
            face = () if face_F is None else (int(face_F[index]),)
            rows.writerow((index + 1, f"{time:.6f}", f"{valence:.6f}", f"{arousal:.6f}", *face))
