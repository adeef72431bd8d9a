"""Measures what a submission of the test split's size costs: 927,210 rows of 162 videos.

    python benchmarks/submission.py [--paper] [--out benchmarks/submission.json]

The store holds random features. By default they are narrow, so that what is measured is the work on the rows: the
template read, features read, windows cut, frames filled, the file written and checked. With --paper features and
heads have the paper's sizes, a store of some 2.5 GB, and the heads' own work is measured too.

Each figure is of a process of its own, with two threads: its wall time and its largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vaprompt.evaluation.template import COLUMNS
from vaprompt.recipes import read_recipe, shipped
from vaprompt.regions import PHRASES, TEMPLATES
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

ROWS, VIDEOS, RATE = 927_210, 162, 30.0
HOP, WINDOW = 3.0, 10.0
SIZES = {"narrow": (16, 4, 8), "paper": (512, 101, 768)}
"""Image channels, audio steps and audio channels."""
THREADS = "2"


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--paper", action="store_true")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    size = "paper" if chosen.paper else "narrow"
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), size)
    report = {"machine": platform.machine(), "cores": os.cpu_count(), "features": size, **figures}
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, size: str) -> dict[str, object]:
    """Return seconds and megabytes of writing a submission and of checking one."""
    store, run, template, out = (folder / name for name in ("store.zarr", "run", "template.txt", "mine.txt"))
    frames = write_store(store, size)
    with template.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for video, count in frames.items():
            file.writelines(f"{video}/{frame:05d}.jpg,0.000000,0.000000\n" for frame in range(1, count + 1))
    changes = ["epochs=1", *(() if size == "paper" else ("model.width=32", "model.temporal.units=32"))]
    train(store, read_recipe(TrainRecipe, shipped("train", "paper"), changes), run, device="cpu")
    place = ["--template", str(template)]
    writing = ["submit", str(run), "--store", str(store), *place, "--out", str(out), "--device", "cpu"]
    figures: dict[str, object] = {"rows": sum(frames.values()), "videos": len(frames)}
    figures["write"] = cost([*writing, "--smooth", "median:3"])
    figures["check"] = cost(["submit", "--check", str(out), *place])
    return figures


def cost(arguments: list[str]) -> dict[str, float]:
    """Return what one call of the command line takes: wall and processor seconds, and its largest memory."""
    code = (
        "import json, resource, sys; from vaprompt.cli.main import run; code = run(sys.argv[1:]); "
        "used = resource.getrusage(resource.RUSAGE_SELF); "
        "print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss]))"
    )
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": THREADS},
    )
    seconds = time.perf_counter() - started
    exit_code, processor, kilobytes = json.loads(done.stdout.splitlines()[-1])
    if exit_code:
        raise SystemExit(f"vaprompt {' '.join(arguments)} ended with {exit_code}")
    return {
        "wall seconds": round(seconds, 1),
        "processor seconds": round(processor, 1),
        "megabytes": round(kilobytes / 1000),
    }


def write_store(path: Path, size: str) -> dict[str, int]:
    """Write two short labelled videos for training and the test split's; return the frames of each of the latter."""
    image_dim, steps, audio_dim = SIZES[size]
    generator = np.random.default_rng(0)
    cuts = np.sort(generator.choice(np.arange(1, ROWS // 100), VIDEOS - 1, replace=False)) * 100
    test = {f"video{number}": int(count) for number, count in enumerate(np.diff([0, *cuts, ROWS]), start=1)}
    longest = max(test.values())
    image_ND = generator.standard_normal((longest, image_dim), np.float32).astype(np.float16)
    windows = int(longest / RATE / HOP) + 8
    audio_WSD = generator.standard_normal((windows, steps, audio_dim), np.float32).astype(np.float16)
    store = FeatureStore.create(path, dataset={"name": "random", "layout": "none", "faces": "crops"}, recipe={})
    parts = {"one": ("train", 900), "two": ("validation", 900)} | {
        name: ("test", count) for name, count in test.items()
    }
    for name, (split, frames) in parts.items():
        time_F = np.arange(frames) / RATE
        kept = np.flatnonzero(generator.random(frames) > 0.015)
        kept = kept if len(kept) else np.zeros(1, np.int64)
        end_W = np.arange(-2.0, time_F[-1] + 1e-9, HOP)
        value_F2 = np.full((frames, 2), -5, np.float32)
        if split != "test":
            value_F2 = generator.uniform(-1, 1, (frames, 2)).astype(np.float32)
        arrays = {
            "image": {
                "embedding": image_ND[: len(kept)],
                "frame": (kept + 1).astype(np.int32),
                "time": time_F[kept],
            },
            "audio": {"embedding": audio_WSD[: len(end_W)], "end": end_W},
            "labels": {"value": value_F2, "valid": np.full(frames, split != "test"), "time": time_F},
        }
        for stream, columns in arrays.items():
            fingerprint = {"encoder": "random", "size": size} | (
                {"hop": HOP, "window": WINDOW} if stream == "audio" else {}
            )
            with store.writer(stream, name, fingerprint) as writer:
                writer.append(**columns)
                counts = {"frames": frames, "valid": 0 if split == "test" else frames, "seconds": float(time_F[-1])}
                writer.publish({"split": split, "counts": counts, "notes": []})
    texts = [pattern.format(phrase) for phrase in PHRASES for pattern in TEMPLATES]
    rows = generator.standard_normal((len(texts), image_dim)).astype(np.float32)
    store.write_text(dict(zip(texts, rows, strict=True)), {"encoder": "random"})
    return test


if __name__ == "__main__":
    main()
