"""The sound of a store's videos: no store holds it, so it is measured in the media of its data set, if at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaprompt.datasets.base import Video
from vaprompt.datasets.description import open_dataset
from vaprompt.errors import MediaError
from vaprompt.extraction.sources import change
from vaprompt.media.loudness import Loudness, measure_loudness
from vaprompt.progress import SILENT, Progress
from vaprompt.store import FeatureStore


@dataclass(frozen=True)
class Heard:
    """How loud the videos are, as far as it could be measured."""

    loudness: dict[str, Loudness] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a video's sound could not be measured."""
    left_out: bool = False
    """Whether the data set leaves its sound out."""


def listen(data: Path, store: FeatureStore, videos: Sequence[str], progress: Progress = SILENT) -> Heard:
    """Return how loud each video is, from the media of the data set that its store was made of.

    A file that has changed since is not listened to, as it would say nothing of what the network heard.

    Args:
        data: the data set's folder, or its description.
        store: the store.
        videos: names.
        progress: who is told how far it is.

    Raises:
        DatasetError, RecipeError: there is no data set, or its description is faulty.
    """
    dataset = open_dataset(data, progress)
    if "audio" not in dataset.modalities:
        return Heard(left_out=True)
    found = {video.name: video for video in dataset.videos}
    heard = Heard()
    known: dict[tuple[Path, float], Loudness] = {}
    with progress.task("listening", total=len(videos), unit="videos") as task:
        for name in videos:
            reason = _unusable(found.get(name), store, name)
            if reason is not None:
                heard.missing[name] = reason
            else:
                media = found[name].media
                assert media is not None
                # Two people of one video share its sound.
                key = (media, float(store.labels(name).time_F[-1]))
                try:
                    known[key] = known[key] if key in known else measure_loudness(media, last=key[1])
                    heard.loudness[name] = known[key]
                except MediaError as error:
                    heard.missing[name] = str(error)
            task.advance(1, name)
    return heard


def _unusable(video: Video | None, store: FeatureStore, name: str) -> str | None:
    if video is None or video.media is None or not video.media.exists():
        return "its media file is not there"
    kept = store.marker("labels", name).get("source", {}).get("media")
    return None if not isinstance(kept, dict) else change(kept, video.media)
