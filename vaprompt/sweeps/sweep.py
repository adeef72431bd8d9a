"""A sweep from beginning to end: what is missing is trained and scored, what is there is left as it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vaprompt.cluster import Cluster
from vaprompt.devices import cores, emulation, pick_device
from vaprompt.errors import RunError, VapromptError
from vaprompt.files import make_folder, write_json
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.store.leases import present
from vaprompt.sweeps.board import Board, Nobody, Watcher
from vaprompt.sweeps.dispatch import Source, dispatch
from vaprompt.sweeps.listed import Listed
from vaprompt.sweeps.pool import Alone, Pool, Processes
from vaprompt.sweeps.results import Found, Standing, found_in
from vaprompt.sweeps.search import Search
from vaprompt.sweeps.tables import paper_rows, table_json, table_rows
from vaprompt.sweeps.variants import Sweep, Variant, base_of
from vaprompt.sweeps.work import Job, Outcome, Work, is_over
from vaprompt.training.facts import facts_of, require_same
from vaprompt.training.prompts import require_prompts
from vaprompt.training.runs import FACTS, read_facts
from vaprompt.training.stacked import stackable
from vaprompt.training.tensorboard import logged

Stacking = Literal["auto", "never", "always"]
RESULT = "sweep.json"
CORES = 2
"""That one training makes use of on the processor."""
LONG = 30_000.0
"""Seconds of video, times epochs and variants, from which the paper's heads train for more than a minute."""
WORTH = 3
"""Variants from which on a GPU trains a stack of them faster than one after the other (`benchmarks/train_gpu.json`)."""


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended."""

    sweep: Sweep
    found: list[Found]
    """What is known of each variant, in the sweep's order."""
    trained: int
    """Variants that this call trained or scored."""
    workers: int
    seconds: float
    """Wall time of this call."""

    @property
    def failed(self) -> list[Found]:
        """The variants that could not be trained or scored."""
        return [one for one in self.found if one.state == "failed"]


def run_sweep(
    store: Path | str,
    sweep: Sweep,
    runs: Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    cluster: Cluster | None = None,
    memory: int | None = None,
    stack: Stacking = "auto",
    score: bool = True,
    log: str | None = None,
    watcher: Watcher | None = None,
    progress: Progress = SILENT,
) -> SweepResult:
    """Train and score a sweep's variants on a store, each in a folder of `runs`, and write sweep.json there.

    A sweep that was stopped, whenever, goes on when the same is asked for again; the runs end with the bytes that
    `train` alone would leave, however many there are side by side. Several processes that are asked for the same at
    once, on machines that see the folder too, share the work.

    Args:
        store: a feature store: its path or URL.
        sweep: what is to be trained.
        runs: folder for the runs; created. What other sweeps left there stays.
        device: `auto`, `cpu`, `cuda`, ...
        workers: how many train side by side; None: one for each core, or for every two where there is little to do, or
            one on an accelerator.
        cluster: a Ray cluster to train on, and how much of it a worker takes; `workers` is then its own.
        memory: bytes of features that may lie in a worker's memory at a time, about; None: all.
        stack: whether variants that differ only in numbers are trained as one network with one more axis: where that
            is faster, never, or always. They become what they would become alone, but for the order in which sums are
            added up, and so not to the last bit.
        score: whether to score each run on the validation split, as `evaluate` does.
        log: `tensorboard`: write each run's epochs for it, besides metrics.jsonl.
        watcher: who is shown how far each variant is.
        progress: who is told of a store that has to be fetched first.

    Raises:
        RecipeError: the sweep names a table of the paper's, and a variant is called like none of its rows.
        StoreError: the store lacks what a variant needs; nothing was trained then. Or others took this process for
            dead.
        RunError: a variant's folder holds a run of something else; or all variants failed for one reason.
        VapromptError: all variants failed for one reason.
    """
    started = time.perf_counter()
    watcher = Nobody() if watcher is None else watcher
    if cluster is None:
        device = pick_device(device)  # else each worker looks for its own
    paper_rows(sweep)
    make_folder(runs)
    with logged(log):
        pass  # that it can be is seen before anything is trained
    planned = sweep.variants or (base_of(sweep, runs),)
    opened: dict[str | None, FeatureStore] = {}
    _check(store, planned, device, progress, opened)
    if cluster is None:
        for precision in sorted({variant.recipe.compute.precision for variant in planned}):
            if warning := emulation(precision, device):
                watcher.say(f"compute.precision: {warning}")
    work = Work(str(store), device, memory, score, None, log, sweep.search)
    with ExitStack() as ending:
        # Variants are given back once nobody trains them any more: what is entered first ends last.
        leases = ending.enter_context(present(runs))
        search = None if sweep.search is None else Search(sweep, runs, leases, watcher)
        if search is not None:
            _check(store, search.begun(), device, progress, opened)
        pool: Pool | None = None
        if cluster is not None:
            from vaprompt.sweeps.ray_pool import OnCluster

            pool = on_cluster = ending.enter_context(closing(OnCluster(work, cluster, watcher)))
            device = "cuda" if on_cluster.size.gpus else "cpu"
        board = Board(sweep.variants, trials=0 if search is None else search.left)
        source: Source = search or Listed(jobs_of(_missing(sweep, work, board), stack, device), leases, watcher)
        most = source.left
        if pool is None:
            ahead = _seconds(next(iter(opened.values()))) * most * max(variant.recipe.epochs for variant in planned)
            count = min(workers or default_workers(device, ahead), max(1, most))
            pool = ending.enter_context(closing(_local(work, count)))
        with watcher.watching(board):
            outcomes = dispatch(source, pool, board, watcher)
        count = pool.count  # that of a cluster is not to be had once it is left
    stood = search.standing() if search else [Standing(one, "done") for one in sweep.variants]
    _require_one_that_worked([one.variant for one in stood], outcomes)
    by_label = {outcome.variant.label: outcome for outcome in outcomes}
    found = [found_in(one, by_label.get(one.variant.label), sweep.base, work.store) for one in stood]
    trained = sum(outcome.state != "failed" and not outcome.was_there for outcome in outcomes)
    result = SweepResult(sweep, found, trained, count, time.perf_counter() - started)
    write_json(runs / RESULT, summary(result))
    return result


def _missing(sweep: Sweep, work: Work, board: Board) -> list[Variant]:
    """Return the variants that are not over yet, and tell the board of the others."""
    missing = []
    for variant in sweep.variants:
        if is_over(variant, work):
            board.end(variant, "done")
        else:
            missing.append(variant)
    return missing


def _local(work: Work, count: int) -> Pool:
    """Return so many workers on this machine, which share its cores."""
    return Alone(work) if count == 1 else Processes(replace(work, cores=max(1, cores() // count)), count)


def jobs_of(variants: Sequence[Variant], stack: Stacking, device: str) -> list[Job]:
    """Return the jobs that variants make, those that are to be stacked together."""
    if stack == "never" or (stack == "auto" and device == "cpu"):
        return [Job((variant,)) for variant in variants]
    groups = stackable([variant.recipe for variant in variants])
    least = WORTH if stack == "auto" else 1
    jobs = [[group] if len(group) >= least else [[index] for index in group] for group in groups]
    return [Job(tuple(variants[index] for index in group)) for parts in jobs for group in parts]


def default_workers(device: str, ahead: float) -> int:
    """Return how many trainings side by side a device is good for, if nothing is said.

    Args:
        device: the device.
        ahead: seconds of video that all trainings will go through in all their epochs.
    """
    if device != "cpu":
        return 1
    # A core for each gets more done than two, but every process takes seconds to start.
    return cores() if ahead >= LONG else max(1, cores() // CORES)


def summary(result: SweepResult) -> dict[str, Any]:
    """Return a sweep's result as JSON-ready values."""
    return {
        "sweep": str(result.sweep.source),
        "variants": [one.as_json() for one in result.found],
        "failed": [one.variant.label for one in result.failed],
        "table": table_json(table_rows(result.sweep, result.found)),
        "trained": result.trained,
        "workers": result.workers,
        "seconds": result.seconds,
    }


def _check(
    store: Path | str,
    variants: Sequence[Variant],
    device: str,
    progress: Progress,
    opened: dict[str | None, FeatureStore],
) -> None:
    """Refuse, before anything is trained, what cannot be trained: missing streams or prompts, folders of other runs.

    Args:
        store: its path or URL.
        variants: that are to be trained, or were.
        device: what computes.
        progress: who is told of a store that has to be fetched first.
        opened: the store with each stream; those that are needed besides are added.

    Raises:
        StoreError: the store lacks something.
        RunError: a folder holds a run of something else.
    """
    known: set[Any] = set()
    for variant in variants:
        recipe = variant.recipe
        if recipe.stream not in opened:
            opened[recipe.stream] = open_store(store, progress, recipe.stream)
        there = (variant.run / FACTS).exists()
        about = (recipe.stream, recipe.model.modalities, recipe.regions, recipe.model.prompt)
        if there or about not in known:
            facts = facts_of(opened[recipe.stream], recipe, device, "validation")
            require_prompts(opened[recipe.stream], recipe)
            known.add(about)
            if there:
                require_same(variant.run, read_facts(variant.run), facts)


def _seconds(store: FeatureStore) -> float:
    """Return how long all videos of a store are together."""
    counts = (store.summary("labels", video).get("counts", {}) for video in store.videos())
    return sum(float(count.get("seconds", 0.0)) for count in counts)


def _require_one_that_worked(variants: Sequence[Variant], outcomes: Sequence[Outcome]) -> None:
    """Raise the reason for which all variants failed, if it is one and the same.

    Raises:
        VapromptError: it is.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors and len(errors) == len(variants) and len({_apart_from_the_run(error) for error in errors}) == 1:
        raise errors[0]


def _apart_from_the_run(error: VapromptError) -> tuple[Any, ...]:
    where = None if isinstance(error, RunError) else error.where
    return type(error), where, error.fault, error.remedy
