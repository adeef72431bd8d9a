"""Valence and arousal for every frame of any video file, from a run alone: the run knows its extractor.

Axes: F decoded frames of a video; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from vaprompt.devices import pick_device
from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.encoders.recipes import remarks
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.errors import MediaError, TargetError, VapromptError
from vaprompt.extraction.encode_media import encode_media
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.files import make_folder, published
from vaprompt.progress import SILENT, Progress
from vaprompt.recipes import validated
from vaprompt.store.fingerprint import require_equal
from vaprompt.training.runs import Run, load_run

WHOLE_FRAMES = "the run was trained on face crops; whole frames were used, so give videos that the face fills"


@dataclass(frozen=True)
class PredictedVideo:
    """One video's prediction, as written to its CSV."""

    media: Path
    csv: Path
    time_F: Float64[np.ndarray, "F"]
    """Seconds from the first frame."""
    value_F2: Float32[np.ndarray, "F 2"]
    """Valence and arousal in [-1, 1]."""
    notes: list[str]


@dataclass(frozen=True)
class PredictionReport:
    """What became of each media file."""

    done: list[PredictedVideo] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Media file -> why it could not be predicted."""


def predict(
    run: Path, media: Sequence[Path], out: Path, *, device: str = "auto", progress: Progress = SILENT
) -> PredictionReport:
    """Write `frame,time,valence,arousal` of every decoded frame of each media file to a CSV in `out`.

    Valence and arousal are on the scale of the data set's labels, [-1, 1] unless its description says otherwise.

    A file that cannot be decoded is recorded in the report, and the others go on.

    Args:
        run: folder of a complete run.
        media: video files.
        out: folder to write `<name>.csv` into; created.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        RunError: the run cannot be loaded.
        WeightsError: the encoders that made its store are not at hand.
        FingerprintError: the encoders at hand are not those.
        TargetError: `out` cannot be written, or two files would have the same name there.
    """
    device = pick_device(device)
    loaded = load_run(run, device)
    recipe = validated(ExtractRecipe, loaded.facts["extraction"], where=str(run))
    targets = _targets(media, out)
    with progress.task("loading the encoders", total=2, unit="encoders") as task:
        seeing = image_encoder(recipe.image, device=device)
        task.advance(1, "image")
        hearing = audio_encoder(recipe.audio, device=device)
        task.advance(1, "audio")
    _require_same_encoders(loaded, seeing, hearing)
    make_folder(out)
    report = PredictionReport()
    with progress.task("predicting", total=len(targets), unit="videos") as task:
        for file, target in targets.items():
            try:
                report.done.append(_predict_one(loaded, recipe, file, target, seeing, hearing))
            except MediaError as error:
                report.failed[str(file)] = str(error)
                progress.say(str(error))
            task.advance(1, file.name)
    return report


def label_scale(run: Run) -> tuple[float, float]:
    """Return the lowest and highest value of the scale of the data set that a run was trained on; -1 and 1 mostly."""
    low, high = run.facts["store"]["dataset"].get("label_range", (-1.0, 1.0))
    return float(low), float(high)


def _predict_one(
    run: Run, recipe: ExtractRecipe, file: Path, target: Path, seeing: ImageEncoder, hearing: AudioEncoder
) -> PredictedVideo:
    features = encode_media(file, recipe, seeing, hearing)
    value_F2 = run.predict(
        features.image.embedding_ND,
        features.image.time_N,
        features.audio.embedding_WSD,
        features.audio.end_W,
        features.frame_time_F,
    )
    with published(target) as aside, aside.open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("frame", "time", "valence", "arousal"))
        low, high = scale = label_scale(run)
        shown_F2 = low + (value_F2.astype(np.float64) + 1) / 2 * (high - low)
        for index, (time, (valence, arousal)) in enumerate(zip(features.frame_time_F, shown_F2, strict=True)):
            rows.writerow((index + 1, f"{time:.6f}", f"{valence:.6f}", f"{arousal:.6f}"))
    notes = list(features.notes)
    if scale != (-1.0, 1.0):
        notes.append(f"valence and arousal in the CSV are on the data set's scale, {low:g} to {high:g}")
    if run.facts["store"]["dataset"].get("faces") == "crops":
        notes.append(WHOLE_FRAMES)
    notes += remarks(run.facts["extraction"])
    return PredictedVideo(file, target, features.frame_time_F, value_F2, notes)


def _targets(media: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Return each media file's CSV; two files of one name in different folders would overwrite each other."""
    targets: dict[Path, Path] = {}
    for file in media:
        target = out / f"{file.stem}.csv"
        clash = [other for other, taken in targets.items() if taken == target and other != file]
        if clash:
            raise TargetError(
                target,
                fault=f"would be written for both {clash[0]} and {file}",
                remedy="predict them into two folders, or rename one",
            )
        targets[file] = target
    if not targets:
        raise VapromptError(None, fault="no media file is given", remedy="name one or more video files")
    return targets


def _require_same_encoders(run: Run, seeing: ImageEncoder, hearing: AudioEncoder) -> None:
    """Refuse encoders that are not those of the run's store, for example other weights under the same name."""
    for stream, encoder in (("image", seeing), ("audio", hearing)):
        trained = run.facts["store"]["fingerprints"][stream]
        shared = {name: trained[name] for name in encoder.fingerprint if name in trained}
        require_equal(
            shared,
            {name: encoder.fingerprint[name] for name in shared},
            where=f"{run.path} ({stream} encoder)",
            remedy="bring the weights that the run's store was made with",
        )
