"""Measures how fast a store is verified, and becomes one file and a folder again: pack, export, merge and the others.

    python benchmarks/sharing.py [--small] [--out benchmarks/sharing.json]

The store holds random features in the paper's sizes, some 500 MB (--small: 20 MB), on the disk of the temporary folder.
Each figure is of a process of its own, with its start, which is also given alone; all but verify and diff write with
fsync. The files are in the page cache, as after an extraction. `verify --deep` and `info` are timed on a store of
Aff-Wild2's size, too (7 GB), where the program's start weighs less. Copying the folder with `cp -r` and `sync` is
timed beside them, as the least that can be asked, and SHA-256 of as many bytes from memory on one core, which bounds
all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path

import h5py
import numpy as np
import zarr
from planted import plant

from vaprompt.store import FeatureStore
from vaprompt.store.verification import verify

FRAMES, STEPS, RATE, HOP = 5000, 101, 30.0, 3.0
IMAGE_DIM, AUDIO_DIM = 512, 768

COMMAND = """
import json, re, resource, sys
from vaprompt.cli.main import run
code = run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
kilobytes = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"processor seconds": round(used.ru_utime + used.ru_stime, 2), "peak megabytes": kilobytes // 1000}))
sys.exit(code)
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--small", action="store_true")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), videos=2 if chosen.small else 34)
        shutil.rmtree(Path(folder) / "store.zarr")
        figures["large"] = measure_large(Path(folder) / "large.zarr", 0.01 if chosen.small else 1.0)
    versions = {"python": platform.python_version(), "zarr": zarr.__version__, "h5py": h5py.__version__}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    report = {**machine, "versions": {**versions, "hdf5": h5py.version.hdf5_version}, **figures}
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, videos: int) -> dict[str, object]:
    """Return each command's seconds, megabytes a second and peak memory."""
    store = folder / "store.zarr"
    write_store(store, videos)
    names = FeatureStore.open(store).videos()
    megabytes = FeatureStore.open(store).info()["bytes"] / 1e6
    half, rest = names[: len(names) // 2], names[len(names) // 2 :]
    commands = {
        "verify": ["verify", store],
        "verify --deep": ["verify", store, "--deep"],
        "pack": ["pack", store, folder / "s.zarr.zip"],
        "unpack": ["unpack", folder / "s.zarr.zip", folder / "unpacked.zarr"],
        "export": ["export", store, folder / "s.h5"],
        "import": ["import", folder / "s.h5", folder / "imported.zarr"],
        "subset of one half": ["subset", store, "--videos", ",".join(half), "--into", folder / "1.zarr"],
        "subset of the other": ["subset", store, "--videos", ",".join(rest), "--into", folder / "2.zarr"],
        "merge": ["merge", folder / "1.zarr", folder / "2.zarr", "--into", folder / "merged.zarr"],
        "diff": ["diff", store, folder / "merged.zarr"],
    }
    figures = {"cp and sync": timed(["sh", "-c", f"cp -r {store} {folder / 'copy.zarr'} && sync && echo"], megabytes)}
    shutil.rmtree(folder / "copy.zarr")
    figures["SHA-256 on one core"] = digested(megabytes)
    figures["start of the program"] = timed([sys.executable, "-m", "vaprompt", "--version"], 0)
    figures["verify --deep, the call alone"] = verified(store, megabytes)
    for name, arguments in commands.items():
        share = 0.5 if name.startswith("subset") else 1
        figures[name] = timed([sys.executable, "-c", COMMAND, "store", *map(str, arguments)], megabytes * share)
    return {"megabytes": round(megabytes), "videos": videos, "figures": figures}


def measure_large(store: Path, scale: float) -> dict[str, object]:
    """Return what looking at a store of a share of Aff-Wild2's size takes."""
    plant(store, scale)
    opened = FeatureStore.open(store)
    megabytes = opened.info()["bytes"] / 1e6
    for file in store.rglob("*"):  # read once, as after an extraction it would be
        if file.is_file():
            file.read_bytes()
    command = [sys.executable, "-c", COMMAND, "store"]
    found = {
        "verify --deep": timed([*command, "verify", str(store), "--deep"], megabytes),
        "info": timed([*command, "info", str(store)], 0),
    }
    return {"megabytes": round(megabytes), "videos": len(opened.videos()), "figures": found}


def digested(megabytes: float) -> dict[str, float]:
    """Return how fast SHA-256 is by itself."""
    block = bytes(2**20)
    started, digest = time.perf_counter(), hashlib.sha256()
    for _ in range(round(megabytes)):
        digest.update(block)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "megabytes a second": round(megabytes / seconds)}


def verified(store: Path, megabytes: float) -> dict[str, float]:
    """Return what verifying takes within a process that runs already; the best of three."""
    seconds = min(timeit.repeat(lambda: verify(store, deep=True), number=1, repeat=3))
    return {"seconds": round(seconds, 2), "megabytes a second": round(megabytes / seconds)}


def timed(command: list[str], megabytes: float) -> dict[str, float]:
    """Return what one process takes."""
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    seconds = time.perf_counter() - started
    found = {"seconds": round(seconds, 2), "megabytes a second": round(megabytes / seconds)}
    last = done.stdout.strip().rpartition("\n")[2]
    return found | (json.loads(last) if last.startswith("{") else {})


def write_store(path: Path, videos: int) -> None:
    """Write a store of random features: 5,000 frames and their sound, 14 MB, for each video."""
    chance = np.random.default_rng(0)
    time_F = np.arange(FRAMES) / RATE
    end_W = np.arange(-2.0, time_F[-1] + 1e-9, HOP)
    store = FeatureStore.create(path, dataset={"name": "random", "layout": "none", "faces": "crops"}, recipe={})
    for number in range(videos):
        split, video = ("train", "validation")[number % 2], f"video{number}"
        image_ND = chance.standard_normal((FRAMES, IMAGE_DIM), np.float32).astype(np.float16)
        audio_WSD = chance.standard_normal((len(end_W), STEPS, AUDIO_DIM), np.float32).astype(np.float16)
        frame_N = np.arange(1, FRAMES + 1, dtype=np.int32)
        with store.writer("image", video, {"schema": 1}) as writer:
            writer.append(embedding=image_ND, frame=frame_N, time=time_F)
            counts = {"frames": FRAMES, "encoded": FRAMES, "seconds": float(time_F[-1])}
            writer.publish({"split": split, "notes": [], "counts": counts})
        with store.writer("audio", video, {"schema": 1}) as writer:
            writer.append(embedding=audio_WSD, end=end_W)
            counts = {"windows": len(end_W), "seconds": float(time_F[-1])}
            writer.publish({"split": split, "notes": [], "counts": counts})
        with store.writer("labels", video, {"schema": 1}) as writer:
            value_F2 = chance.uniform(-1, 1, (FRAMES, 2)).astype(np.float32)
            writer.append(value=value_F2, valid=np.ones(FRAMES, bool), time=time_F)
            counts = {"frames": FRAMES, "valid": FRAMES, "seconds": float(time_F[-1])}
            writer.publish({"split": split, "notes": [], "counts": counts})
    store.write_text({"calm": np.ones(IMAGE_DIM, np.float32)}, {"schema": 1})
    with store.writing():
        store.write_index()


if __name__ == "__main__":
    main()
