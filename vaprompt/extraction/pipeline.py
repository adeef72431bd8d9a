"""Stage 1: a data set through the frozen encoders into a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vaprompt.cluster import Cluster, require_ray
from vaprompt.datasets.base import Dataset
from vaprompt.errors import TargetError
from vaprompt.extraction.claims import Claims
from vaprompt.extraction.fingerprints import dataset_fingerprints
from vaprompt.extraction.makers import versions
from vaprompt.extraction.plan import Examiner, Job, Plan, Shard, plan
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.stages import RunLog
from vaprompt.extraction.work import Engine, Told, Work
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.leases import PROMPTS, Leases


@dataclass(frozen=True)
class ExtractionReport:
    """What became of each video of an extraction."""

    done: list[str] = field(default_factory=list)
    """Extracted now."""
    skipped: list[str] = field(default_factory=list)
    """Whole in the store already."""
    elsewhere: list[str] = field(default_factory=list)
    """Extracted meanwhile by another writer of the store."""
    failed: dict[str, str] = field(default_factory=dict)
    """The reason for each video that could not be extracted, or whose files could not be looked at, though it is whole
    in the store; the next run tries again."""
    changed: dict[str, str] = field(default_factory=dict)
    """How the sources of videos have changed that are in the store as they were before; `refresh` makes them again."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Remarks on videos that were extracted now or before."""


def extract(
    dataset: Dataset,
    recipe: ExtractRecipe,
    store: Path,
    *,
    device: str | Sequence[str] = "cpu",
    limit: int | None = None,
    shard: Shard | None = None,
    stream: str | None = None,
    refresh: bool = False,
    deep: bool = False,
    cluster: Cluster | None = None,
    progress: Progress = SILENT,
) -> ExtractionReport:
    """Bring into the store what it lacks of the data set; a video that fails is recorded, and the others go on.

    Killed at any moment and run again, it ends with what an undisturbed run would have written. Several may run at
    once, on one machine or on many that share the store's disk: each video is made by one of them, and each of them
    returns when all of them are done.

    Args:
        dataset: the videos.
        recipe: the encoders and how pictures and sound are sampled.
        store: the store's folder, begun if there is none.
        device: where the networks run, such as `cpu`, `cuda:0` or `auto`; of several, each gets its own networks.
        limit: look at the data set's first so many videos only.
        shard: look at every n-th of them only.
        stream: keep the features under this name, beside those of other encoders.
        refresh: make again what was made of sources that have changed since; else it is only reported.
        deep: look for such changes by digests, also where sizes and modification times are the same.
        cluster: work on a Ray cluster, all of whose nodes see data set and store under the same path; None: here.
        progress: told what is being done.

    Raises:
        WeightsError: an encoder's weights are not at hand, or do not belong to it.
        DetectorError: faces are to be found, and the detector is not installed.
        DeviceError: a device was asked for that this machine does not have.
        FingerprintError: the store there was made by another recipe or of another data set.
        StoreError: the store is damaged, or another writer took this one for dead.
        TargetError: the store cannot be written.
        ClusterError: Ray is not installed, there is no cluster, or its workers cannot work.
    """
    if cluster is not None:
        require_ray()
    fingerprints = dataset_fingerprints(recipe, dataset)
    described: dict[str, Any] = {"name": dataset.name, "layout": dataset.layout, "faces": dataset.faces}
    described |= dataset.rates.described
    if dataset.label_range is not None:
        described["label_range"] = list(dataset.label_range)
    target = FeatureStore.create(
        store,
        dataset=described,
        recipe=recipe.model_dump(mode="json"),
        stream=stream,
        fingerprints=fingerprints,
    )
    examiner = Examiner(dataset, target, deep=deep, refresh=refresh)
    work = Work(dataset, recipe, target.path, stream, fingerprints, device)
    report = _Extraction(examiner, work, cluster, progress).run(limit, shard)
    with suppress(TargetError):  # a cache; a disk that takes no more is told of by what needs to be written
        target.write_index()
    return report


class _Extraction:
    """One run: what all its videos share."""

    def __init__(self, examiner: Examiner, work: Work, cluster: Cluster | None, progress: Progress) -> None:
        self._examiner, self._work, self._store, self._progress = examiner, work, examiner.store, progress
        self._cluster = cluster
        self._log, self._closing = RunLog(self._store.path), ExitStack()

    @cached_property
    def _engine(self) -> Engine:
        engine = self._new_engine()
        self._closing.callback(engine.close)
        return engine

    def _new_engine(self) -> Engine:
        # Only where there is something to do: what it imports takes seconds.
        if self._cluster is not None:
            from vaprompt.extraction.ray_engine import RayEngine

            return RayEngine(self._work, self._store, self._log, self._cluster, self._progress)
        from vaprompt.extraction.local import engine_here

        return engine_here(self._work, self._store, self._log, self._progress)

    def run(self, limit: int | None, shard: Shard | None) -> ExtractionReport:
        todo = plan(self._examiner, limit=limit, shard=shard)
        report = ExtractionReport(skipped=list(todo.done), failed=dict(todo.unreadable), changed=dict(todo.changed))
        for video, reason in todo.unreadable.items():
            self._progress.say(f"{video} failed: {reason}")
        # A failure that is recorded still was overcome by a run that was killed before it could say so.
        overcome = self._store.failed().keys() & set(todo.done)
        if todo.jobs or overcome or self._missing_prompts():
            with self._store.writing() as leases:
                for video in overcome:
                    self._store.clear_failure(video)
                with self._closing:
                    self._make(todo, report, leases)
        for video in (*report.done, *report.elsewhere, *report.skipped):
            notes = self._store.notes(video)
            if notes:
                report.notes[video] = notes
        return report

    def _make(self, todo: Plan, report: ExtractionReport, leases: Leases) -> None:
        if todo.jobs:
            self._engine.prepare(len(todo.jobs))
        # Who finds another at the prompts goes on, and looks again in the end.
        if leases.acquire(PROMPTS):
            self._embed_prompts()
            leases.release(PROMPTS)
        if todo.jobs:
            self._store.record_maker(versions())
            with self._progress.task("extracting", total=len(todo.jobs), unit="videos") as task:
                self._extract(todo, report, Claims(todo, self._examiner, leases, task), task)
        with leases.holding(PROMPTS):
            self._embed_prompts()

    def _extract(self, todo: Plan, report: ExtractionReport, claims: Claims, task: Task) -> None:
        """Extract videos; what is wrong with a video's own files is recorded, anything else ends the run."""

        def finished(job: Job) -> None:
            claims.finished(job)
            report.done.append(job.video.name)

        def failed(job: Job, reason: str) -> None:
            claims.failed(job, reason)
            report.failed[job.video.name] = reason
            self._progress.say(f"{job.video.name} failed: {reason}")

        self._log.write(
            "begin",
            store=self._store.path.name,
            videos=len(todo.jobs),
            **self._engine.about,
            image=self._work.recipe.image.model_dump(mode="json"),
            audio=self._work.recipe.audio.model_dump(mode="json"),
        )
        self._engine.run(iter(claims), Told(finished, failed, claims.lost), task)
        self._log.write("end", done=len(report.done), failed=len(report.failed))
        report.elsewhere.extend(claims.elsewhere)
        report.failed.update(claims.failed_elsewhere)
        # They are done in another order than they are listed in.
        place = {video.name: index for index, video in enumerate(self._work.dataset.videos)}
        report.done.sort(key=place.__getitem__)

    def _missing_prompts(self) -> list[str]:
        known = self._store.text()
        return [text for text in self._work.recipe.prompts.texts() if text not in known]

    def _embed_prompts(self) -> None:
        missing = self._missing_prompts()
        if missing:
            embedding_PD = self._engine.embed(missing)
            self._store.write_text(dict(zip(missing, embedding_PD, strict=True)), self._work.fingerprints["text"])
