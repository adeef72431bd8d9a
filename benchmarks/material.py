"""What extractions read while they are measured: face crops, whole frames or sound, made on the spot."""

from __future__ import annotations

import io
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media import FRAMES, repeat, textured
from media import write_video as write_one_of
from PIL import Image

from vaprompt.datasets.base import Dataset, Video

LENGTHS = 16
"""Different lengths of videos with sound or crops, from half to one and a half times the mean.

As real ones are: of few lengths, many end and begin at the same moments, and the encoder waits more than it would.
"""

SHARES = range(LENGTHS + 1, 3 * LENGTHS, 2)
"""Each length in parts of the mean's 2 * LENGTHS."""


def material(folder: Path, kind: str, count: int, *, crops: int, seconds: int) -> Dataset:
    """Write videos, unless they are there, and return them as a data set.

    Args:
        folder: where to.
        kind: `crops`, `frames` or `sound`, which is also the folder's name.
        count: videos.
        crops: mean number of face crops of each.
        seconds: mean length of a video with sound. One of whole frames has as many frames.
    """
    if not folder.is_dir():
        folder.mkdir()
        if kind == "crops":
            counts = [crops * share // (2 * LENGTHS) for share in SHARES]
            write_video(folder / "0.mp4", 64, 64, max(counts), 25, sound=False)
            for number, some in enumerate(counts):
                write_crops(folder / f"crops{number}", some)
        elif kind == "frames":
            write_video(folder / "0.mp4", 360, 640, seconds, 25, sound=False)
        else:
            part, length = folder / "part.mp4", seconds // (2 * LENGTHS)
            write_video(part, 64, 64, length, 1, sound=True)
            for number, share in enumerate(SHARES):
                repeat(part, folder / f"{number}.mp4", share, seconds=length)
    videos = []
    for number in range(count):
        # Copies, as two videos of one file would share its sound.
        media = folder / f"{number}.mp4"
        if not media.exists():
            shutil.copy(folder / (f"{number % LENGTHS}.mp4" if kind == "sound" else "0.mp4"), media)
            with media.open("ab") as end:  # an empty box of mp4, so that digests differ
                end.write((8 + 4).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big"))
        found = folder / f"crops{number % LENGTHS}" if kind == "crops" else None
        videos.append(Video(f"{kind}{number}", "train", media, found, None))
    return Dataset("benchmark", "affwild2", folder, "crops" if kind == "crops" else "frames", tuple(videos))


def write_crops(folder: Path, count: int) -> None:
    """Write so many crops of 112 x 112; there are only 64 different ones."""
    folder.mkdir()
    picture_HWC = textured(360, 640)
    jpgs = []
    for index in range(64):
        jpg = io.BytesIO()
        Image.fromarray(np.roll(picture_HWC, 7 * index, axis=1)[100:212, 200:312]).save(jpg, "jpeg", quality=95)
        jpgs.append(jpg.getvalue())
    for index in range(count):
        (folder / f"{index + 1:05d}.jpg").write_bytes(jpgs[index % 64])


def write_video(target: Path, height: int, width: int, frames: int, rate: int, *, sound: bool) -> None:
    """Write a video that pans over a picture, with a tone where it is to have sound."""
    picture_HWC, samples = textured(max(64, height), max(64, width)), 44100 // rate
    with av.open(str(target), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="stereo") if sound else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture_HWC, 3 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(video.encode(frame))
            if audio is not None:
                tone = 8000 * np.sin(2 * np.pi * 440 / 44100 * (np.arange(samples) + index * samples))
                piece = np.repeat(tone, 2)[None].astype(np.int16)
                heard = av.AudioFrame.from_ndarray(piece, format="s16", layout="stereo")
                heard.sample_rate, heard.pts, heard.time_base = 44100, index * samples, Fraction(1, 44100)
                container.mux(audio.encode(heard))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))


def videos_with_crops(folder: Path, count: int) -> Dataset:
    """Write videos with sound and a crop of 112 x 112 for each of their frames, and return them as a data set."""
    picture_HWC = textured(360, 640)
    videos = []
    for number in range(count):
        media, crops = folder / f"video{number}.mp4", folder / f"crops{number}"
        write_one_of(media, np.roll(picture_HWC, 100 * number, axis=1))
        crops.mkdir()
        for index in range(FRAMES):
            face_HWC = np.roll(picture_HWC, 7 * index + 50 * number, axis=1)[100:212, 200:312]
            Image.fromarray(face_HWC).save(crops / f"{1 + index:05d}.jpg", quality=95)
        videos.append(Video(f"video{number}", "train", media, crops, None))
    return Dataset("benchmark", "affwild2", folder, "crops", tuple(videos))
