"""Cross-validation over the labelled videos, for choosing between recipes; never called a validation score.

The official validation split is a fixed set of videos. A score over rotated folds is another thing: it goes by the
name `out_of_fold`, and `vaprompt evaluate` refuses to score a fold's run on that split.

Each fold is scored by a run that neither trained nor stopped on it: the fold after it decides when training stops,
the others are trained on. All people of one video fall into one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold

import vaprompt
from vaprompt.devices import pick_device
from vaprompt.encoders.recipes import remarks
from vaprompt.errors import StoreError
from vaprompt.evaluation.bootstrap import source_video
from vaprompt.evaluation.ensemble import Member
from vaprompt.evaluation.evaluate import LABELLED, by_video, judge_split, summary
from vaprompt.evaluation.protocols import Judged, official
from vaprompt.files import require_folder, write_json
from vaprompt.memory import ELSEWHERE, enough_memory
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.training.data import Resident
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import SMALLER, train
from vaprompt.training.runs import STOPPING_FOLD, is_complete, load_run
from vaprompt.windows import describe_ends

RESULT = "crossvalidation.json"
LEAST_FOLDS = 3
"""One to score, one that says when to stop, one to train on."""


class FoldedStore(FeatureStore):
    """A store whose labelled videos have other parts: what is left out, and what training and stopping see."""

    part: Mapping[str, str]

    @classmethod
    def of(cls, source: FeatureStore, part: Mapping[str, str]) -> FoldedStore:
        """Return a store with `part`, from each video that a training sees to `train` or `stopping`."""
        store = cls(source.storage, source._root, source.stream, copy_of=source._copy_of)
        store.part = part
        return store

    def split(self, video: str) -> str:
        """Return the video's part; videos that do not count are of none."""
        return self.part.get(video, "none")


@dataclass(frozen=True)
class _Fold:
    """Videos of one fold, and where its run lies."""

    held_out: list[str]
    stopping: list[str]
    training: list[str]
    store: FoldedStore
    run: Path


def cross_validate(
    store: Path | str,
    recipe: TrainRecipe,
    out: Path,
    *,
    folds: int = 5,
    every: int | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train once for each fold, score it on the videos left out, and write crossvalidation.json into `out`.

    Folds that are there already are not trained again, and a killed one goes on.

    Args:
        store: a feature store; its labelled videos of the training and validation splits are used alike.
        recipe: the training recipe, the same for each fold.
        out: folder for `fold1`, `fold2`, ..., each a run, and crossvalidation.json.
        folds: how many; at least 3.
        every: windows end at every so many frames; by default at every stride.
        device: `auto`, `cpu`, `cuda`, ...
        progress: who is told how far it is.

    Raises:
        StoreError: the store has fewer source videos with labels than folds, or cannot be trained on; nothing was
            trained then.
        RunError: `out` holds folds of something else; or memory does not suffice.
        TargetError: `out` cannot be written.
    """
    require_folder(out)
    device = pick_device(device)
    source = open_store(store, progress, recipe.stream)
    parts = assign_folds(source, folds)
    judged: list[Judged] = []
    found: list[dict[str, Any]] = []
    notes: list[str] = list(remarks(source.recipe))
    planned = [_fold(source, parts, index, out) for index in range(folds)]
    resident = None
    if not all(is_complete(fold.run) for fold in planned):
        with enough_memory(out, remedy=SMALLER):
            resident = Resident(source, recipe, device=device, wait=False, progress=progress)
            for fold in planned:  # that each can be trained and stopped is seen before the first is
                for split in ("train", STOPPING_FOLD):
                    resident.seen_as(fold.store).split(split, recipe)
    for index, fold in enumerate(planned):
        trained = train(
            fold.store,
            recipe,
            fold.run,
            device=device,
            stopping=STOPPING_FOLD,
            resident=None if resident is None else resident.seen_as(fold.store),
            progress=progress,
        )
        with enough_memory(fold.run, remedy=ELSEWHERE):
            member = Member(load_run(fold.run, device), fold.store)
            videos = judge_split([member], fold.held_out, every, f"scoring fold {index + 1} of {folds}", progress)
        judged += videos
        notes += trained.notes
        found.append(
            {
                "fold": index + 1,
                "official": official(videos),
                "held_out": fold.held_out,
                "stopped_by": fold.stopping,
                "trained_on": fold.training,
                "epochs": trained.epochs,
                "best_epoch": trained.best_epoch,
                "run": str(fold.run),
            }
        )
    result = {
        "protocol": f"{folds} folds by source video (GroupKFold) over the {' and '.join(LABELLED)} splits; each is "
        "scored by a run that neither trained nor stopped on it; not comparable with scores on the official split",
        "out_of_fold": summary(judged),
        "folds": found,
        "videos": by_video(judged),
        "every": every,
        "interpolation": describe_ends(recipe.window.stride, every),
        "notes": list(dict.fromkeys(notes)),
        "made_by": {"vaprompt": vaprompt.__version__, "store": str(source.location), "device": device},
    }
    write_json(out / RESULT, result)
    return result


def _fold(source: FeatureStore, parts: Sequence[Sequence[str]], index: int, out: Path) -> _Fold:
    held_out, stopping = list(parts[index]), list(parts[(index + 1) % len(parts)])
    training = sorted({name for names in parts for name in names} - {*held_out, *stopping})
    part = dict.fromkeys(training, "train") | dict.fromkeys(stopping, STOPPING_FOLD)
    return _Fold(held_out, stopping, training, FoldedStore.of(source, part), out / f"fold{index + 1}")


def assign_folds(store: FeatureStore, folds: int) -> list[list[str]]:
    """Return the labelled videos of each fold; folds hold about equally many valid frames.

    Raises:
        StoreError: there are fewer source videos than folds, or fewer folds than 3.
    """
    valid = {name: int(store.labels(name).valid_F.sum()) for split in LABELLED for name in store.videos(split)}
    names = sorted(name for name, count in valid.items() if count)
    sources = {source_video(name) for name in names}
    if not LEAST_FOLDS <= folds <= len(sources):
        few, choice = f"at least {LEAST_FOLDS} are needed", f"choose from {LEAST_FOLDS} to {len(sources)} folds"
        raise StoreError(
            str(store.location),
            fault=f"holds {len(sources)} source videos with labels, which do not make {folds} folds",
            remedy=few if len(sources) < LEAST_FOLDS else choice,
        )
    rows = np.repeat(np.arange(len(names)), [valid[name] for name in names])
    groups = np.array([source_video(name) for name in names])[rows]
    parts: list[list[str]] = []
    for _, held_out in GroupKFold(folds).split(rows, groups=groups):
        parts.append(_named(names, rows[held_out]))
    return parts


def _named(names: Sequence[str], rows: np.ndarray) -> list[str]:
    return [names[index] for index in np.unique(rows)]
