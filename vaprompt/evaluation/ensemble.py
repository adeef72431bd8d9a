"""Runs whose predictions are averaged, each with the store that holds its kind of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vaprompt.errors import MissingStreamError, NoStoreError, RunError, StoreError
from vaprompt.evaluation.protocols import Judged
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.training.runs import Run, load_run


@dataclass(frozen=True)
class Member:
    """A run and the store that it is fed from."""

    run: Run
    store: FeatureStore


def load_members(
    runs: Sequence[Path], store: Path | str | None, device: str, progress: Progress = SILENT
) -> list[Member]:
    """Return the runs, each with `store`, or with its own store where that is None.

    Raises:
        RunError: a run cannot be loaded, none is given, or one is given twice.
        StoreError: a store cannot be opened.
        FingerprintError: a store's features were made otherwise than those that its run was trained on.
    """
    if not runs:
        raise RunError(None, fault="no run is given", remedy="name one or more folders that 'vaprompt train' wrote")
    if len({run.resolve() for run in runs}) < len(runs):
        raise RunError(None, fault="a run is given twice", remedy="name each run of the average once")
    members = []
    for path in runs:
        run = load_run(path, device)
        source = _own_store(run, progress) if store is None else _opened(store, run, progress)
        require_same_features(source, run)
        members.append(Member(run, source))
    return members


def _own_store(run: Run, progress: Progress) -> FeatureStore:
    try:
        return _opened(str(run.facts["store"]["path"]), run, progress)
    except NoStoreError as error:
        raise NoStoreError(
            error.where,
            fault=f"there is no feature store, and {run.path} was trained on it",
            remedy="say where it is now with --store (a relative path counts from the current folder)",
        ) from None


def _opened(store: Path | str, run: Run, progress: Progress) -> FeatureStore:
    try:
        return open_store(store, progress, run.recipe.stream)
    except MissingStreamError as error:
        if "parent" not in run.facts:
            raise
        raise MissingStreamError(
            store,
            fault=f"has no features from the encoders that {run.path} tuned (its stream '{run.recipe.stream}')",
            remedy=f"make them with: vaprompt extract DATA --encoders {run.path} --store {store}",
        ) from error


def require_same_features(store: FeatureStore, run: Run) -> None:
    """Refuse a store whose features were made otherwise than those that the run was trained on.

    Raises:
        FingerprintError: the fields that differ, with both values.
    """
    for stream, trained in run.facts["store"]["fingerprints"].items():
        store.require(stream, trained)


def require_unseen(members: Sequence[Member], names: Sequence[str], split: str) -> None:
    """Refuse to call something a validation score whose videos a run was trained on, as those of rotated folds are.

    Raises:
        RunError: a run was trained on one of the videos.
    """
    for member in members:
        seen = sorted(set(names) & set(member.run.facts.get("videos", {}).get("train", ())))
        if seen:
            raise RunError(
                member.run.path,
                fault=f"was trained on {len(seen)} of the {len(names)} videos of the {split} split, such as {seen[0]}",
                remedy="a fold of a cross-validation is scored by 'vaprompt crossvalidate' alone",
            )


def averaged(judged: Sequence[Judged]) -> Judged:
    """Return one video's mean prediction over several runs.

    Raises:
        StoreError: the runs' stores have other frames or labels for it.
    """
    first = judged[0]
    for other in judged[1:]:
        same = len(other.time_F) == len(first.time_F) and np.array_equal(other.valid_F, first.valid_F)
        if not same or not np.array_equal(other.truth_F2[other.valid_F], first.truth_F2[first.valid_F]):
            raise StoreError(
                None,
                fault=f"the runs' stores differ in the frames or labels of video '{first.name}'",
                remedy="average runs whose stores were made of one data set",
            )
    if len(judged) == 1:
        return first
    return replace(
        first,
        prediction_F2=mean_over_runs([video.prediction_F2 for video in judged]),
        subset_prediction_P2=mean_over_runs([video.subset_prediction_P2 for video in judged]),
    )


def mean_over_runs(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of equally shaped predictions, in single precision."""
    return np.asarray(np.mean(np.stack(values), axis=0, dtype=np.float64), np.float32)
