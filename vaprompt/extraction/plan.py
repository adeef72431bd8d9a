"""What an extraction has to do: the streams that are missing, and those made of files that have changed since."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaprompt.datasets.base import Dataset, Video
from vaprompt.errors import AnnotationError, DatasetError, RecipeError, StoreError
from vaprompt.extraction.sources import change
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.layout import Stream


@dataclass(frozen=True)
class Job:
    """The streams of one video that are to be made."""

    video: Video
    streams: tuple[Stream, ...]


@dataclass(frozen=True)
class Unreadable:
    """A whole video of which cannot be seen whether its sources have changed."""

    reason: str


@dataclass(frozen=True)
class Plan:
    """All that is to be done, and all that is not."""

    jobs: tuple[Job, ...]
    """The largest media files first: else a long one that comes last is read by one reader while all else waits."""
    done: tuple[str, ...]
    """Videos that are whole already."""
    changed: Mapping[str, str]
    """Whole videos whose sources are no longer what they were made of, with what has changed; they are left."""
    unreadable: Mapping[str, str]
    """Whole videos whose sources cannot be read, with the reason; they are left, too."""


@dataclass(frozen=True)
class Shard:
    """Every `count`-th video of a data set, from the `index`-th (1-based) on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `i/n` means.

        Raises:
            RecipeError: it is not of this form, or i is not from 1 to n.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise RecipeError(
                f"--shard {text}",
                fault="is not i/n with whole numbers, i from 1 to n",
                remedy="write for example --shard 1/8, or --shard $SLURM_ARRAY_TASK_ID/8 with --array=1-8",
            )
        return cls(int(found[1]), int(found[2]))

    def of(self, videos: tuple[Video, ...]) -> tuple[Video, ...]:
        """Return the shard's videos; the shards of one count hold each video once, whatever is done already."""
        return videos[self.index - 1 :: self.count]


@dataclass(frozen=True)
class Examiner:
    """Compares what is in a store with what it would be made of now."""

    dataset: Dataset
    store: FeatureStore
    deep: bool = False
    """Compare sources by their digests, even if sizes and modification times are the same."""
    refresh: bool = False
    """Make what was made of other sources again; else it is only reported."""

    def examine(self, video: Video) -> Job | Unreadable | str | None:
        """Return what is to be done for a video, or how its sources have changed, or None where all is well.

        A video of which something is missing is made of one state of its sources: what was made of another is made
        again with it, asked for or not, as nothing was finished.

        Raises:
            StoreError: a marker is damaged, or the video's name cannot be a folder's.
        """
        streams = self.dataset.streams
        missing = [stream for stream in streams if not self.store.has(stream, video.name)]
        changed: dict[Stream, str] = {}
        for stream in streams:
            try:
                reason = None if stream in missing else self._change(stream, video)
            except DatasetError as error:
                if not missing and not self.refresh:
                    return Unreadable(str(error))
                reason = str(error)  # which reading it will meet with, too, and so let the video fail
            if reason is not None:
                changed[stream] = reason
        if changed and not missing and not self.refresh:
            return next(iter(changed.values()))
        todo = tuple(stream for stream in streams if stream in missing or stream in changed)
        return Job(video, todo) if todo else None

    def _change(self, stream: Stream, video: Video) -> str | None:
        marker = self.store.marker(stream, video.name)
        made_of, there = marker.get("source", {}), sources(self.dataset, stream, video)
        if stream == "labels" and marker.get("split") != video.split:
            return f"it is of the {video.split} split, and was of {marker.get('split')}"
        if ("annotation" in there) != ("annotation" in made_of):
            return "it has an annotation, and had none" if "annotation" in there else "it has no annotation any more"
        if made_of and "media" in there and "media" not in made_of:
            return "it has a media file, and had none"
        for role, kept in made_of.items():
            rows = own_rows(self.dataset, video) if role == "annotation" else {}
            if rows and "rows" in kept:
                same = kept["rows"] == rows["rows"]
                reason = None if same else f"{there[role].name} has other rows of this video"
            else:
                reason = change(kept, there.get(role), deep=self.deep)
                if reason is not None and rows and self._same_labels(video):
                    reason = None
            if reason is not None:
                return f"{role} {reason}"
        return None

    def _same_labels(self, video: Video) -> bool:
        """Say whether a table's rows would give the labels that are stored, of which earlier markers say no `rows`."""
        assert self.dataset.annotations is not None
        try:
            kept = self.store.labels(video.name)
            now, _ = self.dataset.annotations.read(video.name).fitted(kept.time_F)
        except (StoreError, AnnotationError):
            return False  # as its file has changed, too
        return np.array_equal(now.value_F2, kept.value_F2) and np.array_equal(now.valid_F, kept.valid_F)


def plan(examiner: Examiner, *, limit: int | None = None, shard: Shard | None = None) -> Plan:
    """Return what is missing in the store of the data set's first `limit` videos (None: of all), or of a shard of them.

    Raises:
        StoreError: a marker is damaged, or a video's name cannot be a folder's.
    """
    jobs: list[Job] = []
    done: list[str] = []
    changed: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    videos = examiner.dataset.videos[:limit]
    for video in videos if shard is None else shard.of(videos):
        found = examiner.examine(video)
        if isinstance(found, Job):
            jobs.append(found)
        elif isinstance(found, Unreadable):
            unreadable[video.name] = found.reason
        elif found is not None:
            changed[video.name] = found
        else:
            done.append(video.name)
    jobs.sort(key=_media_bytes, reverse=True)
    return Plan(tuple(jobs), tuple(done), changed, unreadable)


def _media_bytes(job: Job) -> int:
    """Return the size of a job's media file; 0 without one, or where it cannot be seen, as its reader will tell."""
    try:
        return 0 if job.video.media is None else job.video.media.stat().st_size
    except OSError:
        return 0


def own_rows(dataset: Dataset, video: Video) -> dict[str, str]:
    """Return as `rows` the digest of an annotation's rows, where a file may hold other videos' rows beside them.

    Such a table was read as a whole when the data set was opened. Of any other annotation nothing is returned.
    """
    if video.annotation is None or dataset.annotations is None:
        return {}
    return {"rows": dataset.annotations.digest(video.name)}


def sources(dataset: Dataset, stream: str, video: Video) -> dict[str, Path]:
    """Return the files that a stream of a video is made of."""
    found: dict[str, Path | None] = {"media": video.media}
    # Without a video it is the crops that tell how many frames there are.
    if dataset.needs_crops and (stream == "image" or video.media is None):
        found["crops"] = video.crops
    if stream == "labels":
        found["annotation"] = video.annotation
    return {role: path for role, path in found.items() if path is not None}
