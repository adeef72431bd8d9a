"""How results read for a person. Apart from the commands, as the types named here take seconds to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from vaprompt.cli.output import WIDTH, print_lines, print_table, score
from vaprompt.training.run import TrainResult


def training_lines(result: TrainResult) -> list[str]:
    """Return how a training ended, with its notes."""
    work = f"trained {result.epochs} epochs in {result.seconds:.1f} s" if result.trained else "was complete before"
    scores = f"valence {score(result.valence)}, arousal {score(result.arousal)}, mean {score(result.mean)}"
    return [
        f"run {work}; best epoch {result.best_epoch}",
        f"CCC at the validation windows' ends: {scores}",
        *(f"note: {note}" for note in result.notes),
    ]


def print_scores(evaluation: Mapping[str, Any]) -> None:
    """Print the content of an evaluation.json: the model beside ridge regression, intervals, then its notes."""
    smoothing = evaluation["smoothing"]
    rows = []
    for protocol in ("official", "paper_subset"):
        by = [("model", evaluation[protocol])]
        if smoothing is not None:
            by.append((f"model, {_filter(smoothing)}", smoothing[protocol]))
        by.append(("ridge regression", evaluation["ridge"][protocol]))
        rows += [(protocol, *_score_row(name, scores)) for name, scores in by]
    for split, found in evaluation["splits"].items():
        if split != evaluation["split"]:
            rows.append((f"official, {split}", *_score_row("model", found["official"])))
    title = f"CCC, {evaluation['split']}"
    print_table(("scored", "by", "valence", "arousal", "mean", "frames"), rows, title=title)
    said = [f"official, {interval_line(evaluation['interval']['official'])}"]
    if smoothing is not None:
        said.append(f"smoothing chosen on the {smoothing['tuned_on']} split alone: {_filter(smoothing)}")
    said.append(f"predicted: {evaluation['interpolation']}")
    print_lines(line for text in said for line in wrap(text, WIDTH))
    print_lines(f"note: {note}" for note in evaluation["notes"])


def print_worst(evaluation: Mapping[str, Any], most: int = 8) -> None:
    """Print the videos of an evaluation, worst first, no more than `most` of them."""
    videos = list(evaluation["videos"].items())
    rows = [(name, *_score_row(score(found["rmse"]), found)) for name, found in videos[:most]]
    left = "" if len(videos) <= most else f", {most} of {len(videos)}"
    print_table(
        ("video", "RMSE", "valence", "arousal", "mean", "frames"), rows, title=f"CCC by video, worst first{left}"
    )


def interval_line(found: Mapping[str, Any]) -> str:
    """Return between which values a CCC lies when other videos are drawn."""
    if found["mean"] is None:
        return f"no interval: {found['videos']} source videos with scored frames, and 2 that differ are needed"
    ends = (f"{axis} {score(found[axis][0])} to {score(found[axis][1])}" for axis in ("valence", "arousal", "mean"))
    return f"{100 * found['level']:g} % interval over {found['videos']} videos: {', '.join(ends)}"


def print_folds(result: Mapping[str, Any]) -> None:
    """Print the content of a crossvalidation.json."""
    rows = [
        (f"fold {fold['fold']}", len(fold["held_out"]), *_score_row("", fold["official"])[1:])
        for fold in result["folds"]
    ]
    pooled = result["out_of_fold"]
    rows.append(("pooled", len(result["videos"]), *_score_row("", pooled["official"])[1:]))
    title = f"CCC out of fold, {len(result['folds'])} folds"
    print_table(("scored", "videos", "valence", "arousal", "mean", "frames"), rows, title=title)
    said = (f"pooled, {interval_line(pooled['interval']['official'])}", result["protocol"])
    print_lines(line for text in said for line in wrap(text, WIDTH))
    print_lines(f"note: {note}" for note in result["notes"])


def _score_row(name: str, scores: Mapping[str, Any]) -> tuple[object, ...]:
    return (name, *(score(scores[axis]) for axis in ("valence", "arousal", "mean")), scores["frames"])


def _filter(smoothing: Mapping[str, Any]) -> str:
    return "not smoothed" if smoothing["kind"] == "none" else f"{smoothing['kind']} of {smoothing['seconds']:g} s"


def notes_of_all(notes: Sequence[Sequence[str]]) -> list[str]:
    """Return what is remarked about each of several things alike, so that it can be said once; of one, nothing."""
    first, others = notes[:1], notes[1:]
    return [note for own in first for note in own if others and all(note in other for other in others)]
