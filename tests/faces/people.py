"""Faces written down as a detector would tell them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vaprompt.faces.crop import TEMPLATE_P
from vaprompt.faces.detector import Faces


def told(faces: Sequence[tuple[float, float, float, float]], width: float = 1.0) -> Faces:
    """Return upright faces, each as (score, x, y, side of its crop), lengths in widths of a picture of `width`."""
    boxes, landmarks = [], []
    for _, x, y, side in faces:
        boxes.append((x - side / 2, y - side / 2, x + side / 2, y + side / 2))
        point_P = x + 1j * y + (TEMPLATE_P - 56 * (1 + 1j)) / 112 * side
        landmarks.append(np.stack((point_P.real, point_P.imag), axis=1))
    return Faces(
        np.array([face[0] for face in faces], float),
        np.array(boxes, float).reshape(-1, 4) * width,
        np.array(landmarks, float).reshape(-1, 5, 2) * width,
    )


class Scripted:
    """A detector that sees, at its k-th look (every 0.2 s), what the script says of that time."""

    def __init__(self, script) -> None:
        self.script, self.looks = script, 0

    fingerprint: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, rgb_HWC: np.ndarray, lowest: float) -> Faces:
        time = self.looks * 0.2
        self.looks += 1
        return told([face for face in self.script(time) if face[0] >= lowest], rgb_HWC.shape[1])
