"""Stage 1: a data set through the frozen encoders into a feature store, one video after the other.

Axes: F annotated frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vaprompt import __version__
from vaprompt.datasets.annotation import annotation_of
from vaprompt.datasets.base import Annotation, Dataset, Labels, Video
from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.errors import AnnotationError, DatasetError, MediaError
from vaprompt.extraction.claims import Claims
from vaprompt.extraction.encode_media import audio_batches, encode_pictures, image_batches, known_times, sound_notes
from vaprompt.extraction.fingerprints import stream_fingerprints
from vaprompt.extraction.pictures import face_pictures
from vaprompt.extraction.plan import Examiner, Job, Plan, Shard, plan, sources
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.sources import facts
from vaprompt.extraction.whose_face import whose_face
from vaprompt.faces.detector import CenterFace, Detector
from vaprompt.faces.search import FoundFaces, find_faces
from vaprompt.media.video import frame_times
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.features import ImageFeatures
from vaprompt.store.leases import PROMPTS, Leases

MAKERS = ("torch", "open_clip_torch", "transformers", "av", "zarr")
"""Packages whose versions are kept with a store, beside our own; they are no part of its fingerprint."""

NO_LABEL = -5.0
"""Aff-Wild2's mark for frames that are not valid, here for all frames of videos without annotation."""


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
    """The reason for each video that could not be extracted; the next run tries again."""
    changed: dict[str, str] = field(default_factory=dict)
    """How the sources of videos have changed that are in the store as they were before; `refresh` makes them again."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Remarks on videos that were extracted now or before."""


def extract(
    dataset: Dataset,
    recipe: ExtractRecipe,
    store: Path,
    *,
    device: str = "cpu",
    limit: int | None = None,
    shard: Shard | None = None,
    stream: str | None = None,
    refresh: bool = False,
    deep: bool = False,
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
        device: where the networks run, such as `cpu` or `cuda:0`.
        limit: look at the data set's first so many videos only.
        shard: look at every n-th of them only.
        stream: keep the features under this name, beside those of other encoders.
        refresh: make again what was made of sources that have changed since; else it is only reported.
        deep: look for such changes by digests, also where sizes and modification times are the same.
        progress: told what is being done.

    Raises:
        WeightsError: an encoder's weights are not at hand, or do not belong to it.
        DetectorError: faces are to be found, and the detector is not installed.
        FingerprintError: the store there was made by another recipe or of another data set.
        StoreError: the store is damaged, or another writer took this one for dead.
        TargetError: the store cannot be written.
    """
    fingerprints = stream_fingerprints(recipe, dataset.faces)
    if dataset.annotations is not None:
        fingerprints["labels"] |= dataset.annotations.fingerprint
    described: dict[str, Any] = {"name": dataset.name, "layout": dataset.layout, "faces": dataset.faces}
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
    report = _Extraction(examiner, recipe, fingerprints, device, progress).run(limit, shard)
    target.write_index()
    return report


class _Extraction:
    """One run: what all its videos share."""

    def __init__(
        self,
        examiner: Examiner,
        recipe: ExtractRecipe,
        fingerprints: Mapping[str, Mapping[str, Any]],
        device: str,
        progress: Progress,
    ) -> None:
        self._examiner, self._recipe = examiner, recipe
        self._dataset, self._store = examiner.dataset, examiner.store
        self._fingerprints, self._device, self._progress = fingerprints, device, progress
        self._found: tuple[Path, FoundFaces] | None = None

    @cached_property
    def _image_encoder(self) -> ImageEncoder:
        return image_encoder(self._recipe.image, self._device)

    @cached_property
    def _detector(self) -> Detector:
        return CenterFace()

    @cached_property
    def _audio_encoder(self) -> AudioEncoder:
        return audio_encoder(self._recipe.audio, self._device)

    def run(self, limit: int | None, shard: Shard | None) -> ExtractionReport:
        todo = plan(self._examiner, limit=limit, shard=shard)
        report = ExtractionReport(skipped=list(todo.done), changed=dict(todo.changed))
        # A failure that is recorded still was overcome by a run that was killed before it could say so.
        overcome = self._store.failed().keys() & set(todo.done)
        if todo.jobs or overcome or self._missing_prompts():
            with self._store.writing() as leases:
                for video in overcome:
                    self._store.clear_failure(video)
                self._make(todo, report, leases)
        for video in (*report.done, *report.elsewhere, *report.skipped):
            notes = self._store.notes(video)
            if notes:
                report.notes[video] = notes
        return report

    def _make(self, todo: Plan, report: ExtractionReport, leases: Leases) -> None:
        # Who finds another at the prompts goes on, and looks again in the end.
        if leases.acquire(PROMPTS):
            self._embed_prompts()
            leases.release(PROMPTS)
        if todo.jobs:
            self._store.record_maker({"vaprompt": __version__, **{name: metadata.version(name) for name in MAKERS}})
            with self._progress.task("extracting", total=len(todo.jobs), unit="videos") as task:
                claims = Claims(todo, self._examiner, leases, task)
                for job in claims:
                    if job is not None:
                        self._attempt(job, report, task, claims)
            report.elsewhere.extend(claims.elsewhere)
            report.failed.update(claims.failed_elsewhere)
        with leases.holding(PROMPTS):
            self._embed_prompts()

    def _missing_prompts(self) -> list[str]:
        known = self._store.text()
        return [text for text in self._recipe.prompts.texts() if text not in known]

    def _embed_prompts(self) -> None:
        missing = self._missing_prompts()
        if missing:
            embedding_PD = self._image_encoder.encode_text(missing).numpy()
            self._store.write_text(dict(zip(missing, embedding_PD, strict=True)), self._fingerprints["text"])

    def _attempt(self, job: Job, report: ExtractionReport, task: Task, claims: Claims) -> None:
        """Extract one video; what is wrong with its own files is recorded, anything else ends the run."""
        name = job.video.name
        try:
            self._extract(job, task)
        except (MediaError, AnnotationError, DatasetError) as error:
            claims.failed(job, str(error))
            report.failed[name] = str(error)
            self._progress.say(f"{name} failed: {error}")
        else:
            claims.finished(job)
            report.done.append(name)

    def _extract(self, job: Job, task: Task) -> None:
        video = job.video
        media, crops = self._files(video)
        wants_image, wants_labels = "image" in job.streams, "labels" in job.streams
        # First what is cheap: labels that cannot be read or do not fit must not cost an hour of encoding.
        label_sources = self._sources("labels", video) if wants_labels else {}
        annotated = annotation_of(self._dataset, video) if wants_labels else None
        found = self._find(video, media, task) if wants_image and self._dataset.faces == "detect" else None
        if found is not None:
            time_F: Float64[np.ndarray, "F"] | None = found.time_F
        else:
            time_F = known_times(media, self._recipe, crops) if wants_image else frame_times(media)
        if time_F is not None:
            _fitted(annotated, time_F)
        if wants_image:
            pictures = self._pictures(video, media, crops, time_F, found)
            time_F = self._write_image(video, pictures, time_F, task)
        assert time_F is not None
        if "audio" in job.streams:
            self._write_audio(video, media, float(time_F[-1]), task)
        if wants_labels:
            labels, notes = _fitted(annotated, time_F)
            self._write_labels(video, labels, time_F[: len(labels.valid_F)], notes, label_sources)

    def _files(self, video: Video) -> tuple[Path, Path | None]:
        """Return a video's media file and, where the image stream reads them, its crops."""
        if video.media is None:
            fault = "has no media file, so neither times nor sound"
            raise DatasetError(video.name, fault=fault, remedy="add the file, or exclude the video")
        if self._dataset.faces != "crops":
            return video.media, None
        if video.crops is None:
            raise DatasetError(video.name, fault="has no face crops", remedy="unpack them, or exclude the video")
        return video.media, video.crops

    def _find(self, video: Video, media: Path, task: Task) -> FoundFaces:
        """Return the faces in a video; those of the latest one are kept, as two people can share it."""
        if self._found is None or self._found[0] != media:
            task.advance(0, note=f"{video.name}, finding faces")
            self._found = media, find_faces(media, self._detector, self._recipe.face)
        return self._found[1]

    def _pictures(
        self,
        video: Video,
        media: Path,
        crops: Path | None,
        time_F: Float64[np.ndarray, "F"] | None,
        found: FoundFaces | None,
    ) -> Iterator[ImageFeatures]:
        if found is None:
            return image_batches(media, self._recipe, self._image_encoder, crops=crops, time_F=time_F)
        person = whose_face(video, self._dataset, found.people)
        pictures = face_pictures(media, self._recipe.image_rate, found.time_F, person, self._recipe.face)
        return encode_pictures(pictures, self._recipe, self._image_encoder)

    def _write_image(
        self,
        video: Video,
        pictures: Iterator[ImageFeatures],
        known_F: Float64[np.ndarray, "F"] | None,
        task: Task,
    ) -> Float64[np.ndarray, "F"]:
        """Encode and write the pictures; return the times of all frames."""
        times: list[Float64[np.ndarray, "N"]] = []
        with self._store.writer("image", video.name, self._fingerprints["image"]) as writer:
            source = self._sources("image", video)
            for batch in pictures:
                writer.append(embedding=batch.embedding_ND, frame=batch.frame_N, time=batch.time_N)
                times.append(batch.time_N)
                task.advance(0, note=f"{video.name}, frame {batch.frame_N[-1]}")
            encoded = sum(len(time_N) for time_N in times)
            time_F = np.concatenate(times) if known_F is None else known_F
            writer.publish(
                {
                    "split": video.split,
                    "source": source,
                    "counts": {"frames": len(time_F), "encoded": encoded, "seconds": float(time_F[-1])},
                    "notes": [],
                }
            )
        return time_F

    def _write_audio(self, video: Video, media: Path, last: float, task: Task) -> None:
        windows = 0
        with self._store.writer("audio", video.name, self._fingerprints["audio"]) as writer:
            source = self._sources("audio", video)
            for batch in audio_batches(media, self._recipe.audio, self._audio_encoder, last=last):
                writer.append(embedding=batch.embedding_WSD, end=batch.end_W)
                windows += len(batch.end_W)
                task.advance(0, note=f"{video.name}, sound {max(0.0, float(batch.end_W[-1])):.0f} of {last:.0f} s")
            writer.publish(
                {
                    "split": video.split,
                    "source": source,
                    "counts": {"windows": windows, "seconds": last},
                    "notes": sound_notes(media),
                }
            )

    def _write_labels(
        self,
        video: Video,
        labels: Labels,
        time_F: Float64[np.ndarray, "F"],
        notes: list[str],
        source: Mapping[str, Any],
    ) -> None:
        with self._store.writer("labels", video.name, self._fingerprints["labels"]) as writer:
            writer.append(value=labels.value_F2, valid=labels.valid_F, time=time_F)
            writer.publish(
                {
                    "split": video.split,
                    "source": source,
                    "counts": {
                        "frames": len(time_F),
                        "valid": int(labels.valid_F.sum()),
                        "seconds": float(time_F[-1]),
                    },
                    "notes": notes,
                }
            )

    def _sources(self, stream: str, video: Video) -> dict[str, Any]:
        return {role: facts(path) for role, path in sources(self._dataset, stream, video).items()}


def _fitted(annotated: Annotation | None, time_F: Float64[np.ndarray, "F"]) -> tuple[Labels, list[str]]:
    """Return labels for as many frames as a video has (none valid without annotation), and remarks on them."""
    if annotated is None:
        frames = len(time_F)
        return Labels(np.full((frames, 2), NO_LABEL, dtype=np.float32), np.zeros(frames, dtype=np.bool_)), []
    return annotated.fitted(time_F)
