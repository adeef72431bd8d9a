"""Stage 1: a data set through the frozen encoders into a feature store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vaprompt import __version__
from vaprompt.datasets.base import Dataset
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction.engine import Engine, Told
from vaprompt.extraction.fingerprints import stream_fingerprints
from vaprompt.extraction.loaded import Encoders
from vaprompt.extraction.plan import Job, Plan, plan
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.stages import RunLog
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.layout import read_attributes

MAKERS = ("torch", "open_clip_torch", "transformers", "av", "zarr")
"""Packages whose versions are kept with a store, beside our own; they are no part of its fingerprint."""


@dataclass(frozen=True)
class ExtractionReport:
    """What became of each video of an extraction."""

    done: list[str] = field(default_factory=list)
    """Extracted now."""
    skipped: list[str] = field(default_factory=list)
    """Whole in the store already."""
    failed: dict[str, str] = field(default_factory=dict)
    """The reason for each video that could not be extracted; the next run tries again."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Remarks on videos that were extracted now or before."""


def extract(
    dataset: Dataset,
    recipe: ExtractRecipe,
    store: Path,
    *,
    device: str | Sequence[str] = "cpu",
    limit: int | None = None,
    progress: Progress = SILENT,
) -> ExtractionReport:
    """Bring into the store what it lacks of the data set; a video that fails is recorded, and the others go on.

    Killed at any moment and run again, it ends with what an undisturbed run would have written.

    Args:
        dataset: the videos.
        recipe: the encoders and how pictures and sound are sampled.
        store: the store's folder, begun if there is none.
        device: where the networks run, such as `cpu` or `cuda:0`; of several, each gets its own networks.
        limit: look at the data set's first so many videos only.
        progress: told what is being done.

    Raises:
        WeightsError: an encoder's weights are not at hand, or do not belong to it.
        DetectorError: faces are to be found, and the detector is not installed.
        FingerprintError: the store there was made by another recipe or of another data set.
        StoreError: the store is damaged, or being written by another process.
        TargetError: the store cannot be written.
    """
    fingerprints = stream_fingerprints(recipe, dataset.faces)
    if dataset.annotations is not None:
        fingerprints["labels"] |= dataset.annotations.fingerprint
    if read_attributes(store) is not None:
        there = FeatureStore.open(store)
        for stream, fingerprint in fingerprints.items():
            there.require(stream, fingerprint)
    described: dict[str, Any] = {"name": dataset.name, "layout": dataset.layout, "faces": dataset.faces}
    if dataset.label_range is not None:
        described["label_range"] = list(dataset.label_range)
    target = FeatureStore.create(
        store,
        dataset=described,
        recipe=recipe.model_dump(mode="json"),
    )
    with target.exclusive():
        return _Extraction(dataset, recipe, target, fingerprints, device, progress).run(limit)


class _Extraction:
    """One run: what all its videos share."""

    def __init__(
        self,
        dataset: Dataset,
        recipe: ExtractRecipe,
        store: FeatureStore,
        fingerprints: Mapping[str, Mapping[str, Any]],
        device: str | Sequence[str],
        progress: Progress,
    ) -> None:
        self._dataset, self._recipe, self._store = dataset, recipe, store
        self._fingerprints, self._progress = fingerprints, progress
        self._devices = [device] if isinstance(device, str) else list(device)
        self._log = RunLog(store.path)
        self._encoders = Encoders(
            recipe,
            self._devices,
            lambda device: image_encoder(recipe.image, device),
            lambda device: audio_encoder(recipe.audio, device),
            self._log,
        )

    def run(self, limit: int | None) -> ExtractionReport:
        todo = plan(self._dataset, self._store, limit)
        self._embed_prompts()
        report = ExtractionReport(skipped=list(todo.done))
        if todo.jobs:
            self._store.record_maker({"vaprompt": __version__, **{name: metadata.version(name) for name in MAKERS}})
            with self._progress.task("extracting", total=len(todo.jobs), unit="videos") as task:
                self._make(todo, report, task)
        for video in (*report.done, *report.skipped):
            notes = self._store.notes(video)
            if notes:
                report.notes[video] = notes
        return report

    def _make(self, todo: Plan, report: ExtractionReport, task: Task) -> None:
        """Extract videos; what is wrong with a video's own files is recorded, anything else ends the run."""

        def finished(job: Job) -> None:
            self._store.clear_failure(job.video.name)
            report.done.append(job.video.name)
            task.advance(1, note=job.video.name)

        def failed(job: Job, reason: str) -> None:
            self._store.record_failure(job.video.name, reason)
            report.failed[job.video.name] = reason
            self._progress.say(f"{job.video.name} failed: {reason}")
            task.advance(1, note=job.video.name)

        self._log.write(
            "begin",
            store=self._store.path.name,
            videos=len(todo.jobs),
            devices=self._devices,
            cores=os.cpu_count(),
            threads=torch.get_num_threads(),
            image=self._recipe.image.model_dump(mode="json"),
            audio=self._recipe.audio.model_dump(mode="json"),
        )
        engine = Engine(self._dataset, self._recipe, self._store, self._fingerprints, self._encoders, self._log)
        engine.run(iter(todo.jobs), Told(finished, failed), task)
        self._log.write("end", done=len(report.done), failed=len(report.failed))
        # They are done in another order than they are planned in.
        place = {job.video.name: index for index, job in enumerate(todo.jobs)}
        report.done.sort(key=place.__getitem__)

    def _embed_prompts(self) -> None:
        known = self._store.text()
        missing = [text for text in self._recipe.prompts.texts() if text not in known]
        if missing:
            embedding_PD = self._encoders.image().encode_text(missing).numpy()
            self._store.write_text(dict(zip(missing, embedding_PD, strict=True)), self._fingerprints["text"])
