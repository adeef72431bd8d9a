"""A look at one video of a data set: its annotation, media and crops, and whether they fit each other.

Axes: F frames of the video, N face crops, R rows of an annotation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from vaprompt.datasets.annotation import annotation_of
from vaprompt.datasets.base import Annotation, Dataset, Problem, Video
from vaprompt.datasets.timed import TimedAnnotation
from vaprompt.errors import AnnotationError, MediaError
from vaprompt.media.audio import sound_extent
from vaprompt.media.clock import has_picture, row_times, rows_of
from vaprompt.media.crops import CROP_NAME, list_crops, read_images
from vaprompt.media.video import MediaInfo, frame_times, probe, probe_sound

SOUND_SECONDS = 0.5
"""Sound that differs from the picture's length by more than this is told."""
FEW_FRAMES, FEW_SHARE = 10, 0.01
"""Counts that differ by no more than one of these still belong together (conventions of Aff-Wild2)."""


@dataclass
class Seen:
    """What was found of one video."""

    problems: list[Problem] = field(default_factory=list)
    left_out: bool = False
    """Extraction cannot take it."""
    invalid: int | None = None
    """Frames that are not valid; None where their number is not known."""
    frames: int | None = None
    media: MediaInfo | None = None
    crops: int = 0
    missing_crops: int = 0


@dataclass(frozen=True)
class _Media:
    info: MediaInfo
    end: float | None
    """Seconds from the first frame to the end of the picture, as far as known."""
    sound: float | None
    """When the sound ends; None without sound, or where the header does not say."""
    exact: bool
    """Whether it was decoded."""


class Inspector:
    """Looks at the videos of a data set, one after the other."""

    def __init__(self, dataset: Dataset, template: Mapping[str, int], *, deep: bool) -> None:
        """Prepare for a data set; `template` holds the rows of the submission's template for each video."""
        self._dataset, self._template, self._deep = dataset, template, deep
        # Two people share a video: what is known of a file is kept, a few numbers each.
        self._known: dict[Path, _Media | MediaError] = {}
        self._listed = {(problem.kind, problem.video) for problem in dataset.problems}

    def inspect(self, video: Video) -> Seen:
        """Return what is there of a video and what is wrong with it."""
        seen = Seen()
        annotation = self._annotation(video, seen)
        media = self._media(video, annotation, seen)
        counted = None if media is None else media.info.frames
        if annotation is not None and annotation.per_frame:
            seen.frames, seen.invalid = annotation.rows, annotation.invalid
            if media is not None and counted is not None:
                self._compare_rows(video, annotation.rows, counted, media, seen)
        else:
            seen.frames = self._template.get(video.name, counted)
            if isinstance(annotation, TimedAnnotation) and media is not None:
                self._compare_times(video, annotation, media, seen)
        if video.crops is not None and "image" in self._dataset.modalities:
            self._crops(video, video.crops, seen)
        if isinstance(annotation, TimedAnnotation) and seen.frames:
            rate = self._dataset.rates.of(video.name) if media is None else media.info.rate
            seen.invalid = None if rate is None else _frames_not_valid(annotation, seen.frames, rate)
        if media is not None:
            seen.problems += self._sound(video, media)
        dataset = self._dataset
        lacking = (video.media is None and dataset.needs_media(video.name)) or (
            dataset.needs_crops and video.crops is None
        )
        seen.left_out = seen.left_out or lacking
        return seen

    def _annotation(self, video: Video, seen: Seen) -> Annotation | None:
        try:
            return annotation_of(self._dataset, video)
        except AnnotationError as error:
            self._refuse(seen, "annotation", video, str(error), video.annotation)
            return None

    def _media(self, video: Video, annotation: Annotation | None, seen: Seen) -> _Media | None:
        if video.media is None:
            return None
        if video.media not in self._known:
            try:
                self._known[video.media] = self._look_at(video, annotation)
            except MediaError as error:
                self._known[video.media] = error
        known = self._known[video.media]
        if isinstance(known, MediaError):
            self._refuse(seen, "unreadable media", video, str(known), video.media)
            return None
        seen.media = known.info
        return known

    def _look_at(self, video: Video, annotation: Annotation | None) -> _Media:
        media = video.media
        assert media is not None, "only what is there is looked at"
        if "image" not in self._dataset.modalities and not has_picture(media):
            rows = annotation.rows if annotation is not None and annotation.per_frame else None
            return _sound_alone(media, self._dataset.rates.of(video.name), rows, deep=self._deep)
        return _decoded(media) if self._deep else _by_header(media)

    def _compare_rows(self, video: Video, rows: int, frames: int, media: _Media, seen: Seen) -> None:
        if rows == frames:
            return
        source = "decoded" if media.exact else "by the header of the media file"
        if _too_different(rows, frames):
            detail = f"{rows} annotation rows, but {frames} frames ({source}): too different to belong together"
            self._refuse(seen, "frames and rows", video, detail, video.annotation)
        else:
            detail = (
                f"{rows} annotation rows, {frames} frames ({source}): the first {min(rows, frames)} of both are used"
            )
            seen.problems.append(Problem("frames and rows", video.name, detail, video.annotation))

    def _compare_times(self, video: Video, annotation: TimedAnnotation, media: _Media, seen: Seen) -> None:
        # What a header states as the end is that of the last frame, which begins a frame earlier: no more is refused.
        if media.info.frames is not None and media.end is not None:
            try:
                annotation.require_within(media.info.frames, media.end)
            except AnnotationError as error:
                self._refuse(seen, "frames and rows", video, str(error), video.annotation)

    def _crops(self, video: Video, folder: Path, seen: Seen) -> None:
        try:
            frame_N = _crop_frames(folder)
            for _ in read_images(_all_crops(folder) if self._deep else ()):
                pass  # that it can be read is all
        except MediaError as error:
            if self._dataset.faces == "crops":
                self._refuse(seen, "unreadable crops", video, str(error), folder)
            else:
                seen.problems.append(Problem("unreadable crops", video.name, str(error), folder))
            return
        if seen.frames is None and not self._dataset.needs_media(video.name) and len(frame_N):
            seen.frames = int(frame_N[-1])
        frames = seen.frames
        if frames is None:
            seen.crops = len(frame_N)
            return
        seen.crops = int(np.searchsorted(frame_N, frames, side="right"))
        seen.missing_crops = frames - seen.crops
        fault = None
        if seen.crops == 0:
            fault = f"no crop of the {frames} frames"
        elif _too_different(max(int(frame_N[-1]), frames), frames):
            fault = f"crops up to frame {frame_N[-1]}, but there are {frames} frames: they do not belong together"
        if fault is not None and self._dataset.faces == "crops":
            self._refuse(seen, "crops", video, fault, folder)
        elif frame_N.size and frame_N[-1] > frames:
            detail = f"crops up to frame {frame_N[-1]}, but there are {frames} frames"
            seen.problems.append(Problem("crops", video.name, detail, folder))

    def _sound(self, video: Video, media: _Media) -> Iterator[Problem]:
        if "audio" not in self._dataset.modalities:
            return
        if media.info.audio is None:
            yield Problem("no sound", video.name, "no audio stream: silence", video.media)
        elif media.sound is not None and media.end is not None and abs(media.sound - media.end) > SOUND_SECONDS:
            what = "silence is put behind it" if media.sound < media.end else "the rest is not used"
            rate = f"sound at {media.info.audio.rate} Hz"
            detail = f"{rate} ends at {media.sound:.1f} s, the picture at {media.end:.1f} s: {what}"
            yield Problem("sound length", video.name, detail, video.media)

    def _refuse(self, seen: Seen, kind: str, video: Video, detail: str, file: Path | None) -> None:
        seen.left_out = True
        if (kind, video.name) not in self._listed:
            seen.problems.append(Problem(kind, video.name, detail, file))


def _by_header(path: Path) -> _Media:
    info = probe(path)
    sound = None if info.audio is None or info.audio.duration is None else info.audio.start + info.audio.duration
    return _Media(info, info.duration, sound, exact=False)


def _decoded(path: Path) -> _Media:
    info, time_F = probe(path), frame_times(path)
    extent = sound_extent(path)
    counted = MediaInfo(info.width, info.height, info.rate, info.duration, info.audio, len(time_F))
    return _Media(counted, float(time_F[-1]), None if extent is None else extent[1], exact=True)


def _frames_not_valid(annotation: TimedAnnotation, frames: int, rate: float) -> int | None:
    """Return how many of a video's frames rows at other times leave without a valid label, at the video's mean rate."""
    try:
        labels, _ = annotation.fitted(np.arange(frames) / rate)
    except AnnotationError:
        return None  # they do not belong together, which is told by itself
    return int(np.sum(~labels.valid_F))


def _sound_alone(path: Path, rate: float | None, annotated: int | None, *, deep: bool) -> _Media:
    audio = probe_sound(path)
    seconds = None if deep or audio is None else audio.duration
    if seconds is None or rate is None:
        rows = len(row_times(path, rate, annotated=annotated))
    else:
        rows = rows_of(seconds, rate, path, annotated)
    # Nothing else is there that it could be shorter or longer than.
    return _Media(MediaInfo(0, 0, rate, seconds, audio, rows), None, seconds, exact=deep)


def _too_different(one: int, other: int) -> bool:
    difference = abs(one - other)
    return difference > FEW_FRAMES and difference > FEW_SHARE * max(one, other)


def _crop_frames(folder: Path) -> Int32[np.ndarray, "N"]:
    """Return the numbers of the crops in a folder, ascending; as `list_crops`, but without a path for each file.

    Raises:
        MediaError: the folder cannot be listed, numbers start at 0, or two files claim the same frame.
    """
    try:
        # Names alone: a Path for each of three million crops would take most of the time.
        with os.scandir(folder) as entries:
            matches = [CROP_NAME.fullmatch(entry.name) for entry in entries]
    except OSError as error:
        raise MediaError(folder, fault=f"cannot be listed ({error.strerror})", remedy="check its rights") from None
    frame_N = np.fromiter((int(match[1]) for match in matches if match is not None), dtype=np.int32)
    frame_N.sort()
    if frame_N.size and (frame_N[0] == 0 or np.any(np.diff(frame_N) == 0)):
        list_crops(folder)  # raises, and names the file
    return frame_N


def _all_crops(folder: Path) -> list[Path]:
    return list_crops(folder)[1]
