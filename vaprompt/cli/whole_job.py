"""The main job from nothing to predictions, on drawn faces, as the single commands would do it one after the other.

Apart from `demo.py`, as the imports take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaprompt.datasets.base import Dataset
from vaprompt.datasets.description import DatasetRecipe, open_dataset
from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
from vaprompt.datasets.synthetic.writer import write_synthetic
from vaprompt.devices import pick_device
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.kept import Evaluation
from vaprompt.extraction.pipeline import ExtractionReport, extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.prediction.predict import PredictionReport, predict
from vaprompt.progress import SILENT, Progress
from vaprompt.recipes import read_recipe, shipped
from vaprompt.report.figures import plot_evaluation, plot_prediction
from vaprompt.report.report import write_report
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import TrainResult, train

PREDICTED_VIDEOS = 2
REPORT = "report.html"


@dataclass(frozen=True)
class WholeJob:
    """What the job did and where it left it."""

    data: Path
    store: Path
    run: Path
    predictions: Path
    extraction: ExtractionReport
    training: TrainResult
    evaluation: Evaluation
    traces: Path
    """Picture of predicted against annotated traces."""
    prediction: PredictionReport
    plots: list[Path]
    """One for each predicted video."""
    report: Path
    """The page about the run."""


def do_whole_job(
    target: Path,
    *,
    data_changes: Sequence[str] = (),
    train_changes: Sequence[str] = (),
    device: str = "auto",
    progress: Progress = SILENT,
) -> WholeJob:
    """Generate, extract, train, evaluate, predict and report below the folder `target`, by the shipped demo recipes.

    What is there already is not made again; what was killed goes on.

    Args:
        target: folder that gets `data`, `store.zarr`, `run`, `predictions` and `report.html`.
        data_changes: `--set` overrides of the data set's description.
        train_changes: `--set` overrides of the training recipe.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        VapromptError: something there was made by other recipes, or cannot be written.
    """
    described = read_recipe(DatasetRecipe, shipped("data", "demo"), data_changes)
    extract_recipe = read_recipe(ExtractRecipe, shipped("extract", "demo"))
    train_recipe = read_recipe(TrainRecipe, shipped("train", "demo"), train_changes)
    device = pick_device(device)
    data, store, run, predictions = (target / name for name in ("data", "store.zarr", "run", "predictions"))

    write_synthetic(data, described.synthetic or SyntheticRecipe(), progress)
    dataset = open_dataset(data, progress)
    extraction = extract(dataset, extract_recipe, store, device=device, progress=progress)
    training = train(store, train_recipe, run, device=device, progress=progress)
    evaluation = evaluate(run, store=store, device=device, progress=progress)
    traces = plot_evaluation(evaluation, run)
    # A detector that knows photographs finds drawn faces only now and then.
    prediction = predict(run, unseen_media(dataset), predictions, faces="frames", device=device, progress=progress)
    plots = [plot_prediction(video) for video in prediction.done]
    report = write_report([run], target / REPORT, store=store, data=data, device=device, progress=progress).path
    return WholeJob(data, store, run, predictions, extraction, training, evaluation, traces, prediction, plots, report)


def unseen_media(dataset: Dataset) -> list[Path]:
    """Return the media of a few people whom the training has not seen, those of the unlabelled test split first."""
    rank: Mapping[str, int] = {"test": 0, "validation": 1}
    unseen = sorted((video for video in dataset.videos if video.split in rank), key=lambda video: rank[video.split])
    media = dict.fromkeys(video.media for video in unseen if video.media is not None)
    return list(media)[:PREDICTED_VIDEOS]
