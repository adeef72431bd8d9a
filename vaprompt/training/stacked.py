"""Several runs of one architecture that are trained side by side as one stack; each is left as `train` would leave it.

Axes: V runs, W training windows, B windows in a batch, N steps of an epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaprompt.devices import pick_device
from vaprompt.errors import StoreError, VapromptError
from vaprompt.files import held
from vaprompt.memory import enough_memory
from vaprompt.model.estimator import Estimator
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.training.data import Resident, ResidentSplit
from vaprompt.training.facts import facts_of, notes_on
from vaprompt.training.loop import Epoch
from vaprompt.training.ongoing import Ongoing, Watch
from vaprompt.training.prompts import from_templates
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import SMALLER, TrainResult, result_of, standing
from vaprompt.training.stack import Stack

LARGEST = 32
"""Runs of a stack; more gain little and take memory."""

NUMBERS = {
    "seed", "epochs", "patience", "min_gain", "loss.kl", "optimiser.learning_rate", "optimiser.weight_decay",
    "regions.valence", "regions.arousal", "regions.sigma", "regions.phrases", "regions.templates",
    "model.temporal.dropout", "model.fusion.dropout", "model.head.dropout",
}  # fmt: skip
"""What may differ between the runs of a stack."""
ALIKE = {
    "stream", "batch", "window.seconds", "window.stride", "window.frames", "compute.precision", "compute.graph",
    "model.modalities", "model.width", "model.audio_encoder", "model.temporal.kind", "model.temporal.layers",
    "model.temporal.units", "model.temporal.levels", "model.temporal.kernel", "model.fusion.kind", "model.fusion.gate",
    "model.fusion.heads", "model.fusion.feedforward", "model.head.output", "model.head.hidden", "model.prompt.semantic",
    "model.prompt.scale",
}  # fmt: skip
"""What must not. What a recipe says besides is known to single runs only, unless it says what the paper's does."""


def stackable(recipes: Sequence[TrainRecipe]) -> list[list[int]]:
    """Return which of the recipes can be trained together, as groups of their indices; all of them, in order."""
    usual = _leaves(TrainRecipe().model_dump(mode="json"))
    groups: dict[object, list[int]] = {}
    for index, recipe in enumerate(recipes):
        leaves = _leaves(recipe.model_dump(mode="json"))
        alone = any(leaves[name] != usual[name] for name in leaves if name not in NUMBERS | ALIKE)
        alike = {name: repr(leaves[name]) for name in ALIKE}
        key = index if alone else (len(recipe.regions.phrases), *sorted(alike.items()))
        groups.setdefault(key, []).append(index)
    return [group[first : first + LARGEST] for group in groups.values() for first in range(0, len(group), LARGEST)]


def train_stacked(
    store: Path | str | FeatureStore,
    recipes: Sequence[TrainRecipe],
    runs: Sequence[Path],
    *,
    device: str = "auto",
    stopping: str = "validation",
    memory: int | None = None,
    resident: Resident | None = None,
    watch: Watch | None = None,
    progress: Progress = SILENT,
) -> list[TrainResult | VapromptError]:
    """Train several recipes of one group of `stackable` on one store, each into its folder, and return how each ended.

    A run that breaks, or whose folder holds something else, ends with its error, and the others go on. Killed and
    started again, they go on behind their last saved epochs; each can be gone on with by `train` as well.

    Args:
        store: as in `train`, as is all that follows.
        recipes: of one group.
        runs: a folder each.
        device: `auto`, `cpu`, `cuda`, ...
        stopping: the split whose score decides.
        memory: bytes of features that may lie in memory, or on the device, about.
        resident: the store's features, where they are in memory already.
        watch: is told of all epochs of a run behind each; a VapromptError that it raises ends that run.
        progress: who is told how far it is.

    Raises:
        StoreError: as in `train`.
        RunError: memory does not suffice.
        ValueError: the recipes are not of one group.
    """
    if len(stackable(recipes)) != 1:
        raise ValueError("these recipes cannot be trained as one stack")
    started = time.perf_counter()
    device = pick_device(device)
    source = store if isinstance(store, FeatureStore) else open_store(store, progress, recipes[0].stream)
    results: dict[int, TrainResult | VapromptError] = {}
    with enough_memory(runs[0], remedy=SMALLER), ExitStack() as holding:
        under_way: list[_Run] = []
        for index, (recipe, run) in enumerate(zip(recipes, runs, strict=True)):
            try:
                facts, notes = facts_of(source, recipe, device, stopping), notes_on(source, recipe)
                holding.enter_context(held(run))
                before = standing(run, facts)
                if before is not None:
                    results[index] = result_of(run, before, notes, started, trained=False)
                    continue
                facts["made_by"] |= {"stack": len(recipes)}
                if resident is None:
                    resident = Resident(source, recipe, device=device, most=memory, progress=progress)
                under_way.append(
                    _begun(source, recipe, run, resident, facts | {"notes": notes}, stopping, index, watch)
                )
            except VapromptError as error:
                results[index] = error
        epochs = sum(one.recipe.epochs for one in under_way)
        with progress.task("training", epochs, "epochs") as task:
            for one in under_way:
                task.advance(one.ongoing.state.epoch, f"{one.ongoing.run.name} resumed")
            try:
                for one in _train(under_way, task):
                    results[one.index] = _ended(one, started)
            except StoreError:
                for one in under_way:
                    one.ongoing.withdraw()
                raise
    return [results[index] for index in range(len(runs))]


@dataclass
class _Run:
    """One of the runs."""

    index: int
    ongoing: Ongoing
    estimator: Estimator
    training: ResidentSplit
    unseen: ResidentSplit
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    """Its optimiser's state where it stands still; empty at the start."""
    error: VapromptError | None = None

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.optimiser = state

    @property
    def recipe(self) -> TrainRecipe:
        return self.ongoing.recipe

    @property
    def over(self) -> bool:
        return self.error is not None or self.ongoing.over


def _begun(
    store: FeatureStore,
    recipe: TrainRecipe,
    run: Path,
    resident: Resident,
    facts: dict[str, Any],
    stopping: str,
    index: int,
    watch: Watch | None,
) -> _Run:
    """Return a run as it starts, or where it stands."""
    training, unseen = (resident.split(split, recipe) for split in ("train", stopping))
    windows = {"train": len(training.windows), stopping: len(unseen.windows)}
    ongoing = Ongoing(run, recipe, facts | {"dims": resident.dims, "windows": windows}, stopping, watch)
    prototype_KE = from_templates(store, recipe.regions)
    with torch.random.fork_rng(devices=[]):
        estimator = ongoing.estimator(prototype_KE, None, None).to(resident.features.device)
    one = _Run(index, ongoing, estimator, training, unseen)
    ongoing.goes_on(estimator, one)
    return one


def _train(runs: Sequence[_Run], task: Task) -> Iterator[_Run]:
    """Train all of them, and yield each as soon as it is over; those that go on become a smaller stack."""
    yield from (one for one in runs if one.over)
    while going := [one for one in runs if not one.over]:
        stack = Stack([one.estimator for one in going], [one.recipe for one in going], [one.training for one in going])
        for network, one in enumerate(going):
            if one.optimiser:
                stack.load_state(network, one.optimiser)
        while not any(one.over for one in going):
            for network, (one, epoch) in enumerate(zip(going, _epoch(stack, going), strict=True)):
                _take(one, epoch, stack, network, task, beside=len(going))
        for network, one in enumerate(going):
            one.optimiser = stack.state(network)
        yield from (one for one in going if one.over)


def _ended(one: _Run, started: float) -> TrainResult | VapromptError:
    """Say in its folder that a run is done, unless it broke, and return how it ended."""
    if one.error is not None:
        return one.error
    try:
        facts = one.ongoing.complete()
    except VapromptError as error:
        return error
    return result_of(one.ongoing.run, facts, facts["notes"], started, trained=True)


def _epoch(stack: Stack, runs: Sequence[_Run]) -> list[Epoch]:
    """Train every run on its windows once, each in the order that it would have alone; see `train_epoch`."""
    windows, batch = len(runs[0].training.windows), runs[0].recipe.batch
    seeds = [one.ongoing.seed for one in runs]
    orders = [torch.randperm(windows, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    order_VW = torch.stack(orders)
    rows = [row_VB for row_VB in torch.split(order_VW, batch, dim=1) if row_VB.shape[1] > 1]
    for one in runs:
        one.estimator.train()
    stack.begin(seeds)
    losses = [stack(row_VB) for row_VB in torch.split(order_VW.to(stack.device), batch, dim=1)[: len(rows)]]
    loss_NV3 = torch.stack(losses).cpu().numpy()
    return [
        Epoch(loss_NV3[:, network].copy(), [row_VB[network].numpy() for row_VB in rows]) for network in range(len(runs))
    ]


def _take(one: _Run, epoch: Epoch, stack: Stack, network: int, task: Task, *, beside: int) -> None:
    try:
        one.ongoing.require_numbers(epoch, one.training)
        found = one.ongoing.validated(one.estimator, epoch, one.training, one.unseen)
        note = one.ongoing.took(epoch, found, one.estimator.state_dict(), beside=beside)
        one.ongoing.keep(one.estimator.state_dict(), stack.state(network))
    except VapromptError as error:
        one.error, note = error, "broken"
        if isinstance(error, StoreError):
            one.ongoing.withdraw()
    task.advance(1, f"{one.ongoing.run.name}: {note}")


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Return the fields of a recipe by their dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        leaf: found
        for key, below in value.items()
        for leaf, found in _leaves(below, f"{name}.{key}" if name else key).items()
    }
