"""Measures the page about a run on a validation split of Aff-Wild2's size: 76 videos, 383,814 frames.

    python benchmarks/report.py [--out benchmarks/report.json]

The store is made up: narrow features, audio of 101 steps every 3 s, labels that wander as a joystick does, lengths from
73 to 47,435 frames. The sound's level is a random walk, which compresses worse than a real one. Needs Chromium and its
driver; what is measured in it is what a person waits for: from opening the file to the first paint and to the first
video's charts, choosing the longest video, and each step of zooming it by the wheel from the whole to a few seconds and
back (from the event to the frame that shows it). Medians over five loads, and over all steps of the zoom.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaprompt.evaluation.evaluate import evaluate
from vaprompt.media.loudness import STEP, Loudness
from vaprompt.recipes import read_recipe, shipped
from vaprompt.regions import PHRASES, TEMPLATES
from vaprompt.report.evidence import gather
from vaprompt.report.pages.page import write_page
from vaprompt.report.run_page import run_page
from vaprompt.report.studying import Study, study
from vaprompt.store import FeatureStore
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.browsing import Tab, chromium, programs  # noqa: E402  the tests' browser, which watches for errors and requests

VIDEOS, FRAMES, SHORTEST, LONGEST, RATE = 76, 383_814, 73, 47_435, 30.0
IMAGE, AUDIO, STEPS, HOP, WINDOW = 16, 12, 101, 3.0, 10.0
LOADS, ZOOMS = 5, 40

ZOOM = """
const done = arguments[arguments.length - 1], took = [];
const over = document.querySelector("#chart-valence .u-over"), box = over.getBoundingClientRect();
const step = (count) => {
  if (count === 2 * arguments[0]) return done(took);
  const started = performance.now();
  over.dispatchEvent(new WheelEvent("wheel", {ctrlKey: true, cancelable: true, bubbles: true,
    deltaY: count < arguments[0] ? -15 : 15, clientX: box.left + box.width / 3, clientY: box.top + 20}));
  requestAnimationFrame(() => setTimeout(() => { took.push(performance.now() - started); step(count + 1); }));
};
step(0);
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    try:
        programs()
    except pytest.skip.Exception as reason:
        raise SystemExit(str(reason)) from None
    with tempfile.TemporaryDirectory() as folder:
        page, making = make_page(Path(folder))
        seeing = look(page, Path(folder))
    report = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "videos": VIDEOS,
        **making,
        **seeing,
    }
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def make_page(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write the page; return it, its size and what making it took."""
    store, run, page = folder / "store.zarr", folder / "run", folder / "report.html"
    write_store(store)
    changes = ["epochs=1", "model.width=32", "model.temporal.units=32", "model.fusion.feedforward=64"]
    train(store, read_recipe(TrainRecipe, shipped("train", "paper"), changes), run, device="cpu")
    evaluate(run, device="cpu")
    started = time.perf_counter()
    evidence = gather(run)
    found = with_sound(study(evidence))
    asked = time.perf_counter()
    size = write_page(run_page(evidence, found), page)
    return page, {
        "frames": sum(len(video.time_F) for video in evidence.evaluation.videos),
        "longest video, frames": max(len(video.time_F) for video in evidence.evaluation.videos),
        "page, MB": round(size / 1e6, 2),
        "windows": sum(len(one.end_W) for one in found.explained.values()),
        "network asked, s": round(asked - started, 1),
        "page written, s": round(time.perf_counter() - asked, 1),
    }


def look(page: Path, folder: Path) -> dict[str, Any]:
    """Return what a person waits for, in milliseconds."""
    paints, ready, chosen, zoomed = [], [], [], []
    with chromium(folder / "profile") as chrome:
        for _ in range(LOADS):
            tab = Tab(chrome, folder)
            tab.open(page)
            tab.one("#chart-regions canvas")
            # The charts announce themselves by their canvas; the clock is the page's own.
            ready.append(tab.script("return performance.now()"))
            paints.append(
                tab.script("return performance.getEntriesByName('first-contentful-paint').map((e) => e.startTime)[0]")
            )
            longest = f"return Data.block('report').videos.findIndex((one) => one.frames === {LONGEST})"
            place = tab.script(longest)
            started = time.perf_counter()
            tab.script(f"document.getElementById('video-{place}').click()")
            tab.wait(lambda tab=tab: str(LONGEST) in tab.one("#video-scores").text)
            tab.settle()
            chosen.append(1000 * (time.perf_counter() - started) - 90)  # less the pauses of `settle`
            zoomed += chrome.execute_async_script(ZOOM, ZOOMS)
            faults = tab.faults()
            if faults:
                raise SystemExit(f"the page complains: {faults}")
        version = chrome.capabilities["browserVersion"]
    return {
        "browser": f"Chromium {version}, software rendering",
        "first paint, ms": round(statistics.median(paints)),
        "first video's charts there, ms": round(statistics.median(ready)),
        "longest video chosen, ms": round(statistics.median(chosen)),
        "zoom step, ms": {
            "median": round(statistics.median(zoomed), 1),
            "95 %": round(float(np.percentile(zoomed, 95)), 1),
            "steps": len(zoomed),
        },
    }


def with_sound(found: Study) -> Study:
    """Return the study with made-up sound for every video."""
    random = np.random.default_rng(1)
    for name, one in found.explained.items():
        count = int(one.end_W[-1] / STEP) + 1
        level_G = np.clip(-45 + np.cumsum(random.normal(0, 2, count)) % 40 - 20, -100, 0).astype(np.float32)
        found.heard.loudness[name] = Loudness(level_G, np.arange(count) % 90 < 50, silent=False)
    return found


def write_store(path: Path) -> None:
    """Write two short videos for training and the validation split's."""
    random = np.random.default_rng(0)
    share = random.dirichlet(np.full(VIDEOS - 2, 1.2)) * (FRAMES - SHORTEST - LONGEST - (VIDEOS - 2) * SHORTEST)
    counts = np.minimum(share.astype(int) + SHORTEST, LONGEST)
    counts[counts.argmin()] += FRAMES - SHORTEST - LONGEST - counts.sum()
    store = FeatureStore.create(path, dataset={"name": "made-up", "layout": "none", "faces": "crops"}, recipe={})
    parts = {"one": ("train", 900), "two": ("train", 900)} | {
        f"video{number}": ("validation", int(count)) for number, count in enumerate([SHORTEST, LONGEST, *counts])
    }
    for name, (split, frames) in parts.items():
        time_F = np.arange(frames) / RATE
        kept = np.flatnonzero(random.random(frames) > 0.015)
        end_W = np.arange(-2.0, time_F[-1] + 1e-9, HOP)
        # A joystick's path: slow waves and a slight tremble, to three decimals.
        waves = random.uniform(0, 6, (6, 2)) + time_F[:, None, None] * random.uniform(0.05, 0.8, (6, 2))
        value_F2 = np.clip(np.sin(waves).mean(axis=1) * 1.6 + random.normal(0, 0.004, (frames, 2)), -1, 1)
        streams = {
            "image": {
                "embedding": random.standard_normal((len(kept), IMAGE), np.float32).astype(np.float16),
                "frame": (kept + 1).astype(np.int32),
                "time": time_F[kept],
            },
            "audio": {
                "embedding": random.standard_normal((len(end_W), STEPS, AUDIO), np.float32).astype(np.float16),
                "end": end_W,
            },
            "labels": {
                "value": value_F2.round(3).astype(np.float32),
                "valid": random.random(frames) > 0.005,
                "time": time_F,
            },
        }
        for stream, arrays in streams.items():
            fingerprint = {"encoder": "made-up"} | ({"hop": HOP, "window": WINDOW} if stream == "audio" else {})
            with store.writer(stream, name, fingerprint) as writer:
                writer.append(**arrays)
                facts = {"frames": frames, "valid": frames, "seconds": float(time_F[-1])}
                writer.publish({"split": split, "counts": facts, "notes": []})
    texts = [pattern.format(phrase) for phrase in PHRASES for pattern in TEMPLATES]
    rows = random.standard_normal((len(texts), IMAGE)).astype(np.float32)
    store.write_text(dict(zip(texts, rows, strict=True)), {"encoder": "made-up"})


if __name__ == "__main__":
    main()
