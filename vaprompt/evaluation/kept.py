"""What an evaluation leaves on disk: its scores as JSON, and every frame's prediction beside its label.

predictions.safetensors holds for each video the arrays named in `FIELDS`, as `<video>/<field>`. evaluation.json carries
its SHA-256, so that the two are known to belong together.

Axes: F frames of a video, P frames of the paper's subset; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from vaprompt.errors import RunError
from vaprompt.evaluation.protocols import Judged
from vaprompt.files import clear_left_behind, parsed_json, published, text_of, write_json
from vaprompt.tensors import unreadable, write_tensors

RESULT = "evaluation.json"
PREDICTIONS = "predictions.safetensors"
FORMAT = "1"
FIELDS: dict[str, tuple[str, str]] = {
    "time": ("float64", "F"),
    "prediction": ("float32", "F2"),
    "truth": ("float32", "F2"),
    "valid": ("bool", "F"),
    "subset_index": ("int64", "P"),
    "subset_prediction": ("float32", "P2"),
    "subset_truth": ("float32", "P2"),
}
"""Type and axes of each array of a video: its frames, and those of the paper's subset."""
PARTS = ("split", "official", "paper_subset", "interval", "ridge", "videos", "splits", "smoothing", "notes", "made_by")
"""What an evaluation.json has at least."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    result: dict[str, Any]
    """The content of evaluation.json: the model's `official` and `paper_subset` scores, the same of `ridge`, their
    `interval`, those of each of `videos` (worst first) and of each of `splits`, `smoothing`, `notes`, `made_by`."""
    videos: list[Judged]
    """Every video's predicted and true traces, for pictures; not smoothed."""
    folder: Path | None
    """Where evaluation.json was written; None where it was not."""


def write_evaluation(folder: Path, result: dict[str, Any], videos: Sequence[Judged]) -> Evaluation:
    """Publish the predictions and then the scores, which name them, and return both.

    Raises:
        TargetError: they cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    for video in videos:
        arrays |= {
            f"{video.name}/time": video.time_F,
            f"{video.name}/prediction": video.prediction_F2.astype(np.float32),
            f"{video.name}/truth": video.truth_F2.astype(np.float32),
            f"{video.name}/valid": video.valid_F,
            f"{video.name}/subset_index": video.subset_index_P,
            f"{video.name}/subset_prediction": video.subset_prediction_P2.astype(np.float32),
            f"{video.name}/subset_truth": video.subset_truth_P2.astype(np.float32),
        }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    clear_left_behind(folder)
    with published(folder / PREDICTIONS) as aside:
        write_tensors(aside, contiguous, {"format": FORMAT})
        digest = _sha256(aside)  # of these and no others: another command may write into the folder at the same time
    result = result | {"predictions": {"file": PREDICTIONS, "sha256": digest}}
    write_json(folder / RESULT, result)
    return Evaluation(result, list(videos), folder)


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Return the content of a folder's evaluation.json alone; None where there is none.

    Raises:
        RunError: it is damaged.
    """
    remedy = f"make them with: vaprompt evaluate {folder}"
    try:
        result = parsed_json(text_of(folder / RESULT))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(folder / RESULT, fault=f"cannot be read ({error})", remedy=remedy) from None
    if not isinstance(result, dict) or any(part not in result for part in PARTS):
        raise RunError(folder / RESULT, fault="is not what 'vaprompt evaluate' writes", remedy=remedy)
    return result


def read_evaluation(folder: Path) -> Evaluation:
    """Return what `write_evaluation` left in a folder.

    Raises:
        RunError: there is none, it is damaged, or its predictions are missing or of another evaluation.
    """
    remedy = f"make them with: vaprompt evaluate {folder}"
    result = read_scores(folder)
    if result is None:
        raise RunError(folder, fault="has no predictions yet", remedy=remedy)
    path = folder / PREDICTIONS
    named = result.get("predictions")
    if not isinstance(named, dict) or not path.is_file():
        raise RunError(folder, fault="has scores but no predictions", remedy=remedy)
    if fault := unreadable(path):
        raise RunError(path, fault=fault, remedy="check its rights")
    if _sha256(path) != named.get("sha256"):
        raise RunError(path, fault=f"is not of the evaluation that {RESULT} tells of", remedy=remedy)
    return Evaluation(result, _read_predictions(path, remedy), folder)


def _read_predictions(path: Path, remedy: str) -> list[Judged]:
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            version = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError) as error:
        raise RunError(path, fault=f"is not a whole safetensors file ({error})", remedy=remedy) from None
    if version != FORMAT:
        raise RunError(path, fault=f"has format {version}, not {FORMAT}", remedy=remedy)
    names = sorted({name.rpartition("/")[0] for name in arrays})
    return [_read_video(path, remedy, name, arrays) for name in names]


def _read_video(path: Path, remedy: str, name: str, arrays: dict[str, np.ndarray]) -> Judged:
    """Return one video's arrays, once their types and lengths are those that they must be."""
    lengths: dict[str, int] = {}
    found: dict[str, np.ndarray] = {}
    for field, (kind, axes) in FIELDS.items():
        array = arrays.get(f"{name}/{field}")
        rows = None if array is None or not array.ndim else lengths.setdefault(axes[0], len(array))
        if array is None or array.dtype != kind or array.shape != ((rows, 2) if axes[1:] else (rows,)):
            raise RunError(path, fault=f"has no whole '{field}' of video '{name}'", remedy=remedy)
        found[field] = array
    outside = (
        found["subset_index"].size
        and not 0 <= found["subset_index"].min() <= found["subset_index"].max() < lengths["F"]
    )
    if not lengths["F"] or outside or not np.isfinite(found["prediction"]).all():
        raise RunError(path, fault=f"holds values of video '{name}' that cannot be", remedy=remedy)
    return Judged(
        name,
        found["time"],
        found["prediction"],
        found["truth"],
        found["valid"],
        found["subset_prediction"],
        found["subset_truth"],
        found["subset_index"],
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
