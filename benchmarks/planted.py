"""Writes a feature store of Aff-Wild2's size, or a share of it, with a signal planted in random numbers.

    python benchmarks/planted.py STORE [--scale 1.0]

At scale 1: 432 labelled videos (356 train, 76 validation) with 2,065,871 frames, 512 numbers a frame, and windows of
sound every 3 s with 101 x 768 numbers. Rates of frames and lengths of videos vary as they do there. Whoever measures
training on it measures the paper's sizes, and nothing of anybody's faces.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np

from vaprompt.recipes import read_recipe, shipped
from vaprompt.regions import PHRASES, TEMPLATES
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe

VIDEOS = {"train": (356, 1_682_057), "validation": (76, 383_814)}
"""Of each split, as the challenge has them: videos and frames."""
SHORTEST = 73
IMAGE, AUDIO, STEPS = 512, 768, 101
HOP, WINDOW = 3.0, 10.0
RATES = (30.0, 29.97, 25.0, 24.0, 15.0, 7.5)
SHARES = (0.5, 0.16, 0.16, 0.08, 0.06, 0.04)
FINGERPRINTS = {
    "image": {"encoder": "planted", "dim": IMAGE},
    "audio": {"encoder": "planted", "dim": AUDIO, "steps": STEPS, "hop": HOP, "window": WINDOW},
    "labels": {"rows": "frames"},
}
NOISE = 1.0
"""Deviation of the noise; the signal's is some 0.5 in each number."""


def main() -> None:
    """Write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("store", type=Path)
    options.add_argument("--scale", type=float, default=1.0)
    chosen = options.parse_args()
    start = time.perf_counter()
    plant(chosen.store, chosen.scale)
    print(f"{chosen.store}: {time.perf_counter() - start:.1f} s")


def plant(path: Path, scale: float = 1.0, *, steps: int = STEPS) -> Path:
    """Write a store, in place of one that is there; `scale` is the share of the videos."""
    shutil.rmtree(path, ignore_errors=True)
    generator = np.random.default_rng(0)
    mixes = [generator.normal(size=(2, channels)).astype(np.float32) / 2 for channels in (IMAGE, AUDIO)]
    noise = NOISE * generator.standard_normal(2**24, dtype=np.float32)
    store = FeatureStore.create(path, dataset={"name": "planted", "layout": "none", "faces": "crops"}, recipe={})
    for split, (videos, frames) in VIDEOS.items():
        for number, length in enumerate(lengths(generator, round(videos * scale), round(frames * scale))):
            rate = float(generator.choice(RATES, p=SHARES))
            arrays = video(generator, length, rate, mixes, noise, steps)
            write(store, f"{split}{number:03d}", split, arrays)
    texts = [template.format(phrase) for phrase in PHRASES for template in TEMPLATES]
    rows = generator.normal(size=(len(texts), IMAGE)).astype(np.float32)
    store.write_text(dict(zip(texts, rows, strict=True)), {"encoder": "planted"})
    store.write_index()
    return path


def lengths(generator: np.random.Generator, videos: int, frames: int) -> np.ndarray:
    """Return the frames of each video, as unequal as in Aff-Wild2, which add up to `frames`."""
    drawn = generator.lognormal(0, 0.9, videos)
    found = np.maximum(SHORTEST, drawn / drawn.sum() * frames).astype(int)
    found[np.argmax(found)] += frames - found.sum()
    return found


def video(
    generator: np.random.Generator,
    length: int,
    rate: float,
    mixes: list[np.ndarray],
    noise: np.ndarray,
    steps: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of one video's streams: valence and arousal wander, pictures and sound tell of both."""
    time_F = np.arange(length) / rate
    walk = generator.normal(size=(2 + length // 30, 2)).cumsum(axis=0)
    walk = np.tanh(0.5 * (walk - walk.mean(axis=0)) / (walk.std(axis=0) + 1e-6))
    at = np.linspace(0, len(walk) - 1, length)
    value_F2 = np.stack([np.interp(at, np.arange(len(walk)), walk[:, axis]) for axis in (0, 1)], axis=1)
    valid_F = np.ones(length, bool)
    kept = np.flatnonzero(generator.random(length) > 0.015)
    image_ND = value_F2[kept].astype(np.float32) @ mixes[0] + slices(generator, noise, len(kept), IMAGE)
    end_W = np.arange(WINDOW + HOP * np.floor(-WINDOW / HOP), time_F[-1] + 1e-9, HOP)
    back_WS = end_W[:, None] - np.linspace(WINDOW, 0, steps)
    heard_WS2 = np.stack([np.interp(back_WS, time_F, value_F2[:, axis]) for axis in (0, 1)], axis=2)
    audio_WSD = heard_WS2.astype(np.float32) @ mixes[1]
    audio_WSD += slices(generator, noise, len(end_W) * steps, AUDIO).reshape(audio_WSD.shape)
    return {
        "image": {
            "embedding": image_ND.astype(np.float16),
            "frame": (kept + 1).astype(np.int32),
            "time": time_F[kept],
        },
        "audio": {"embedding": audio_WSD.astype(np.float16), "end": end_W},
        "labels": {"value": value_F2.astype(np.float32), "valid": valid_F, "time": time_F},
    }


def slices(generator: np.random.Generator, noise: np.ndarray, rows: int, channels: int) -> np.ndarray:
    """Return noise from a stock, each piece from another place: drawing it anew would take minutes."""
    starts = generator.integers(0, len(noise) - channels, rows)
    return noise[starts[:, None] + np.arange(channels)]


def write(store: FeatureStore, name: str, split: str, arrays: dict[str, dict[str, np.ndarray]]) -> None:
    """Publish one video."""
    labels = arrays["labels"]
    frames, seconds = len(labels["time"]), float(labels["time"][-1])
    counts = {
        "image": {"frames": frames, "encoded": len(arrays["image"]["frame"])},
        "audio": {"windows": len(arrays["audio"]["end"])},
        "labels": {"frames": frames, "valid": int(labels["valid"].sum())},
    }
    for stream, parts in arrays.items():
        with store.writer(stream, name, FINGERPRINTS[stream]) as writer:
            writer.append(**parts)
            writer.publish({"split": split, "counts": {**counts[stream], "seconds": seconds}, "notes": []})


def recipe(**changes: object) -> TrainRecipe:
    """Return the paper's recipe, with fields of the top level changed."""
    return read_recipe(TrainRecipe, shipped("train", "paper")).model_copy(update=changes)


if __name__ == "__main__":
    main()
