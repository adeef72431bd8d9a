"""Scores of a run, or of several runs averaged, on a split of a store, with the ridge baseline beside them.

Axes: W windows; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vaprompt
from vaprompt.allocation import keep_freed_memory
from vaprompt.caching import remembered
from vaprompt.devices import pick_device
from vaprompt.encoders.recipes import remarks
from vaprompt.errors import RunError, StoreError, TargetError
from vaprompt.evaluation.baseline import RidgeBaseline
from vaprompt.evaluation.bootstrap import interval
from vaprompt.evaluation.ensemble import Member, averaged, load_members, require_unseen
from vaprompt.evaluation.kept import Evaluation, write_evaluation
from vaprompt.evaluation.protocols import (
    Judged,
    judge,
    official,
    official_series,
    paper_subset,
    subset_series,
)
from vaprompt.evaluation.smoothing import candidates, smoothed, tune
from vaprompt.files import require_folder
from vaprompt.memory import ELSEWHERE, enough_memory
from vaprompt.metrics import Scores, scores
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore
from vaprompt.store.layout import digest_of
from vaprompt.training.facts import are_relabelled
from vaprompt.training.inputs import read_inputs
from vaprompt.training.runs import FACTS
from vaprompt.windows import describe_ends

LABELLED = ("train", "validation")
NO_SCORES = Scores(valence=None, arousal=None, mean=None, frames=0)


def evaluate(
    run: Path | Sequence[Path],
    *,
    store: Path | str | None = None,
    split: str = "validation",
    every: int | None = None,
    tune_smoothing: bool = False,
    out: Path | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Evaluation:
    """Score a run on a split, or the mean prediction of several runs, and write the scores and the predictions.

    Args:
        run: folder of a complete run, or of each run whose predictions are to be averaged.
        store: feature store to score on; each run's own by default.
        split: `train`, `validation`, or `both`, which then adds the training split's scores to validation's; the
            test split has no labels.
        every: end a window at every frame (1) or every nth; by default at every stride of the run's recipe.
        tune_smoothing: choose a filter on the training split, and add the scores that it reaches on `split`.
        out: folder for them (see kept.py); by default the run's where there is one run, none where there are more.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        RunError: a run cannot be loaded, or was trained on videos of the validation split; or memory does not suffice.
        FingerprintError: the store was made otherwise than the one that the run was trained on.
        StoreError: the split holds no labelled frame, or the runs' stores differ in their labels.
        TargetError: the result cannot be written, or would lie in another run.
    """
    runs = [run] if isinstance(run, Path) else list(run)
    if every is not None and every < 1:
        raise RunError(None, fault=f"every = {every} is not 1 or more", remedy="1 ends a window at every frame")
    if out is not None:
        require_folder(out)  # and not when everything is scored
        _require_no_other_run(out, runs)
    device = pick_device(device)
    keep_freed_memory()
    with enough_memory(runs[0] if runs else None, remedy=ELSEWHERE):
        return _evaluated(runs, store, split, every, tune_smoothing, out, device, progress)


def _evaluated(
    runs: Sequence[Path],
    store: Path | str | None,
    split: str,
    every: int | None,
    tune_smoothing: bool,
    out: Path | None,
    device: str,
    progress: Progress,
) -> Evaluation:
    members = load_members(runs, store, device, progress)
    first = members[0]
    main = "validation" if split == "both" else split
    names = labelled(members, main)
    if main == "validation":
        require_unseen(members, names, main)

    judged = {main: judge_split(members, names, every, f"evaluating {main}", progress)}
    if "train" not in judged and (split == "both" or tune_smoothing):
        judged["train"] = judge_split(members, labelled(members, "train"), every, "evaluating train", progress)
    videos = judged[main]
    ridge = _ridge_scores(first, names, every, progress)
    result = {
        "split": main,
        "official": official(videos),
        "paper_subset": paper_subset(videos),
        "interval": {
            "official": interval(official_series(videos)),
            "paper_subset": interval(subset_series(videos)),
        },
        "ridge": ridge or {"official": NO_SCORES, "paper_subset": NO_SCORES},
        "videos": by_video(videos),
        "splits": {name: summary(judged[name]) for name in LABELLED if name in judged},
        "smoothing": _smoothing(judged, main, progress) if tune_smoothing else None,
        "every": every,
        "interpolation": describe_ends(first.run.recipe.window.stride, every),
        "notes": _notes(members, without_ridge=ridge is None),
        "made_by": {
            "vaprompt": vaprompt.__version__,
            "run": str(runs[0]) if len(runs) == 1 else None,
            "runs": [str(path) for path in runs],
            "store": str(first.store.location),
            "device": device,
        },
    }
    folder = out if out is not None else runs[0] if len(runs) == 1 else None
    return Evaluation(result, videos, None) if folder is None else write_evaluation(folder, result, videos)


def _require_no_other_run(out: Path, runs: Sequence[Path]) -> None:
    """Refuse to put scores into the folder of a run that they are not of: they would be taken for its own."""
    alone = len(runs) == 1 and out.resolve() == runs[0].resolve()
    if (out / FACTS).exists() and not alone:
        raise TargetError(out, fault="is a run, and these scores are not its own", remedy="give --out another folder")


def labelled(members: Sequence[Member], split: str) -> list[str]:
    """Return the videos of a split that have a valid label.

    Raises:
        StoreError: there is none, or the members' stores differ in them.
    """
    found = [_labelled(member.store, split) for member in members]
    if not found[0]:
        raise StoreError(
            members[0].store.location,
            fault=f"holds no labelled video of the {split} split",
            remedy="name another --split or --store; 'vaprompt store info' lists what is there",
        )
    for member, names in zip(members[1:], found[1:], strict=True):
        if names != found[0]:
            differing = sorted(set(names) ^ set(found[0]))
            raise StoreError(
                member.store.location,
                fault=f"holds other videos of the {split} split than {members[0].store.location}, "
                f"such as {differing[0]}",
                remedy="average runs whose stores were made of one data set, or name one with --store",
            )
    return found[0]


def judge_split(
    members: Sequence[Member], names: Sequence[str], every: int | None, title: str, progress: Progress
) -> list[Judged]:
    """Return the videos' mean predictions over the members beside the labels."""
    judged = []
    with progress.task(title, total=len(names), unit="videos") as task:
        for name in names:
            judged.append(averaged([_judged(member, name, every) for member in members]))
            task.advance(1, name)
    return judged


def summary(videos: list[Judged]) -> dict[str, Any]:
    """Return a split's scores, with the interval over its videos."""
    return {
        "official": official(videos),
        "paper_subset": paper_subset(videos),
        "interval": {"official": interval(official_series(videos)), "paper_subset": interval(subset_series(videos))},
        "videos": len(videos),
    }


def by_video(videos: list[Judged]) -> dict[str, dict[str, Any]]:
    """Return each video's scores and the root of its mean squared error, worst CCC first, undefined ones last."""
    table = {}
    for name, prediction_F2, truth_F2 in official_series(videos):
        error = float(np.sqrt(np.mean((prediction_F2.astype(np.float64) - truth_F2) ** 2)))
        table[name] = {**scores(prediction_F2, truth_F2), "rmse": error}
    return dict(sorted(table.items(), key=lambda item: (item[1]["mean"] is None, item[1]["mean"] or 0.0, item[0])))


def _smoothing(judged: dict[str, list[Judged]], main: str, progress: Progress) -> dict[str, Any]:
    with progress.task("tuning the smoothing on train", total=len(candidates()), unit="filters") as task:
        chosen, table = tune(judged["train"], task)
    videos = [smoothed(video, chosen) for video in judged[main]]
    return {
        "kind": chosen.kind,
        "seconds": chosen.seconds,
        "tuned_on": "train",
        **{key: value for key, value in summary(videos).items() if key != "videos"},
        "tried": table,
        "looks_ahead": chosen.looks_ahead,
    }


def _labelled(store: FeatureStore, split: str) -> list[str]:
    return [name for name in store.videos(split) if store.labels(name).valid_F.any()]


def _ridge_scores(
    member: Member, names: Sequence[str], every: int | None, progress: Progress
) -> dict[str, Scores] | None:
    """Return the scores of ridge regression; None without a window of the training split to fit it on.

    They are remembered, since they are the same for every run on a store whose windows and modalities are the same.
    """
    fitted_on = _labelled(member.store, "train")
    if not fitted_on:
        return None
    recipe = member.run.recipe
    about = {
        "what": "scores of ridge regression",
        "vaprompt": vaprompt.__version__,
        "fitted_on": _digests(member.store, fitted_on, recipe.model.modalities),
        "scored_on": _digests(member.store, names, recipe.model.modalities),
        "window": recipe.window.model_dump(mode="json"),
        "modalities": list(recipe.model.modalities),
        "every": every,
    }

    def find_out() -> dict[str, Scores] | None:
        with progress.task("ridge baseline", unit="steps", total=1) as task:
            ridge = RidgeBaseline.fit(member.store, recipe)
            task.advance()
        if ridge is None:
            return None
        judged = []
        with progress.task("evaluating ridge", total=len(names), unit="videos") as task:
            for name in names:
                judged.append(_judged(member, name, every, ridge))
                task.advance(1, name)
        return {"official": official(judged), "paper_subset": paper_subset(judged)}

    found: dict[str, Scores] = remembered(about, find_out)
    return found


def _digests(store: FeatureStore, names: Sequence[str], modalities: Sequence[str]) -> list[list[str]]:
    kinds = (*modalities, "labels")
    return [[name, *(digest_of(store.marker(kind, name)) for kind in kinds)] for name in names]


def _judged(member: Member, name: str, every: int | None, ridge: RidgeBaseline | None = None) -> Judged:
    """Return one video's predictions by a run, or by the ridge baseline if that is given."""
    run = member.run
    known = read_inputs(member.store, name, run.recipe.model.modalities)
    labels = known.labels

    def predict_at(end_W: np.ndarray) -> np.ndarray:
        return run.predict_at(end_W, *known.arrays) if ridge is None else ridge.predict_at(end_W, known)

    return judge(
        name,
        predict_at,
        time_F=labels.time_F,
        truth_F2=labels.value_F2,
        valid_F=labels.valid_F,
        seconds=run.recipe.window.seconds,
        stride=run.recipe.window.stride,
        every=every,
    )


def _notes(members: Sequence[Member], *, without_ridge: bool) -> list[str]:
    notes = []
    for member in members:
        notes += [*member.run.facts.get("notes", []), *remarks(member.store.recipe)]
        if are_relabelled(member.store, member.run.facts):
            notes.append(f"{member.run.path.name} was trained on other labels of its videos than the store holds")
    if len(members) > 1:
        notes.append(f"the mean of {len(members)} runs' predictions; ridge regression as the first run's recipe has it")
        if len({member.run.recipe.window.stride for member in members}) > 1:
            notes.append("the runs' strides differ: each is interpolated from its own")
    if without_ridge:
        notes.append("no ridge baseline: the store's train split holds no window with a valid label at its end")
    return list(dict.fromkeys(notes))
