"""Training from a store to a run on disk, killed and continued as often as it takes.

A run's folder holds recipe.toml (resolved), run.json (what made it), metrics.jsonl (an object an epoch),
checkpoint.safetensors (the best epoch's weights); until it is complete, resume.safetensors and best-N.safetensors in
place of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vaprompt.devices import emulation, pick_device
from vaprompt.errors import RunError, StoreError
from vaprompt.files import PARTIAL, held
from vaprompt.memory import enough_memory
from vaprompt.model.estimator import Estimator
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.training.data import Resident, ResidentSplit
from vaprompt.training.facts import facts_of, notes_on, require_same
from vaprompt.training.loop import train_epoch
from vaprompt.training.ongoing import Ongoing, Watch, tidy
from vaprompt.training.optimiser import Optimiser
from vaprompt.training.prompts import prototypes_of
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import FACTS, read_facts
from vaprompt.training.step import shards, step_on

SMALLER = "lower compute.at_once, batch, model.width or window.frames; or give features less with --memory 2GB"
"""What takes less memory."""


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    run: Path
    epochs: int
    """Epochs done; fewer than the recipe's where it stopped early."""
    best_epoch: int
    """Counted from 1; its weights are the run's."""
    valence: float | None
    arousal: float | None
    mean: float | None
    """CCC of the best epoch at the ends of the windows that decide when to stop (None: undefined)."""
    seconds: float
    """Wall time of this call's training, reading the store included."""
    notes: list[str]
    trained: bool
    """False where the run was complete before."""


def train(
    store: Path | str | FeatureStore,
    recipe: TrainRecipe,
    run: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    stopping: str = "validation",
    memory: int | None = None,
    resident: Resident | None = None,
    watch: Watch | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train heads on a store's features, and leave the best epoch's weights in `run`.

    A killed training goes on behind its last saved epoch when the same is asked for again, and ends with the
    weights of an undisturbed one. A complete run of the same recipe and store is left as it is.

    Args:
        store: a feature store with a training split and the one named by `stopping`: its path or URL, or opened with
            the recipe's stream.
        recipe: the training recipe.
        run: folder to write; created.
        device: `auto`, `cpu`, `cuda`, ...
        resume: insist that there is a training to go on with.
        stopping: the split whose score decides on the best epoch and when to stop; what is recorded of it has its name.
        memory: bytes of features that may lie in memory at a time, about; None: all. The numbers are the same.
        resident: the store's features, where they are in memory already.
        watch: is told of all epochs behind each; what it raises ends the training, which can be gone on with.
        progress: who is told how far it is.

    Raises:
        StoreError: the store lacks a split, labels or prompts, or holds damaged features.
        WeightsError: a context is to be learned, and the weights of the store's CLIP are not at hand.
        FingerprintError: or they are not those that the store was made with.
        RunError: `run` holds a run of something else, `resume` finds nothing, the loss is no longer a number, or memory
            does not suffice.
        TargetError: `run` cannot be written.
    """
    started = time.perf_counter()
    device = pick_device(device)
    with enough_memory(run, remedy=SMALLER):
        source = store if isinstance(store, FeatureStore) else open_store(store, progress, recipe.stream)
        facts = facts_of(source, recipe, device, stopping)
        notes = notes_on(source, recipe)
        before = standing(run, facts, resume=resume)
        if before is not None:
            return result_of(run, before, notes, started, trained=False)

        if warning := emulation(recipe.compute.precision, device):
            progress.say(f"compute.precision: {warning}")
        if resident is None:
            resident = Resident(source, recipe, device=device, most=memory, wait=False, progress=progress)
        training, unseen = (resident.split(split, recipe) for split in ("train", stopping))
        prototype_KE, context = prototypes_of(source, recipe, device)
        facts |= {
            "dims": resident.dims,
            "windows": {"train": len(training.windows), stopping: len(unseen.windows)},
            "notes": notes,
        }
        drawn_on = [torch.device(device)] if device.startswith("cuda") else []
        with (
            held(run),
            torch.random.fork_rng(devices=drawn_on),
            progress.task("training", recipe.epochs, "epochs") as task,
        ):
            # Another process may have trained it while this one read the store.
            before = standing(run, facts)
            if before is not None:
                return result_of(run, before, notes, started, trained=False)
            ongoing = Ongoing(run, recipe, facts, stopping, watch)
            try:
                estimator = ongoing.estimator(prototype_KE, context, resident.silence_SC).to(device)
                _epochs(ongoing, estimator, training, unseen, task)
            except StoreError:
                ongoing.withdraw()
                raise
            facts = ongoing.complete()
    return result_of(run, facts, notes, started, trained=True)


def standing(
    run: Path,
    facts: dict[str, Any],
    *,
    resume: bool = False,
    same: Callable[[Path, dict[str, Any], dict[str, Any]], None] = require_same,
) -> dict[str, Any] | None:
    """Return what a run says that is complete already; None where it is to be trained, or to be gone on with.

    Args:
        run: its folder.
        facts: what it would say of itself if it began now.
        resume: it is to be there already.
        same: refuses to go on with one that says otherwise.

    Raises:
        RunError: its folder holds something else, or `resume` finds nothing.
    """
    if (run / FACTS).exists():
        before = read_facts(run)
        same(run, before, facts)
        if before["status"] != "complete":
            return None
        tidy(run)
        return before
    if resume:
        raise RunError(run, fault="holds nothing to resume", remedy="leave --resume out to begin")
    if run.is_dir() and any(PARTIAL not in entry.name for entry in run.iterdir()):
        raise RunError(run, fault="is not empty and holds no run", remedy="name a new folder")
    return None


def _epochs(ongoing: Ongoing, estimator: Estimator, training: ResidentSplit, unseen: ResidentSplit, task: Task) -> None:
    """Train until the last epoch or until patience ends."""
    recipe, device = ongoing.recipe, training.features.device
    optimiser = Optimiser(estimator, recipe.optimiser, parts=shards(device))
    step = step_on(device)(estimator, optimiser, training, recipe)
    if ongoing.goes_on(estimator, optimiser):
        task.advance(ongoing.state.epoch, "resumed")
    while not ongoing.over:
        epoch = train_epoch(estimator, step, len(training.windows), recipe.batch, seed=ongoing.seed, kl=ongoing.kl)
        ongoing.require_numbers(epoch, training)
        with optimiser.averaged():
            found = ongoing.validated(estimator, epoch, training, unseen)
            note = ongoing.took(epoch, found, estimator.state_dict())
        ongoing.keep(estimator.state_dict(), optimiser.state())
        task.advance(1, note)


def result_of(run: Path, facts: dict[str, Any], notes: list[str], started: float, *, trained: bool) -> TrainResult:
    """Return how a training ended that began at `started` of the performance counter."""
    return TrainResult(
        run=run,
        epochs=facts["epochs"],
        best_epoch=facts["best_epoch"],
        **facts["best"],
        seconds=time.perf_counter() - started,
        notes=notes,
        trained=trained,
    )


def summary(result: TrainResult) -> dict[str, Any]:
    """Return a training's result as JSON-ready values."""
    return asdict(result) | {"run": str(result.run)}
