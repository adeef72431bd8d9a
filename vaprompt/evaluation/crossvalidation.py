"""Cross-validation over the labelled videos, for choosing between recipes; never called a validation score.

The official validation split is a fixed set of videos. A score over rotated folds is another thing: it goes by the
name `out_of_fold`, and `vaprompt evaluate` refuses to score a fold's run on that split.

Each fold is scored by a run that neither trained nor stopped on it: the fold after it decides when training stops,
the others are trained on. All people of one video fall into one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train
from vaprompt.training.runs import STOPPING_FOLD, load_run
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
        StoreError: the store has fewer source videos with labels than folds, or cannot be trained on.
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
    for index, held_out in enumerate(parts):
        stopping = parts[(index + 1) % folds]
        training = sorted({name for names in parts for name in names} - {*held_out, *stopping})
        part = dict.fromkeys(training, "train") | dict.fromkeys(stopping, STOPPING_FOLD)
        folder = out / f"fold{index + 1}"
        folded = FoldedStore.of(source, part)
        trained = train(folded, recipe, folder, device=device, stopping=STOPPING_FOLD, progress=progress)
        with enough_memory(folder, remedy=ELSEWHERE):
            member = Member(load_run(folder, device), folded)
            videos = judge_split([member], held_out, every, f"scoring fold {index + 1} of {folds}", progress)
        judged += videos
        notes += trained.notes
        found.append(
            {
                "fold": index + 1,
                "official": official(videos),
                "held_out": held_out,
                "stopped_by": stopping,
                "trained_on": training,
                "epochs": trained.epochs,
                "best_epoch": trained.best_epoch,
                "run": str(folder),
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
