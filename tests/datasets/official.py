"""A tree with the counts of the real data set: names, rows and frames are made up, pictures are empty files.

Media are real but tiny: one encoded picture and one stretch of silence, repeated as often as there are frames.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.datasets.layouts import TEST_LIST

RATE = 30
SHORTEST, LONGEST = 73, 47_435
ANNOTATIONS = "6th ABAW Annotations/VA_Estimation_Challenge"
TEMPLATE = "CVPR_6th_ABAW_VA_test_set_example.txt"
FOLDERS = {"train": "Train_Set", "validation": "Validation_Set"}


@dataclass(frozen=True)
class SplitCounts:
    videos: int
    sides: int
    frames: int
    invalid: dict[int, int] = field(default_factory=dict)
    """Which video has how many rows of -5: at its start where the number is even, else in its middle."""


OFFICIAL = {
    "train": SplitCounts(356, 9, 1_682_057, {3: 1_000, 10: 701, 11: 499}),
    "validation": SplitCounts(76, 5, 383_814, {4: 1_000, 9: 793}),
    "test": SplitCounts(162, 15, 927_210),
}
SMALL = {
    "train": SplitCounts(12, 3, 900, {3: 10, 5: 21}),
    "validation": SplitCounts(5, 2, 400, {2: 7}),
    "test": SplitCounts(6, 1, 480),
}


@dataclass(frozen=True)
class Person:
    name: str
    split: str
    frames: int
    invalid: int

    @property
    def media(self) -> str:
        return self.name.removesuffix("_left").removesuffix("_right")


def cast(counts: dict[str, SplitCounts]) -> list[Person]:
    """Deal frames and names; every person on a side shares the video of the person before, of the same length."""
    people = []
    for split, count in counts.items():
        extremes = [SHORTEST, LONGEST] if count.frames > 10 * LONGEST else []
        base, more = divmod(count.frames - sum(extremes), count.videos - len(extremes))
        frames = [*extremes, *([base] * (count.videos - len(extremes)))]
        # The odd frames go to the last video, which shares its media with nobody.
        frames[-1] += more
        for index in range(count.videos):
            pair = len(extremes) <= index - 1 < len(extremes) + 2 * count.sides and (index - len(extremes)) % 2
            name = f"{split}{index - 1}_right" if pair else f"{split}{index}"
            people.append(Person(name, split, frames[index], count.invalid.get(index, 0)))
    return people


def write_tree(root: Path, counts: dict[str, SplitCounts] = OFFICIAL, *, crops: bool = True, every: int = 67) -> int:
    """Write the tree and return how many crops are missing: every so manieth frame's."""
    made: dict[int, Path] = {}
    tests, template, missing = [], [], 0
    (root / "batch1").mkdir(parents=True)
    for folder in FOLDERS.values():
        (root / ANNOTATIONS / folder).mkdir(parents=True)
    for number, person in enumerate(cast(counts)):
        media = root / "batch1" / f"{person.media}.mp4"
        if person.frames not in made:
            made[person.frames] = write_media(media, person.frames)
        elif not media.exists():
            os.link(made[person.frames], media)
        if person.split == "test":
            tests.append(person.name)
            template += [f"{person.name}/{frame:05d}.jpg,0,0\n" for frame in range(1, person.frames + 1)]
        else:
            start = 0 if person.invalid % 2 == 0 else person.frames // 2
            rows = ["0.125,-0.25\n"] * person.frames
            rows[start : start + person.invalid] = ["-5,-5\n"] * person.invalid
            path = root / ANNOTATIONS / FOLDERS[person.split] / f"{person.name}.txt"
            path.write_text("valence,arousal\n" + "".join(rows))
        if crops:
            place = "batch2/cropped_aligned_new_50_vids" if number % 10 == 0 else "batch1/cropped_aligned"
            missing += write_crops(root / place / person.name, person.frames, every)
    path = root / TEST_LIST
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{name}\n" for name in tests))
    (root / TEMPLATE).write_text("image_location,valence,arousal\n" + "".join(template))
    return missing


def write_crops(folder: Path, frames: int, every: int) -> int:
    folder.mkdir(parents=True)
    place = os.open(folder, os.O_RDONLY)
    try:
        for frame in range(1, frames + 1):
            if frame % every:
                os.close(os.open(f"{frame:05d}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    finally:
        os.close(place)
    return frames // every


def write_media(path: Path, frames: int, rate: int = RATE, *, sound: bool = True, seconds: float | None = None) -> Path:
    """Write an mp4 of this many frames that show one 16x16 picture, with silence as long, or of so many seconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=rate)
        video.width = video.height = 16
        video.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        audio = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        (shown,) = [*video.encode(picture), *video.encode(None)]
        content = bytes(shown)
        silence = b""
        if audio is not None:
            piece = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
            piece.sample_rate = 8000
            silence = bytes([*audio.encode(piece), *audio.encode(None)][1])
        for index in range(frames):
            _mux(container, content, index, Fraction(1, rate), video, key=True)
        for index in range(round((seconds or frames / rate) * 8000 / 1024) if audio is not None else 0):
            _mux(container, silence, 1024 * index, Fraction(1, 8000), audio, key=True)
    return path


def _mux(container, content, pts, base, stream, *, key):
    packet = av.Packet(content)
    packet.stream, packet.time_base, packet.is_keyframe = stream, base, key
    packet.pts = packet.dts = pts
    packet.duration = 1024 if base.denominator == 8000 else 1
    container.mux(packet)
