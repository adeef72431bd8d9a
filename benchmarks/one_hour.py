"""Measures the memory that extraction takes over its encoders' own, for short and long 1080p videos.

    python benchmarks/one_hour.py [--minutes 10 60]

A minute of video is encoded once and repeated without encoding it again. Each length is extracted by a process of its
own, whose largest resident memory is compared with what it was once the encoders were loaded and had encoded one item.
`benchmarks/extract.py` does the same as a part of its run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from media import textured

from vaprompt.datasets.base import Dataset, Video
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction import local, pipeline
from vaprompt.extraction.recipe import ExtractRecipe, PromptRecipe
from vaprompt.store import FeatureStore

MINUTES = (10, 60)
IMAGE = ImageEncoderRecipe(weights="random:0", batch=16)
AUDIO = AudioEncoderRecipe(weights="random:0", batch=4, hop=60.0)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=int, nargs="+", default=list(MINUTES))
    options.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.of is not None:
        print(json.dumps(memory_of(chosen.of)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(memory(Path(folder), chosen.minutes), indent=2))


def memory(folder: Path, lengths: Sequence[int] = MINUTES) -> dict[str, Any]:
    """Return the largest resident memory of extractions of short and long 1080p videos, in megabytes."""
    minute = folder / "minute.mp4"
    write_minute(minute)
    found = {}
    for minutes in lengths:
        long = folder / f"{minutes}.mp4"
        repeat(minute, long, minutes)
        command = [sys.executable, __file__, "--of", str(long)]
        ended = subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        found[f"{minutes} minutes"] = json.loads(ended.stdout)
        long.unlink()
    return found


def memory_of(media: Path) -> dict[str, float]:
    """Return the largest resident memory after loading and trying the encoders, and after an extraction."""
    image, audio = image_encoder(IMAGE), audio_encoder(AUDIO)
    image.encode(np.zeros((1, 224, 224, 3), dtype=np.uint8))
    audio.encode(torch.zeros(1, round(AUDIO.window * audio.rate)))
    image.encode_text(["a happy face"])
    own = peak()
    local.image_encoder, local.audio_encoder = (lambda *_: image), (lambda *_: audio)
    recipe = ExtractRecipe(
        image=IMAGE,
        # Every frame is decoded; few are encoded, as the networks' time is not the question here.
        image_rate=0.02,
        audio=AUDIO,
        prompts=PromptRecipe(phrases=("happy",), templates=("a {} face",)),
    )
    dataset = Dataset("memory", "affwild2", media.parent, "frames", (Video("long", "train", media, None, None),))
    store = media.with_suffix(".zarr")
    report = pipeline.extract(dataset, recipe, store)
    assert report.done == ["long"], report.failed
    counts = FeatureStore.open(store).marker("image", "long")["counts"]
    return {"model": own, "extraction": peak(), "above the model": round(peak() - own, 1), **counts}


def peak() -> float:
    """Return this process's largest resident memory so far, in megabytes (proc(5)).

    Not what getrusage says, which begins with the memory of whoever started the process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, 1)


def write_minute(target: Path) -> None:
    """Write a minute of 1080p at 10 frames a second, with a tone."""
    picture_HWC = textured(1080, 1920)
    rate = 10
    with av.open(str(target), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = 1080, 1920, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(60 * rate):
            frame = av.VideoFrame.from_ndarray(np.roll(picture_HWC, 8 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            tone = 8000 * np.sin(2 * np.pi * 440 / 44100 * (np.arange(4410) + index * 4410))
            sound = av.AudioFrame.from_ndarray(tone[None].astype(np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44100, index * 4410, Fraction(1, 44100)
            for packet in (*video.encode(frame), *audio.encode(sound)):
                container.mux(packet)
        for stream in (video, audio):
            for packet in stream.encode(None):
                container.mux(packet)


def repeat(minute: Path, target: Path, minutes: int) -> None:
    """Write a video's packets so many times, one after the other, without encoding them again."""
    with av.open(str(target), "w") as out, av.open(str(minute)) as first:
        streams = {stream.type: out.add_stream_from_template(stream) for stream in first.streams}
        for turn in range(minutes):
            with av.open(str(minute)) as container:
                for packet in container.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    # A second's gap: sound is a little longer than the picture, and time stamps must ascend.
                    shift = round(61 * turn / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.type]
                    out.mux(packet)


if __name__ == "__main__":
    main()
