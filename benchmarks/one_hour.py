"""Measures the memory that extraction takes over its encoders' own, for short and long 1080p videos, with full queues.

    python benchmarks/one_hour.py [--rows NAME ...] [--into benchmarks/extract.json]

A minute of video is encoded once and repeated without encoding it again. Each row is an extraction by a process of its
own, whose largest resident memory is compared with what it was once the full-size networks were loaded and had encoded
one item. Every frame is brought to the encoders, and they are slower than what brings them, so that all queues are
full. How full that of batches was stands in each row, seen whenever one of its four had just been taken: 0.75 is full.

- `two at once`: the networks encode every frame and window of two videos that are read at the same time.
- `10 minutes`, `60 minutes`: they are in memory as before, but would need hours for so much. In their place something
  takes the same batches, so many items a second (`PACE`), and gives as many numbers back.

`benchmarks/extract.py` does the same as a part of its run. With `--into`, rows are put among the memory rows of its
result, and the rest of it stays as it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from shutil import rmtree
from typing import Any

import av
import numpy as np
import torch
from media import repeat, textured

from vaprompt.datasets.base import Dataset, Video
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction import local, pipeline
from vaprompt.extraction.recipe import ExtractRecipe, PromptRecipe
from vaprompt.extraction.stages import log_file
from vaprompt.store import FeatureStore

ROWS = {"two at once": (1, 2), "10 minutes": (10, 1), "60 minutes": (60, 1)}
"""Minutes of a video, and how many such videos there are."""
FRAME_RATE = 5
IMAGE = ImageEncoderRecipe(weights="random:0", batch=16)
AUDIO = AudioEncoderRecipe(weights="random:0", batch=4, hop=3.0)
PACE = {"image": 70.0, "audio": 30.0}
"""Items a second: somewhat fewer than two cores read and resize."""


def main() -> None:
    """Measure and print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="NAME")
    options.add_argument("--into", type=Path)
    options.add_argument("--of", type=Path, nargs="+", help=argparse.SUPPRESS)
    options.add_argument("--paced", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.of is not None:
        print(json.dumps(memory_of(chosen.of, paced=chosen.paced)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = memory(Path(folder), chosen.rows)
    print(json.dumps(rows, indent=2))
    if chosen.into is not None:
        report = json.loads(chosen.into.read_text(encoding="utf-8"))
        report["memory"] = {name: ({**report.get("memory", {}), **rows}).get(name) for name in ROWS}
        chosen.into.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def memory(folder: Path, names: Sequence[str] = tuple(ROWS)) -> dict[str, Any]:
    """Return the largest resident memory of extractions of 1080p videos, in megabytes, and what they did."""
    minute = folder / "minute.mp4"
    write_minute(minute)
    found = {}
    for name in names:
        minutes, count = ROWS[name]
        place = folder / name  # of its own: its store and log are nobody else's
        place.mkdir()
        videos = [place / f"{number + 1}.mp4" for number in range(count)]
        for video in videos:
            repeat(minute, video, minutes, seconds=60)
        command = [sys.executable, __file__, "--of", *map(str, videos), *(["--paced"] if minutes > 1 else [])]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603
        found[name] = json.loads(ended.stdout)
        rmtree(place)
    return found


class Paced:
    """Stands for an encoder that is in memory: takes its batches, so many items a second, and gives ones back."""

    def __init__(self, encoder: Any, pace: float) -> None:
        """Stand for `encoder`."""
        self._encoder, self._pace, self._turn = encoder, pace, threading.Lock()
        self._shape = tuple(getattr(encoder, name) for name in ("steps", "dim") if hasattr(encoder, name))

    def __getattr__(self, name: str) -> Any:
        """Return what the encoder says of itself."""
        return getattr(self._encoder, name)

    def encode(self, items: Any) -> torch.Tensor:
        """Return as many embeddings as there are items, after as long as they take."""
        with self._turn:
            time.sleep(len(items) / self._pace)
        return torch.ones(len(items), *self._shape)


def memory_of(media: Sequence[Path], *, paced: bool) -> dict[str, Any]:
    """Return the largest resident memory after loading and trying the encoders, and after an extraction."""
    image: Any = image_encoder(IMAGE)
    audio: Any = audio_encoder(AUDIO)
    image.encode(np.zeros((1, 224, 224, 3), dtype=np.uint8))
    audio.encode(torch.zeros(1, round(AUDIO.window * audio.rate)))
    image.encode_text(["a happy face"])
    own = peak()
    if paced:
        image, audio = Paced(image, PACE["image"]), Paced(audio, PACE["audio"])
    local.image_encoder, local.audio_encoder = (lambda *_: image), (lambda *_: audio)
    recipe = ExtractRecipe(
        image=IMAGE,
        image_rate="all",
        audio=AUDIO,
        prompts=PromptRecipe(phrases=("happy",), templates=("a {} face",)),
    )
    folder = media[0].parent
    videos = tuple(Video(f"video{number}", "train", path, None, None) for number, path in enumerate(media))
    store = folder / "some.zarr"
    report = pipeline.extract(Dataset("memory", "affwild2", folder, "frames", videos), recipe, store)
    assert not report.failed, report.failed
    events = map(json.loads, log_file(store).read_text().splitlines())
    stages = next(line for line in events if line["event"] == "stages")
    made = FeatureStore.open(store)
    return {
        "model": own,
        "extraction": peak(),
        "above the model": round(peak() - own, 1),
        "videos": len(videos),
        "seconds of video": round(sum(made.marker("image", video.name)["counts"]["seconds"] for video in videos)),
        **{f"{name} encoded" if not paced else f"{name} taken": count for name, count in stages["items"].items()},
        "queue, mean fill": stages["queue_fill"],
    }


def peak() -> float:
    """Return this process's largest resident memory so far, in megabytes (proc(5)).

    Not what getrusage says, which begins with the memory of whoever started the process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, 1)


def write_minute(target: Path) -> None:
    """Write a minute of 1080p with a tone."""
    picture_HWC = textured(1080, 1920)
    rate, samples = FRAME_RATE, 44100 // FRAME_RATE
    with av.open(str(target), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = 1080, 1920, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(60 * rate):
            frame = av.VideoFrame.from_ndarray(np.roll(picture_HWC, 8 * index, axis=1), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            tone = 8000 * np.sin(2 * np.pi * 440 / 44100 * (np.arange(samples) + index * samples))
            sound = av.AudioFrame.from_ndarray(tone[None].astype(np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 44100, index * samples, Fraction(1, 44100)
            for packet in (*video.encode(frame), *audio.encode(sound)):
                container.mux(packet)
        for stream in (video, audio):
            for packet in stream.encode(None):
                container.mux(packet)


if __name__ == "__main__":
    main()
