"""Which raw media each window needs: the store's windows, led back from cached embeddings to frames and seconds.

Axes: W windows, T image steps, M frames of a video that some window uses, N image embeddings of a video, A cached
windows of sound.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from vaprompt.datasets.base import Dataset, Video
from vaprompt.errors import DatasetError, FingerprintError, TargetError
from vaprompt.files import LONG
from vaprompt.finetuning.requests import Load, Person, Prepare, Setup
from vaprompt.finetuning.scratch import picture_side, sound_samples
from vaprompt.store import FeatureStore
from vaprompt.store.fingerprint import require_equal
from vaprompt.training.inputs import Timing
from vaprompt.windows import Windows


@dataclass(frozen=True)
class VideoWindows:
    """One video's windows, in terms of its frames and seconds."""

    video: Video
    frame_M: Int64[np.ndarray, "M"]
    """The frames that some window uses, 1-based, ascending."""
    time_M: Float64[np.ndarray, "M"]
    last: float
    """Time of the video's last frame, in seconds."""
    row_WT: Int64[np.ndarray, "W T"]
    """Which of those frames each step is."""
    sound_end_W: Float64[np.ndarray, "W"]
    """When the cached window of sound ends, in seconds, that each window hears."""


def video_windows(timing: Timing, video: Video, windows: Windows) -> VideoWindows:
    """Return a video's windows in terms of raw media.

    Args:
        timing: of which frames and seconds its embeddings are.
        video: where the raw media are.
        windows: rows of the video's embeddings.
    """
    index_M, row = np.unique(windows.image_WT, return_inverse=True)
    return VideoWindows(
        video=video,
        frame_M=timing.image_frame_N[index_M],
        time_M=timing.image_time_N[index_M],
        last=float(timing.labels.time_F[-1]),
        row_WT=row.reshape(windows.image_WT.shape).astype(np.int64),
        sound_end_W=timing.audio_end_A[windows.audio_W],
    )


class Material:
    """The raw media of all windows of several videos, and the files in the scratch folder that they are read from."""

    def __init__(self, setup: Setup, dataset: Dataset, parts: Sequence[VideoWindows]) -> None:
        """Take the windows of videos one behind the other; nothing is read yet.

        Raises:
            DatasetError: a media file cannot be looked at.
        """
        self.setup, self._dataset, self._parts = setup, dataset, parts
        self._first = np.cumsum([0, *(len(part.sound_end_W) for part in parts)])
        self._last: dict[Path, float] = {}
        for part in parts:
            if part.video.media is not None:  # two people can share it, with annotations of different lengths
                self._last[part.video.media] = max(part.last, self._last.get(part.video.media, 0.0))
        self._pictures: list[str | None] = []
        self._sounds: list[str | None] = []
        for part in parts:
            self._pictures.append(self._pictures_file(part))
            self._sounds.append(self._sound_file(part))

    def __len__(self) -> int:
        """Return the number of windows."""
        return int(self._first[-1])

    def video(self, window: int) -> str:
        """Return the name of a window's video."""
        return self._parts[self._part(window)].video.name

    def request(self, window: int, seed: tuple[int, ...] | None = None) -> Load:
        """Return how a window, counted from 0 over all videos, is read; with a seed it is changed at random."""
        index = self._part(window)
        part, row = self._parts[index], window - int(self._first[index])
        pictures, row_T = self._pictures[index], part.row_WT[row]
        wanted = () if self.setup.fit is None else row_T if pictures is not None else part.frame_M[row_T]
        return Load(
            crops=part.video.crops if self.setup.fit is not None and pictures is None else None,
            pictures=pictures,
            frames=tuple(np.asarray(wanted).tolist()),
            sound=self._sounds[index],
            end=float(part.sound_end_W[row]),
            seed=seed,
        )

    def missing(self) -> list[Prepare]:
        """Return what has to be decoded before windows can be read, one request a media file; empty where all is there.

        Raises:
            TargetError: the scratch folder's disk has no room for it.
        """
        people: dict[Path, list[Person]] = {}
        sounds: dict[Path, str] = {}
        needed = 0
        for part, pictures, sound in zip(self._parts, self._pictures, self._sounds, strict=True):
            media = part.video.media
            if media is None:
                continue
            if pictures is not None and not self._there(pictures):
                numbers = (tuple(part.frame_M.tolist()), tuple(part.time_M.tolist()))
                people.setdefault(media, []).append(
                    Person(name=part.video.name, frames=numbers[0], times=numbers[1], file=pictures)
                )
                needed += len(part.frame_M) * picture_side(self.setup) ** 2 * 3
            if sound is not None and not self._there(sound):
                sounds[media] = sound
        needed += sum(4 * self._samples(self._last[media]) for media in sounds)
        self._require_room(needed)
        sharing: dict[Path | None, list[str]] = {}
        for video in self._dataset.videos:
            sharing.setdefault(video.media, []).append(video.name)
        return [
            Prepare(
                media=media,
                people=tuple(people.get(media, ())),
                sharing=tuple(sharing.get(media, ())),
                sound=sounds.get(media),
                last=self._last[media],
            )
            for media in dict.fromkeys([*people, *sounds])
        ]

    def _part(self, window: int) -> int:
        return int(np.searchsorted(self._first, window, side="right")) - 1

    def _pictures_file(self, part: VideoWindows) -> str | None:
        if self.setup.fit is None or self.setup.faces == "crops" or part.video.media is None:
            return None
        made_of = {
            "faces": self.setup.faces,
            "face": self.setup.face.model_dump(mode="json") if self.setup.faces == "detect" else None,
            "fit": self.setup.fit.model_dump(mode="json"),
            "media": _state(part.video.media),
            "person": part.video.name,
            "frames": part.frame_M.tolist(),
        }
        return _file(part.video.name, made_of, "pictures")

    def _sound_file(self, part: VideoWindows) -> str | None:
        if self.setup.sound is None or part.video.media is None:
            return None
        made_of = {
            "media": _state(part.video.media),
            "rate": self.setup.sound.mel.rate,
            "before": self.setup.sound.window,
            "last": self._last[part.video.media],
        }
        return _file(part.video.media.stem, made_of, "sound")

    def _samples(self, last: float) -> int:
        assert self.setup.sound is not None
        return sound_samples(last, rate=self.setup.sound.mel.rate, before=self.setup.sound.window)

    def _there(self, file: str) -> bool:
        return (self.setup.scratch / file).is_file()

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.setup.scratch).free
        if needed > free:
            raise TargetError(
                self.setup.scratch,
                fault=f"needs {needed / 1e9:.1f} GB for decoded pictures and sound, and {free / 1e9:.1f} GB are free",
                remedy="name a folder on another disk with --scratch",
            )


def files_of(store: FeatureStore, dataset: Dataset, names: Sequence[str], source: Path) -> list[Video]:
    """Return where the raw media of a store's videos are.

    Args:
        store: what was made of them.
        dataset: the data set at hand.
        names: the videos that are needed.
        source: what the user called the data set.

    Raises:
        FingerprintError: it is not the data set that the store was made of.
        DatasetError: it lacks videos, media files or crops, or media files have other sizes than those of the store.
    """
    keys = ("name", "layout", "faces", "rate", "rates")
    known = {key: store.dataset[key] for key in keys if key in store.dataset}
    given = {"name": dataset.name, "layout": dataset.layout, "faces": dataset.faces, **dataset.rates.described}
    require_equal(known, given, where=source, remedy="give the data set that the run's store was made of")
    by_name = {video.name: video for video in dataset.videos}
    lacking = [name for name in names if name not in by_name]
    if lacking:
        raise _lacks(source, "the data set lacks", lacking, names)
    videos = [by_name[name] for name in names]
    silent = [
        video.name
        for video in videos
        if (dataset.needs_media(video.name) if video.media is None else not video.media.is_file())
    ]
    if silent:
        raise _lacks(source, "there is no media file of", silent, names)
    if dataset.needs_crops:
        bare = [video.name for video in videos if video.crops is None or not video.crops.is_dir()]
        if bare:
            raise _lacks(source, "there are no face crops of", bare, names)
    for video in videos:
        if video.media is None:
            continue
        made_of: Mapping[str, Any] = store.summary("labels", video.name).get("source", {}).get("media", {})
        size = video.media.stat().st_size
        if made_of.get("bytes", size) != size:
            raise FingerprintError(
                video.media,
                fault=f"has {size} bytes, and the file that {store.location} was made of had {made_of['bytes']}",
                remedy="give the data set that was extracted, or extract this one and train on its store",
            )
    return videos


def _lacks(source: Path, what: str, lacking: Sequence[str], names: Sequence[str]) -> DatasetError:
    return DatasetError(
        source,
        fault=f"{what} {len(lacking)} of the {len(names)} videos that the run needs, such as {lacking[0]}",
        remedy="give the data set, with its media, that the run's store was made of",
    )


def _state(media: Path) -> list[Any]:
    try:
        state = media.stat()
    except OSError as error:
        raise DatasetError(
            media, fault=f"cannot be read ({error.strerror})", remedy="check the path and rights"
        ) from None
    return [str(media.resolve()), state.st_size, state.st_mtime_ns]


def _file(name: str, made_of: Mapping[str, Any], kind: str) -> str:
    text = json.dumps(made_of, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    # What stands behind a long name would be too much for the file system, and a name that is no text cannot be sent
    # to who writes the file; the digest is of the whole of it.
    known = len(os.fsencode(name)) <= LONG and os.fsencode(name) == name.encode(errors="replace")
    return f"{name}.{key}.{kind}.npy" if known else f"{key}.{kind}.npy"
