"""The page of a prediction as a video that plays everywhere: its frames with faces boxed, everything else beside them.

Axes: H rows and W columns of a frame, P rows and Q columns of the overlay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vaprompt.errors import MediaError, TargetError
from vaprompt.media.clock import has_picture
from vaprompt.media.crops import is_folder
from vaprompt.media.video import probe, read_frames
from vaprompt.media.writing import check_target, written
from vaprompt.progress import SILENT, Progress
from vaprompt.report.overlay.brush import CARD, PAPER, PEOPLE, fitted, font, outline
from vaprompt.report.overlay.layout import HEIGHT, WIDTH, layout
from vaprompt.report.overlay.parts import People, Plane, Regions, Traces
from vaprompt.report.overlay.subject import Subject
from vaprompt.report.prediction_page import Screening, who

MOST_PEOPLE = len(PEOPLE)
"""People that are drawn; more would hide one another."""


class Overlay:
    """Draws one frame after the other."""

    def __init__(self, screening: Screening) -> None:
        """Draw what never moves."""
        people = screening.people[:MOST_PEOPLE]
        several = len(people) > 1
        self._subjects = [
            Subject(video, who(video), str(number + 1) if several else "", PEOPLE[number])
            for number, video in enumerate(people)
        ]
        assert screening.appearance is not None, "`require_overlay` refuses sound alone"
        self.places = layout(screening.appearance.shape)
        self._plane = Plane(self.places.plane, screening.regions)
        self._people = People(self.places.people)
        self._regions = Regions(self.places.regions, screening.regions)
        self._traces = Traces(self.places.traces, screening.loudness)
        self._back = Image.new("RGB", (WIDTH, HEIGHT), CARD)

    def draw(self, rgb_HWC: UInt8[np.ndarray, "H W 3"], index: int) -> UInt8[np.ndarray, "P Q 3"]:
        """Return the overlay's picture of a frame.

        Args:
            rgb_HWC: the frame's picture, upright, of any size.
            index: the frame's number, from 0.
        """
        time = float(self._subjects[0].video.time_F[index])
        picture = self._back.copy()
        self._plane.draw(picture, self._subjects, index)
        self._people.draw(picture, self._subjects, index, time)
        self._regions.draw(picture, self._subjects, time)
        self._traces.draw(picture, self._subjects, time)
        picture.paste(self._film(rgb_HWC, index, time), self.places.video[:2])
        return np.asarray(picture)

    def _film(self, rgb_HWC: UInt8[np.ndarray, "H W 3"], index: int, time: float) -> Image.Image:
        width, height = self.places.video[2:]
        film = Image.fromarray(rgb_HWC).resize((width, height), Image.Resampling.BILINEAR)
        # Lengths of a face's place are in widths of the picture.
        tall = height * rgb_HWC.shape[1] / rgb_HWC.shape[0]
        for subject in self._subjects:
            corners_42 = subject.corners_42(time)
            if corners_42 is None or not subject.there_F[index]:
                continue
            points = [(float(x) * width, float(y) * tall) for x, y in corners_42]
            outline(film, points, subject.colour, 2.5)
            _mark(film, subject, points)
        return film


def write_overlay(screening: Screening, target: Path, progress: Progress = SILENT) -> int:
    """Write a video with everything that is known of each frame beside it, its sound kept; return its size in bytes.

    It is H.264 and AAC in MP4, and shows each frame when the video does. The first `MOST_PEOPLE` people are drawn.

    Args:
        screening: what is shown.
        target: the video to write.
        progress: who is told how far it is.

    Raises:
        MediaError: the video cannot be decoded.
        TargetError: the target cannot be written.
    """
    media, time_F = screening.people[0].media, screening.people[0].time_F
    overlay = Overlay(screening)
    info = probe(media)
    sound = None if info.audio is None else (media, info.audio)
    last = float(time_F[-1])
    rate = (len(time_F) - 1) / last if last > 0 else 25.0
    side = max(overlay.places.video[2:])
    with (
        written(target, width=WIDTH, height=HEIGHT, rate=rate, sound=sound) as video,
        progress.task(f"drawing {media.name}", total=last, unit="s") as task,
    ):
        reached = 0.0
        for frame in read_frames(media, max_side=side):
            if frame.frame > len(time_F):
                raise MediaError(media, fault="has changed since it was predicted", remedy="predict it again")
            assert frame.rgb_HWC is not None
            video.add(overlay.draw(frame.rgb_HWC, frame.frame - 1), frame.time)
            task.advance(frame.time - reached)
            reached = frame.time
    return target.stat().st_size


def require_overlay(target: Path, media: Sequence[Path]) -> None:
    """Refuse, before anything is predicted, what `write_overlay` cannot write.

    Raises:
        TargetError: there are several videos, or the target is no place for this one.
        MediaError: it has no picture.
    """
    if len(media) != 1:
        fault = f"is one video, and {len(media)} are given"
        raise TargetError(target, fault=fault, remedy="predict one at a time with --overlay")
    if is_folder(media[0]):
        fault = "is a folder, and an overlay is drawn on a video"
        raise MediaError(
            media[0], fault=fault, remedy="leave --overlay out; the picture beside the CSV shows the traces"
        )
    check_target(target, media[0])
    try:
        seen = has_picture(media[0])
    except MediaError:
        return  # which is told of as of every file that cannot be predicted
    if not seen:
        fault = "holds sound alone, and an overlay is a video"
        raise MediaError(media[0], fault=fault, remedy="leave --overlay out; --page plays it with its traces")


def _mark(film: Image.Image, subject: Subject, points: list[tuple[float, float]]) -> None:
    """Write who it is above a face's box."""
    if not subject.mark:
        return
    draw, letters = ImageDraw.Draw(film), font(13, bold=True)
    text = fitted(subject.mark, 120, letters)
    wide = letters.getlength(text) + 10
    left = min(max(0.0, min(x for x, _ in points)), film.width - wide)
    top = min(max(0.0, min(y for _, y in points) - 19), film.height - 18.0)
    draw.rectangle((left, top, left + wide, top + 18), fill=subject.colour)
    draw.text((left + wide / 2, top + 9), text, PAPER, letters, anchor="mm")
