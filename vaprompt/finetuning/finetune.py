"""Fine-tuning, from a run on cached features to a run with encoders of its own, killed and gone on with at will.

The new run's folder holds what every run's does, and besides: finetune.toml (the resolved recipe), `encoders/` (tuned
weights, as folders that an extraction recipe can name) and, until it is complete, resume.safetensors, the best epoch's
weights so far, and `scratch/`, what was decoded of the raw media.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaprompt.datasets.description import open_dataset
from vaprompt.devices import emulation, pick_device
from vaprompt.errors import RunError
from vaprompt.files import PARTIAL, clear_left_behind, held, make_folder, published, write_json
from vaprompt.finetuning.job import Job
from vaprompt.finetuning.material import Material
from vaprompt.finetuning.provenance import facts_at_start, require_same
from vaprompt.finetuning.recipe import FinetuneRecipe, heads_recipe, stream_of
from vaprompt.finetuning.session import Session
from vaprompt.finetuning.workers import Workers
from vaprompt.memory import enough_memory
from vaprompt.progress import SILENT, Progress
from vaprompt.recipes import write_recipe
from vaprompt.store.cache import open_store
from vaprompt.training.run import TrainResult, standing
from vaprompt.training.runs import FACTS, RECIPE, load_run

FINETUNE = "finetune.toml"
SCRATCH = "scratch"
SAVE_SECONDS = 600.0
"""Time between two saved states within an epoch, and so what a kill costs at most: writing one takes seconds."""
MOST_WORKERS = 16
SMALLER = "lower at_once or batch, turn checkpointing on, or train less of the encoders (image.tune = last)"


@dataclass(frozen=True)
class FinetuneResult(TrainResult):
    """How a fine-tuning ended."""

    start: Mapping[str, Any]
    """Validation scores before the first step, from raw media, and `largest_difference` of predictions from those that
    the run made from its store."""
    stream: str | None
    """The name under which features from the tuned encoders are to be extracted; the run's that it started from, if it
    has one, where none is tuned."""


def finetune(
    run: Path,
    data: Path,
    recipe: FinetuneRecipe,
    new: Path,
    *,
    store: Path | str | None = None,
    stream: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    scratch: Path | None = None,
    resume: bool = False,
    save_seconds: float = SAVE_SECONDS,
    progress: Progress = SILENT,
) -> FinetuneResult:
    """Train a run's heads and encoders together on raw media, and leave the best epoch's weights in `new`.

    A killed fine-tuning goes on when the same is asked for again; on the processor it ends with the bytes of an
    undisturbed one. A complete one is left as it is.

    Args:
        run: folder of the complete run to start from.
        data: the data set that the run's store was made of: its folder or its description.
        recipe: what is trained, and how.
        new: folder of the new run; created.
        store: the run's store, where it is not at the place that the run knows; for frames' times and labels.
        stream: the name under which features from the tuned encoders will be extracted; by default the new folder's.
            Not where none is tuned.
        device: `auto`, `cpu`, `cuda`, ...
        workers: loading processes; by default one on the processor, else as many as cores are left, 16 at most.
        scratch: folder for decoded media, kept and shared by trainings; by default one in `new`, deleted in the end.
        resume: insist that there is something to go on with.
        save_seconds: time between two saved states within an epoch.
        progress: who is told how far it is.

    Raises:
        RunError: the run cannot be loaded, `new` holds something else, the loss is no longer a number, or the memory
            does not suffice.
        RecipeError: the recipe asks for what the encoders do not have.
        OptionError: `stream` is given, and no encoder is tuned.
        WeightsError: the encoders' weights are not at hand.
        FingerprintError: data set, store or encoders are not those of the run.
        DatasetError: media that the run needs are missing.
        MediaError: media cannot be read.
        TargetError: `new` or the scratch folder cannot be written.
    """
    started = time.perf_counter()
    device = pick_device(device)
    # Settles how sums are split, as scoring does before a first epoch: a training that goes on scores nothing first.
    torch.set_num_threads(torch.get_num_threads())
    with enough_memory(new, remedy=SMALLER):
        parent = load_run(run, device)
        if new.resolve() == run.resolve():
            raise RunError(new, fault="is the run to start from", remedy="name a new folder with --run")
        source = open_store(store or str(parent.facts["store"]["path"]), progress, parent.recipe.stream)
        dataset = open_dataset(data, progress)
        heads = heads_recipe(parent.recipe, recipe, stream_of(parent.recipe, recipe, new, stream))
        facts = facts_at_start(parent, source, recipe, heads, device)
        before = standing(new, facts, resume=resume, same=require_same)
        if before is not None:
            return _done_before(new, before, started)
        if warning := emulation(recipe.precision, device):
            progress.say(f"precision: {warning}")
        # Whatever can be refused is refused before anything is written.
        job = Job(parent, source, dataset, data, recipe, heads, new, torch.device(device), save_seconds, progress)
        place = scratch or new / SCRATCH
        material, parts = job.material(place)
        encoders, learners = job.networks()
        devices = [torch.device(device)] if device.startswith("cuda") else []
        with held(new), torch.random.fork_rng(devices=devices):
            # Another process may have ended it while this one looked at the media.
            before = standing(new, facts, same=require_same)
            if before is not None:
                return _done_before(new, before, started)
            write_json(new / FACTS, facts)
            for name, shown in ((RECIPE, heads), (FINETUNE, recipe)):
                with published(new / name) as aside:
                    write_recipe(shown, aside)
            with _scratch(place, own=scratch is None), Workers(material.setup, _count(workers, device)) as processes:
                _prepare(material, processes, progress)
                session = Session(
                    new, recipe, heads, encoders, parent.estimator, learners, material, processes, torch.device(device)
                )
                state = job.train(session, parts)
                facts = job.finish(facts, state, session, parts)
    return _result(new, facts, started, trained=True)


def _count(workers: int | None, device: str) -> int:
    if workers is not None:
        return workers
    # On the processor the networks are the limit, and want the cores for themselves.
    return 1 if device == "cpu" else max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))


@contextmanager
def _scratch(place: Path, *, own: bool) -> Iterator[None]:
    """Make the scratch folder; one of the run's own is deleted in the end, if all went well."""
    make_folder(place)
    if own:
        for left in place.glob(f".*{PARTIAL}*"):
            left.unlink(missing_ok=True)
    else:
        clear_left_behind(place)
    yield
    if own:
        shutil.rmtree(place, ignore_errors=True)


def _prepare(material: Material, processes: Workers, progress: Progress) -> None:
    missing = material.missing()
    if missing:
        with progress.task("decoding what windows need", total=len(missing), unit="videos") as task:
            for request, _ in zip(missing, processes.prepare(missing), strict=True):
                task.advance(1, request.media.name)


def _done_before(new: Path, facts: Mapping[str, Any], started: float) -> FinetuneResult:
    """Return how a complete run ended, and clear away what one that was killed at the very end left."""
    shutil.rmtree(new / SCRATCH, ignore_errors=True)
    return _result(new, facts, started, trained=False)


def _result(run: Path, facts: Mapping[str, Any], started: float, *, trained: bool) -> FinetuneResult:
    return FinetuneResult(
        run=run,
        epochs=facts["epochs"],
        best_epoch=facts["best_epoch"],
        **facts["best"],
        seconds=time.perf_counter() - started,
        notes=facts["notes"],
        trained=trained,
        start=facts["start"],
        stream=facts["recipe"].get("stream"),
    )
