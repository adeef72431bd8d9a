"""What an extraction has to do: the streams that are missing, or were made of files that have changed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vaprompt.datasets.base import Dataset, Video
from vaprompt.extraction.sources import unchanged
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.layout import STREAMS, Stream


@dataclass(frozen=True)
class Job:
    """The streams of one video that are to be made."""

    video: Video
    streams: tuple[Stream, ...]


@dataclass(frozen=True)
class Plan:
    """All that is to be done, and all that is not."""

    jobs: tuple[Job, ...]
    done: tuple[str, ...]
    """Videos that are whole already."""


def plan(dataset: Dataset, store: FeatureStore, limit: int | None = None) -> Plan:
    """Return what is missing in the store of the data set's first `limit` videos (None: of all).

    Raises:
        StoreError: a marker is damaged, or a video's name cannot be a folder's.
    """
    finished = {stream: store.done(stream) for stream in STREAMS}
    jobs: list[Job] = []
    done: list[str] = []
    for video in dataset.videos[:limit]:
        missing = tuple(
            stream
            for stream in STREAMS
            if video.name not in finished[stream] or not _current(store, stream, video, dataset)
        )
        if missing:
            jobs.append(Job(video, missing))
        else:
            done.append(video.name)
    return Plan(tuple(jobs), tuple(done))


def sources(dataset: Dataset, stream: str, video: Video) -> dict[str, Path]:
    """Return the files that a stream of a video is made of."""
    found: dict[str, Path | None] = {"media": video.media}
    if stream == "image" and dataset.faces == "crops":
        found["crops"] = video.crops
    if stream == "labels":
        found["annotation"] = video.annotation
    return {role: path for role, path in found.items() if path is not None}


def _current(store: FeatureStore, stream: str, video: Video, dataset: Dataset) -> bool:
    marker = store.marker(stream, video.name)
    made_of, there = marker.get("source", {}), sources(dataset, stream, video)
    if marker.get("split") != video.split or ("annotation" in there) != ("annotation" in made_of):
        return False
    return all(unchanged(kept, there.get(role)) for role, kept in made_of.items())
