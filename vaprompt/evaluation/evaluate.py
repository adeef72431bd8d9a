"""Scores of a run on a split of a store, with the ridge baseline beside them.

Axes: W windows; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vaprompt
from vaprompt.devices import pick_device
from vaprompt.encoders.recipes import remarks
from vaprompt.errors import StoreError
from vaprompt.evaluation.baseline import RidgeBaseline
from vaprompt.evaluation.protocols import Judged, PredictAt, judge, official, paper_subset
from vaprompt.files import write_json
from vaprompt.metrics import scores
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore
from vaprompt.training.runs import Run, load_run

RESULT = "evaluation.json"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    result: dict[str, Any]
    """The content of evaluation.json: the model's `official` and `paper_subset` scores, the same of `ridge`, those
    of each of `videos`, `notes` and `made_by`."""
    videos: list[Judged]
    """Every video's predicted and true traces, for pictures."""


def evaluate(
    run: Path,
    *,
    store: Path | None = None,
    split: str = "validation",
    device: str = "auto",
    progress: Progress = SILENT,
) -> Evaluation:
    """Score a run on a split, and write evaluation.json into its folder.

    Args:
        run: folder of a complete run.
        store: feature store to score on; the run's own by default.
        split: `train` or `validation`; the test split has no labels.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        RunError: the run cannot be loaded.
        FingerprintError: the store was made otherwise than the one that the run was trained on.
        StoreError: the split holds no labelled frame.
        TargetError: the result cannot be written.
    """
    device = pick_device(device)
    loaded = load_run(run, device)
    source = FeatureStore.open(store or Path(loaded.facts["store"]["path"]))
    require_same_features(source, loaded)
    names = [name for name in source.videos(split) if source.labels(name).valid_F.any()]
    if not names:
        raise StoreError(
            source.path,
            fault=f"holds no labelled video of the {split} split",
            remedy="name another --split or --store; 'vaprompt store info' lists what is there",
        )
    with progress.task("ridge baseline", unit="steps", total=1) as task:
        ridge = RidgeBaseline.fit(source, loaded.recipe)
        task.advance()
    model_videos, ridge_videos = [], []
    with progress.task("evaluating", total=len(names), unit="videos") as task:
        for name in names:
            model, baseline = _judged(source, name, loaded, ridge)
            model_videos.append(model)
            ridge_videos.append(baseline)
            task.advance(1, name)
    result = {
        "split": split,
        "official": official(model_videos),
        "paper_subset": paper_subset(model_videos),
        "ridge": {"official": official(ridge_videos), "paper_subset": paper_subset(ridge_videos)},
        "videos": {
            video.name: scores(video.prediction_F2[video.valid_F], video.truth_F2[video.valid_F])
            for video in model_videos
        },
        "interpolation": f"windows end every {loaded.recipe.window.stride:g} s; frames between by time",
        "notes": [*loaded.facts.get("notes", []), *remarks(source.recipe)],
        "made_by": {"vaprompt": vaprompt.__version__, "run": str(run), "store": str(source.path), "device": device},
    }
    write_json(run / RESULT, result)
    return Evaluation(result, model_videos)


def require_same_features(store: FeatureStore, run: Run) -> None:
    """Refuse a store whose features were made otherwise than those that the run was trained on.

    Raises:
        FingerprintError: the fields that differ, with both values.
    """
    for stream, trained in run.facts["store"]["fingerprints"].items():
        store.require(stream, trained)


def _judged(store: FeatureStore, name: str, run: Run, ridge: RidgeBaseline) -> tuple[Judged, Judged]:
    image, audio, labels = store.image(name), store.audio(name), store.labels(name)
    window = run.recipe.window
    arrays = (image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, labels.time_F)

    def judged(predict_at: PredictAt) -> Judged:
        return judge(
            name,
            predict_at,
            time_F=labels.time_F,
            truth_F2=labels.value_F2,
            valid_F=labels.valid_F,
            seconds=window.seconds,
            stride=window.stride,
        )

    return (
        judged(lambda end_W: run.predict_at(end_W, *arrays)),
        judged(lambda end_W: ridge.predict_at(end_W, image, audio, labels.time_F)),
    )
