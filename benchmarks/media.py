"""Measures how fast pictures and sound are read and made ready for the encoders, and how fast labels are read.

    python benchmarks/media.py [--out benchmarks/media.json]

All figures are the best of several rounds on one thread, so that a busy machine disturbs them least. The material is
made on the spot: a textured 640x360 H.264 video with stereo sound, 112x112 crops, an annotation of 47,000 rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from open_clip.transform import image_transform
from PIL import Image

from vaprompt.datasets.annotation import read_annotation
from vaprompt.media.audio import audio_windows
from vaprompt.media.crops import read_images
from vaprompt.media.logmel import LogMelRecipe, log_mel
from vaprompt.media.resize import preprocess
from vaprompt.media.video import frame_times, read_frames

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FRAMES, RATE, ROUNDS = 300, 25, 5


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path)
    out: Path | None = options.parse_args().out
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    report = {"machine": platform.machine(), "torch": torch.__version__, "av": av.__version__, "per second": figures}
    print(json.dumps(report, indent=2))
    if out is not None:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path) -> dict[str, float]:
    """Return how many of each thing are done in a second."""
    video, crop, labels = folder / "video.mp4", folder / "00001.jpg", folder / "labels.txt"
    picture_HWC = textured(360, 640)
    face_HWC = textured(112, 112)
    write_video(video, picture_HWC)
    Image.fromarray(face_HWC).save(crop, quality=95)
    labels.write_text("valence,arousal\n" + "0.123,-0.456\n" * 47000, encoding="utf-8")
    face_BHWC = torch.from_numpy(np.stack([face_HWC] * 32))
    picture_BHWC = torch.from_numpy(np.stack([picture_HWC] * 32))
    transform = image_transform(224, is_train=False, mean=MEAN, std=STD)
    wave_BL = torch.rand(4, 160000) - 0.5
    end_W = np.arange(1.0, FRAMES / RATE, 3.0)

    def both(image_BHWC: torch.Tensor) -> None:
        preprocess(image_BHWC, size=224, mean=MEAN, std=STD)

    return {
        "video frames decoded, 640x360": rate(lambda: frame_times(video), FRAMES),
        "video frames decoded to RGB, 640x360": rate(lambda: sum(1 for _ in read_frames(video)), FRAMES),
        "seconds of sound decoded, resampled, cut": rate(
            lambda: list(audio_windows(video, end_W, window=10.0)), FRAMES / RATE
        ),
        "crops read, 112x112 jpg": rate(lambda: sum(1 for _ in read_images([crop] * 200)), 200),
        "pictures made ready, 112x112 to 224": rate(lambda: both(face_BHWC), 32),
        "pictures made ready, 640x360 to 224": rate(lambda: both(picture_BHWC), 32),
        "pictures by open_clip's PIL transform, 112x112 to 224": rate(
            lambda: [transform(Image.fromarray(face_HWC)) for _ in range(32)], 32
        ),
        "pictures by open_clip's PIL transform, 640x360 to 224": rate(
            lambda: [transform(Image.fromarray(picture_HWC)) for _ in range(32)], 32
        ),
        "log-Mel pictures of 10 s": rate(lambda: log_mel(wave_BL, LogMelRecipe()), 4),
        "annotation rows": rate(lambda: read_annotation(labels), 47000),
    }


def rate(work: Callable[[], object], amount: float) -> float:
    """Return `amount` over the shortest time that `work` took."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(amount / min(seconds), 1)


def textured(height: int, width: int) -> np.ndarray:
    """Return a picture with structure at several scales."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_video(target: Path, picture_HWC: np.ndarray) -> None:
    """Write the picture as a video that pans over it, with a tone."""
    samples = 44100 // RATE
    with av.open(str(target), "w") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.height, video.width, video.pix_fmt = *picture_HWC.shape[:2], "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="stereo")
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(picture_HWC, 3 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            tone = 8000 * np.sin(2 * np.pi * 440 / 44100 * (np.arange(samples) + index * samples))
            sound = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None].astype(np.int16), format="s16", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = 44100, index * samples, Fraction(1, 44100)
            for packet in (*video.encode(frame), *audio.encode(sound)):
                container.mux(packet)
        for stream in (video, audio):
            for packet in stream.encode(None):
                container.mux(packet)


def repeat(piece: Path, target: Path, times: int, *, seconds: int) -> None:
    """Write a video of so many seconds several times, one after the other, without encoding it again."""
    with av.open(str(target), "w") as out, av.open(str(piece)) as first:
        streams = {stream.type: out.add_stream_from_template(stream) for stream in first.streams}
        for turn in range(times):
            with av.open(str(piece)) as container:
                for packet in container.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    # A second's gap: sound is a little longer than the picture, and time stamps must ascend.
                    shift = round((seconds + 1) * turn / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.type]
                    out.mux(packet)


if __name__ == "__main__":
    main()
