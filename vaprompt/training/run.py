"""Training from a store to a run on disk, killed and continued as often as it takes.

A run's folder holds recipe.toml (resolved), run.json (what made it), metrics.jsonl (an object an epoch),
checkpoint.safetensors (the best epoch's weights) and, until it is complete, resume.safetensors.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import vaprompt
from vaprompt.devices import pick_device
from vaprompt.errors import RunError
from vaprompt.files import PARTIAL, held, published, write_json
from vaprompt.model.estimator import Estimator
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.recipes import without_none, write_recipe
from vaprompt.regions import prototypes
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.training.checkpoint import TrainingState, load_state, save_state, save_weights
from vaprompt.training.data import Resident, ResidentSplit
from vaprompt.training.loop import Epoch, train_epoch, validate
from vaprompt.training.optimiser import Optimiser
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.runs import CHECKPOINT, FACTS, FORMAT, METRICS, RECIPE, STATE, read_facts
from vaprompt.training.step import SharedStep, WholeStep, shards

SHOWN = 5
"""Videos that a message names at most."""

CLIP_NOTE = (
    "prompt.semantic = 'clip' compares the frozen CLIP embedding with the prototypes, as released: "
    "the KL term has no gradient and trains nothing"
)


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
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    stopping: str = "validation",
    memory: int | None = None,
    resident: Resident | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train heads on a store's features, and leave the best epoch's weights in `run`.

    A killed training goes on behind its last whole epoch when the same is asked for again, and ends with the
    weights of an undisturbed one. A complete run of the same recipe and store is left as it is.

    Args:
        store: a feature store with a training split and the one named by `stopping`: its path or URL, or opened with
            the recipe's stream.
        recipe: the training recipe.
        run: folder to write; created.
        seed: takes the place of the recipe's.
        device: `auto`, `cpu`, `cuda`, ...
        resume: insist that there is a training to go on with.
        stopping: the split whose score decides on the best epoch and when to stop; what is recorded of it has its name.
        memory: bytes of features that may lie in memory at a time, about; None: all. The numbers are the same.
        resident: the store's features, where they are in memory already.
        progress: who is told how far it is.

    Raises:
        StoreError: the store lacks a split, labels or prompts, or holds damaged features.
        RunError: `run` holds a run of something else, `resume` finds nothing, or the loss is no longer a number.
        TargetError: `run` cannot be written.
    """
    started = time.perf_counter()
    device = pick_device(device)
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    source = store if isinstance(store, FeatureStore) else open_store(store, progress, recipe.stream)
    facts = _facts(source, recipe, device, stopping)
    notes = _notes(source, recipe)
    if (run / FACTS).exists():
        before = read_facts(run)
        _require_same(run, before, facts)
        if before["status"] == "complete":
            return _result(run, before, notes, started, trained=False)
    elif resume:
        raise RunError(run, fault="holds no training to resume", remedy="leave --resume out to start one")
    elif run.is_dir() and any(PARTIAL not in entry.name for entry in run.iterdir()):
        raise RunError(run, fault="is not empty and holds no run", remedy="name a new folder with --run")

    if resident is None:
        resident = Resident(source, recipe, device=device, most=memory, progress=progress)
    training, unseen = (resident.split(split, recipe) for split in ("train", stopping))
    prototype_KE = prototypes(source.text(), recipe.regions.phrases, recipe.regions.templates)
    facts |= {
        "dims": resident.dims,
        "windows": {"train": len(training.windows), stopping: len(unseen.windows)},
        "notes": notes,
    }
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with held(run), torch.random.fork_rng(devices=devices):
        # The facts come first: they hold the recipe too, and make the folder a run that can be gone on with.
        write_json(run / FACTS, facts)
        with published(run / RECIPE) as aside:
            write_recipe(recipe, aside)
        torch.manual_seed(recipe.seed)
        estimator = Estimator(
            recipe.model,
            image_dim=resident.dims.get("image", 0),
            audio_dim=resident.dims.get("audio", 0),
            prototype_KE=torch.from_numpy(prototype_KE),
        ).to(device)
        with progress.task("training", total=recipe.epochs, unit="epochs") as task:
            state = _epochs(run, recipe, estimator, training, unseen, stopping, task)
        best = state.history[state.best_epoch - 1][stopping]
        facts |= {
            "status": "complete",
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "best": {axis: best[axis] for axis in ("valence", "arousal", "mean")},
        }
        write_json(run / FACTS, facts)
        (run / STATE).unlink(missing_ok=True)
    return _result(run, facts, notes, started, trained=True)


def _epochs(
    run: Path,
    recipe: TrainRecipe,
    estimator: Estimator,
    training: ResidentSplit,
    unseen: ResidentSplit,
    stopping: str,
    task: Task,
) -> TrainingState:
    """Train until the last epoch or until patience ends, saving the state behind each epoch."""
    device = str(training.windows.audio_W.device)
    optimiser = Optimiser(estimator, recipe.optimiser, parts=shards(torch.device(device)))
    step = (SharedStep if device == "cpu" else WholeStep)(estimator, optimiser, training, recipe)
    state = TrainingState()
    if (run / STATE).exists():
        state = load_state(run / STATE, estimator, optimiser)
        task.advance(state.epoch, "resumed")
    while state.epoch < recipe.epochs and state.epoch - state.best_epoch < recipe.patience:
        epoch = state.epoch + 1
        seed = _epoch_seed(recipe.seed, epoch)
        trained = train_epoch(estimator, step, len(training.windows), recipe.batch, seed=seed, device=device)
        if trained.broken() is not None:
            raise _broken(run, trained, training, state)
        losses = trained.means()
        validated = validate(estimator, unseen)
        state.epoch = epoch
        state.history.append({"epoch": epoch, "train": losses, stopping: validated})
        mean = validated["mean"]
        if _gains(mean, state.best_mean, recipe.min_gain) or state.best_epoch == 0:
            state.best_epoch, state.best_mean = epoch, mean
            save_weights(run / CHECKPOINT, estimator.state_dict())
        # The metrics are written whole from the state, so that a line of an epoch that was lost cannot stay.
        _write_metrics(run / METRICS, state.history)
        save_state(run / STATE, state, estimator, optimiser)
        shown = "undefined" if mean is None else f"{mean:.3f}"
        task.advance(1, f"epoch {epoch}: loss {losses['loss']:.3f}, {stopping} CCC {shown}")
    return state


def _epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed for one epoch, so that a resumed training needs no random state from before."""
    return (seed * 1_000_003 + epoch) % 2**63


def _gains(mean: float | None, best: float | None, least: float) -> bool:
    return mean is not None and (best is None or mean > best + least)


def _broken(run: Path, epoch: Epoch, training: ResidentSplit, state: TrainingState) -> RunError:
    """Return what to say of a loss that is not a number: where it came up, on what, and what there is to go back to."""
    step = epoch.broken()
    assert step is not None
    rows = training.windows.video_W.cpu()[torch.from_numpy(epoch.row_NB[step])].tolist()
    names = [training.videos[row] for row in sorted(set(rows))]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    kept = f"{run / CHECKPOINT} holds epoch {state.best_epoch}" if state.best_epoch else "no epoch was finished before"
    return RunError(
        run,
        fault=f"the loss is no longer a number in step {step + 1} of epoch {state.epoch + 1}, on windows of {shown}; "
        f"{kept}",
        remedy="lower optimiser.learning_rate, or leave out videos with strange features",
    )


def _write_metrics(target: Path, history: list[dict[str, Any]]) -> None:
    with published(target) as aside:
        aside.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in history), encoding="utf-8")


def _facts(store: FeatureStore, recipe: TrainRecipe, device: str, stopping: str) -> dict[str, Any]:
    """Return what a run must say of its making before it starts."""
    return {
        "format": FORMAT,
        "status": "training",
        "recipe": without_none(recipe.model_dump(mode="json")),
        "store": {
            "path": str(store.location),
            "fingerprints": {stream: store.fingerprint(stream) for stream in recipe.model.modalities},
            "dataset": store.dataset,
        },
        "extraction": store.recipe,
        "videos": {split: store.videos(split) for split in ("train", stopping)},
        "made_by": {
            "vaprompt": vaprompt.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
            "device": device,
            "threads": torch.get_num_threads(),
        },
    }


def _notes(store: FeatureStore, recipe: TrainRecipe) -> list[str]:
    notes = []
    if recipe.model.prompt.semantic == "clip" and recipe.loss.kl > 0:
        notes.append(CLIP_NOTE)
    if store.failed():
        notes.append(f"{len(store.failed())} videos failed in extraction and are not in the store")
    return notes


def _require_same(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a run of another recipe or store; name what differs."""
    differing = _differences(before["recipe"], now["recipe"])
    differing += [
        f"store.{key}" for key in ("fingerprints", "dataset") if before["store"].get(key) != now["store"][key]
    ]
    differing += [f"videos.{split}" for split, names in now["videos"].items() if before["videos"].get(split) != names]
    if differing:
        raise RunError(
            run, fault=f"holds a run that differs in {', '.join(differing[:5])}", remedy="name a new folder with --run"
        )


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [
            line for name in names for line in _differences(old.get(name), new.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if old == new else [f"{key} ({old} there, {new} asked for)"]


def _result(run: Path, facts: dict[str, Any], notes: list[str], started: float, *, trained: bool) -> TrainResult:
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
