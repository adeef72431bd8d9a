"""Measures a store of 600 videos behind an S3-compatible server on loopback: listing it, pushing it, pulling it.

    python benchmarks/remote.py [--videos 600] [--frames 600] [--out benchmarks/remote.json]

The server is moto's, a Python program in a process of its own on the same machine: it takes most of the time, so the
rates are what the client reaches at least. `store info` is timed as a user calls it, start of Python included.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vaprompt.store import FeatureStore
from vaprompt.store.cache import open_store
from vaprompt.store.pull import pull
from vaprompt.store.push import push
from vaprompt.store.transfer import Transfer

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CHANNELS, STEPS, AUDIO, HOP, RATE = 512, 20, 192, 3.0, 30.0


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--videos", type=int, default=600)
    options.add_argument("--frames", type=int, default=600, help="of each video")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, s3_server() as server:
        os.environ |= {"AWS_ENDPOINT_URL": server} | dict.fromkeys(KEYS, "nobody")
        os.environ["VAPROMPT_CACHE"] = str(Path(folder) / "cache")
        figures = measure(Path(folder), given.videos, given.frames)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, the server beside the client",
        "versions": {name: version(name) for name in ("fsspec", "s3fs", "moto")}
        | {"python": platform.python_version()},
        "store": {"videos": given.videos, "frames": given.frames},
        "figures": figures,
    }
    print(json.dumps(report, indent=2))
    if given.out is not None:
        given.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, videos: int, frames: int) -> dict[str, Any]:
    """Return seconds and rates of each thing."""
    local, url = folder / "s.zarr", "s3://team/s.zarr"
    make_store(local, videos, frames)
    figures: dict[str, Any] = {"push": rates(push(local, url)), "push again": seconds(lambda: push(local, url))}
    figures["store info, as a user calls it"] = min(info(url) for _ in range(3))
    figures["store info of the folder, as a user calls it"] = min(info(str(local)) for _ in range(3))
    figures["store info within Python"] = min(seconds(lambda: FeatureStore.open(url).info()) for _ in range(3))
    figures["pull"] = rates(pull(url, folder / "p.zarr"))
    figures["pull again"] = seconds(lambda: pull(url, folder / "p.zarr"))
    figures["open through the cache, the first time"] = seconds(lambda: open_store(url))
    figures["open through the cache, the second time"] = min(seconds(lambda: open_store(url)) for _ in range(3))
    figures["index, bytes"] = (local / ".index.json").stat().st_size
    return figures


def make_store(path: Path, videos: int, frames: int) -> None:
    """Write a store of random numbers in the shapes of the paper's encoders, at 512 and 192 channels."""
    chance = np.random.default_rng(0)
    store = FeatureStore.create(path, dataset={"name": "random", "layout": "none", "faces": "crops"}, recipe={})
    time_F = np.arange(frames) / RATE
    end_W = np.arange(-2.0, time_F[-1], HOP)
    os.fsync = lambda descriptor: None  # only here: the disk is not what is measured
    for number in range(videos):
        arrays: dict[str, dict[str, np.ndarray]] = {
            "image": {
                "embedding": chance.random((frames, CHANNELS), np.float32).astype(np.float16),
                "frame": np.arange(1, frames + 1, dtype=np.int32),
                "time": time_F,
            },
            "audio": {
                "embedding": chance.random((len(end_W), STEPS, AUDIO), np.float32).astype(np.float16),
                "end": end_W,
            },
            "labels": {
                "value": np.zeros((frames, 2), np.float32),
                "valid": np.ones(frames, bool),
                "time": time_F,
            },
        }
        length = float(time_F[-1])
        counts = {"frames": frames, "encoded": frames, "windows": len(end_W), "valid": frames, "seconds": length}
        for stream, columns in arrays.items():
            with store.writer(stream, f"video{number}", {"schema": 1, "stream": stream}) as writer:
                writer.append(**columns)
                writer.publish({"split": "train", "counts": counts, "notes": []})
    store.write_index()


def info(url: str) -> float:
    """Return how long `vaprompt store info` takes, in a process of its own."""
    command = [sys.executable, "-m", "vaprompt", "store", "info", url, "--json"]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))  # noqa: S603


def seconds(action: Any) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    action()
    return round(time.perf_counter() - started, 3)


def rates(done: Transfer) -> dict[str, float]:
    """Return a transfer's figures."""
    return {
        "seconds": round(done.seconds, 1),
        "MB": round(done.bytes / 1e6, 1),
        "files": done.files,
        "MB a second": round(done.bytes / 1e6 / done.seconds, 1),
        "files a second": round(done.files / done.seconds, 1),
    }


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server with a bucket `team`, and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        for _ in range(300):
            try:
                bucket = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                bucket.request("PUT", "/team")
                bucket.getresponse().close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
