"""The pictures that go with an evaluation and with a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaprompt.evaluation.kept import Evaluation
from vaprompt.prediction.predict import PredictedVideo
from vaprompt.report.plots import Trace, plot_traces

TRACES = "traces.png"
MOST_ROWS = 6


def plot_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Draw predicted against annotated traces of up to six videos into a folder; return the picture's path.

    The videos are spread evenly over the ranking by mean CCC, so that the best and the worst are both seen.

    Raises:
        TargetError: the file cannot be written.
    """
    result = evaluation.result
    mean = {name: scores["mean"] for name, scores in result["videos"].items()}
    ranked = sorted(evaluation.videos, key=lambda video: -np.inf if mean[video.name] is None else mean[video.name])
    ranked.reverse()
    chosen = [ranked[index] for index in np.unique(np.linspace(0, len(ranked) - 1, MOST_ROWS).round().astype(int))]
    traces = [
        Trace(
            f"{video.name}: mean CCC {_shown(mean[video.name])}",
            video.time_F,
            video.prediction_F2,
            video.truth_F2,
            video.valid_F,
        )
        for video in chosen
    ]
    title = f"{result['split']}: official mean CCC {_shown(result['official']['mean'])}"
    ends = result["interval"]["official"]["mean"]
    if ends is not None:
        title += f" ({_shown(ends[0])} to {_shown(ends[1])} with other videos, 95 %)"
    if len(chosen) < len(ranked):
        title += f", {len(chosen)} of {len(ranked)} videos, best first"
    target = folder / TRACES
    plot_traces(target, traces, title=title, note="; ".join(result["notes"]))
    return target


def plot_prediction(video: PredictedVideo) -> Path:
    """Draw a video's predicted traces beside its CSV; return the picture's path.

    Raises:
        TargetError: the file cannot be written.
    """
    target = video.csv.with_suffix(".png")
    trace = Trace(f"{len(video.time_F)} frames", video.time_F, video.value_F2, face_F=video.face_F)
    plot_traces(target, [trace], title=video.media.name, note="; ".join(video.notes))
    return target


def _shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:z.2f}"
