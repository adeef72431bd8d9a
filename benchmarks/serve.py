"""Measures the live view of `vaprompt serve` on two cores: how many points a second, and how far behind the camera.

    python benchmarks/serve.py [--seconds 30] [--out benchmarks/serve.json]

A run with the embedded encoders is made of a few drawn people. A real server is started, and a client does what the
page does in a browser: 10 pictures a second of 640x480, as jpgs, and sound of 48 kHz in pieces of 2,048 samples, over a
websocket; two pictures at most are under way, and others are left out. Pictures are a drawn person's, shown once as
whole frames, once with the face looked for, and once more while videos are predicted beside it. Client and server share
the two cores. Delays are from the moment at which a picture was taken to the arrival of its point.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

CORES = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, CORES)  # inherited by the server

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.serving.film import pictures, seen_best  # noqa: E402
from tests.serving.process import Started, kilobytes, started  # noqa: E402  the server as its tests start it

RATE, SOUND, PIECE, UNDER_WAY = 10, 48_000, 2048, 2
QUEUE = 8
"""Videos of 40 s that are predicted meanwhile."""
SETTLING = 3.0
"""Seconds at the start that do not count: the first picture waits for memory and threads."""


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=30.0)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.seconds)
    report = {"machine": platform.machine(), "cores": len(CORES), "encoders": "embedded", "seconds": chosen.seconds}
    report |= figures
    print(json.dumps(report, indent=2))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Return the figures of each way to watch."""
    run, video = make_run(folder)
    shown = [jpg(rgb_HWC) for rgb_HWC in pictures(video, every=3)]
    figures: dict[str, Any] = {}
    for faces in ("frames", "detect"):
        room = folder / faces
        room.mkdir()
        with started(run, room, "--faces", faces, threads=len(CORES)) as server:
            figures[f"faces {faces}"] = watched(server, shown, seconds)
            if faces == "detect":
                jobs = [server.send(video.read_bytes(), "a.mp4")[1]["id"] for _ in range(QUEUE)]
                figures["faces detect, while videos are predicted"] = watched(server, shown, seconds, jobs[-1])
    return figures


def make_run(folder: Path) -> tuple[Path, Path]:
    """Return a run with the embedded encoders, and a drawn person's video."""
    data, store, run = folder / "data", folder / "store.zarr", folder / "run"
    vaprompt("synth", data, "--videos", 4, "--seconds", 40)
    vaprompt("extract", data, ROOT / "extract/demo.toml", "--store", store)
    vaprompt("train", store, ROOT / "train/demo.toml", "--run", run, "--set", "epochs=1")
    return run, seen_best(data.rglob("*.mp4"))


def vaprompt(*arguments: object) -> None:
    """Run one command."""
    command = [sys.executable, "-m", "vaprompt", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)  # noqa: S603


def jpg(rgb_HWC: np.ndarray) -> bytes:
    """Return a picture as a browser sends it."""
    written = io.BytesIO()
    Image.fromarray(rgb_HWC).save(written, "jpeg", quality=85)
    return written.getvalue()


class Client:
    """Does what the page does."""

    def __init__(self, socket: ClientConnection) -> None:
        """Begin."""
        self.socket, self.began = socket, time.perf_counter()
        self.under_way = self.skipped = 0
        self.points: list[tuple[float, float, bool]] = []
        """When a picture was taken, when its point came, and whether there was a face."""
        self.changing = threading.Lock()

    def now(self) -> float:
        return time.perf_counter() - self.began

    def send(self, kind: int, taken: float, content: bytes) -> None:
        self.socket.send(struct.pack("<Bd", kind, taken) + content)

    def watch(self, shown: list[bytes], seconds: float) -> None:
        """Send pictures and sound in time."""
        tone = np.round(8000 * np.sin(np.arange(SOUND) * 0.03)).astype("<i2")
        sent = number = 0
        while self.now() < seconds:
            while (sent + PIECE) / SOUND < self.now():
                self.send(2, sent / SOUND, np.roll(tone, -sent)[:PIECE].tobytes())
                sent += PIECE
            if number / RATE <= self.now():
                number += 1
                with self.changing:
                    free = self.under_way < UNDER_WAY
                    self.under_way += free
                    self.skipped += not free
                if free:
                    self.send(1, self.now(), shown[number % len(shown)])
            time.sleep(0.005)

    def hear(self) -> None:
        """Take the answers, until the view ends."""
        for text in self.socket:
            message = json.loads(text)
            assert "fault" not in message, message
            if "took" in message:
                with self.changing:
                    self.under_way -= 1
            if "point" in message:
                self.points.append((message["took"], self.now(), message["point"]["there"]))


def watched(server: Started, shown: list[bytes], seconds: float, job: str | None = None) -> dict[str, Any]:
    """Return the figures of one view."""
    with connect(f"ws://{server.host}/live", origin=f"http://{server.host}", max_size=2**20) as socket:  # type: ignore[arg-type]
        socket.send(json.dumps({"sound": SOUND}))
        assert "opened" in json.loads(socket.recv())
        client = Client(socket)
        hearing = threading.Thread(target=client.hear)
        hearing.start()
        client.watch(shown, seconds)
        busy = None if job is None else server.job(job)["state"] in ("waiting", "working")
        socket.close()
        hearing.join()
    points = [point for point in client.points if point[0] >= SETTLING]
    delays = [arrived - taken for taken, arrived, _ in points]
    half = len(delays) // 2
    figures = {
        "points a second": round(len(points) / (seconds - SETTLING), 2),
        "with a face": round(sum(there for _, _, there in points) / len(points), 3),
        "longest gap, s": round(float(np.diff([arrived for _, arrived, _ in points]).max()), 3),
        "delay, median, s": round(statistics.median(delays), 3),
        "delay, 95 %, s": round(float(np.quantile(delays, 0.95)), 3),
        "delay, first and second half, s": [
            round(statistics.median(part), 3) for part in (delays[:half], delays[half:])
        ],
        "pictures left out": client.skipped,
        "memory of the process that predicts, MB": round(kilobytes(server.engine) / 1000),
    }
    return figures if busy is None else figures | {"videos were under way to the end": busy}


if __name__ == "__main__":
    main()
