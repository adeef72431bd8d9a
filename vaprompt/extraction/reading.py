"""Reading one video for an engine: its labels, pictures and sound, in the order in which they can be refused.

Axes: F frames of the video, N frames that are encoded, W audio windows, L samples, H rows, C colours, S side.
"""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from vaprompt.datasets.annotation import annotation_of
from vaprompt.datasets.base import Annotation, Dataset, Labels, Video
from vaprompt.errors import DatasetError, StoreError
from vaprompt.extraction.batches import Batcher
from vaprompt.extraction.decoding import Arrays, Wanted, WantedFacts, WantedPictures, WantedSound, WantedTimes
from vaprompt.extraction.encode_media import BATCH_BYTES, sound_notes
from vaprompt.extraction.grid import audio_ends
from vaprompt.extraction.loaded import Encoders
from vaprompt.extraction.parts import LabelPart, Message, Place, ReadEnd, Running, SoundOf, StreamEnd, Stretch
from vaprompt.extraction.plan import own_rows, sources
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.sources import facts
from vaprompt.extraction.stages import READ, RESIZE, ROOM, Meter
from vaprompt.extraction.whose_face import whose_face
from vaprompt.faces.detector import CenterFace, Detector
from vaprompt.faces.search import FoundFaces, find_faces
from vaprompt.media.audio import has_audio
from vaprompt.media.clock import steady_times
from vaprompt.media.crops import last_crop
from vaprompt.media.resize import fitted
from vaprompt.store.feature_store import FeatureStore

NO_LABEL = -5.0
"""Aff-Wild2's mark for frames that are not valid, here for all frames of videos without annotation."""


class Reader:
    """Reads videos; several threads share one."""

    def __init__(
        self,
        dataset: Dataset,
        recipe: ExtractRecipe,
        store: FeatureStore,
        image: Mapping[str, Any],
        encoders: Encoders,
        decode: Callable[[Wanted], Generator[Arrays]],
        batcher: Batcher[Stretch],
        tell: Callable[[Message], None],
        meter: Meter,
    ) -> None:
        """Bring stretches to `batcher` and messages to `tell`.

        Args:
            dataset: where the videos are from.
            recipe: how they are sampled.
            store: where features of the same sound may be already.
            image: fingerprint of the image stream, if there is one.
            encoders: for whom it is.
            decode: decodes, here or elsewhere.
            batcher: takes the stretches.
            tell: takes the messages.
            meter: is told how long it takes.
        """
        self._dataset, self._recipe, self._store, self._fit = dataset, recipe, store, image
        self._encoders, self._decode = encoders, decode
        self._batcher, self._tell, self._meter = batcher, tell, meter
        self._found: tuple[Path, str, FoundFaces] | None = None
        self._finding, self._hearing = threading.Lock(), threading.Lock()
        self._heard: dict[tuple[Path, str], str] = {}
        self._sharing: defaultdict[Path, list[str]] = defaultdict(list)
        for video in dataset.videos:
            if video.media is not None:
                self._sharing[video.media].append(video.name)
        # An accelerator resizes faster than the processor feeds it; the processor itself encodes beside the readers.
        self._resizes = torch.device(encoders.devices[0]).type == "cpu"

    def read(self, running: Running) -> None:
        """Read what is missing of a video, and bring it.

        Raises:
            MediaError: its media cannot be decoded.
            AnnotationError: its labels cannot be read, or do not fit.
            DatasetError: a file of it is missing, or nobody is found in it.
            Stopped: the extraction is being ended.
        """
        video, streams = running.job.video, running.job.streams
        media, crops = self._files(video)
        wants_image, wants_labels = "image" in streams, "labels" in streams
        # Before anything is read, once for all streams: if the file changes meanwhile, all are of what it was then.
        made_of = {} if video.media is None else {video.media: self._facts(video.media)}
        # First what is cheap: labels that cannot be read or do not fit must not cost an hour of encoding.
        labels_source = self._sources("labels", video, made_of) if wants_labels else {}
        annotated = annotation_of(self._dataset, video) if wants_labels else None
        detects = wants_image and self._dataset.faces == "detect"
        found = self._find(_known(media), made_of[_known(media)]["sha256"]) if detects else None
        if found is not None:
            time_F: Float64[np.ndarray, "F"] | None = found.time_F
        else:
            # Where every whole frame is read, the pictures bring the times.
            spared = wants_image and crops is None and self._recipe.image_rate == "all"
            time_F = None if spared else self._times(video, crops, annotated)
        if time_F is not None:
            _fitted_labels(annotated, time_F)
        self._encoders.prepare(streams)
        if wants_image:
            source = self._sources("image", video, made_of)
            time_F = self._bring_pictures(running, media or _known(crops), crops, time_F, found, source)
        assert time_F is not None
        labels = None
        if wants_labels:
            fitting, notes = _fitted_labels(annotated, time_F)
            labels = _label_part(video, fitting, time_F[: len(fitting.valid_F)], notes, labels_source)
        if "audio" in streams:
            self._bring_sound(running, _known(media), float(time_F[-1]), self._sources("audio", video, made_of))
        self._tell(ReadEnd(running, labels))

    def _files(self, video: Video) -> tuple[Path | None, Path | None]:
        """Return a video's media file, as far as it needs one, and, where the image stream reads them, its crops."""
        if video.media is None and self._dataset.needs_media(video.name):
            fault = "has no media file, so neither times nor sound"
            without = ", or set modalities = ['image'] and its rate" if self._dataset.needs_crops else ""
            raise DatasetError(video.name, fault=fault, remedy=f"add the file, or exclude the video{without}")
        if not self._dataset.needs_crops:
            return video.media, None
        if video.crops is None:
            raise DatasetError(video.name, fault="has no face crops", remedy="unpack them, or exclude the video")
        return video.media, video.crops

    @cached_property
    def _detector(self) -> Detector:
        return CenterFace()

    def _find(self, media: Path, digest: str) -> FoundFaces:
        """Return the faces in a video; those of the latest one are kept, as two people can share it."""
        with self._finding, self._meter.stage("find faces"):
            if self._found is None or self._found[:2] != (media, digest):
                self._found = media, digest, find_faces(media, self._detector, self._recipe.face)
            return self._found[2]

    def _bring_pictures(
        self,
        running: Running,
        media: Path,
        crops: Path | None,
        time_F: Float64[np.ndarray, "F"] | None,
        found: FoundFaces | None,
        source: Mapping[str, Any],
    ) -> Float64[np.ndarray, "F"]:
        """Bring the pictures; return the times of all frames."""
        video = running.job.video
        person = None if found is None else whose_face(video, self._dataset, found.people)
        wanted = WantedPictures(media, self._recipe.image_rate, time_F, crops, person, self._recipe.face)
        times: list[Float64[np.ndarray, "_"]] = []
        encoded = 0
        for some in self._stretches(wanted):
            place = Place(running, "image", encoded, len(some["rgb"]), {name: some[name] for name in ("frame", "time")})
            self._bring(Stretch(place, self._fitted(some["rgb"])))
            times.append(some["time"])
            encoded += len(some["time"])
        time_F = np.concatenate(times) if time_F is None else time_F
        counts = {"frames": len(time_F), "encoded": encoded, "seconds": float(time_F[-1])}
        marker: dict[str, Any] = {"split": video.split, "source": source, "counts": counts, "notes": []}
        self._tell(StreamEnd(running, "image", encoded, marker))
        return time_F

    def _fitted(self, rgb_NHWC: UInt8[np.ndarray, "N H W 3"]) -> UInt8[np.ndarray, "N h w 3"]:
        if not self._resizes:
            return rgb_NHWC
        with self._meter.stage(RESIZE):
            size, resize, interpolation = (self._fit[key] for key in ("size", "resize", "interpolation"))
            resized = fitted(torch.from_numpy(rgb_NHWC), size=size, resize=resize, interpolation=interpolation)
            return np.ascontiguousarray(resized.numpy())

    def _bring_sound(self, running: Running, media: Path, last: float, source: Mapping[str, Any]) -> None:
        video, recipe = running.job.video, self._recipe.audio
        end_W = audio_ends(last, window=recipe.window, hop=recipe.hop)
        counts = {"windows": len(end_W), "seconds": last}
        marker = {"split": video.split, "source": source, "counts": counts, "notes": sound_notes(media)}
        heard_as = media, source["media"]["sha256"]  # which may be another than when the first person was read
        with self._hearing:
            owner = self._heard.get(heard_as) or self._stored_sound(video, source)
            self._heard.setdefault(heard_as, video.name)
        if owner is not None:
            self._tell(SoundOf(running, owner, marker))
            return
        rate = self._encoders.audio().rate
        if not has_audio(media):
            # One silence is like another.
            silence_1L = np.zeros((1, round(recipe.window * rate)), dtype=np.float32)
            self._bring(Stretch(Place(running, "audio", 0, 1, {"end": end_W}), silence_1L))
            self._tell(StreamEnd(running, "audio", 1, marker))
            return
        heard = 0
        wanted = WantedSound(media, end_W, recipe.window, rate)
        for some in self._stretches(wanted):
            wave_KL = wanted.windows(some)
            columns = {"end": end_W[heard:][: len(wave_KL)]}
            self._bring(Stretch(Place(running, "audio", heard, len(wave_KL), columns), wave_KL))
            heard += len(wave_KL)
        self._tell(StreamEnd(running, "audio", len(end_W), marker))

    def _stored_sound(self, video: Video, source: Mapping[str, Any]) -> str | None:
        """Return whose sound in the store is of the same media file, as two people can share it."""
        assert video.media is not None
        for other in self._sharing[video.media]:
            if other != video.name:
                self._store.forget(other)  # or it may be gone since, and be waited for in vain
                try:
                    kept = self._store.marker("audio", other)["source"]
                except StoreError:
                    continue
                if kept.get("media", {}).get("sha256") == source["media"]["sha256"]:
                    return other
        return None

    def _bring(self, stretch: Stretch) -> None:
        stream = stretch.place.stream
        size = self._encoders.batch(stream)
        size = max(1, min(size, BATCH_BYTES // max(1, stretch.values[0].nbytes)))
        with self._meter.stage(ROOM):
            self._batcher.put(stream, stretch, alike=stretch.values.shape[1:], size=size)

    def _times(self, video: Video, crops: Path | None, annotated: Annotation | None) -> Float64[np.ndarray, "F"]:
        rate = self._dataset.rates.of(video.name)
        rows = annotated.rows if annotated is not None and annotated.per_frame else None
        if video.media is not None:
            (only,) = self._stretches(WantedTimes(video.media, rate, rows))
            return only["time"]
        assert crops is not None, "only crops do without media"
        assert rate is not None, "and only those at a known rate"
        # There is a crop only where a face was found, but a row of labels for every frame.
        return steady_times(last_crop(crops) if rows is None else rows, rate)

    def _stretches(self, wanted: Wanted) -> Iterator[Arrays]:
        with closing(self._decode(wanted)) as stretches:
            while True:
                with self._meter.stage(READ):
                    try:
                        some = next(stretches)
                    except StopIteration:
                        return
                yield some

    def _sources(self, stream: str, video: Video, made_of: dict[Path, dict[str, Any]]) -> dict[str, Any]:
        """Return what a stream is made of; what is in `made_of` was looked at before, and is not looked at again."""
        there = sources(self._dataset, stream, video)
        for path in there.values():
            if path not in made_of:
                made_of[path] = self._facts(path)
        found = {role: dict(made_of[path]) for role, path in there.items()}
        if "annotation" in found:
            found["annotation"] |= own_rows(self._dataset, video)
        return found

    def _facts(self, path: Path) -> dict[str, Any]:
        # Asked so, what cannot be looked at is no folder, and `facts` says what is wrong with it.
        if not os.path.isdir(path):  # noqa: PTH112
            return facts(path)
        # Thousands of small files: as much work as decoding them, so it is done where they are decoded.
        (only,) = self._stretches(WantedFacts(path))
        found: dict[str, Any] = json.loads(only["json"].tobytes())
        return found


def _known(path: Path | None) -> Path:
    assert path is not None, "a video without the file was refused"
    return path


def _label_part(
    video: Video, labels: Labels, time_F: Float64[np.ndarray, "F"], notes: list[str], source: Mapping[str, Any]
) -> LabelPart:
    counts = {"frames": len(time_F), "valid": int(labels.valid_F.sum()), "seconds": float(time_F[-1])}
    return LabelPart(labels, time_F, {"split": video.split, "source": dict(source), "counts": counts, "notes": notes})


def _fitted_labels(annotated: Annotation | None, time_F: Float64[np.ndarray, "F"]) -> tuple[Labels, list[str]]:
    """Return labels for as many frames as a video has (none valid without annotation), and remarks on them."""
    if annotated is None:
        frames = len(time_F)
        return Labels(np.full((frames, 2), NO_LABEL, dtype=np.float32), np.zeros(frames, dtype=np.bool_)), []
    return annotated.fitted(time_F)
